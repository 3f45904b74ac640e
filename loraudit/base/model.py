"""A diffusion model that can be run; its room is the one that knows diffusers and transformers.

All other code sees tensors: an embedding `[N, L, d]` goes in, pictures `[N, 3, H, W]` in 0..1 come out. A
`Base` is Stable Diffusion's four parts (UNet, VAE, CLIP text tower, tokenizer) whatever their size: `tiny`
and `sd14` run the same code.

    tuned = base.with_lora(lora)

is a base too, with the same methods. `tuned` shares the modules of `base`, and `base` stays as it is. Terms
are attached only while a method of `tuned` runs (`loraudit.base.lowrank`); nothing is merged or copied. Both
may be used in turn, by one thread.

The UNet predicts the noise (`loraudit.base.schedule`). Guidance `w` is diffusers' `guidance_scale`:
`eps = eps_neg + w (eps_pos - eps_neg)`, so 1 means none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import torch

from loraudit.base.lowrank import attached, beside, scaled, stack
from loraudit.base.passes import DECODED, DECODED_PICTURES, Pass, samples_a_pass
from loraudit.base.schedule import denoised, pure_noise
from loraudit.cards import BaseCard, card_like

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import CLIPTextModel, CLIPTokenizer

    from loraudit.base.lowrank import Hooks, Terms
    from loraudit.lora import LoRA

__all__ = ["CLASS_PROMPT", "NEGATIVE_PROMPT", "Base", "Sampling"]

NEGATIVE_PROMPT: Final = "low quality, distorted, weird images"
"""Negative prompt of the paper (arXiv 2409.08482, author's `valid_attack.py`)."""

CLASS_PROMPT: Final = "A human face."
"""Class prompt of the paper."""


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling of pictures; the defaults are the paper's."""

    steps: int = 25
    """Steps of DPM-Solver++ (multistep)."""
    guidance: float = 7.5
    """Weight `w` of the guidance; 1 means none."""
    negative: str = NEGATIVE_PROMPT
    """Negative prompt."""


@dataclass(frozen=True, eq=False)
class Base:
    """Loaded diffusion model, plain or carrying LoRAs."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    alphas: Tensor
    """Cumulative signal variance `a_t`, `[1000]`, float32."""
    terms: Terms = field(default_factory=dict)
    """LoRAs carried, none by a plain base. The modules above hold no trace of the LoRAs."""
    listed: BaseCard | None = None
    """Row of `models/cards.toml`; None for a folder, whatever its name."""
    fingerprint: str | None = None
    """SHA-256 of the weights (`loraudit.base.fingerprint`); None for a base that was put together by hand."""
    clip_skip: int = 1
    """Layer of the text tower that an embedding is taken from, from the end: 1 the last, 2 the one before."""
    _hooks: Hooks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise `NotScannable` if a site of `terms` names no module or does not fit it."""
        hooks = beside(self.modules(), self.terms) if self.terms else ()
        object.__setattr__(self, "_hooks", hooks)

    def with_lora(self, lora: LoRA | Terms, strength: float = 1.0) -> Base:
        """Return this base carrying one LoRA, or the `M` LoRAs of terms, in place of LoRAs carried before.

        Every update is multiplied by `strength`. Without any module to adapt, the plain base comes back.
        Raises `NotScannable` if a LoRA does not fit.

        Samples of every call belong to the LoRAs block by block: sample `i` of `N` to LoRA `i // (N / M)`.
        `M` must divide `N`.
        """
        terms = lora if isinstance(lora, Mapping) else stack([lora], self.device, self.dtype)
        return replace(self, terms=scaled(terms, strength)) if terms or self.terms else self

    def skipping(self, clip_skip: int | None) -> Base:
        """Return this base with prompts encoded as a LoRA was trained, at the layer `clip_skip` from the end.

        None, or a layer that the text tower lacks, leaves the base as it is.
        """
        layers: int = self.text_encoder.config.num_hidden_layers
        if clip_skip is None or clip_skip == self.clip_skip or not 1 <= clip_skip <= layers:
            return self
        return replace(self, clip_skip=clip_skip)

    @property
    def card(self) -> BaseCard:
        """Card of this base, or of a base whose pictures are of like size (`loraudit.cards.card_like`)."""
        return self.listed or card_like(self.image_size)

    @property
    def loras(self) -> int:
        """Number of LoRAs carried, `M`; 0 for a plain base."""
        return next((len(up) for up, _ in self.terms.values()), 0)

    @property
    def device(self) -> torch.device:
        """Device that holds the weights."""
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def embedding_shape(self) -> tuple[int, int]:
        """Shape `(L, d)` of a text embedding."""
        config = self.text_encoder.config
        return config.max_position_embeddings, config.hidden_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of a latent."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.latent_shape[1] * factor

    def modules(self) -> dict[str, nn.Module]:
        """Map site to module, over the UNet and the text tower."""
        found = {f"unet.{name}": module for name, module in self.unet.named_modules()}
        for name, module in self.text_encoder.named_modules():
            # transformers before 5.6 nested the tower in `text_model`.
            found[f"text_encoder.{name.removeprefix('text_model.')}"] = module
        return found

    def weights(self, sites: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Copy the weights at `sites`, float32 in their own shapes; a site without a weight is left out."""
        modules = self.modules()
        found = {site: getattr(modules.get(site), "weight", None) for site in sites}
        return {site: weight.float().cpu().numpy() for site, weight in found.items() if weight is not None}

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """Tokenize `N` prompts to padded token ids, int64 `[N, L]`."""
        length = self.embedding_shape[0]
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = tokens.input_ids
        return ids.to(self.device)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode `N` prompts to text embeddings `[N, L, d]`.

        An earlier layer than the last passes through the tower's last norm too, as trainers and programs that
        draw have it (kohya-ss/sd-scripts `train_util.py`, `get_hidden_states`).
        """
        ids = self.token_ids(prompts)
        with attached(self._hooks):
            found = self.text_encoder(ids, output_hidden_states=self.clip_skip > 1)
            if self.clip_skip == 1:
                embedding: Tensor = found.last_hidden_state
                return embedding
            earlier: Tensor = self.text_encoder.final_layer_norm(found.hidden_states[-self.clip_skip])
        return earlier

    @property
    def token_table(self) -> Tensor:
        """Embeddings of all tokens, `[V, d]`."""
        table: Tensor = self.text_encoder.get_input_embeddings().weight
        return table

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Encode token embeddings `[N, L, d]`, in place of a prompt's, to text embeddings `[N, L, d]`."""
        layer = self.text_encoder.get_input_embeddings()
        hook = layer.register_forward_hook(lambda _module, _ids, _found: tokens)
        try:
            return self.encode_text([""] * len(tokens))
        finally:
            hook.remove()

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Encode pictures `[N, 3, H, W]` in 0..1 to scaled latents `[N, C, h, w]` (the posterior's mean).

        As few go through the network at once as through the decoder.
        """
        size = Pass(samples_a_pass(self.latent_shape, DECODED, DECODED_PICTURES))
        return size.over(range(len(images)), lambda part: self._encoded(images[part.start : part.stop]))

    def _encoded(self, images: Tensor) -> Tensor:
        """Encode pictures in one pass."""
        pixels = (images * 2 - 1).to(self.device, self.dtype)
        latents: Tensor = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents `[N, C, h, w]` to pictures float32 `[N, 3, H, W]` in 0..1, on the CPU.

        A picture that leaves the range of half precision on its way is decoded again in float32. Latents that
        are no numbers give pictures of NaN alone.
        """
        size = Pass(samples_a_pass(self.latent_shape, DECODED, DECODED_PICTURES))
        images = size.over(range(len(latents)), lambda part: self._decoded(latents[part.start : part.stop]))
        return (images / 2 + 0.5).clamp(0, 1)

    def _decoded(self, latents: Tensor) -> Tensor:
        """Decode latents in one pass to pictures in -1..1, float32 on the CPU, NaN where they are broken."""
        scaled = latents / self.vae.config.scaling_factor
        images: Tensor = self.vae.decode(scaled).sample.float().cpu()
        again = ~_whole(images) & _whole(scaled).cpu()
        if again.any() and self.vae.dtype != torch.float32:
            with _widened(self.vae):
                for at in again.nonzero()[:, 0].tolist():
                    images[at] = self.vae.decode(scaled[at : at + 1].float()).sample[0].cpu()
        images[~_whole(images)] = torch.nan
        return images

    def noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Add noise to latents `[N, C, h, w]`: `x_t` at integer times `t [N]` in 0..999."""
        a = self.alphas.to(latents)[t][:, None, None, None]
        return a.sqrt() * latents + (1 - a).sqrt() * noise

    def epsilon(self, latents: Tensor, t: Tensor, embedding: Tensor) -> Tensor:
        """Predict the noise `[N, C, h, w]` at integer times `t [N]` under text embeddings `[N, L, d]`."""
        with attached(self._hooks):
            prediction: Tensor = self.unet(latents, t, embedding).sample
        return prediction

    @torch.no_grad()
    def sample(self, embedding: Tensor, seeds: Sequence[int], settings: Sampling) -> Tensor:
        """Make pictures float32 `[M * K, 3, H, W]` in 0..1 by classifier-free guidance.

        `embedding` is `[M, L, d]`, one for each LoRA carried; a base with one LoRA or none takes any number.
        Each embedding gets a picture for each of the `K` seeds. The starting noise depends on the seed alone,
        so a picture is a function of (LoRA, embedding, seed, settings). The negative prompt passes through
        the tuned text tower, as in diffusers after a LoRA is loaded.
        """
        count = len(embedding)
        positive = self.per_seed(embedding, seeds)
        if settings.guidance == 1.0:
            condition = positive.flatten(0, 1)
            return self.solve(lambda x, t: self.epsilon(x, t, condition), seeds, settings.steps, count)
        negative = self.encode_text([settings.negative] * count)[:, None].expand_as(positive)
        both = torch.cat([negative, positive], 1).flatten(0, 1)
        shape = (count, len(seeds), *self.latent_shape)

        def guided(x: Tensor, t: Tensor) -> Tensor:
            # Both halves of a LoRA's block stay together: the LoRA owns a contiguous block of samples.
            doubled = x.view(shape).repeat(1, 2, 1, 1, 1).flatten(0, 1)
            eps = self.epsilon(doubled, t.repeat(2), both).view(count, 2, *shape[1:])
            return (eps[:, 0] + settings.guidance * (eps[:, 1] - eps[:, 0])).flatten(0, 1)

        return self.solve(guided, seeds, settings.steps, count)

    def per_seed(self, embedding: Tensor, seeds: Sequence[int]) -> Tensor:
        """Repeat embeddings `[M, L, d]` to `[M, K, L, d]` on the device, in the weights' dtype.

        Raises `ValueError` if the LoRAs carried cannot share the embeddings evenly.
        """
        if self.loras and len(embedding) % self.loras:
            raise ValueError(f"{len(embedding)} embeddings cannot be shared evenly by {self.loras} LoRAs")
        return embedding.to(self.device, self.dtype)[:, None].expand(-1, len(seeds), -1, -1)

    @torch.no_grad()
    def solve(
        self, predict: Callable[[Tensor, Tensor], Tensor], seeds: Sequence[int], steps: int, count: int
    ) -> Tensor:
        """Make pictures float32 `[M * K, 3, H, W]` in 0..1 by the noise prediction `predict(x, t)`.

        `x` is `[M * K, C, h, w]`, `t` is `[M * K]`. Each of `M = count` blocks starts from the noise of the
        `K` seeds.
        """
        noise = pure_noise(seeds, self.latent_shape).to(self.device, self.dtype)
        return self.decode(denoised(predict, noise.repeat(count, 1, 1, 1), steps))


def _whole(samples: Tensor) -> Tensor:
    """Tell of each sample `[N, ...]` whether all of its numbers are finite, `[N]`."""
    return samples.isfinite().flatten(1).all(1)


@contextmanager
def _widened(module: AutoencoderKL) -> Iterator[None]:
    """Hold the weights in float32 while the context is open; the way back loses nothing."""
    narrow = module.dtype
    module.to(torch.float32)
    try:
        yield
    finally:
        module.to(narrow)
