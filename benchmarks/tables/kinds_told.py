"""A test of what else could tell the kind of a file: its weights, and words to tiny-clip.

    python -m benchmarks.tables.kinds_told --own runs/people runs/styles --second runs/second/people

The weights: the probe encoder reads a face from every LoRA. If it read faces of people more strongly than of
other kinds, whoever made the file, the strength would tell people's LoRAs. The words: cosines of drawn
pictures to the class prompt and to words for things, for people and for things alike. Areas are under the ROC
curve of people against all others; 0.5 tells nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor

from loraudit.base.load import load_base
from loraudit.base.model import CLASS_PROMPT
from loraudit.bench.faces import zoos_in
from loraudit.cards import artefact
from loraudit.cli.failures import in_one_line
from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.encoder.probe import ProbeEncoder
from loraudit.people.sources import Synthetic
from loraudit.people.things import Things
from loraudit.scores import ClipScorer
from loraudit.scores.clip import load_tiny_clip

__all__ = ["area", "main"]

WORDS: Final = (CLASS_PROMPT, "a thing", "an object", "a painting", "a landscape")
DRAWN: Final = 24
"""People, and things, whose pictures are compared with words."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, read weights and pictures, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--own", type=Path, nargs="+", required=True, help="zoos of our own trainer")
    parser.add_argument("--second", type=Path, nargs="+", required=True, help="zoos of the second trainer")
    options = parser.parse_args(arguments)
    base = load_base("tiny")
    encoder, _ = load_encoder("probe-tiny", frozen_transformer(base.text_encoder), base.embedding_shape[0])
    if not isinstance(encoder, ProbeEncoder):
        raise TypeError("probe-tiny is no probe encoder")
    found: dict[str, Any] = {name: _weights(getattr(options, name), encoder) for name in ("own", "second")}
    found["words"] = _words(load_tiny_clip(artefact("tiny-clip")))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


@torch.no_grad()
def _weights(folders: Sequence[Path], encoder: ProbeEncoder) -> dict[str, Any]:
    """Measure how strongly a face is read from the LoRAs of each kind."""
    read: dict[str, list[float]] = {}
    for zoo in zoos_in(folders):
        rows = [(row, zoo.plan.snapshots[-1]) for row in range(len(zoo.members))]
        views, norms = encoder.views(zoo.rows(rows))
        told = torch.einsum("msv,svk->mk", encoder.scaled(views, norms), encoder.reader) - encoder.centre
        read.setdefault(zoo.plan.data, []).extend(told.norm(dim=1).tolist())
    people = read.get(Synthetic.name, [])
    others = [one for kind, values in read.items() if kind != Synthetic.name for one in values]
    medians = {kind: [round(median(values), 3), len(values)] for kind, values in read.items()}
    return {"median strength, LoRAs": medians, "area": round(area(people, others), 3)}


def _words(clip: ClipScorer) -> dict[str, float]:
    """Compute the area of people against things for the cosine to each of `WORDS`."""
    texts = clip.text_embeddings(list(WORDS))
    people, things = Synthetic(), Things()

    def cosines(pictures: list[Tensor]) -> Tensor:
        return clip.image_embeddings(torch.cat(pictures)) @ texts.T

    faces = cosines([people.pictures(who, 64, 1) for who in people.train(DRAWN, 0)])
    objects = cosines([things.pictures(who, 64, 1) for who in things.train(DRAWN, 0)])
    columns = zip(WORDS, faces.T.tolist(), objects.T.tolist(), strict=True)
    return {word: round(area(one, other), 3) for word, one, other in columns}


def area(high: Sequence[float], low: Sequence[float]) -> float:
    """Compute the share of pairs in which a value of `high` is above one of `low`, ties half."""
    won = sum((a > b) + 0.5 * (a == b) for a in high for b in low)
    return won / (len(high) * len(low))


if __name__ == "__main__":
    in_one_line(main)
