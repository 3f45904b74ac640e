"""Checkpoints in a single file, as AUTOMATIC1111 and its kin keep them: all parts in one safetensors file.

Names are those of the latent-diffusion code: `model.diffusion_model.*` (UNet), `first_stage_model.*` (VAE),
`cond_stage_model.transformer.*` (text tower). Which model it is follows from names and shapes; the
configurations of SD 1.x ship in `models/sd1`, and diffusers' own functions convert the names. The header
decides whether the file is read: every weight of SD 1.x must be there, under its name and in its shape.
(https://github.com/CompVis/stable-diffusion, `configs/stable-diffusion/v1-inference.yaml`)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from loraudit.base.config import kind_by_sizes
from loraudit.base.loaded import SPARE, check_complete
from loraudit.base.refusal import refuse
from loraudit.cards import models_dir
from loraudit.errors import LorauditError
from loraudit.lora.file.header import TensorInfo, read_header
from loraudit.text import clean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "check_checkpoint", "configs", "load_part"]

_PREFIXES: Final[Mapping[str, str]] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
"""Part => start of its names."""
_IN_WORDS: Final = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_FIRST: Final = "model.diffusion_model.input_blocks.0.0.weight"
"""Convolution that takes the latent, `[320, 4, 3, 3]` in SD 1.x."""
_LAST: Final = "model.diffusion_model.out.2.weight"
"""Convolution that makes the noise, `[4, 320, 3, 3]`."""
_CONTEXT: Final = re.compile(
    r"model\.diffusion_model\.input_blocks\.\d{1,3}\.1\..{1,60}\.attn2\.to_k\.weight"
)
_KINDS: Final = (
    ("conditioner.embedders.", "an SDXL checkpoint"),
    ("cond_stage_model.model.", "a Stable Diffusion 2.x checkpoint"),
    ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("model.diffusion_model.double_blocks.", "a FLUX checkpoint"),
)
"""Start of a name => kind of checkpoint, the first that is met."""
_LONE: Final = (
    ("double_blocks.", "a FLUX checkpoint"),
    ("control_model.", "a ControlNet"),
    ("lora_unet_", "a LoRA: give it as the target"),
    ("lora_te_", "a LoRA: give it as the target"),
    ("down_blocks.", "a lone UNet in diffusers' names: give the folder of its pipeline"),
    ("encoder.down", "a lone VAE"),
    ("text_model.", "a lone text encoder"),
)
"""Start of a name => kind of a file without a UNet, the first that is met."""
_MARKS: Final = ("v_pred", "ztsnr")
"""Tensors by which fine-tuners mark that the network predicts velocity (ComfyUI, `supported_models.py`)."""
_NESTED: Final = re.compile(r"(?=(?:embeddings|encoder|final_layer_norm)\.)")
"""Start of a text tower's name that lacks `text_model.`, as the first anime checkpoints have it."""
_SPARE: Final[Mapping[str, str]] = {"unet": r"(?!)", "vae": r"^loss\.", "text_encoder": SPARE}
"""Tensors that a part may hold beyond its network."""
_DTYPES: Final = ("F16", "BF16", "F32", "F64")
_MOST: Final = 4
"""Tensors of a part at most, as a multiple of the network's: diffusers compares each with each."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint of SD 1.x whose header was found sound."""

    path: Path
    keys: Mapping[str, Mapping[str, str]]
    """Part => name that diffusers converts => name in the file."""
    values: int
    """Number of weights in all parts."""


def configs() -> Path:
    """Return the folder with the configurations of SD 1.x, a `config.json` in a folder for each part."""
    return models_dir() / "sd1"


def check_checkpoint(shown: str, path: Path) -> Checkpoint:
    """Raise `LorauditError` unless the header of `path` is that of an SD 1.x checkpoint; `shown` is its name.

    No weight is read. The message tells what else the file is where its names tell.
    """
    try:
        tensors = read_header(path).tensors
    except LorauditError as error:
        raise LorauditError(f"cannot load the base '{clean(shown)}': {error}", error.hint) from None
    kind = _kind(tensors)
    if kind is not None:
        refuse(shown, kind)
    keys, values = {}, 0
    for part, prefix in _PREFIXES.items():
        keys[part] = dict(_names(part, prefix, tensors))
        if not keys[part]:
            refuse(shown, f"it holds no {_IN_WORDS[part]} ({prefix}*)")
        infos = {name: tensors[key] for name, key in keys[part].items()}
        for name, info in infos.items():
            if info.dtype not in _DTYPES:
                refuse(shown, f"{clean(name, 100)} is stored as {info.dtype}, which is not read")
        _check_shapes(shown, part, infos)
        values += sum(math.prod(info.shape) for info in infos.values())
    return Checkpoint(path, keys, values)


def load_part(checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> nn.Module:
    """Load one part of `checkpoint` as a module of diffusers or transformers, on the CPU in `dtype`."""
    from safetensors import safe_open

    module = _empty(part)
    # Opened for each part: what was read of a file stays in memory until it is closed.
    with safe_open(checkpoint.path, "pt") as file:
        tensors = {name: file.get_tensor(key) for name, key in checkpoint.keys[part].items()}
        named = _converted(part, module, tensors)
        # Copied, since the file may change, and numbers that do not lie at even places add up in other bits.
        state = {name: value.to(dtype, copy=True).contiguous() for name, value in named.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module


def _kind(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Tell what the file is if it is no checkpoint of SD 1.x, None if it may be one."""
    for start, kind in (*_KINDS, *(() if _FIRST in tensors else _LONE)):
        if any(key.startswith(start) for key in tensors):
            return f"it is {kind}, not a Stable Diffusion 1.x checkpoint"
    if any(mark in tensors for mark in _MARKS):
        return "its network predicts velocity, not the noise"
    if _FIRST not in tensors:
        return f"it is no Stable Diffusion 1.x checkpoint (it lacks {_FIRST})"
    context = next((key for key in tensors if _CONTEXT.fullmatch(key)), "")
    sizes = (tensors[key].shape[axis : axis + 1] if key in tensors else () for key, axis in
             ((_FIRST, 1), (_LAST, 0), (context, 1)))  # fmt: skip
    return kind_by_sizes(*(next(iter(size), None) for size in sizes))


def _names(part: str, prefix: str, tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, str]]:
    """Yield for each tensor of `part` its name as diffusers converts it, and its name in the file."""
    for key in tensors:
        if not key.startswith(prefix):
            continue
        rest = key.removeprefix(prefix)
        if part == "text_encoder":
            rest = _NESTED.sub("text_model.", rest, count=1) if _NESTED.match(rest) else rest
        if not re.search(_SPARE[part], rest):
            yield prefix + rest, key


def _check_shapes(shown: str, part: str, infos: Mapping[str, TensorInfo]) -> None:
    """Raise `LorauditError` unless `infos`, converted, are the weights of `part` by name and shape."""
    module = _empty(part)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if len(infos) > _MOST * len(wanted):
        refuse(shown, f"its {_IN_WORDS[part]} has {len(infos):,} tensors, that of SD 1.x {len(wanted)}")
    bare = {name: torch.empty(info.shape, device="meta") for name, info in infos.items()}
    try:
        found = {name: tuple(value.shape) for name, value in _converted(part, module, bare).items()}
    except (LookupError, AttributeError, ValueError, TypeError, RuntimeError):
        refuse(shown, f"the names or shapes of its {_IN_WORDS[part]} are not those of SD 1.x")
    told = {"missing_keys": wanted.keys() - found.keys(), "unexpected_keys": found.keys() - wanted.keys()}
    check_complete(shown, {part: told}, "SD 1.x")
    if len(found) != len(infos):
        refuse(shown, f"{len(infos) - len(found)} tensors of its {_IN_WORDS[part]} are not those of SD 1.x")
    for name, shape in wanted.items():
        if found[name] != shape:
            refuse(shown, f"{part}.{name} has the shape {list(found[name])}, in SD 1.x {list(shape)}")


def _empty(part: str) -> nn.Module:
    """Build the network of `part` without weights."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = configs() / part
    # Buffers are no weights, and some are in no file.
    with init_empty_weights(include_buffers=False):
        if part == "text_encoder":
            tower: nn.Module = CLIPTextModel(CLIPTextConfig.from_pretrained(str(folder)))
            return tower
        kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
        network: nn.Module = kind.from_config(kind.load_config(str(folder)))
    return network


def _converted(part: str, module: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ANN401
    """Name the tensors of `part` as its `module` does, by diffusers' own functions."""
    from diffusers.loaders import single_file_utils as ldm

    if part == "text_encoder":
        tower = ldm.convert_ldm_clip_checkpoint(dict(tensors))
        start = "" if hasattr(module, "text_model") else "text_model."
        return {name.removeprefix(start): value for name, value in tower.items()}
    convert = {"unet": ldm.convert_ldm_unet_checkpoint, "vae": ldm.convert_ldm_vae_checkpoint}[part]
    named: dict[str, Tensor] = convert(dict(tensors), config=module.config)
    return named
