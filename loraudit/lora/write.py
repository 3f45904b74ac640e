"""LoRA files written in three layouts, each whole or not at all.

The scale is part of `Factors.up`, so every layout is written with scale 1. diffusers states none; kohya's
alpha and peft's `lora_alpha` are the rank. Weights are float32. The bytes are a function of the arguments:
keys and metadata are sorted.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loraudit.files import replacing, unwritable, write_atomic
from loraudit.lora.layouts.topology import COMPONENTS, topologies
from loraudit.lora.matrices import Factors, Site
from loraudit.lora.source.address import PEFT_CONFIG, PEFT_WEIGHTS

__all__ = ["serialize", "write_diffusers", "write_kohya", "write_peft"]

_Tensors: TypeAlias = dict[str, NDArray[np.float32]]

# diffusers `utils/state_dict_utils.py`, PEFT_TO_DIFFUSERS, for the UNet and for transformers' models.
_DIFFUSERS: Final = {"unet": "lora", "text_encoder": "lora_linear_layer"}


def write_diffusers(
    factors: Mapping[Site, Factors], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the layout of `train_dreambooth_lora.py`, which `load_lora_weights` of stock diffusers reads.

    Raises `LorauditError` if the file cannot be written. Nothing is left behind then.
    """
    tensors: _Tensors = {}
    for site, pair in factors.items():
        component, module = _old_spelling(site)
        up, down = _kernels(site, pair)
        tensors[f"{component}.{module}.{_DIFFUSERS[component]}.down.weight"] = down
        tensors[f"{component}.{module}.{_DIFFUSERS[component]}.up.weight"] = up
    write_atomic(path, serialize(tensors, {"format": "pt"} | dict(metadata or {})))


def write_kohya(
    factors: Mapping[Site, Factors], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the layout of kohya-ss/sd-scripts, alpha equal to the rank. Raises as `write_diffusers` does.

    diffusers 0.42 misreads alpha in a kohya file whose modules differ in rank; its own layout has no such
    trouble.
    """
    tensors: _Tensors = {}
    for site, pair in factors.items():
        component, module = _old_spelling(site)
        name = f"lora_{'unet' if component == 'unet' else 'te'}_{module.replace('.', '_')}"
        up, down = _kernels(site, pair)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = np.array(pair.rank, np.float32)
    write_atomic(path, serialize(tensors, metadata or {}))


def write_peft(
    factors: Mapping[Site, Factors], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a peft folder; with both components, one in `unet/` and one in `text_encoder/`.

    A new folder is whole or absent. In a folder that exists each file is, and the configuration comes first.
    An earlier adapter there goes, even where its files had another place. Raises as `write_diffusers` does.
    """
    if path.is_dir():
        written = _write_adapters(factors, path, metadata or {})
        _remove_others(path, written)
        return
    try:
        with replacing(path) as (folder,):
            _write_adapters(factors, folder, metadata or {})
    except OSError as error:
        raise unwritable(path, error) from None


def _remove_others(path: Path, written: Collection[Path]) -> None:
    """Remove the adapters in `path` that are not in one of the folders `written`."""
    for folder in {path, *(path / component for component in COMPONENTS)} - set(written):
        for name in (PEFT_WEIGHTS, PEFT_CONFIG):
            try:
                (folder / name).unlink(missing_ok=True)
            except NotADirectoryError:
                pass
            except OSError as error:
                raise unwritable(folder / name, error) from None


def _write_adapters(
    factors: Mapping[Site, Factors], path: Path, metadata: Mapping[str, str]
) -> Collection[Path]:
    """Write the files of `write_peft` into the folder `path`; return the folders that hold them."""
    written = []
    components = [name for name in COMPONENTS if any(site.startswith(f"{name}.") for site in factors)]
    for component in components:
        own = {
            site.partition(".")[2]: pair for site, pair in factors.items() if site.startswith(f"{component}.")
        }
        folder = path / component if len(components) > 1 else path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None
        tensors: _Tensors = {}
        for module, pair in own.items():
            up, down = _kernels(f"{component}.{module}", pair)
            tensors[f"base_model.model.{module}.lora_A.weight"] = down
            tensors[f"base_model.model.{module}.lora_B.weight"] = up
        config = json.dumps(_peft_config(own), indent=2, sort_keys=True)
        write_atomic(folder / PEFT_CONFIG, config.encode())
        write_atomic(folder / PEFT_WEIGHTS, serialize(tensors, {"format": "pt"} | dict(metadata)))
        written.append(folder)
    return written


def serialize(tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> bytes:
    """Serialize float32 tensors as a safetensors file.

    The reference writer puts the metadata in a random order; here equal arguments give equal bytes.
    """
    table: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    blocks = []
    offset = 0
    for key in sorted(tensors):
        block = np.ascontiguousarray(tensors[key], dtype="<f4").tobytes()
        shape = list(tensors[key].shape)
        table[key] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(block)]}
        blocks.append(block)
        offset += len(block)
    header = json.dumps(table, separators=(",", ":")).encode()
    # Spaces up to a multiple of 8 align the buffer, as the reference writer does.
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *blocks])


def _old_spelling(site: Site) -> tuple[str, str]:
    """Split `site` into component and module path, with the `text_model.` that every diffusers reads."""
    component, _, module = site.partition(".")
    return component, f"text_model.{module}" if component == "text_encoder" else module


def _kernels(site: Site, pair: Factors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shape up and down like the module's weight: for a convolution `[out, r, 1, 1]` and `[r, in, k, k]`."""
    base = next((base for base in topologies() if base.fits(site, *pair.shape)), None)
    if base is None or len(base.shapes[site]) == 2:
        return pair.up, pair.down
    return pair.up[:, :, None, None], pair.down.reshape(pair.rank, *base.shapes[site][1:])


def _peft_config(own: Mapping[str, Factors]) -> dict[str, object]:
    ranks = {module: pair.rank for module, pair in own.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{module}": rank for module, rank in sorted(ranks.items()) if rank != common}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "r": common,
        "lora_alpha": common,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(own),
    }
