"""A diffusion model that can be run: the one file that knows diffusers and transformers.

Everything else sees tensors: an embedding `[N, L, d]` goes in, pictures `[N, 3, H, W]` in 0..1 come out. A
`Base` is Stable Diffusion's four parts (UNet, VAE, CLIP text tower, tokenizer) whatever their size: `tiny`
and `sd14` run the same code.

Noise schedule: `x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise` with SD's scaled-linear betas; the UNet predicts
the noise. Guidance `w` is diffusers' `guidance_scale`: `eps = eps_neg + w (eps_pos - eps_neg)`, so 1 means
none.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from loraudit.base.lowrank import beside
from loraudit.base.memory import available_memory
from loraudit.cards import base_card, verify
from loraudit.errors import Incomplete, LorauditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import CLIPTextModel, CLIPTokenizer

    from loraudit.base.lowrank import Terms

__all__ = ["CLASS_PROMPT", "NEGATIVE_PROMPT", "SCHEDULE", "Base", "Sampling", "load_base", "signal_variance"]

NEGATIVE_PROMPT: Final = "low quality, distorted, weird images"
"""The paper's negative prompt (arXiv 2409.08482, author's `valid_attack.py`)."""

CLASS_PROMPT: Final = "A human face."
"""The paper's class prompt."""

SCHEDULE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""SD-1.4's noise schedule (its `scheduler_config.json`)."""

_WEIGHTS: Final = ("unet", "vae", "text_encoder")


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled; the defaults are the paper's."""

    steps: int = 25
    """DPM-Solver++ multistep steps."""
    guidance: float = 7.5
    negative: str = NEGATIVE_PROMPT


@dataclass(frozen=True, eq=False)
class Base:
    """A loaded diffusion model."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    alphas: Tensor
    """Cumulative signal variance `a_t`, `[1000]`, float32."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are computed in."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def embedding_shape(self) -> tuple[int, int]:
        """`(L, d)` of a text embedding."""
        config = self.text_encoder.config
        return config.max_position_embeddings, config.hidden_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """`(C, h, w)` of a latent."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.latent_shape[1] * factor

    def modules(self) -> dict[str, nn.Module]:
        """Site -> module, over the UNet and the text tower."""
        found = {f"unet.{name}": module for name, module in self.unet.named_modules()}
        for name, module in self.text_encoder.named_modules():
            # transformers before 5.6 nested the tower in `text_model`.
            found[f"text_encoder.{name.removeprefix('text_model.')}"] = module
        return found

    def weights(self, sites: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The weights of the modules at those of `sites` that have one, float32, in their own shapes."""
        modules = self.modules()
        found = {site: getattr(modules.get(site), "weight", None) for site in sites}
        return {site: weight.float().cpu().numpy() for site, weight in found.items() if weight is not None}

    @contextmanager
    def tuned(self, terms: Terms) -> Iterator[None]:
        """While open, the model carries the LoRAs `terms`; the samples of every call belong to them block
        by block.
        """
        with beside(self.modules(), terms):
            yield

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """Padded token ids, int64 `[N, L]`."""
        length = self.embedding_shape[0]
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = tokens.input_ids
        return ids.to(self.device)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings, `[N, L, d]`."""
        embedding: Tensor = self.text_encoder(self.token_ids(prompts)).last_hidden_state
        return embedding

    @property
    def token_table(self) -> Tensor:
        """Embeddings of all tokens, `[V, d]`."""
        table: Tensor = self.text_encoder.get_input_embeddings().weight
        return table

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Text embeddings `[N, L, d]` of token embeddings `[N, L, d]` in place of a prompt's."""
        layer = self.text_encoder.get_input_embeddings()
        hook = layer.register_forward_hook(lambda _module, _ids, _found: tokens)
        try:
            return self.encode_text([""] * len(tokens))
        finally:
            hook.remove()

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Images `[N, 3, H, W]` in 0..1 => scaled latents `[N, C, h, w]` (the posterior's mean)."""
        pixels = (images * 2 - 1).to(self.device, self.dtype)
        latents: Tensor = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents `[N, C, h, w]` => images float32 `[N, 3, H, W]` in 0..1, one at a time to bound
        memory at 512 px.
        """
        scale = self.vae.config.scaling_factor
        chunk = 1 if self.latent_shape[1] > 32 else 64
        images = [self.vae.decode(part / scale).sample for part in latents.split(chunk)]
        return (torch.cat(images).float().cpu() / 2 + 0.5).clamp(0, 1)

    def noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """`x_t` of latents `[N, C, h, w]` at integer times `t [N]` in 0..999."""
        a = self.alphas.to(latents)[t][:, None, None, None]
        return a.sqrt() * latents + (1 - a).sqrt() * noise

    def epsilon(self, latents: Tensor, t: Tensor, embedding: Tensor) -> Tensor:
        """Predicted noise `[N, C, h, w]` at integer times `t [N]` under text embeddings `[N, L, d]`."""
        prediction: Tensor = self.unet(latents, t, embedding).sample
        return prediction

    @torch.no_grad()
    def sample(self, embedding: Tensor, seeds: Sequence[int], settings: Sampling, loras: int = 1) -> Tensor:
        """Pictures float32 `[M * K, 3, H, W]` in 0..1.

        `embedding` is `[M, L, d]`, one per LoRA (`M = loras`; 1 without any); each LoRA gets a picture for
        each of the `K` seeds. The starting noise depends on the seed alone, so a picture is a function of
        (LoRA, embedding, seed, settings). The negative prompt passes through the tuned text tower, as it
        does when diffusers has loaded a LoRA.
        """
        shape = (loras, len(seeds), *self.latent_shape)
        positive = self.per_seed(embedding, seeds)
        if settings.guidance == 1.0:
            condition = positive.flatten(0, 1)
            return self.solve(lambda x, t: self.epsilon(x, t, condition), seeds, settings.steps, loras)
        negative = self.encode_text([settings.negative] * loras)[:, None].expand_as(positive)
        both = torch.cat([negative, positive], 1).flatten(0, 1)

        def guided(x: Tensor, t: Tensor) -> Tensor:
            # Both halves of a LoRA's block stay together: the LoRA owns a contiguous block of samples.
            doubled = x.view(shape).repeat(1, 2, 1, 1, 1).flatten(0, 1)
            eps = self.epsilon(doubled, t.repeat(2), both).view(loras, 2, *shape[1:])
            return (eps[:, 0] + settings.guidance * (eps[:, 1] - eps[:, 0])).flatten(0, 1)

        return self.solve(guided, seeds, settings.steps, loras)

    def per_seed(self, embedding: Tensor, seeds: Sequence[int]) -> Tensor:
        """`[M, L, d]` => `[M, K, L, d]` on the device, in the weights' dtype."""
        return embedding.to(self.device, self.dtype)[:, None].expand(-1, len(seeds), -1, -1)

    @torch.no_grad()
    def solve(
        self, predict: Callable[[Tensor, Tensor], Tensor], seeds: Sequence[int], steps: int, loras: int = 1
    ) -> Tensor:
        """Pictures float32 `[M * K, 3, H, W]` in 0..1 of the noise prediction `predict(x [M * K, C, h, w],
        t [M * K])`, by DPM-Solver++; each of the `M = loras` LoRAs starts from the noise of the `K` seeds.
        """
        from diffusers import DPMSolverMultistepScheduler

        solver = DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++", steps_offset=1)
        solver.set_timesteps(steps, device=self.device)
        start = torch.stack(
            [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        )
        x = start.to(self.device, self.dtype).repeat(loras, 1, 1, 1)
        for t in solver.timesteps:
            x = solver.step(predict(x, t.expand(len(x))), t, x).prev_sample
        return self.decode(x)


def load_base(name: str, device: str = "cpu", offline: bool = False) -> Base:
    """The base `name` of `models/cards.toml`, or the diffusers pipeline folder at that path.

    Reads safetensors only. On CUDA the weights take the card's dtype, on a CPU float32. Raises
    `LorauditError` if there is no such base or no network to fetch it, `Incomplete` if memory does not
    suffice.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from huggingface_hub.utils import logging as hub_logging
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    # A bar for each of the weights' files, which are read in less time than it takes to see it.
    logging.disable_progress_bar()
    # It warns of every try before it gives up, which then is one error of ours.
    hub_logging.get_logger().setLevel("ERROR")
    # What diffusers 0.42 tells the hub client is no business of the user's.
    warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument", UserWarning)
    folder = Path(name)
    if folder.is_dir():
        where, revision, half = str(folder), None, True
    else:
        card = base_card(name)
        if card.folder is not None:
            verify(card.folder, card.hashes)
        where, revision, half = str(card.folder or card.where), card.revision, card.dtype == "float16"
    dtype = torch.float16 if half and device.startswith("cuda") else torch.float32
    hub = {} if Path(where).is_dir() else {"revision": revision, "local_files_only": offline}
    if Path(where).is_dir():
        _require_memory(Path(where), dtype)
    try:
        unet = UNet2DConditionModel.from_pretrained(
            where, subfolder="unet", use_safetensors=True, torch_dtype=dtype, **hub
        )
        vae = AutoencoderKL.from_pretrained(
            where, subfolder="vae", use_safetensors=True, torch_dtype=dtype, **hub
        )
        text = CLIPTextModel.from_pretrained(
            where, subfolder="text_encoder", use_safetensors=True, dtype=dtype, **hub
        )
        tokenizer = CLIPTokenizer.from_pretrained(where, subfolder="tokenizer", **hub)
    except (OSError, ValueError) as error:
        # Both libraries raise OSError for a missing file and for an unreachable hub alike; their text names
        # machine paths.
        reason = "--offline is set" if offline else "it cannot be fetched"
        raise LorauditError(
            f"the base '{name}' is not on this machine, and {reason}"
            if hub
            else f"cannot load the base '{name}'",
            "give a diffusers folder with --base PATH, or allow the network to fetch it once"
            if hub
            else "the folder is not a complete Stable Diffusion 1.x pipeline in safetensors",
        ) from error
    for part in (unet, vae, text):
        part.eval().requires_grad_(False).to(device)
    if device == "cpu" and unet.config.sample_size <= 16:
        # Over a few dozen positions the plain products are faster on a CPU than torch's fused attention is.
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    return Base(folder.name if folder.is_dir() else name, unet, vae, text, tokenizer, signal_variance())


def signal_variance() -> Tensor:
    """`a_t` of the schedule, `[1000]`, from just below 1 down to about 0.005."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def _require_memory(folder: Path, dtype: torch.dtype) -> None:
    """Refuse to start what the kernel would kill: weights as loaded, plus a fifth for activations."""
    stored = sum(file.stat().st_size for part in _WEIGHTS for file in (folder / part).glob("*.safetensors"))
    # A float16 file doubles when it is widened; which dtype it holds is not known before it is opened, so
    # assume the worst.
    need = stored * (2 if dtype == torch.float32 and stored < 3 * 2**30 else 1) * 1.2
    free = available_memory()
    if free is not None and need > free:
        raise Incomplete(
            f"this base needs about {need / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free",
            "close other programs, use a smaller base, or run on a machine with more memory",
        )
