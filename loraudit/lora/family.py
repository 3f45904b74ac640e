"""Which base a LoRA was made for, told from the names and widths of its tensors.

Text towers and cross-attention have one width per family: SD 1.x 768, SD 2.x 1024, SDXL 2048. Other families
differ in their names already.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from loraudit.errors import NotScannable
from loraudit.lora.header import TensorInfo
from loraudit.lora.keys import Pair
from loraudit.lora.topology import Topology, topologies

__all__ = ["HINT", "misfit", "recognise", "refuse_foreign"]

HINT: Final = "loraudit audits LoRAs for SD 1.x"

_NAMES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (
            r"(^|[._])(double_blocks|single_blocks|single_transformer_blocks)[._]",
            "a LoRA for FLUX or HunyuanVideo",
        ),
        (r"joint_blocks|add_q_proj|^lora_te3_", "a LoRA for SD 3"),
        (
            r"^(base_model\.model\.)?(transformer\.transformer_blocks\.|lora_transformer_)",
            "a LoRA for a diffusion transformer",
        ),
        (r"^(diffusion_model\.(layers|blocks)\.|lora_unet_blocks_)", "a LoRA for a diffusion transformer"),
        (
            r"(^|\.)(model\.layers|transformer\.h|gpt_neox\.layers|decoder\.layers)\.\d",
            "a LoRA for a language model",
        ),
        (r"^(lora_te2_|text_encoder_2\.)", "a LoRA for SDXL"),
        (r"attentions[._]\d[._]transformer_blocks[._][1-9]", "a LoRA for SDXL"),
        (r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.", "a full checkpoint, not a LoRA"),
        (r"^(emb_params$|string_to_param|clip_[lg]$|<[^>]*>$)", "a textual inversion embedding, not a LoRA"),
    )
)
"""What a tensor's name says about the file; the first rule that any name meets wins."""

_CROSS_WIDTHS: Final = {1024: "SD 2.x", 1280: "the SDXL refiner", 2048: "SDXL"}
_TEXT_WIDTHS: Final = {1024: "SD 2.x", 1280: "SDXL"}


def refuse_foreign(name: str, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise `NotScannable` if a tensor's name gives the file called `name` away as something else."""
    if not tensors:
        raise NotScannable(f"{name} holds no tensors", HINT)
    # No name that a trainer writes is longer; the end of a longer one would say nothing.
    keys = [key[:200] for key in tensors]
    for pattern, what in _NAMES:
        if any(pattern.search(key) for key in keys):
            raise NotScannable(f"{name} is {what}", HINT)
    if not any("lora" in key.lower() for key in keys):
        if any(key.startswith(("down_blocks.", "encoder.", "text_model.")) for key in keys):
            raise NotScannable(f"{name} is a whole network, not a LoRA", HINT)
        if len(tensors) <= 2 and all(len(info.shape) <= 2 for info in tensors.values()):
            raise NotScannable(f"{name} is not a LoRA; it may be a textual inversion embedding", HINT)


def recognise(name: str, pairs: Sequence[Pair]) -> tuple[Topology, ...]:
    """The bases that the sizes of `pairs` fit best: one, or several that fit equally well.

    Raises `NotScannable` if they belong to another family or fit no base.
    """
    bases = topologies()
    for pair in pairs:
        inputs = pair.shape[1]
        if pair.site.endswith(("attn2.to_k", "attn2.to_v")):
            _require(
                name,
                "cross-attention",
                inputs,
                {base.cross_width: base.family for base in bases},
                _CROSS_WIDTHS,
            )
        if pair.site.endswith(("q_proj", "k_proj", "v_proj")):
            _require(
                name, "text encoder", inputs, {base.text_width: base.family for base in bases}, _TEXT_WIDTHS
            )
    fits = [sum(base.fits(pair.site, *pair.shape) for pair in pairs) for base in bases]
    most = max(fits)
    if 2 * most <= len(pairs):
        raise NotScannable(
            f"the sizes of the matrices in {name} fit no base: {most} of {len(pairs)} at best", HINT
        )
    return tuple(base for base, count in zip(bases, fits, strict=True) if count == most)


def _require(name: str, part: str, width: int, known: Mapping[int, str], others: Mapping[int, str]) -> None:
    if width in known:
        return
    if width in others:
        raise NotScannable(f"{name} is a LoRA for {others[width]} ({part} width {width})", HINT)
    widths = ", ".join(f"{family} {size}" for size, family in sorted(known.items()))
    raise NotScannable(f"{name} has {part} width {width}, which fits no base ({widths})", HINT)


def misfit(base: Topology, pair: Pair) -> str | None:
    """Why the pair cannot be added to the weight of its module in `base`; None if it can."""
    shape = base.shapes.get(pair.site)
    if shape is None:
        return f"{base.family} has no such module"
    size = [shape[0], math.prod(shape[1:])]
    return None if size == list(pair.shape) else f"its size {list(pair.shape)} is not the module's {size}"
