"""Files of the second trainer, written as the public scripts write theirs."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from models.recipes.second_recipes import SecondRecipe
from models.recipes.second_tuning import Tuned

__all__ = ["kohya_metadata", "write_lora"]


def write_lora(tuned: Tuned, recipe: SecondRecipe, metadata: Mapping[str, str], target: Path) -> None:
    """Write the adapters in the recipe's layout; `metadata` goes into kohya's files alone."""
    parts: list[tuple[nn.Module, tuple[str, ...]]] = [
        (tuned.unet, recipe.targets),
        (tuned.text_encoder, recipe.text_targets),
    ]
    unet, text = (get_peft_model_state_dict(part) if targets else {} for part, targets in parts)
    if recipe.layout == "kohya":
        keys = {**_kohya("lora_unet", unet, recipe), **_kohya("lora_te_text_model", text, recipe)}
        save_file(keys, target, {**metadata})
        return
    StableDiffusionPipeline.save_lora_weights(
        target.parent,
        unet_lora_layers=convert_state_dict_to_diffusers(unet),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(text) if text else None,
        weight_name=target.name,
    )


def _kohya(prefix: str, state: Mapping[str, Tensor], recipe: SecondRecipe) -> dict[str, Tensor]:
    """Rename peft's keys as kohya's `networks/lora.py` names its modules, in half precision with alpha."""
    found = {}
    for key, value in state.items():
        module, side = key.removesuffix(".weight").rsplit(".", 1)
        # transformers before 5.6 nested the tower in `text_model`, which kohya's names keep.
        name = f"{prefix}_{module.removeprefix('text_model.').replace('.', '_')}"
        found[f"{name}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = value.half().contiguous()
        found[f"{name}.alpha"] = torch.tensor(float(recipe.alpha)).half()
    return found


def kohya_metadata(
    recipe: SecondRecipe, base: str, size: int, seed: int, captions: Sequence[tuple[str, ...]]
) -> dict[str, str]:
    """Describe the training as kohya does, the tags of all captions included; times are left out."""
    tags = Counter(part for parts in captions for part in parts)
    folder = f"{-(-recipe.steps // len(captions))}_{captions[0][0]}"
    told: dict[str, object] = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": recipe.rank,
        "ss_network_alpha": recipe.alpha,
        "ss_base_model_version": "sd_v1",
        "ss_sd_model_name": base,
        "ss_clip_skip": recipe.clip_skip if recipe.clip_skip > 1 else None,
        "ss_resolution": (size, size),
        "ss_unet_lr": recipe.rate,
        "ss_text_encoder_lr": recipe.text_rate if recipe.text_targets else None,
        "ss_lr_scheduler": recipe.schedule,
        "ss_lr_warmup_steps": recipe.warmup,
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_noise_offset": recipe.noise_offset or None,
        "ss_min_snr_gamma": recipe.snr_gamma,
        "ss_max_train_steps": recipe.steps,
        "ss_num_train_images": len(captions),
        "ss_cache_latents": True,
        "ss_seed": seed,
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": 1, "img_count": len(captions)}}),
        "ss_tag_frequency": json.dumps({folder: tags}),
    }
    return {key: str(value) for key, value in told.items()}
