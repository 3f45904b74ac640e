"""Train `tiny-clip`, an open_clip model of synthetic people: first its text tower, then its picture tower.

    python -m models.recipes.clip text --out models/tiny-clip --minutes 10 --lr 1.2e-3
    python -m models.recipes.clip pictures --data runs/people --out models/tiny-clip --minutes 36

The embedding of each single phrase ("square jaw") acts as the class weight of a zero-shot classifier
(Radford et al. 2021, section 3.1.2): a soft-max over the phrases of one factor must pick the true one. Stage
1 asks this of every factor in a caption, given the caption's embedding, so the text tower keeps *every*
phrase of a long caption. Contrast alone is content with the few phrases that tell a batch apart, and learned
text five times as slowly. Stage 2 locks the text tower, the mirror image of locked-image tuning (Zhai et al.
2022). The picture tower is fitted by CLIP's symmetric cross-entropy (Radford et al. 2021, figure 3), in
batches of whole families of look-alikes. The same zero-shot loss over all factors of the person is added.

Token embeddings start at a standard deviation of 0.3, not open_clip's 0.02, so that captions are far apart
before training.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from loraudit.cli.console import say
from loraudit.people.captions import WORDS, caption
from loraudit.people.identity import FACTORS, FAMILY, SPLITS, identity, nuisance
from loraudit.training.runs import Training
from models.recipes.clip_model import encode_text, model_config, new_clip, save_clip, to_tensor
from models.recipes.dataset import open_dataset
from models.recipes.tokenizer import CaptionEncoder, load_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from loraudit.people.identity import Identity, Nuisance
    from models.recipes.dataset import Pictures

__all__ = ["PHRASES", "Budget", "clip_loss", "phrase_loss", "phrase_targets", "train_pictures", "train_text"]

PHRASES: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(f"{word} {factor.noun}" for word in factor.words) for factor in FACTORS
)
"""Phrases of every factor, one tuple per factor."""

_ALL: Final = [phrase for phrases in PHRASES for phrase in phrases]
_INDEX: Final = {phrase: (f, k) for f, phrases in enumerate(PHRASES) for k, phrase in enumerate(phrases)}
_PHRASE_WEIGHT: Final = 3.0
_CHUNKS: Final = 4


def phrase_targets(captions: Sequence[str]) -> Tensor:
    """Find the phrase of each factor in each caption: int64 `[N, factors]`, -100 for a factor not named."""
    targets = torch.full((len(captions), len(FACTORS)), -100)
    for row, text in enumerate(captions):
        words = text.split()
        for pair in pairwise(words):
            if place := _INDEX.get(" ".join(pair)):
                targets[row, place[0]] = place[1]
    return targets


def clip_loss(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Compute the symmetric cross-entropy of unit vectors `[N, d]` whose rows belong together; scalar."""
    logits = scale * pictures @ texts.T
    rows = torch.arange(len(logits))
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)) / 2


def phrase_loss(vectors: Tensor, phrases: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """Compute the cross-entropy of unit vectors `[N, d]` against all phrases `[P, d]`, a soft-max per factor.

    `targets` is int64 `[N, factors]`, -100 for unknown factors. The result is the mean over known factors, a
    scalar.
    """
    logits = scale * vectors @ phrases.T
    parts = torch.split(logits, [len(words) for words in PHRASES], dim=1)
    losses = [functional.cross_entropy(part, targets[:, f], reduction="sum") for f, part in enumerate(parts)]
    return torch.stack(losses).sum() / (targets >= 0).sum().clamp_min(1)


@dataclass(frozen=True)
class Budget:
    """Budget of one stage: time, batch, learning rate and seed."""

    minutes: float
    batch: int
    lr: float
    """Highest learning rate, which falls to 0 along a cosine."""
    seed: int
    max_steps: int | None = None


def train_text(out: Path, run_folder: Path, budget: Budget) -> None:
    """Run stage 1: fit the text tower, and write the open_clip folder `out` with a random picture tower."""
    torch.manual_seed(budget.seed)
    write_tokenizer(WORDS, out)
    tokenizer = load_tokenizer(out)
    encoder = CaptionEncoder(tokenizer)
    model = new_clip(len(tokenizer))
    tower = [
        parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(("visual.", "logit_scale"))
    ]
    phrase_ids = torch.from_numpy(encoder(_ALL))

    def loss(step: int, scale: Tensor) -> dict[str, Tensor]:
        captions = _captions(np.random.default_rng([budget.seed, step]), budget.batch)
        texts = _unit(encode_text(model, torch.from_numpy(encoder(captions)), _CHUNKS))
        phrases = _unit(encode_text(model, phrase_ids))
        targets = phrase_targets(captions)
        return {"loss": phrase_loss(texts, phrases, targets, scale), "named": _named(texts, phrases, targets)}

    config = {"stage": "text", "model": model_config(len(tokenizer))}
    _fit(model, tower, loss, run_folder, config, budget)
    save_clip(model, out)


def train_pictures(data: Path, out: Path, run_folder: Path, budget: Budget) -> None:
    """Run stage 2: fit the picture tower to the locked text tower in `out`, and write both to `out`."""
    torch.manual_seed(budget.seed)
    tokenizer = load_tokenizer(out)
    encoder = CaptionEncoder(tokenizer)
    model = new_clip(len(tokenizer))
    locked = {k: v for k, v in load_file(out / "model.safetensors").items() if not k.startswith("visual.")}
    model.load_state_dict({**model.state_dict(), **locked})
    model = model.to(memory_format=torch.channels_last)
    pictures = open_dataset(data)
    draw = _Draw(pictures, budget.batch, budget.seed)
    with torch.no_grad():
        phrases = _unit(encode_text(model, torch.from_numpy(encoder(_ALL))))

    def loss(step: int, scale: Tensor) -> dict[str, Tensor]:
        rows, captions, truth = draw(step)
        with torch.no_grad():
            texts = _unit(encode_text(model, torch.from_numpy(encoder(captions)), _CHUNKS))
        seen = _unit(model.encode_image(to_tensor(pictures.pixels[rows])))
        contrast, named = (
            clip_loss(seen, texts, model.logit_scale.exp()),
            phrase_loss(seen, phrases, truth, scale),
        )
        rank1 = ((seen @ texts.T).argmax(0) == torch.arange(len(texts))).float().mean()
        return {
            "loss": contrast + _PHRASE_WEIGHT * named, "contrast": contrast, "phrases": named,
            "named": _named(seen, phrases, truth), "rank1": rank1,
        }  # fmt: skip

    config = {"stage": "pictures", "data": data, "phrase_weight": _PHRASE_WEIGHT}
    _fit(model, [*model.visual.parameters(), model.logit_scale], loss, run_folder, config, budget)
    save_clip(model, out)


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)


def _named(vectors: Tensor, phrases: Tensor, targets: Tensor) -> Tensor:
    """Compute the share of known factors whose nearest phrase is the true one."""
    parts = torch.split(vectors @ phrases.T, [len(words) for words in PHRASES], dim=1)
    right = torch.stack([part.argmax(1) for part in parts], 1) == targets
    return right.sum() / (targets >= 0).sum()


def _describe(who: Identity, how: Nuisance, rng: np.random.Generator) -> str:
    """Draw a caption that names at least one factor, since class prompt and bare names fit every picture."""
    text = caption(who, how, rng)
    while " with " not in text:
        text = caption(who, how, rng)
    return text


def _captions(rng: np.random.Generator, count: int) -> list[str]:
    """Draw captions of random people of `public-train`."""
    seeds = rng.integers(SPLITS["public-train"].start, SPLITS["public-train"].stop, size=count)
    return [_describe(identity(int(s)), nuisance(int(s), 0), rng) for s in seeds]


class _Draw:
    """Source of batches: rows of the dataset (whole families, a picture each), captions, phrase targets."""

    def __init__(self, pictures: Pictures, size: int, seed: int) -> None:
        self._pictures, self._size, self._seed = pictures, size, seed
        self._rows = {
            int(s): np.flatnonzero(pictures.identity_seeds == s) for s in np.unique(pictures.identity_seeds)
        }
        self._people = {s: identity(s) for s in self._rows}
        self._families = np.unique(pictures.identity_seeds // FAMILY)

    def __call__(self, step: int) -> tuple[NDArray[np.int64], list[str], Tensor]:
        rng = np.random.default_rng([self._seed, step])
        families = rng.choice(self._families, self._size // FAMILY, replace=False)
        seeds = [
            int(s) for k in families for s in range(FAMILY * k, FAMILY * k + FAMILY) if int(s) in self._rows
        ]
        rows = np.array([rng.choice(self._rows[s]) for s in seeds])
        captions = [
            _describe(self._people[s], nuisance(s, int(self._pictures.picture_seeds[row])), rng)
            for s, row in zip(seeds, rows, strict=True)
        ]
        return rows, captions, phrase_targets([" ".join(self._people[s].phrases()) for s in seeds])


def _fit(
    model: open_clip.CLIP,
    parameters: list[nn.Parameter],
    loss: Callable[[int, Tensor], dict[str, Tensor]],
    run_folder: Path,
    config: dict[str, Any],
    budget: Budget,
) -> None:
    """Minimise `loss(step, phrase_scale)["loss"]` over `parameters` with AdamW, from a checkpoint if any."""
    run = Training(run_folder, {**config, **asdict(budget), "threads": torch.get_num_threads()}, say=say)
    # The phrases have a temperature of their own, needed in training only.
    phrase_scale = nn.Parameter(torch.tensor(20.0).log())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.02},
            {"params": [p for p in parameters if p.ndim <= 1] + [phrase_scale], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98), eps=1e-6,
    )  # fmt: skip
    step = 0
    if state := run.load():
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        phrase_scale.data.copy_(state["phrase_scale"])
        step = state["step"]
    saved = run.seconds
    model.train()
    while run.seconds < 60 * budget.minutes and step != budget.max_steps:
        # The rate follows the clock, since on a shared machine nobody knows the number of steps beforehand.
        progress = min(run.seconds / (60 * budget.minutes), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = budget.lr * min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * progress))
        numbers = loss(step, phrase_scale.exp())
        optimizer.zero_grad(set_to_none=True)
        numbers["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))  # CLIP, section 2.5
        step += 1
        if step % 20 == 0:
            shown = {name: value.item() for name, value in numbers.items()}
            run.log(step, **shown, scale=phrase_scale.exp().item(), samples=step * budget.batch)
        if run.seconds - saved > 120:
            saved = run.seconds
            run.save(_state(model, optimizer, phrase_scale, step))
    run.save(_state(model, optimizer, phrase_scale, step))


def _state(
    model: nn.Module, optimizer: torch.optim.Optimizer, phrase_scale: Tensor, step: int
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "phrase_scale": phrase_scale.detach(),
        "step": step,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("text", "pictures"))
    parser.add_argument("--data", type=Path, help="folder of models.recipes.dataset, for the second stage")
    parser.add_argument("--out", type=Path, default=Path("models/tiny-clip"))
    parser.add_argument("--run", type=Path, help="default: runs/tiny-clip-STAGE")
    parser.add_argument("--minutes", type=float, default=16.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.run or Path(f"runs/tiny-clip-{options.stage}")
    budget = Budget(options.minutes, options.batch, options.lr, options.seed)
    if options.stage == "text":
        train_text(options.out, folder, budget)
    elif options.data is None:
        parser.error("the pictures stage needs --data")
    else:
        train_pictures(options.data, options.out, folder, budget)
