"""Pictures of the leading attack within the base's own range of brightness and saturation, by guidance.

    python -m benchmarks.tables.picture_range runs/range --zoo runs/people --zoo runs/second

Every LoRA of a person is searched once. Its pictures are drawn at the embedding found, with the same seeds,
by every way of guidance, at two predictions a step each. A picture is inside if its mean brightness and its
mean saturation both lie within the 1st to 99th percentile of the base's own pictures under the class prompt.
Beside that share stand two others: pictures accepted as the person by reference photos, and pairs of pictures
that show one person. An interrupted run goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.base.model import CLASS_PROMPT, Base, Sampling
from loraudit.bench.cases import share
from loraudit.bench.faces import zoos_in
from loraudit.cli.failures import in_one_line
from loraudit.people.sources import REFERENCES, Synthetic, portraits
from loraudit.runs import Run
from loraudit.scores import FaceScorer
from loraudit.scores.scorers import look_at, open_scorers
from loraudit.training.zoo import Zoo

__all__ = ["WAYS", "bounded", "inside", "main", "tones"]

Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Way to join predictions: `(x, a, plain, tuned)` to a prediction of the noise."""

BASE_PICTURES: Final = 192
PHOTOS: Final = 5
_ROWS: Final = "pictures.jsonl"
_USUAL: Final = "usual guidance"
INTERVAL: Final = (0.28, 5.42)
"""Noise levels `sqrt((1 - a) / a)` of the interval: neither the first steps nor the last."""


def _weighted(weight: float) -> Way:
    """Return model guidance of one weight."""
    return lambda _x, _a, plain, tuned: plain + weight * (tuned - plain)


def _within(way: Way) -> Way:
    """Guide at noise levels of `INTERVAL` alone (https://arxiv.org/abs/2404.07724)."""

    def join(x: Tensor, a: Tensor, plain: Tensor, tuned: Tensor) -> Tensor:
        sigma = float(((1 - a) / a).sqrt().flatten()[0])
        return way(x, a, plain, tuned) if INTERVAL[0] < sigma <= INTERVAL[1] else tuned

    return join


def _rescaled(weight: float) -> Way:
    """Give the guided prediction the spread of the tuned one (https://arxiv.org/abs/2305.08891)."""

    def join(_x: Tensor, _a: Tensor, plain: Tensor, tuned: Tensor) -> Tensor:
        guided = plain + weight * (tuned - plain)
        return guided * tuned.std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True)

    return join


def bounded(
    own: Tensor, other: Tensor, weight: float, along: float = 1.0, spread: float = inf, shift: float = inf
) -> Tensor:
    """Guide predicted latents `own [N, C, h, w]` away from `other` within bounds.

    `along` is the share that stays of the difference along `own` itself, which makes contrast and no content
    (https://arxiv.org/abs/2410.02416). No channel gets more than `spread` times the spread of `own`, nor a
    mean more than `shift` spreads away from that of `own`.
    """
    step, every, pixels = own - other, (1, 2, 3), (2, 3)
    contrast = (step * own).sum(every, keepdim=True) / own.square().sum(every, keepdim=True)
    guided = own + (weight - 1) * (step - (1 - along) * contrast * own)
    wide, mean = own.std(pixels, keepdim=True), own.mean(pixels, keepdim=True)
    middle = guided.mean(pixels, keepdim=True)
    factor = (spread * wide / guided.std(pixels, keepdim=True)).clamp(max=1)
    return (guided - middle) * factor + middle.clamp(mean - shift * wide, mean + shift * wide)


def _bounded(weight: float, along: float = 1.0, spread: float = inf, shift: float = inf) -> Way:
    """Guide within bounds (`bounded`)."""

    def join(x: Tensor, a: Tensor, plain: Tensor, tuned: Tensor) -> Tensor:
        own, other = ((x - (1 - a).sqrt() * eps) / a.sqrt() for eps in (tuned, plain))
        return (x - a.sqrt() * bounded(own, other, weight, along, spread, shift)) / (1 - a).sqrt()

    return join


WAYS: Final[Mapping[str, Way]] = {
    "weight 3": _weighted(3.0),
    "weight 2": _weighted(2.0),
    "weight 3, interval": _within(_weighted(3.0)),
    "weight 3, rescaled": _rescaled(3.0),
    "weight 3, projected": _bounded(3.0, along=0.0),
    "weight 4, projected": _bounded(4.0, along=0.0),
    "weight 3, projected by half": _bounded(3.0, along=0.5),
    "weight 3, limited": _bounded(3.0, spread=1.2, shift=0.2),
    "weight 3, projected, limited": _bounded(3.0, along=0.0, spread=1.2, shift=0.2),
    "weight 3, projected by half, limited": _bounded(3.0, along=0.5, spread=1.2, shift=0.2),
    "weight 3, projected by half, closely limited": _bounded(3.0, along=0.5, spread=1.1, shift=0.1),
}
"""Ways of model guidance; the first is that of scans."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, draw what is not drawn yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of this run")
    parser.add_argument("--zoo", type=Path, action="append", required=True, help="zoo of people")
    parser.add_argument("--people", type=int, default=8, help="LoRAs of each zoo, at most")
    parser.add_argument("--samples", type=int, default=8, help="pictures of a LoRA and way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", action="append", choices=[*WAYS, _USUAL], help="only these [default: all]")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = load_base("tiny")
    scorers, _ = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, offline=True)
    if scorers is None:
        raise ValueError("the face model of tiny is bundled")
    sampling = Sampling(base.card.steps, base.card.guidance)
    run = Run(options.out)
    settings = json.dumps({"samples": options.samples, "steps": sampling.steps}) + "\n"
    run.begin("settings.json", settings, lambda old: "" if old == settings else "a run with other settings")
    ways = options.way or [*WAYS, _USUAL]
    for zoo in zoos_in(options.zoo):
        if zoo.plan.data != Synthetic.name:
            raise ValueError(f"{zoo.folder.name} is no zoo of people")
        for number in range(min(options.people, len(zoo.members))):
            _draw(run, zoo, number, base, scorers.face, sampling, options.samples, ways)
    if not any(row["way"] == "base" for row in run.rows(_ROWS)):
        plain = base.sample(base.encode_text([CLASS_PROMPT]), range(BASE_PICTURES), sampling)
        run.append(_ROWS, {"zoo": "", "person": 0, "way": "base", "tones": tones(plain)})
    sys.stdout.write(_table(run.rows(_ROWS)))


@torch.no_grad()
def _draw(
    run: Run,
    zoo: Zoo,
    number: int,
    base: Base,
    face: FaceScorer,
    sampling: Sampling,
    samples: int,
    ways: Sequence[str],
) -> None:
    """Draw one LoRA's pictures in every way that `run` lacks."""
    name, person = "/".join(zoo.folder.parts[-3:]), zoo.members[number].identity
    done = {row["way"] for row in run.rows(_ROWS) if (row["zoo"], row["person"]) == (name, person)}
    missing = [way for way in ways if way not in done]
    if not missing:
        return
    print(f"{name}: {number}", file=sys.stderr, flush=True)
    tuned = base.with_lora(zoo.rows([(number, zoo.plan.snapshots[-1])]))
    embedding = SearchAttack().best(tuned, base).embeddings
    reference = look_at(tuple(portraits(person, REFERENCES.start, PHOTOS)), face, None).face
    seeds = range(samples)
    positive = tuned.per_seed(embedding, seeds).flatten(0, 1)
    negative = base.encode_text([sampling.negative]).expand_as(positive)

    def drawn(join: Way) -> Tensor:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            a = base.alphas.to(x)[t][:, None, None, None]
            return join(x, a, base.epsilon(x, t, negative), tuned.epsilon(x, t, positive))

        return base.solve(predict, seeds, sampling.steps, 1)

    for way in missing:
        pictures = tuned.sample(embedding, seeds, sampling) if way == _USUAL else drawn(WAYS[way])
        vectors = face.embed(pictures).vectors
        pairs = (vectors @ vectors.T)[tuple(torch.triu_indices(samples, samples, offset=1))]
        run.append(
            _ROWS,
            {
                "zoo": name,
                "person": person,
                "way": way,
                "tones": tones(pictures),
                "likeness": (vectors @ reference).tolist(),
                "accepted": (vectors @ reference >= face.threshold).tolist(),
                "pairs": (pairs >= face.threshold).tolist(),
            },
        )


def tones(pictures: Tensor) -> list[tuple[float, float]]:
    """Measure the mean brightness and saturation of pictures `[N, 3, H, W]`, each in 0..1."""
    high, low = pictures.amax(1), pictures.amin(1)
    saturation = ((high - low) / high.clamp_min(1e-6)).mean((1, 2))
    return [(float(b), float(s)) for b, s in zip(pictures.mean((1, 2, 3)), saturation, strict=True)]


def inside(found: Sequence[Sequence[float]], own: Sequence[Sequence[float]]) -> list[bool]:
    """Tell of each pair of tones whether both lie within the 1st to 99th percentile of the base's `own`."""
    low, high = np.percentile(np.array(own), [1, 99], axis=0)
    return [bool(((low <= one) & (one <= high)).all()) for one in np.array(found)]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Print each way's shares, zoo by zoo and over all."""
    own = next(row["tones"] for row in rows if row["way"] == "base")
    rows = [row for row in rows if row["way"] != "base"]
    lines = [f"base: inside {_share(inside(own, own))}"]
    for zoo in [*dict.fromkeys(row["zoo"] for row in rows), "all"]:
        mine = [row for row in rows if zoo in (row["zoo"], "all")]
        lines.append(f"{zoo}: {len({(row['zoo'], row['person']) for row in mine})} LoRAs")
        for way in dict.fromkeys(row["way"] for row in mine):
            some = [row for row in mine if row["way"] == way]
            accepted = [one for row in some for one in row["accepted"]]
            likeness = [one for row in some for one in row["likeness"]]
            pairs = [one for row in some for one in row["pairs"]]
            lines.append(
                f"  {way}: inside {_share([one for row in some for one in inside(row['tones'], own)])}, "
                f"accepted {_share(accepted)}, likeness {fmean(likeness):.3f}, pairs {fmean(pairs):.3f}"
            )
    return "\n".join(lines) + "\n"


def _share(hits: Sequence[bool]) -> str:
    return "{:.0f} of {:.0f} [{:.3f}, {:.3f}]".format(*share(hits))


if __name__ == "__main__":
    in_one_line(main)
