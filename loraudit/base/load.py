"""Bases from the list, a folder, a single file or the Hub: which files are read, on which device and type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from safetensors import SafetensorError

from loraudit.base.fingerprint import fingerprint
from loraudit.base.folder import PARTS, Found, check_folder
from loraudit.base.hub import NoBase, fetch_base
from loraudit.base.loaded import check_complete, check_loaded
from loraudit.base.memory import is_out_of_memory, require_memory
from loraudit.base.model import Base
from loraudit.base.refusal import quiet, refusing
from loraudit.base.schedule import signal_variance
from loraudit.base.single import check_checkpoint, load_part
from loraudit.base.source import Folder, Listed, OnHub, SingleFile, find_base
from loraudit.base.vocabulary import clip_tokenizer
from loraudit.cards import BaseCard, verify
from loraudit.errors import LorauditError
from loraudit.lora.source.address import HubSpec

if TYPE_CHECKING:
    from loraudit.base.source import BaseSource

__all__ = ["DTYPES", "NoBase", "load_base", "pick_device"]

DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that a base can compute in."""
_UNLOADABLE: Final = (
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
"""Errors that diffusers, transformers and safetensors answer a missing, cut or foreign file with."""


class _Parts(NamedTuple):
    """Parts of a base as they were loaded, on the CPU."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any


@dataclass(frozen=True)
class _Place:
    """Files of a base on this machine."""

    path: Path
    """Folder of a pipeline, or a single file."""
    shown: str
    """Name for display."""
    card: BaseCard | None = None
    """Row of `models/cards.toml`; None for a base of anybody."""
    ships: bool = False
    """True if the files came with loraudit."""


def load_base(name: str, device: str = "cpu", offline: bool = False, dtype: str = "auto") -> Base:
    """Load the base `name`: listed in `models/cards.toml`, a pipeline folder, a single file, or on the Hub.

    Weights come from safetensors only. `dtype` is a key of `DTYPES` or `auto`: on CUDA the card's dtype
    (float16 where there is no card), on a CPU float32. `offline` takes a base from the Hub's cache alone.
    Raises `LorauditError` if there is no such base or it is damaged, `NoBase` if it cannot be fetched,
    `Incomplete` if memory does not suffice.
    """
    source = find_base(name)
    card = source.card if isinstance(source, Listed) else None
    computed = _dtype(dtype, device, card)
    # bfloat16 is coarser than the fingerprint: weights are rounded to it after they were hashed.
    stored = torch.float32 if computed is torch.bfloat16 else computed
    with quiet():
        place = _place(source, stored is torch.float16, offline)
        if place.ships:
            return _shipped(place, stored, computed, device)
        with refusing(place.shown):
            if place.path.is_dir():
                found = check_folder(place.shown, place.path, stored is torch.float16 and card is None)
                _require(found.values, stored, computed, device)
                parts, told = _from_folder(place.path, stored, found)
                check_complete(place.shown, told)
            else:
                checkpoint = check_checkpoint(place.shown, place.path)
                _require(checkpoint.values, stored, computed, device)
                unet, vae, text = (load_part(checkpoint, part, stored) for part in PARTS)
                parts = _Parts(unet, vae, text, clip_tokenizer())
            base = _built(place, parts, computed, device)
            check_loaded(place.shown, base)
    return base


def _dtype(asked: str, device: str, card: BaseCard | None) -> torch.dtype:
    """Choose the type to compute in."""
    if asked != "auto":
        return DTYPES[asked]
    half = card is None or card.dtype == "float16"
    return torch.float16 if half and device.startswith("cuda") else torch.float32


def _place(source: BaseSource, half: bool, offline: bool) -> _Place:
    """Find the files of a base, and fetch them where they are on the Hub; `half` prefers half precision."""
    match source:
        case Listed(card):
            if card.folder is not None:
                verify(card.folder, card.hashes)
                return _Place(card.folder, card.name, card, ships=True)
            hint = (
                f"fetch it once, where there is a network, with: {card.fetch_command}; or name a diffusers "
                "folder or a .safetensors checkpoint with --base"
            )
            # The hashes on the card are those of the weights in full precision.
            spec = HubSpec(card.where, card.revision)
            fetched = fetch_base(spec, card.name, half=False, offline=offline, hint=hint)
            verify(fetched.path, card.hashes)
            return _Place(fetched.path, card.name, card)
        case OnHub(spec):
            fetched = fetch_base(spec, source.shown, half, offline)
            path = f"/{spec.path}" if spec.path else ""
            return _Place(fetched.path, f"{spec.repo}@{fetched.commit}{path}")
        case Folder(path) | SingleFile(path):
            return _Place(path, source.shown)


def _require(values: int, stored: torch.dtype, computed: torch.dtype, device: str) -> None:
    require_memory(values * stored.itemsize, device, values * computed.itemsize)


def _shipped(place: _Place, stored: torch.dtype, computed: torch.dtype, device: str) -> Base:
    """Load a base that came with loraudit, whose files need no checks of their own."""
    try:
        parts, _ = _from_folder(place.path, stored, Found(dict.fromkeys(PARTS), 0))
    except MemoryError:
        raise
    except _UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        # The libraries' text names folders of the user.
        raise LorauditError(f"cannot load the base '{place.shown}'", "install loraudit again") from error
    return _built(place, parts, computed, device)


def _from_folder(folder: Path, dtype: torch.dtype, found: Found) -> tuple[_Parts, dict[str, Any]]:
    """Load UNet, VAE, text tower and tokenizer, and what the libraries tell of each part."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    kinds = (UNet2DConditionModel, AutoencoderKL, CLIPTextModel)
    networks, told = [], {}
    for part, kind in zip(PARTS, kinds, strict=True):
        typed = {"dtype" if kind is CLIPTextModel else "torch_dtype": dtype}
        module, told[part] = kind.from_pretrained(
            str(folder),
            subfolder=part,
            variant=found.variants[part],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **typed,
        )
        networks.append(module)
    tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer", local_files_only=True)
    unet, vae, text = networks
    return _Parts(unet, vae, text, tokenizer), told


def _built(place: _Place, parts: _Parts, dtype: torch.dtype, device: str) -> Base:
    """Put the parts on the device, in the type to compute in."""
    from diffusers.models.attention_processor import AttnProcessor

    networks = (parts.unet, parts.vae, parts.text_encoder)
    identity = fingerprint(*networks)
    for network in networks:
        network.eval().requires_grad_(False).to(device, dtype)
    if device == "cpu" and parts.unet.config.sample_size <= 16:
        # Over a few dozen positions plain products are faster on a CPU than torch's fused attention.
        parts.unet.set_attn_processor(AttnProcessor())
        parts.text_encoder.set_attn_implementation("eager")
    return Base(place.shown, *parts, signal_variance(), listed=place.card, fingerprint=identity)


def pick_device(asked: str | None) -> str:
    """Return the device asked for; None means CUDA where there is one, else the CPU.

    Raises `LorauditError` if CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise LorauditError("there is no CUDA device on this machine", "leave --device out")
    return asked or ("cuda" if available else "cpu")
