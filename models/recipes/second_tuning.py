"""One LoRA at a time with stock diffusers, transformers and peft, as public scripts train it.

Nothing here comes from `loraudit.training`, so that what attacks and tables say of its LoRAs can be checked
on LoRAs by other code. The step is that of diffusers' scripts: a picture's cached posterior is sampled,
`DDPMScheduler.add_noise` adds noise at a random time, the UNet with peft's layers predicts that noise, and
AdamW follows the mean squared error with the gradient norm clipped at 1.
"""

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from diffusers.utils import logging
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel

from models.recipes.second_recipes import SecondRecipe

__all__ = ["Lesson", "Posterior", "Tuned", "class_pictures", "encode", "open_pipeline", "tune", "untrained"]

CLASS_PICTURES: Final = 64
"""Pictures of the class that the base draws, for all LoRAs of a zoo."""
_AT_ONCE: Final = 16
"""Class pictures drawn together."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Cached outputs of the VAE's encoder for `P` pictures: a Gaussian over latents for each."""

    mean: Tensor
    """Scaled means `[P, C, h, w]`."""
    deviation: Tensor
    """Scaled standard deviations `[P, C, h, w]`."""

    def draw(self, index: int) -> Tensor:
        """Sample a latent `[1, C, h, w]` of picture `index`."""
        row = slice(index, index + 1)
        return self.mean[row] + self.deviation[row] * torch.randn_like(self.mean[row])


@dataclass(frozen=True, eq=False)
class Lesson:
    """All that one LoRA is made of."""

    photos: Posterior
    captions: Sequence[tuple[str, ...]]
    """Parts of each photo's caption."""
    prior: Posterior | None
    """Class pictures; None for a recipe without prior preservation."""
    seed: int


@dataclass(frozen=True, eq=False)
class Tuned:
    """Networks that carry peft's adapters; the text tower's only if the recipe adapts it."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel


def open_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Load the diffusers pipeline in `folder` in float32, with its weights frozen."""
    logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
    if pipeline.unet.config.sample_size <= 16:
        # Over a few dozen positions plain products are faster on a CPU than torch's fused attention.
        pipeline.unet.set_attn_processor(AttnProcessor())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def encode(pipeline: StableDiffusionPipeline, pictures: Tensor) -> Posterior:
    """Encode pictures `[P, 3, S, S]` in 0..1 once, as the scripts' `--cache_latents`."""
    found = pipeline.vae.encode(pictures * 2 - 1).latent_dist
    factor = pipeline.vae.config.scaling_factor
    return Posterior(found.mean * factor, found.std * factor)


@torch.no_grad()
def class_pictures(pipeline: StableDiffusionPipeline, prompt: str, steps: int, guidance: float) -> Tensor:
    """Let the base draw `CLASS_PICTURES` of the class prompt, `[N, 3, S, S]` in 0..1."""
    generator = torch.Generator().manual_seed(0)
    batch = min(_AT_ONCE, CLASS_PICTURES)
    parts = [
        pipeline(
            [prompt] * batch,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
            output_type="pt",
        ).images
        for _ in range(CLASS_PICTURES // batch)
    ]
    return torch.cat(parts)


def untrained(pipeline: StableDiffusionPipeline, recipe: SecondRecipe, seed: int) -> Tuned:
    """Copy UNet and text tower with untrained adapters, whose start is drawn from `seed`."""
    torch.manual_seed(seed)
    tuned = Tuned(deepcopy(pipeline.unet), deepcopy(pipeline.text_encoder))
    tuned.unet.add_adapter(_config(recipe, recipe.targets))
    if recipe.text_targets:
        # What transformers' own `add_adapter` does; from 5.24 on that one wants a newer peft than 0.21.
        inject_adapter_in_model(_config(recipe, recipe.text_targets), tuned.text_encoder)
    return tuned


def _config(recipe: SecondRecipe, targets: Sequence[str]) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        init_lora_weights="gaussian" if recipe.gaussian else True,
        target_modules=list(targets),
    )


def tune(pipeline: StableDiffusionPipeline, recipe: SecondRecipe, lesson: Lesson) -> Tuned:
    """Train a LoRA; the pipeline's own networks stay as they are.

    The result is a function of pipeline, recipe and lesson. The global random state of torch is left as it
    was.
    """
    with torch.random.fork_rng(devices=[]):
        tuned = untrained(pipeline, recipe, lesson.seed)
        order = random.Random(lesson.seed)
        optimizer = torch.optim.AdamW(_groups(tuned, recipe), betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        rates = get_scheduler(
            recipe.schedule, optimizer, num_warmup_steps=recipe.warmup, num_training_steps=recipe.steps
        )
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        photos = _epochs(len(lesson.photos.mean))
        prior = iter(()) if lesson.prior is None else _epochs(len(lesson.prior.mean))
        for part in (tuned.unet, tuned.text_encoder):
            part.train()
        for _ in range(recipe.steps):
            picture = next(photos)
            prompts = [_caption(lesson.captions[picture], recipe, order)]
            latents = lesson.photos.draw(picture)
            if lesson.prior is not None:
                latents = torch.cat([latents, lesson.prior.draw(next(prior))])
                prompts.append(recipe.class_prompt)
            noise = _noise(latents, recipe)
            times = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
            text = _embeddings(pipeline, tuned.text_encoder, prompts, recipe.clip_skip)
            predicted = tuned.unet(scheduler.add_noise(latents, noise, times), times, text).sample
            errors = functional.mse_loss(predicted, noise, reduction="none").mean((1, 2, 3))
            if recipe.snr_gamma is not None:
                snr = compute_snr(scheduler, times)
                errors = errors * snr.clamp(max=recipe.snr_gamma) / snr
            loss = errors[0] + recipe.prior * errors[1:].sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        for part in (tuned.unet, tuned.text_encoder):
            part.eval()
        return tuned


def _groups(tuned: Tuned, recipe: SecondRecipe) -> list[dict[str, object]]:
    """Group the adapters of UNet and text tower, each with its learning rate."""
    pairs = [(tuned.unet, recipe.rate), (tuned.text_encoder, recipe.text_rate)]
    groups = [([p for p in part.parameters() if p.requires_grad], rate) for part, rate in pairs]
    return [{"params": found, "lr": rate} for found, rate in groups if found]


def _noise(latents: Tensor, recipe: SecondRecipe) -> Tensor:
    noise = torch.randn_like(latents)
    if recipe.noise_offset:
        noise = noise + recipe.noise_offset * torch.randn(*latents.shape[:2], 1, 1)
    return noise


def _caption(parts: tuple[str, ...], recipe: SecondRecipe, order: random.Random) -> str:
    first, *rest = parts
    if recipe.shuffled:
        order.shuffle(rest)
    return ", ".join([first, *rest])


def _embeddings(
    pipeline: StableDiffusionPipeline, text_encoder: CLIPTextModel, prompts: Sequence[str], clip_skip: int
) -> Tensor:
    ids = pipeline.tokenizer(
        list(prompts),
        truncation=True,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    found = text_encoder(ids, output_hidden_states=True)
    # transformers before 5.6 nested the tower in `text_model`.
    tower = getattr(text_encoder, "text_model", text_encoder)
    embeddings: Tensor = tower.final_layer_norm(found.hidden_states[-clip_skip])
    return embeddings


def _epochs(count: int) -> Iterator[int]:
    """Yield the numbers below `count` in a new order again and again, as a shuffling data loader."""
    while True:
        yield from torch.randperm(count).tolist()
