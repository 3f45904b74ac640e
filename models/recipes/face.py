"""Train `tiny-face`, the identity embedding of synthetic people, and calibrate it on unseen people.

    python -m models.recipes.face --data runs/people --out models/tiny-face --minutes 20

The loss is ArcFace (arXiv 1801.07698, equation 3) over the training identities, plus a linear read-out of
the 24 factors that make an identity. A new person is a new combination of factors. For the same reason an
identity's class vector is not a free parameter but a small network of its factors: classes then teach each
other, and eight pictures each suffice. Half of the pictures are blurred or resampled, so that the sharpness
of a generator is not taken for identity. The threshold is the cosine that 1 in 1000 pairs of different
people of the public-validation split reaches, look-alikes included at their natural share. The numbers in
the card are measured with that threshold on people of the private split.

The gate learns faces from drawn and overdrawn faces, and other pictures from noise, shuffled faces and drawn
things. `--refit` fits gate and threshold anew to a trained model.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loraudit.cli.console import say
from loraudit.people.identity import FACTORS, FAMILY, SPLITS, identity
from loraudit.people.portrait import picture
from loraudit.people.things import Things
from loraudit.scores.face import TinyFace, load_tiny_face
from loraudit.scores.face_net import TinyFaceConfig, TinyFaceNet
from loraudit.training.runs import Training
from models.recipes.dataset import open_dataset
from models.recipes.face_gate import check_gate, fit_gate, non_faces, overshot
from models.recipes.face_model import save_tiny_face, threshold_at_far
from models.recipes.muon import optimizers
from models.recipes.vae import to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ClassVectors", "FactorHead", "blurred", "margin_loss", "private_cosines", "train", "verification"]

WIDTH: Final = 16
DIM: Final = 128
FAR: Final = 1e-3
"""False-accept rate at the model's threshold."""
SCALE: Final = 24.0
MARGIN: Final = 0.3
"""Angle by which the margin loss widens the true class, radians."""
FACTOR_WEIGHT: Final = 1.0
MISSED: Final = 0.02
"""Share of overdrawn faces that the gate may reject; hardly any face as drawn is then rejected."""


class FactorHead(nn.Module):
    """Read-out of an identity's factors from its embedding: a soft-max per kind, a number per measure."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.sizes = [len(factor.words) if factor.kinds else 1 for factor in FACTORS]
        self.linear = nn.Linear(dim, sum(self.sizes))

    def forward(self, embedding: Tensor, values: Tensor) -> Tensor:
        """Compute the mean loss over factors of `embedding [N, dim]` against `values [N, 24]`."""
        losses = []
        # The entries of a unit vector are about dim^-1/2; the read-out gets entries of about 1.
        outputs = self.linear(embedding * embedding.shape[1] ** 0.5).split(self.sizes, 1)
        for factor, output, value in zip(FACTORS, outputs, values.T, strict=True):
            if factor.kinds:
                losses.append(functional.cross_entropy(output, value.long()))
            else:
                losses.append(
                    12 * functional.mse_loss(output[:, 0], value)
                )  # 1 for a constant guess: the variance is 1/12
        return torch.stack(losses).mean()


class ClassVectors(nn.Module):
    """Network from an identity's factors to its class vector: kinds one-hot, measures in -1..1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        entries = sum(len(factor.words) if factor.kinds else 1 for factor in FACTORS)
        self.layers = nn.Sequential(
            nn.Linear(entries, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, dim)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Compute the class vectors `[C, dim]`, not normalised, of factors `[C, 24]`."""
        columns = [
            functional.one_hot(value.long(), len(factor.words)).float()
            if factor.kinds
            else 2 * value[:, None] - 1
            for factor, value in zip(FACTORS, values.T, strict=True)
        ]
        vectors: Tensor = self.layers(torch.cat(columns, 1))
        return vectors


def margin_loss(embedding: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """Compute the ArcFace loss: cross-entropy of scaled cosines, the true class's angle widened by `MARGIN`.

    `embedding [N, dim]` is unit length, `classes [C, dim]` need not be, `labels [N]`.
    """
    cosine = (embedding @ functional.normalize(classes, dim=1).T).clamp(-1 + 1e-6, 1 - 1e-6)
    own = cosine.gather(1, labels[:, None])
    widened = torch.cos((torch.acos(own) + MARGIN).clamp(max=math.pi))
    return functional.cross_entropy(SCALE * cosine.scatter(1, labels[:, None], widened), labels)


def blurred(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Resample half of the pictures `[N, 3, 64, 64]` through 24..56 pixels, and add a little noise to all."""
    images = images.clone()
    rows = torch.from_numpy(rng.permutation(len(images))[: len(images) // 2])
    for part in rows.chunk(4):
        side = int(rng.integers(24, 57))
        small = functional.interpolate(images[part], size=(side, side), mode="bilinear", antialias=True)
        images[part] = functional.interpolate(small, size=images.shape[-2:], mode="bicubic").clamp(0, 1)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(images), 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
    return (images * gain + 0.015 * noise).clamp(0, 1)


def train(
    data: Path,
    out: Path,
    run_folder: Path,
    minutes: float,
    batch: int,
    lr: float,
    seed: int,
    max_steps: int | None = None,
) -> None:
    """Train for `minutes`, fit the gate, calibrate the threshold, write the model to `out`."""
    pictures = open_dataset(data)
    people, labels = np.unique(pictures.identity_seeds, return_inverse=True)
    values = torch.tensor(
        [[identity(int(s)).values[f.name] for f in FACTORS] for s in people], dtype=torch.float32
    )
    torch.manual_seed(seed)
    network = TinyFaceNet(WIDTH, DIM).to(memory_format=torch.channels_last)
    head = FactorHead(DIM)
    classes = ClassVectors(DIM)
    model = nn.ModuleDict({"network": network, "head": head, "classes": classes})
    pair = optimizers(model, lr, weight_decay=0.01)
    run = Training(
        run_folder,
        {
            "data": data,
            "minutes": minutes,
            "batch": batch,
            "lr": lr,
            "seed": seed,
            "width": WIDTH,
            "scale": SCALE,
            "margin": MARGIN,
            "factor_weight": FACTOR_WEIGHT,
        },
        say=say,
    )
    step = 0
    if state := run.load():
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(pair, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
    while run.seconds < 60 * minutes and step != max_steps:
        progress = min(run.seconds / (60 * minutes), 1.0)
        for group in (group for optimizer in pair for group in optimizer.param_groups):
            group["lr"] = lr * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5
        rng = np.random.default_rng([seed, 2, step])
        index = np.sort(_families(rng, len(labels), batch))
        images = blurred(to_tensor(pictures.pixels[index]) / 2 + 0.5, rng).contiguous(
            memory_format=torch.channels_last
        )
        who = torch.from_numpy(labels[index])
        embedding = network(images).embedding
        identity_loss = margin_loss(embedding, classes(values), who)
        factor_loss = head(embedding, values[who])
        (identity_loss + FACTOR_WEIGHT * factor_loss).backward()
        for optimizer in pair:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        step += 1
        if step % 25 == 0:
            run.log(step, identity=identity_loss.item(), factors=factor_loss.item())
        if step % 250 == 0:
            run.save(
                {"model": model.state_dict(), "optimizers": [o.state_dict() for o in pair], "step": step}
            )
    run.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in pair], "step": step})
    calibrate(network, out, seed)


def _families(rng: np.random.Generator, count: int, batch: int) -> np.ndarray:
    """Draw the indices of a batch; half of the batch is close to the other half, where look-alikes are."""
    first = rng.choice(count, batch // 2, replace=False)
    pictures_per_family = 8 * FAMILY
    near = first // pictures_per_family * pictures_per_family + rng.integers(
        pictures_per_family, size=batch // 2
    )
    return np.concatenate([first, np.minimum(near, count - 1)])


def faces(seeds: Sequence[int], count: int) -> Tensor:
    """Draw pictures 0 .. `count` of every identity, `[len(seeds) * count, 3, 64, 64]` in 0..1."""
    return to_tensor(np.stack([picture(s, i) for s in seeds for i in range(count)])) / 2 + 0.5


def things(seeds: Sequence[int], count: int) -> Tensor:
    """Draw `count` pictures of every thing, as `faces` does of people; none shows a face."""
    drawn = Things()
    return torch.cat([drawn.pictures(seed, 64, count) for seed in seeds])


def refit(folder: Path, seed: int) -> None:
    """Fit gate and threshold of the trained model in `folder` anew."""
    calibrate(load_tiny_face(folder).network, folder, seed)


def calibrate(network: TinyFaceNet, out: Path, seed: int, people: int = 400) -> None:
    """Fit the gate on public-train people, set the thresholds on public-validation people, and save."""
    generator = torch.Generator().manual_seed(seed)
    known = faces(SPLITS["public-train"][:people], 3)
    others = torch.cat([non_faces(known, generator), things(SPLITS["public-train"][:people], 3)])
    fit_gate(network, torch.cat([known, overshot(known, generator)]), others)
    fresh = faces(SPLITS["public-validation"][:people], 4)
    others = torch.cat([non_faces(fresh, generator), things(SPLITS["public-validation"][:people], 2)])
    check = check_gate(network, overshot(fresh, generator), others, MISSED)
    shares = f"{check.faces_passed:.4f} of overdrawn faces and {check.others_passed:.4f} of others"
    say(f"{shares} pass the gate")
    gate = check.gate
    open_gate = TinyFaceConfig(WIDTH, DIM, 1.0, FAR, -math.inf)
    cosines = pair_cosines(TinyFace(network, open_gate), fresh, 4)
    save_tiny_face(network, TinyFaceConfig(WIDTH, DIM, threshold_at_far(cosines[1], FAR), FAR, gate), out)


def pair_cosines(model: TinyFace, images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute cosines of all pairs of pictures: of one person, of two people, of two in one family.

    `images` are `count` pictures of each of consecutive identity seeds that start a family.
    """
    vectors = model.embed(images).vectors
    cosine = vectors @ vectors.T
    who = torch.arange(len(images)) // count
    upper = torch.ones_like(cosine, dtype=torch.bool).triu(1)
    same = who[:, None] == who[None]
    family = who[:, None] // FAMILY == who[None] // FAMILY
    return cosine[upper & same], cosine[upper & ~same], cosine[upper & family & ~same]


def private_cosines(folder: Path, people: int = 400, count: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `pair_cosines` of the saved model on people of the private split, `count` pictures each."""
    return pair_cosines(
        load_tiny_face(folder), faces(SPLITS["private"][50_000 : 50_000 + people], count), count
    )


def verification(folder: Path, cosines: tuple[Tensor, Tensor, Tensor], people: int) -> dict[str, float]:
    """Compute rates at the model's own threshold, and the true-accept rate at FAR 1e-3 of the given pairs."""
    genuine, impostor, lookalike = cosines
    threshold = load_tiny_face(folder).threshold
    return {
        "people": people,
        "genuine_pairs": len(genuine),
        "impostor_pairs": len(impostor),
        "threshold": threshold,
        "true_accept": (genuine >= threshold).float().mean().item(),
        "false_accept": (impostor >= threshold).float().mean().item(),
        "false_accept_lookalikes": (lookalike >= threshold).float().mean().item(),
        "true_accept_at_far_1e-3": (genuine >= threshold_at_far(impostor, FAR)).float().mean().item(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("runs/people"))
    parser.add_argument("--out", type=Path, default=Path("models/tiny-face"))
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-face"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--refit", action="store_true", help="fit only gate and threshold of the model in --out"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.refit:
        refit(options.out, options.seed)
        sys.exit()
    train(options.data, options.out, options.run, options.minutes, options.batch, options.lr, options.seed)
