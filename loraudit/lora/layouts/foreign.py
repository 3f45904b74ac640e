"""Files that are no LoRA for SD 1.x, named for what they are by the names of their tensors.

Each rule is a name that the files of one kind hold and no LoRA for SD 1.x does. (Sources: diffusers
`loaders/`, InvokeAI `model_manager/configs/lora.py`, kohya-ss/sd-scripts `networks/`, LyCORIS `modules/` and
`tools/batch_hcp_convert.py`, peft `tuners/`)
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from loraudit.errors import NotScannable
from loraudit.lora.file.header import Header, TensorInfo
from loraudit.lora.layouts.keys import NO_MODULE
from loraudit.lora.matrices import Unread

__all__ = ["HINT", "refuse_foreign", "refuse_unread"]

HINT: Final = "loraudit audits LoRAs for SD 1.x"
_MULTIPLIES: Final = "which multiplies the base's weights instead of adding to them"


def _rules(*rules: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), what) for pattern, what in rules)


_FOREIGN: Final = _rules(
    # Look-alikes first: their names also meet the rules of their family.
    (r"motion_modules|temporal_transformer", "an AnimateDiff motion LoRA"),
    (r"custom_diffusion", "a Custom Diffusion file, not a LoRA"),
    (r"^lllite_", "a ControlNet-LLLite, not a LoRA"),
    (r"^lora_controlnet$|(^|\.)(zero_convs|input_hint_block)\.", "a Control-LoRA"),
    (r"^control_model\.|controlnet_(cond_embedding|down_blocks|mid_block)", "a ControlNet, not a LoRA"),
    (r"query_norm\.scale$", "a control LoRA for FLUX"),
    (r"^(ip_adapter|image_proj)\.", "an IP-Adapter, not a LoRA"),
    (r"\.___\.|\.layer\.W_(down|up)$", "a LoRA of HCP-Diffusion; LyCORIS's batch_hcp_convert.py converts it"),
    (r"^oft_(unet|te)|(^|\.)(oft_|boft_)", f"an OFT adapter, {_MULTIPLIES}"),
    (r"\.on_input$|(^|\.)ia3_", f"an IA3 adapter, {_MULTIPLIES}"),
    (r"^(lora_|lycoris_)\w+\.[ab][12]\.weight$", f"a GLoRA adapter, {_MULTIPLIES}"),
    (r"(^|\.)vera_lambda", "a VeRA adapter, not a plain LoRA"),
    (r"\.lora_E(\.|$)", "an AdaLoRA adapter, not a plain LoRA"),
    # FLUX.2, FLUX.1 and HunyuanVideo.
    (r"to_qkv_mlp_proj|[._]ff(_context)?[._]linear_in", "a LoRA for FLUX.2"),
    (
        r"(^|[._])(double_blocks|single_blocks|single_transformer_blocks)[._]",
        "a LoRA for FLUX or HunyuanVideo",
    ),
    (r"joint_blocks|add_q_proj|^lora_te3_|^text_encoder_3\.", "a LoRA for SD 3"),
    (r"^lora_prior_(unet|te)_", "a LoRA for Stable Cascade"),
    (
        r"^(base_model\.model\.)?(transformer\.)?transformer_blocks\.|^lora_transformer_|^lycoris_transformer_",
        "a LoRA for a diffusion transformer",
    ),
    (
        r"^(diffusion_model\.|transformer\.|lora_unet_|lycoris_)?(layers|blocks)[._]\d",
        "a LoRA for a diffusion transformer",
    ),
    (
        r"(^|\.)(model\.layers|transformer\.h|gpt_neox\.layers|decoder\.layers|model\.h|encoder\.block)\.\d"
        r"|(^|\.)(vision_tower|vision_model|language_model|bert\.encoder|roberta\.encoder)\.",
        "a LoRA for a language model",
    ),
    (r"^(lora_te2_|text_encoder_2\.|text_encoders\.clip_g\.)", "a LoRA for SDXL"),
    (
        r"(attentions[._]\d|put_blocks[._]\d+[._]1|middle_block[._]1)[._]transformer_blocks[._][1-9]",
        "a LoRA for SDXL",
    ),
    (r"(^|[._])up_blocks[._]0[._]attentions[._]", "a LoRA for SDXL"),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.", "a full checkpoint, not a LoRA"),
)
"""Patterns of a tensor's name, and the kind of file that each shows; the first that any name meets wins."""

_EMBEDDING: Final = re.compile(r"emb_params$|string_to_param|clip_[lg]$|<[^>]*>$")
_ATTENTION: Final = re.compile(r"\.(q_proj|k_proj|v_proj|o_proj|qkv_proj|c_attn|query_key_value)\.")
_NETWORK: Final = re.compile(
    r"(down_blocks|up_blocks|mid_block|encoder|decoder|text_model|vision_model|conv_in)\."
)


def refuse_foreign(name: str, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise `NotScannable` if a tensor's name gives the file called `name` away as something else."""
    if not tensors:
        raise NotScannable(f"{name} holds no tensors", HINT)
    # No name that a trainer writes is longer; the end of a longer one would say nothing.
    keys = [key[:200] for key in tensors]
    for pattern, what in _FOREIGN:
        if any(pattern.search(key) for key in keys):
            raise NotScannable(f"{name} is {what}", HINT)


def refuse_unread(name: str, headers: Sequence[Header], unread: Sequence[Unread]) -> NotScannable:
    """Make the refusal of a file of which nothing could be read: its likely kind, or the first reason."""
    shapes = {key[:200]: info.shape for header in headers for key, info in header.tensors.items()}
    if any(_EMBEDDING.match(key) for key in shapes):
        return NotScannable(f"{name} is a textual inversion embedding, not a LoRA", HINT)
    if not any("lora" in key.lower() for key in shapes):
        if any(_NETWORK.match(key) and key.endswith((".weight", ".bias")) for key in shapes):
            return NotScannable(f"{name} is a whole network, not a LoRA", HINT)
        if len(shapes) <= 2 and all(len(shape) <= 2 for shape in shapes.values()):
            return NotScannable(f"{name} is not a LoRA; it may be a textual inversion embedding", HINT)
    # No rule can name every language model; what their attention is called is much the same in all.
    if any(item.why == NO_MODULE and _ATTENTION.search(item.key) for item in unread):
        return NotScannable(f"{name} is a LoRA for a language model", HINT)
    return NotScannable(f"{name} holds no LoRA matrices that can be read: {unread[0].why}", HINT)
