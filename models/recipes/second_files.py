"""Files of the second trainer, written as the public scripts write theirs."""

from pathlib import Path

from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict

__all__ = ["write_lora"]


def write_lora(unet: UNet2DConditionModel, target: Path) -> None:
    """Write the UNet's adapter by `save_lora_weights`: diffusers' layout, without alpha or metadata."""
    StableDiffusionPipeline.save_lora_weights(
        target.parent,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)),
        weight_name=target.name,
    )
