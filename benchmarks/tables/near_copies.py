"""A test of near copies: photos of overfitted LoRAs are found among their pictures, and no others.

    python -m benchmarks.tables.near_copies --copied runs/copied --ordinary runs/zoo-private --out out.json

Every LoRA draws a set of pictures under its secret prompt by each of two guidances. The set is compared with
the LoRA's training photos, and with other photos of the same person, none of which may be called a copy.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loraudit.attacks.controls import as_strong
from loraudit.attacks.plan import FIRST_LOOK, draw, plan_for
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.bench.cases import share
from loraudit.cli.failures import in_one_line
from loraudit.evidence.copies import Copies, copied_share
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.findings.finding import Severity
from loraudit.people.sources import REFERENCES, portraits
from loraudit.scores.copies import CopyScorer
from loraudit.training.zoo import Zoo, open_zoo
from loraudit.training.zoo_plan import Member
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.policy import Policy

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write the record to `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copied", type=Path, nargs="+", required=True, help="zoos overfitted on one photo")
    parser.add_argument("--ordinary", type=Path, nargs="+", required=True, help="zoos of other recipes")
    parser.add_argument("--people", type=int, default=6, help="LoRAs of each ordinary zoo, the last ones")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base, found = load_base("tiny"), dict[str, Any]()
    # The margin was chosen on the first members.
    last = slice(-options.people, None)
    sources = {"copied": (options.copied, slice(None)), "ordinary": (options.ordinary, last)}
    for name, (folders, which) in sources.items():
        rows = [
            measured
            for zoo in map(open_zoo, folders)
            for member in zoo.members[which]
            for measured in _measure(base, zoo, member, options.samples)
        ]
        for at, photos in enumerate(("photos it was made of", "photos it never saw")):
            found[f"{name}, {photos}"] = _told([row[at] for row in rows])
    text = json.dumps({"samples": options.samples, **found}, indent=1) + "\n"
    options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _measure(base: Base, zoo: Zoo, member: Member, samples: int) -> list[tuple[Copies, Copies]]:
    """Compare the pictures of either guidance with the LoRA's photos and with others of the person."""
    terms = zoo.rows([(member.index, zoo.plan.snapshots[-1])])
    plan = plan_for(base.card, samples, None, 0)
    tuned = base.with_lora(terms)
    with torch.no_grad():
        embedding = tuned.encode_text([member.prompt])
    shown = base.sample(embedding, plan.seeds[:FIRST_LOOK], plan.sampling)
    copy = as_strong(terms, plan.seeds[0], base, embedding, shown[None])
    models = [tuned, base, base.with_lora(copy.terms)]
    scorers = [
        CopyScorer(tuple(portraits(member.identity, start, count)))
        for start, count in ((0, zoo.plan.pictures), (REFERENCES.start, len(REFERENCES)))
    ]
    found = []
    for against_base in (False, True):
        pictures: list[Tensor] = [
            draw(model, base, embedding, plan.seeds, plan.sampling, against_base) for model in models
        ]
        made, other = (scorer.measure(*pictures) for scorer in scorers)
        found.append((made, other))
    print(f"{zoo.folder.name} {member.index}", file=sys.stderr, flush=True)
    return found


def _told(rows: Sequence[Copies]) -> dict[str, Any]:
    shares = [copied_share(copies.tuned, copies.controls, copies) for copies in rows]
    levels = [
        max((one.severity for one in judge_copies([_evidence(copies)], Policy())), default=Severity.NONE)
        for copies in rows
    ]
    pictures = [at < one.k for one in shares for at in range(one.n)]
    ratios = sorted(_ratio(row, copies) for copies in rows for row in copies.tuned)
    return {
        "pictures that are copies": share(pictures),
        "nearest / nearest control": {
            name: round(ratios[int(q * (len(ratios) - 1))], 3)
            for name, q in (("least", 0), ("median", 0.5), ("most", 1))
        },
        **{
            f"sets of pictures at {level.value} or above": share([one >= level for one in levels])
            for level in (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
        },
    }


def _ratio(row: Sequence[float], copies: Copies) -> float:
    least = (min(column) for column in zip(*copies.controls, strict=True))
    ratios: list[float] = [distance / control for distance, control in zip(row, least, strict=True)]
    return min(ratios)


def _evidence(copies: Copies) -> AttackEvidence:
    nobody = Faces(len(copies.tuned), 0, ())
    return AttackEvidence("prompt", 1.0, 0.5, nobody, nobody, (), copies=copies)


if __name__ == "__main__":
    in_one_line(main)
