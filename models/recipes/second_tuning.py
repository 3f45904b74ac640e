"""One LoRA at a time with stock diffusers, transformers and peft, as public scripts train it.

Nothing here comes from `loraudit.training`, so that what attacks and tables say of its LoRAs can be checked
on LoRAs by other code. The step is that of diffusers' train_dreambooth_lora.py: a picture's cached posterior
is sampled, `DDPMScheduler.add_noise` adds noise at a random time, the UNet with peft's layers predicts that
noise, and AdamW follows the mean squared error with the gradient norm clipped at 1.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.utils import logging
from peft import LoraConfig
from torch import Tensor
from torch.nn import functional

from models.recipes.second_recipes import SecondRecipe

__all__ = ["Lesson", "Posterior", "class_pictures", "encode", "fresh_unet", "open_pipeline", "tune"]

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
    prompts: Sequence[str]
    """Prompt of each photo."""
    prior: Posterior | None
    """Class pictures; None for a recipe without prior preservation."""
    seed: int


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


def fresh_unet(unet: UNet2DConditionModel, recipe: SecondRecipe, seed: int) -> UNet2DConditionModel:
    """Copy the UNet and add an untrained adapter, whose start is drawn from `seed`."""
    torch.manual_seed(seed)
    tuned = deepcopy(unet)
    tuned.add_adapter(
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            init_lora_weights="gaussian" if recipe.init == "gaussian" else True,
            target_modules=list(recipe.targets),
        )
    )
    return tuned


@torch.no_grad()
def _embeddings(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> Tensor:
    ids = pipeline.tokenizer(
        list(prompts),
        truncation=True,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    found: Tensor = pipeline.text_encoder(ids)[0]
    return found


def _epochs(count: int) -> Iterator[int]:
    """Yield the numbers below `count` in a new order again and again, as a shuffling data loader."""
    while True:
        yield from torch.randperm(count).tolist()


def tune(pipeline: StableDiffusionPipeline, recipe: SecondRecipe, lesson: Lesson) -> UNet2DConditionModel:
    """Train a LoRA and return the UNet that carries it; the pipeline's own stays as it is.

    The result is a function of pipeline, recipe and lesson. The global random state of torch is left as it
    was.
    """
    with torch.random.fork_rng(devices=[]):
        unet = fresh_unet(pipeline.unet, recipe, lesson.seed)
        trained = [p for p in unet.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=recipe.rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        embeddings = _embeddings(pipeline, lesson.prompts)
        of_class = _embeddings(pipeline, [recipe.class_prompt])
        photos = _epochs(len(lesson.photos.mean))
        prior = iter(()) if lesson.prior is None else _epochs(len(lesson.prior.mean))
        unet.train()
        for _ in range(recipe.steps):
            picture = next(photos)
            latents, text = lesson.photos.draw(picture), embeddings[picture : picture + 1]
            if lesson.prior is not None:
                latents = torch.cat([latents, lesson.prior.draw(next(prior))])
                text = torch.cat([text, of_class])
            noise = torch.randn_like(latents)
            times = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
            predicted = unet(scheduler.add_noise(latents, noise, times), times, text).sample
            loss = functional.mse_loss(predicted[:1], noise[:1])
            if lesson.prior is not None:
                loss = loss + recipe.prior * functional.mse_loss(predicted[1:], noise[1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return unet.eval()
