"""A Stable Diffusion pipeline of random weights, far smaller than the embedded base."""

from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from loraudit.base.model import Base
from loraudit.base.schedule import SCHEDULE, signal_variance
from loraudit.cards import models_dir

LENGTH, WIDTH, SIZE = 12, 16, 16


def tiny_pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """7 transformer blocks, as tiny-sd has, so that the paper's encoder has 28 sites to read."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = CLIPTokenizer.from_pretrained(models_dir() / "tiny-clip")
        tokenizer.model_max_length = LENGTH
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        unet = UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(4, 4, 8),
            latent_channels=4,
            norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            sample_size=SIZE,
        )
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=DDIMScheduler(**SCHEDULE, steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    return pipeline


@cache
def tiny_base() -> Base:
    """That pipeline as a base: pictures of 16 pixels, latents `[4, 4, 4]`, embeddings `[12, 16]`."""
    pipeline = tiny_pipeline()
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer)
    return Base("random", *parts, signal_variance())


def save_pipeline(folder: Path) -> Path:
    """That pipeline as a folder."""
    tiny_pipeline().save_pretrained(folder)
    return folder
