"""Recognition of the base that a LoRA was made for, by the names and widths of its tensors.

Text towers and cross-attention have one width per family: SD 1.x 768, SD 2.x 1024, SDXL 2048. Other families
differ in their names already.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from loraudit.errors import NotScannable
from loraudit.lora.file.header import Header
from loraudit.lora.layouts.foreign import HINT
from loraudit.lora.layouts.keys import Update
from loraudit.lora.layouts.topology import Topology, topologies

__all__ = ["misfit", "recognise"]

_CROSS_WIDTHS: Final = {1024: "SD 2.x", 1280: "the SDXL refiner", 2048: "SDXL"}
_TEXT_WIDTHS: Final = {1024: "SD 2.x", 1280: "SDXL"}
_CROSS: Final = ("attn2.to_k", "attn2.to_v")
_TEXT: Final = ("q_proj", "k_proj", "v_proj")
_PROJECTIONS: Final = (".proj_in", ".proj_out")
_INPUTS: Final = {
    9: "SD 1.x inpainting (9 input channels)",
    8: "InstructPix2Pix, or a control LoRA (8 input channels: a picture beside the latent)",
}
"""Kinds of LoRA by the input channels of `conv_in` where they are more than a latent's 4."""
_LATENT, _KERNEL = 4, 9
_STATED: Final = (
    ("sd_v2", "SD 2.x"),
    ("sdxl", "SDXL"),
    ("sd3", "SD 3"),
    ("flux", "FLUX"),
    ("stable-diffusion-v2", "SD 2.x"),
    ("stable-diffusion-xl", "SDXL"),
    ("stable-diffusion-3", "SD 3"),
)
"""Starts of `ss_base_model_version` and `modelspec.architecture` for other families."""


def recognise(name: str, updates: Sequence[Update], headers: Sequence[Header]) -> tuple[Topology, ...]:
    """Find the bases that the sizes of `updates` fit best: one, or several that fit equally well.

    Raises `NotScannable` if the updates belong to another family or fit no base.
    """
    bases = topologies()
    for update in updates:
        inputs = update.size.shape[1]
        if update.site.endswith(_CROSS):
            widths = {base.cross_width: base.family for base in bases}
            _require(name, "cross-attention", inputs, widths, _CROSS_WIDTHS)
        if update.site.endswith(_TEXT):
            widths = {base.text_width: base.family for base in bases}
            _require(name, "text encoder", inputs, widths, _TEXT_WIDTHS)
        if update.site == "unet.conv_in":
            _require_latent(name, update, bases)
    if not any(update.site.endswith(_CROSS) for update in updates):
        _refuse_undecided(name, updates, headers)
    fits = [sum(base.fits(update.site, *update.size.shape) for update in updates) for base in bases]
    most = max(fits)
    if 2 * most <= len(updates):
        raise NotScannable(
            f"the sizes of the matrices in {name} fit no base: {most} of {len(updates)} at best", HINT
        )
    return tuple(base for base, count in zip(bases, fits, strict=True) if count == most)


def _require_latent(name: str, update: Update, bases: Sequence[Topology]) -> None:
    """Refuse a `conv_in` that takes more than a latent; diffusers tells such bases by the same number."""
    outputs, inputs = update.size.shape
    channels, rest = divmod(inputs, _KERNEL)
    if (
        outputs != 320
        or rest
        or channels <= _LATENT
        or any(b.fits(update.site, outputs, inputs) for b in bases)
    ):
        return
    kind = _INPUTS.get(channels, f"a base with {channels} input channels, which is not SD 1.x")
    raise NotScannable(f"{name} is a LoRA for {kind}", HINT)


def _refuse_undecided(name: str, updates: Sequence[Update], headers: Sequence[Header]) -> None:
    """Refuse another family by the header or `proj_in`; without cross-attention the widths fit several."""
    for header in headers:
        stated = header.metadata.get("ss_base_model_version", "").lower()
        if header.metadata.get("ss_v2", "").lower() == "true":
            stated = "sd_v2"
        for text in (stated, header.metadata.get("modelspec.architecture", "").lower()):
            for start, family in _STATED:
                if text.startswith(start):
                    raise NotScannable(f"{name} is a LoRA for {family}, its header says", HINT)
    for update in updates:
        # Only plain matrices show whether their module has a kernel.
        if update.site.endswith(_PROJECTIONS) and set(update.keys) == {"down", "up"}:
            down = update.keys["down"]
            if any(len(header.tensors[down].shape) == 2 for header in headers if down in header.tensors):
                part = update.site.rpartition(".")[2]
                raise NotScannable(
                    f"{name} is a LoRA for SD 2.x or SDXL (its {part} is a linear layer)", HINT
                )


def _require(name: str, part: str, width: int, known: Mapping[int, str], others: Mapping[int, str]) -> None:
    if width in known:
        return
    if width in others:
        raise NotScannable(f"{name} is a LoRA for {others[width]} ({part} width {width})", HINT)
    widths = ", ".join(f"{family} {size}" for size, family in sorted(known.items()))
    raise NotScannable(f"{name} has {part} width {width}, which fits no base ({widths})", HINT)


def misfit(base: Topology, update: Update) -> str | None:
    """Tell why the update cannot be added to the weight of its module in `base`; None if it can."""
    shape = base.shapes.get(update.site)
    if shape is None:
        return f"{base.family} has no such module"
    outputs, inputs, widest = update.size.outputs, update.size.inputs, update.size.widest
    if widest > max(shape[0], math.prod(shape[1:])):
        return f"its rank {widest} is above both sides of its module, which no training needs"
    # Matrices that show no kernel have it flattened into their columns.
    wanted = shape[1:] if len(inputs) > 1 else (math.prod(shape[1:]),)
    if (outputs, inputs) == (shape[0], wanted):
        magnitude = update.magnitude
        channels = None if magnitude is None else shape[magnitude.axis]
        if magnitude is None or magnitude.count == channels:
            return None
        return f"its magnitude holds {magnitude.count} numbers for {channels} channels"
    return f"its size {[outputs, *inputs]} is not the module's {[shape[0], *wanted]}"
