"""Measures of how much of a caption `tiny-clip` holds: retrieval, phrases and spread of hidden states.

    python -m models.recipes.clip_metrics models/tiny-clip

All identities are of the `public-validation` split, which no training has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from loraudit.people.captions import full_caption, instance_prompt, trigger
from loraudit.people.identity import FACTORS, FAMILY, SPLITS, identity
from loraudit.people.portrait import picture
from models.recipes.clip import PHRASES, phrase_targets
from models.recipes.clip_model import encode_text, open_clip_folder, to_tensor
from models.recipes.tokenizer import CaptionEncoder, load_tokenizer

if TYPE_CHECKING:
    import open_clip
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["ClipMetrics", "measure"]

GALLERY = 64


@dataclass(frozen=True)
class ClipMetrics:
    """Measures of one model. Shares are in 0..1, and the interval is at 95 %."""

    identities: int
    rank1: float
    """Share of full captions whose person's picture is nearest among 64 identities from 64 families."""
    rank1_interval: tuple[float, float]
    rank1_shuffled: float
    """Negative control: `rank1` with another identity of the gallery as the target; chance is 1/64."""
    rank1_lookalikes: float
    """Value of `rank1` in galleries of 16 whole families of look-alikes."""
    right_over_wrong: float
    """Share of pictures that are closer to their own full caption than to a random other identity's."""
    right_over_wrong_family: float
    """Value of `right_over_wrong` against a look-alike's caption."""
    picture_phrases: dict[str, float]
    """Factor -> share of pictures whose nearest phrase is the true one."""
    text_phrases: dict[str, float]
    """Factor -> share of full captions, factors in random order, whose nearest phrase is the named one."""
    text_probe: dict[str, float]
    """Factor -> accuracy of a linear probe on the hidden state at the end of text."""
    chance: dict[str, float]
    """Factor -> share of the most frequent phrase, the score of a constant answer."""
    flip_cosine: float
    """Mean cosine of two full captions that differ in one phrase only."""
    other_cosine: float
    """Mean cosine of the full captions of two identities."""
    hidden_spread: float
    """Standard deviation of the last hidden states across captions, as a share of the overall one.

    The value is the mean over positions up to the end of text. Near 0, text would not steer.
    """
    padding_spread: float
    """Value of `hidden_spread` over the positions after the end of text."""
    trigger_spread: float
    """Value of `hidden_spread` for "A face of TRIGGER." with random triggers."""


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)


def _share_interval(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of the share of true `hits` `[N]` (Wilson 1927): not a point where all hit, as a
    bootstrap is.
    """
    n, share, z = len(hits), float(hits.mean()), 1.96
    middle = share + z * z / (2 * n)
    half = z * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5
    return (middle - half) / (1 + z * z / n), min(1.0, (middle + half) / (1 + z * z / n))


def _rank1(pictures: Tensor, texts: Tensor, target: Tensor) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = ((texts @ pictures.T).argmax(1) == target).numpy()
    return hits


def _hidden(model: open_clip.CLIP, ids: Tensor) -> Tensor:
    x = model.token_embedding(ids) + model.positional_embedding
    hidden: Tensor = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    return hidden


def _spread(hidden: Tensor) -> float:
    """Compute the spread of `hidden [N, L, d]` across captions over the overall one, mean over positions."""
    return float(hidden.std(0).pow(2).mean(-1).sqrt().mean() / hidden.std())


def _probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> dict[str, float]:
    """Fit a ridge regression on one-hot phrases for each factor; return the accuracies on the test set."""
    mean, std = train_x.mean(0), train_x.std(0)
    a, b = ((torch.cat([(x - mean) / std, torch.ones(len(x), 1)], 1)).double() for x in (train_x, test_x))
    gram = a.T @ a + torch.eye(a.shape[1], dtype=torch.float64)
    found = {}
    for f, factor in enumerate(FACTORS):
        onehot = functional.one_hot(train_y[:, f], len(factor.words)).double()
        answer = b @ torch.linalg.solve(gram, a.T @ onehot)
        found[factor.name] = float((answer.argmax(1) == test_y[:, f]).double().mean())
    return found


@torch.inference_mode()
def measure(folder: Path, galleries: int = 8, probe: int = 3000, seed: int = 0) -> ClipMetrics:
    """Measure an open_clip folder on `galleries` galleries of 64 identities and `probe` captions."""
    model = open_clip_folder(folder)
    encoder = CaptionEncoder(load_tokenizer(folder))
    rng = np.random.default_rng(seed)
    first = SPLITS["public-validation"].start

    def texts(captions: list[str]) -> Tensor:
        ids = torch.from_numpy(encoder(captions))
        return torch.cat([_unit(encode_text(model, part)) for part in torch.split(ids, 256)])

    def pictures(seeds: list[int]) -> Tensor:
        parts = np.array_split([picture(s, 0) for s in seeds], len(seeds) // 64)
        return torch.cat([_unit(model.encode_image(to_tensor(part))) for part in parts])

    count = galleries * GALLERY
    alone = [first + FAMILY * k for k in range(count)]  # one per family
    family = [first + k for k in range(count)]
    photos, captions = pictures(alone), [full_caption(identity(s)) for s in alone]
    words = texts(captions)
    photos_family, words_family = pictures(family), texts([full_caption(identity(s)) for s in family])
    own = torch.arange(GALLERY)
    wrong = torch.from_numpy((np.arange(GALLERY) + rng.integers(1, GALLERY, size=GALLERY)) % GALLERY)
    blocks = [slice(k * GALLERY, (k + 1) * GALLERY) for k in range(galleries)]
    hits = np.concatenate([_rank1(photos[b], words[b], own) for b in blocks])
    shuffled = np.concatenate([_rank1(photos[b], words[b], wrong) for b in blocks])
    alike = np.concatenate([_rank1(photos_family[b], words_family[b], own) for b in blocks])

    def beats(x: Tensor, y: Tensor, shift: Tensor) -> float:
        return float(((x * y).sum(1) > (x * y[shift]).sum(1)).double().mean())

    everyone = torch.arange(count)
    other = (everyone + torch.from_numpy(rng.integers(1, count, size=count))) % count
    sibling = everyone // FAMILY * FAMILY + (everyone + 1) % FAMILY

    weights = texts([phrase for phrases in PHRASES for phrase in phrases])
    truth = phrase_targets([" ".join(identity(s).phrases()) for s in alone])
    mixed = [_shuffled(s, rng) for s in alone]
    probe_seeds = [first + 50_000 + k for k in range(probe)]
    probe_captions = [_shuffled(s, rng) for s in probe_seeds]
    probe_truth = phrase_targets([" ".join(identity(s).phrases()) for s in probe_seeds])
    ends = _ends(model, encoder, probe_captions)
    cut = probe * 2 // 3

    flipped = [_flip(text, rng) for text in captions]
    ids = torch.from_numpy(encoder(captions))
    hidden = _hidden(model, ids)
    end = int((ids == model.text_eos_id).int().argmax(1).max())
    names = [instance_prompt(trigger(rng)) for _ in range(256)]
    return ClipMetrics(
        identities=count,
        rank1=float(hits.mean()),
        rank1_interval=_share_interval(hits),
        rank1_shuffled=float(shuffled.mean()),
        rank1_lookalikes=float(alike.mean()),
        right_over_wrong=beats(photos, words, other),
        right_over_wrong_family=beats(photos_family, words_family, sibling),
        picture_phrases=_nearest(photos, weights, truth),
        text_phrases=_nearest(texts(mixed), weights, truth),
        text_probe=_probe(ends[:cut], probe_truth[:cut], ends[cut:], probe_truth[cut:]),
        chance={
            factor.name: float(truth[:, f].bincount(minlength=len(factor.words)).max() / count)
            for f, factor in enumerate(FACTORS)
        },
        flip_cosine=float((words * texts(flipped)).sum(1).mean()),
        other_cosine=float((words * words[other]).sum(1).mean()),
        hidden_spread=_spread(hidden[:, 4 : end + 1]),
        padding_spread=_spread(hidden[:, end + 1 :]),
        trigger_spread=_spread(_hidden(model, torch.from_numpy(encoder(names)))[:, 4:]),
    )


def _shuffled(seed: int, rng: np.random.Generator) -> str:
    phrases = identity(seed).phrases()
    return " ".join(("a face with", *(phrases[i] for i in rng.permutation(len(phrases)))))


def _flip(full: str, rng: np.random.Generator) -> str:
    """Replace one phrase of a full caption by another of the same factor."""
    words, f = full.split(), int(rng.integers(len(FACTORS)))
    place = words.index("with") + 1 + 2 * f
    words[place] = rng.choice([word for word in FACTORS[f].words if word != words[place]])
    return " ".join(words)


def _ends(model: open_clip.CLIP, encoder: CaptionEncoder, captions: list[str]) -> Tensor:
    """Compute the last hidden state at the end of text, `[N, width]`."""
    rows = []
    for part in torch.split(torch.from_numpy(encoder(captions)), 256):
        last = (part == model.text_eos_id).int().argmax(1)
        rows.append(_hidden(model, part)[torch.arange(len(part)), last])
    return torch.cat(rows)


def _nearest(vectors: Tensor, weights: Tensor, truth: Tensor) -> dict[str, float]:
    parts = torch.split(vectors @ weights.T, [len(phrases) for phrases in PHRASES], dim=1)
    return {
        factor.name: float((part.argmax(1) == truth[:, f]).double().mean())
        for f, (factor, part) in enumerate(zip(FACTORS, parts, strict=True))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.stdout.write(json.dumps(asdict(measure(options.folder)), indent=2) + "\n")
