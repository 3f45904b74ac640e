"""Train a matrix encoder on LoRAs of public people (arXiv 2409.08482, the paper's Algorithm, and a cheaper way to the same samples).

One training sample is (LoRA after r fine-tuning steps, r, a picture it was trained on): the encoder turns the matrices and r into
an embedding, the tuned base predicts the noise of the noised picture under that embedding, and the usual epsilon MSE, plus a weighted
KL term, is the loss. Only the encoder learns.

`LiveSource` is the Algorithm: a group of people is fine-tuned, for a number of steps drawn uniformly, and every step of theirs is at once a
sample. `ZooSource` takes its samples from saved snapshots of a zoo: the same kind of sample without the fine-tuning, so a LoRA can be
seen again and again.

Sample `i` of process `p` is a function of (seed, i, p) alone, so a resumed training goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from loraudit.encoder.paper import kl, reparameterise
from loraudit.errors import LorauditError
from loraudit.training.finetune import Subject, finetune
from loraudit.training.people import split_of
from loraudit.training.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from loraudit.base import Base
    from loraudit.encoder.constant import ConstantEmbedding
    from loraudit.encoder.paper import PaperEncoder
    from loraudit.lowrank import Terms
    from loraudit.training.finetune import Recipe
    from loraudit.training.zoo import Zoo

__all__ = ["PAPER", "TINY", "LiveSource", "Sample", "Settings", "Source", "ZooSource", "require_public", "train_encoder"]


@dataclass(frozen=True)
class Settings:
    """How an encoder is trained; learning rate and weight decay default to the paper's."""

    steps: int
    """Updates of the encoder."""
    pictures: int = 2
    """Pictures of each LoRA in a step."""
    lr: float = 5e-3
    weight_decay: float = 5e-4
    kl_weight: float = 1e-4
    """On the KL divergence per entry of the embedding."""
    seed: int = 0
    save_every: int = 100
    """Steps between checkpoints."""


PAPER = Settings(steps=100_000, pictures=1)
TINY = Settings(steps=600, lr=2e-3)


@dataclass(frozen=True, eq=False)
class Sample:
    """What one step trains on: `M` LoRAs, all after the same number of steps."""

    terms: Terms
    """Of the UNet's sites, `up [M, out, r]` and `down [M, r, in]`."""
    step: int
    """Fine-tuning steps so far."""
    latents: Sequence[Tensor]
    """The training pictures of each LoRA, `[P, C, h, w]` each."""


class Source(Protocol):
    """Where samples come from."""

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """The endless stream of samples of a process, from number `first` on."""
        ...


@dataclass(frozen=True, eq=False)
class ZooSource:
    """Samples from the saved snapshots of a zoo."""

    passes: Sequence[dict[int, Terms]]
    """For each pass of the zoo, the UNet's terms at each snapshot."""
    latents: Sequence[Sequence[Tensor]]
    """For each pass, the pictures of its members."""
    seed: int

    @classmethod
    def of(cls, base: Base, zoo: Zoo, seed: int) -> ZooSource:
        """Load a zoo into memory. Raises `LorauditError` if somebody in it is not public."""
        from loraudit.training.zoo import portraits

        require_public([member.identity for member in zoo.members])
        starts = range(0, len(zoo.members), zoo.plan.people_per_pass)
        passes = [{step: _unet(zoo.terms(start, step)) for step in zoo.plan.snapshots} for start in starts]
        groups = [zoo.members[start : start + zoo.plan.people_per_pass] for start in starts]
        return cls(passes, [[base.encode_images(portraits(m.identity)) for m in group] for group in groups], seed)

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """One pass and one snapshot of it at a time."""
        index = first
        while True:
            rng = np.random.default_rng([self.seed, 20, index, process])
            number = int(rng.integers(len(self.passes)))
            steps = sorted(self.passes[number])
            step = steps[int(rng.integers(len(steps)))]
            yield Sample(self.passes[number][step], step, self.latents[number])
            index += 1


@dataclass(frozen=True, eq=False)
class LiveSource:
    """Samples from LoRAs while they are being fine-tuned."""

    base: Base
    subjects: Sequence[Subject]
    recipe: Recipe
    prior: Tensor | None
    group: int
    """People fine-tuned together."""
    seed: int

    def samples(self, first: int, process: int) -> Iterator[Sample]:
        """Every step of group after group. A stream that starts in the middle fine-tunes again up to there."""
        index, number = 0, 0
        while True:
            rng = np.random.default_rng([self.seed, 21, number, process])
            chosen = [self.subjects[i] for i in rng.permutation(len(self.subjects))[: self.group]]
            # Another start every time a person comes round, or a LoRA would be seen twice step for step.
            people = [dataclasses.replace(s, seed=int(rng.integers(2**31))) for s in chosen]
            steps = int(rng.integers(1, self.recipe.steps + 1))
            number += 1
            if index + steps <= first:
                index += steps
                continue
            recipe = dataclasses.replace(self.recipe, steps=steps)
            for step, adapters, _loss in finetune(self.base, people, recipe, self.prior):
                if index >= first:
                    terms = {site: (up.detach().clone(), down.detach().clone()) for site, (up, down) in adapters.terms().items()}
                    yield Sample(_unet(terms), step, [person.latents for person in people])
                index += 1


def require_public(identities: Sequence[int]) -> None:
    """Raise `LorauditError` unless every synthetic identity belongs to the public-train split."""
    private = [seed for seed in identities if split_of(seed) != "public-train"]
    if private:
        raise LorauditError(
            f"identity {private[0]} belongs to the {split_of(private[0])} split, on which nothing may be trained",
            "build the zoo from public-train identities",
        )


def _unet(terms: Terms) -> Terms:
    return {site: pair for site, pair in terms.items() if site.startswith("unet.")}


def train_encoder(
    base: Base,
    source: Source,
    model: PaperEncoder | ConstantEmbedding,
    settings: Settings,
    folder: Path,
    describe: dict[str, Any] | None = None,
    until: int | None = None,
) -> None:
    """Train `model` in place for `settings.steps` updates, or up to update number `until`.

    `folder` receives `run.json` (before the first step: settings and `describe`), `metrics.jsonl`, `loss.png` and a checkpoint from which the
    same call goes on. More processes than one (`accelerate launch`) average their gradients.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=base.device.type == "cpu")
    run = Run(folder, {**dataclasses.asdict(settings), **(describe or {}), "processes": accelerator.num_processes})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
    step = 0
    if state := run.load():
        model.load_own_state(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    prepared, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    stop = settings.steps if until is None else min(until, settings.steps)
    recent: list[tuple[float, float]] = []
    stream = source.samples(step, accelerator.process_index)
    while step < stop:
        rate = settings.lr * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * np.cos(np.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        loss, divergence = _loss(base, next(stream), prepared, settings, step, accelerator.process_index)
        accelerator.backward(loss + settings.kl_weight * divergence)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append((loss.item(), divergence.item()))
        if accelerator.is_main_process and step % 20 == 0:
            mean_loss, mean_kl = np.mean(recent, 0)
            run.log(step, loss=mean_loss, kl=mean_kl)
            recent = []
        if accelerator.is_main_process and (step % settings.save_every == 0 or step == stop):
            run.save({"model": model.own_state(), "optimizer": optimizer.state_dict(), "step": step})
    model.eval()
    if accelerator.is_main_process:
        _draw_loss(folder)


def _loss(
    base: Base, sample: Sample, model: Any, settings: Settings, step: int, process: int  # noqa: ANN401
) -> tuple[Tensor, Tensor]:
    """Epsilon MSE and KL per entry of the embedding, both means over the LoRAs of the sample."""
    rng = np.random.default_rng([settings.seed, 22, step, process])
    count, pictures = len(sample.latents), settings.pictures
    x = torch.cat([latents[torch.from_numpy(rng.integers(len(latents), size=pictures))] for latents in sample.latents])
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(x)
    t = torch.from_numpy(rng.integers(len(base.alphas), size=len(x))).to(x.device)
    mean, logvar = model(sample.terms, torch.full((count,), sample.step, device=x.device))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    embedding = reparameterise(mean, logvar, generator).repeat_interleave(pictures, 0)
    with base.tuned(sample.terms):
        prediction = base.epsilon(base.noised(x, noise, t), t, embedding)
    return (prediction - noise).pow(2).mean(), kl(mean, logvar).mean() / mean[0].numel()


def _draw_loss(folder: Path) -> None:
    """`loss.png` from `metrics.jsonl`."""
    import json

    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows])
    axes.set(xlabel="update of the encoder", ylabel="noise prediction error")
    axes.grid(alpha=0.3)
    figure.savefig(folder / "loss.png", dpi=130, metadata={"Software": None})
    plt.close(figure)
