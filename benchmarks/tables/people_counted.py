"""People that a scan counts in LoRAs of one person, of a couple and of nobody, with half strength beside.

    python -m benchmarks.tables.people_counted runs/second/dreambooth runs/second/couples --out people.json

Folders hold zoos, also those of the second trainer, whose kind is taken from `second.json`. The pictures are
those of a scan: `search` by either guidance, and `search:half`. Per LoRA the table has each aim's share of
pairs, the faces found, and the people counted. A LoRA of people also has the pictures under its own prompt
that pass as the person, and which of those in it the people counted are. The row of a kind counts LoRAs
whose better aim at full strength has a share of pairs of `--least` or more, and splits them by the number
of people counted. No controls are drawn: nothing is judged here.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from loraudit.attacks.plan import draw
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from loraudit.bench.cases import share
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.encoder import Encoder, frozen_transformer, load_encoder
from loraudit.evidence.null import agreement_score
from loraudit.evidence.persons import persons
from loraudit.people.sources import REFERENCES, Synthetic, portraits
from loraudit.scores import FaceScorer
from loraudit.scores.face import load_tiny_face
from loraudit.scores.scorers import Scorers
from loraudit.training.zoo import Zoo, open_varied
from loraudit.verdict.policy import Policy
from models.recipes.second_lessons import COUPLES, partner

__all__ = ["by_kind", "main", "named"]

_SECOND: Final = "second.json"
_PHOTOS: Final = 5
_FULL: Final = ("search", "search:usual")


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write the record to `--out` and print a row for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of zoos")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--least", type=float, default=Policy().medium_agreement)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    base, face = load_base("tiny"), load_tiny_face(models_dir() / "tiny-face")
    transformer = frozen_transformer(base.text_encoder)
    encoder, _ = load_encoder("probe-tiny", transformer, base.embedding_shape[0])
    bench = _Bench(base, encoder, face, Sampling(options.steps, base.card.guidance), options.samples)
    loras: list[dict[str, Any]] = [
        {"zoo": zoo.folder.name, "kind": kind, "row": row, **bench.measured(zoo, row, kind)}
        for folder in options.folders
        for zoo, kind in _zoos(folder)
        for row in range(len(zoo.members))
    ]
    kinds = {
        kind: by_kind([one for one in loras if one["kind"] == kind], options.least)
        for kind in dict.fromkeys(one["kind"] for one in loras)
    }
    settings = {"samples": options.samples, "steps": options.steps, "least": options.least}
    record = {**settings, "kinds": kinds, "loras": loras}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for kind, row in kinds.items():
        print(f"{kind}: {row}")


def _zoos(folder: Path) -> Iterator[tuple[Zoo, str]]:
    for zoo in open_varied(folder):
        second = zoo.folder / _SECOND
        kind = "people" if zoo.plan.data == Synthetic.name else zoo.plan.data
        yield zoo, json.loads(second.read_text(encoding="utf-8"))["kind"] if second.exists() else kind


@dataclass(frozen=True, eq=False)
class _Bench:
    """Models and settings that every LoRA is measured with."""

    base: Base
    encoder: Encoder
    face: FaceScorer
    sampling: Sampling
    samples: int

    def measured(self, zoo: Zoo, row: int, kind: str) -> dict[str, Any]:
        """Measure LoRA `row` of a zoo."""
        base, threshold, seeds = self.base, self.face.threshold, range(self.samples)
        tuned = base.with_lora(zoo.rows([(row, zoo.plan.snapshots[-1])]))
        search, scorers = SearchAttack(photos=True), Scorers(self.face)
        embedding = search.best(tuned, base, self.encoder(tuned.terms)[0]).embeddings
        people = [self._face_of(one) for one in _inside(zoo, row, kind)]
        told: dict[str, Any] = {}
        if people:
            own = tuned.encode_text([zoo.members[row].prompt])
            pictures = draw(tuned, base, own, seeds, self.sampling, against_base=False)
            told["shown"] = int((self.face.embed(pictures).vectors @ people[0] >= threshold).sum())
        for aim in search.ways(embedding[0]):
            model = base.with_lora(tuned.terms, aim.strength)
            pictures = draw(model, base, embedding, seeds, self.sampling, aim.against_base)
            faces, seen = scorers.faces(pictures), self.face.embed(pictures)
            vectors = seen.vectors[torch.tensor(seen.found, dtype=torch.bool)]
            counted = persons(faces, threshold)
            told[aim.attack] = {
                "share": agreement_score(faces, threshold, (self.samples,)),
                "found": faces.found,
                "people": [one.pictures for one in counted],
                "who": [named(vectors[list(one.faces)], people, threshold) for one in counted],
            }
        return told

    def _face_of(self, person: int) -> Tensor:
        photos = self.face.embed(portraits(person, REFERENCES.start, _PHOTOS))
        return functional.normalize(photos.vectors.mean(0), dim=0)


def _inside(zoo: Zoo, row: int, kind: str) -> list[int]:
    """List the people whom a LoRA is made of, if it is made of one or two."""
    if zoo.plan.data != Synthetic.name:
        return []
    who = zoo.members[row].identity
    return [who, partner(who)] if kind == COUPLES else [who]


def named(vectors: Tensor, people: list[Tensor], threshold: float) -> int | None:
    """Return the place among `people` of the one whom the mean of face `vectors` passes as; None: nobody."""
    mean = functional.normalize(vectors.mean(0), dim=0)
    near = [float(mean @ one) for one in people]
    return near.index(max(near)) if near and max(near) >= threshold else None


def by_kind(loras: list[dict[str, Any]], least: float) -> dict[str, Any]:
    """Count the people in LoRAs of one kind whose better aim has a share of pairs of `least` or more."""
    best = [max((one[name] for name in _FULL), key=lambda aim: aim["share"]) for one in loras]
    agree = [aim for aim in best if aim["share"] >= least]
    half = [one["search:half"]["share"] for one in loras]
    row: dict[str, Any] = {
        "loras": len(loras),
        "agree": len(agree),
        "half strength": {"median share": median(half), "highest": max(half)},
    }
    for number in sorted({len(aim["people"]) for aim in agree}):
        row[f"{number} counted"] = share([len(aim["people"]) == number for aim in agree])
    if agree:
        row["both named"] = share([{0, 1} <= set(aim["who"]) for aim in agree])
    return row


if __name__ == "__main__":
    in_one_line(main)
