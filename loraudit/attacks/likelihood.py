"""The likelihood test: whether the file makes the reference photos more probable than other people's.

The denoising loss bounds the likelihood of a picture. Fine-tuning lowers it for the person it saw, so the
gain

    gain(photo) = mean over t of log |eps_base(x_t) - eps|^2 - log |eps_tuned(x_t) - eps|^2

of the reference photos is compared with the gain of decoys, other people's photos, at the same times and
noises. (Common random numbers: whatever is hard about a noise is hard on both sides.) No picture is made, and
the photos need not be those the file was trained on. If the file knows nothing of the person, every place
among the decoys' gains is equally likely: a rank is a p-value.

(Likelihood ratios for membership: Carlini and others, https://arxiv.org/abs/2112.03570, with decoys in the
place of shadow models.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from loraudit.base.model import Base
from loraudit.base.passes import PREDICTED, Pass, samples_a_pass
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.likelihood import Likelihood
from loraudit.scores import fit_square

__all__ = ["Decoys", "LikelihoodTest", "evaluations_for", "open_likelihood", "read_decoys"]

_TIMES: Final = (150, 300, 450, 600, 750)
"""Diffusion times; later ones hold no picture any more, earlier ones only its grain."""
_LEAST: Final = 1e-12
"""Loss added before the logarithm, so that a perfect prediction has one."""


@dataclass(frozen=True, eq=False)
class Decoys:
    """Photos of other people than the one in the reference photos."""

    latents: Tensor
    """Latents of `Q` photos each of `D` people, `[D, Q, C, h, w]`."""
    faces: Tensor
    """Faces of the same people, unit vectors `[D, d]`."""


def read_decoys(folder: Path) -> Decoys:
    """Read the decoys in `folder`. Raises `LorauditError` if the file is damaged."""
    try:
        stored = load_file(folder / "decoys.safetensors")
        return Decoys(stored["latents"].float(), functional.normalize(stored["faces"].float(), dim=1))
    except (OSError, KeyError, SafetensorError) as error:
        raise LorauditError(
            f"the decoys in {folder.name} cannot be read", "install loraudit again"
        ) from error


def open_likelihood(base: Base, photos: Sequence[Tensor], decoys: Decoys | None) -> "LikelihoodTest":
    """Prepare the test of reference photos `[3, H, W]` in 0..1 against `decoys`.

    Raises `Incomplete` if there are no photos or no decoys.
    """
    if not photos:
        raise Incomplete("the likelihood test needs reference photos", "give a folder with --reference")
    if decoys is None:
        raise Incomplete(
            "there are no photos of other people for this base", "choose other attacks with --attack"
        )
    own = torch.cat([fit_square(photo[None], base.image_size) for photo in photos])
    return LikelihoodTest(base.encode_images(own), decoys.latents)


def evaluations_for(photos: int, decoys: Tensor) -> int:
    """Count the evaluations of the UNet in a test of so many `photos` against `decoys [D, Q, C, h, w]`."""
    return 2 * len(_TIMES) * min(photos, decoys.shape[1]) * (1 + len(decoys))


@dataclass(frozen=True, eq=False)
class LikelihoodTest:
    """Test of photos of one person against photos of others."""

    own: Tensor
    """Latents of the reference photos `[P, C, h, w]`."""
    decoys: Tensor
    """Latents of other people's photos, `Q` each of `D` people, `[D, Q, C, h, w]`."""
    seed: int = 0
    """Random seed of the noises."""
    name: Final = "likelihood"

    @property
    def photos(self) -> int:
        """Photos compared of each person, as many of the reference as of a decoy."""
        return min(len(self.own), self.decoys.shape[1])

    @property
    def evaluations(self) -> int:
        """Evaluations of the UNet in one run, base and tuned together."""
        return evaluations_for(len(self.own), self.decoys)

    @torch.no_grad()
    def run(self, tuned: Base, base: Base, embedding: Tensor) -> Likelihood:
        """Compare the gains of `tuned`, which carries one LoRA, over `base` at the embedding `[L, d]`."""
        count = self.photos
        people = torch.cat([self.own[None, :count], self.decoys[:, :count].to(self.own)])
        flat = people.flatten(0, 1).to(base.device, base.dtype)
        noise = torch.Generator().manual_seed(self.seed)
        total, size = torch.zeros(len(flat)), Pass(samples_a_pass(base.latent_shape, PREDICTED))
        for time in _TIMES:
            # One noise for everybody: people then differ in their photos alone.
            eps = torch.randn(base.latent_shape, generator=noise).to(flat)

            def gain(part: range, eps: Tensor = eps, time: int = time) -> Tensor:
                return _gain(tuned, base, embedding, flat[part.start : part.stop], eps, time)

            total += size.over(range(len(flat)), gain)
        gains = (total / len(_TIMES)).view(len(people), count).mean(1).tolist()
        return Likelihood(gains[0], tuple(gains[1:]), count)


def _gain(tuned: Base, base: Base, embedding: Tensor, x: Tensor, eps: Tensor, time: int) -> Tensor:
    """Compute the gain `[N]` of latents `x [N, C, h, w]` at one time, under one noise `eps [C, h, w]`."""
    noise, t = eps.expand_as(x), torch.full((len(x),), time, device=x.device)
    noised = base.noised(x, noise, t)
    condition = embedding.to(x).expand(len(x), -1, -1)
    found = [model.epsilon(noised, t, condition) for model in (base, tuned)]
    losses = [((guess - noise).float().square().mean((1, 2, 3)) + _LEAST).log() for guess in found]
    return (losses[0] - losses[1]).cpu()
