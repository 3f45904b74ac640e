"""A calibration that the embedded base makes of itself, against the one that ships.

    python -m benchmarks.tables.self_made runs/self-made --people 24 --out self-made.json
    python -m benchmarks.tables.self_made runs/small --share 0.12 --out small.json
    python -m benchmarks.tables.self_made runs/decoys --decoys 99

The first command makes the calibration, or goes on with it, and compares: the scores that a level takes, the
false alarms among the controls of the other one, and the area between people and either's controls. Both were
measured under the same attacks and conditions, so no file is measured twice. Scores are the highest over
attacks and looks. Intervals of areas resample LoRAs; those of shares are Wilson's.

The second command makes few LoRAs; a level that too few controls cannot reach has no score. The third command
draws people alone, as decoys for `benchmarks.tables.likelihood_ranks --decoys`.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from loraudit.attacks.table import names_at
from loraudit.audit.calibrate_base import calibrate_base, draw_pictures, look_ahead
from loraudit.audit.request import Request
from loraudit.audit.setup import set_up_to_calibrate
from loraudit.bench.cases import POLICY, auroc, share
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.evidence.calibration import Calibration, Shares, load_calibration
from loraudit.evidence.intervals import quantile
from loraudit.evidence.null import conformal_p
from loraudit.training.control_plans import Sizes

__all__ = ["compared", "main"]

BASE: Final = "tiny"
LEVELS: Final = {"high": POLICY.high_p, "medium": POLICY.medium_p, "low": POLICY.low_p}


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, make, compare, write the record to `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, help="LoRAs of people, else as many as a calibration has")
    parser.add_argument("--share", type=float, default=1.0, help="share of the LoRAs of a calibration")
    parser.add_argument(
        "--attack", action="append", help="attack to measure; all of a standard scan if left out"
    )
    parser.add_argument("--decoys", type=int, help="draw so many people, and make no LoRA")
    parser.add_argument("--shipped", type=Path, default=models_dir() / "calibration-tiny")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    attacks = tuple(options.attack or names_at("standard"))
    request = Request(base=BASE, attacks=attacks, device="cpu", offline=True)
    numbers = dataclasses.asdict(Sizes())
    sizes = Sizes(**{kind: max(1, round(options.share * number)) for kind, number in numbers.items()})
    if options.people:
        sizes = dataclasses.replace(sizes, people=options.people)
    if options.decoys:
        sizes = Sizes(people=options.decoys, crowds=0, styles=0, things=0, merged=0, noise=0)
    ahead = look_ahead(request, BASE, options.folder, sizes)
    with progress("calibrating") as on_step:
        if options.decoys:
            draw_pictures(ahead, *set_up_to_calibrate(request, BASE), on_step)
            return
        own = calibrate_base(request, BASE, ahead, on_step)
    record = compared(load_calibration(options.shipped), own)
    text = json.dumps(record, indent=1) + "\n"
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def compared(shipped: Calibration, own: Calibration) -> dict[str, Any]:
    """Compare two calibrations of one base, under the attacks that both were measured with."""
    common = set(shipped.controls[0].scores) & set(own.controls[0].scores)
    photos = set(shipped.matches[0]) & set(own.matches[0])
    nulls = {"shipped": _highest(shipped, common), "self-made": _highest(own, common)}
    strangers = {
        "shipped": [_top(scores, photos) for scores in shipped.matches],
        "self-made": [_top(scores, photos) for scores in own.matches],
    }
    people = [_top(one.agreement, common) for one in shipped.leaking]
    made_up = [_top(one.agreement, common) for one in own.leaking]
    agreement = {kind: [score for _, score in rows] for kind, rows in nulls.items()}
    by_kind = {
        kind: [score for one, score in nulls["shipped"] if one == kind] for kind in dict(nulls["shipped"])
    }
    theirs, mine = agreement["shipped"], agreement["self-made"]
    return {
        "attacks": sorted(common),
        "conditions are equal": _conditions(shipped, common) == _conditions(own, common),
        "controls": {name: _by_kind(rows) for name, rows in nulls.items()},
        "score for a level": {name: _thresholds(scores) for name, scores in agreement.items()},
        "shipped controls by the self-made": {
            kind: _alarms(scores, mine) for kind, scores in {"all": theirs, **by_kind}.items()
        },
        "self-made controls by the shipped": _alarms(mine, theirs),
        "people by": {name: _alarms(people, scores) for name, scores in agreement.items()},
        "made-up people by": {name: _alarms(made_up, scores) for name, scores in agreement.items()},
        "area of people": {name: _area(people, scores) for name, scores in agreement.items()},
        "area of made-up people": {name: _area(made_up, scores) for name, scores in agreement.items()},
        "likeness to strangers": {name: _spread(scores) for name, scores in strangers.items()},
        "likeness to their own": {
            "shipped": _spread([_top(one.likeness, photos) for one in shipped.leaking]),
            "self-made": _spread([_top(one.likeness, photos) for one in own.leaking]),
        },
        "strangers of the shipped by the self-made": _alarms(strangers["shipped"], strangers["self-made"]),
    }


def _conditions(one: Calibration, attacks: set[str]) -> dict[str, Any]:
    names = {attack.partition(":")[0] for attack in attacks}
    told = dataclasses.asdict(one.conditions)
    for kind in ("attacks", "encoders"):
        told[kind] = {name: value for name, value in told[kind].items() if name in names}
    return {**told, "looks": one.looks}


def _top(scores: Shares, attacks: set[str]) -> float:
    return max(share for name in attacks for share in scores[name])


def _highest(one: Calibration, attacks: set[str]) -> list[tuple[str, float]]:
    return [(control.kind, _top(control.scores, attacks)) for control in one.controls]


def _by_kind(rows: Sequence[tuple[str, float]]) -> dict[str, Any]:
    kinds = dict.fromkeys(kind for kind, _ in rows)
    return {kind: _spread([score for one, score in rows if one == kind]) for kind in kinds}


def _spread(scores: Sequence[float]) -> dict[str, float]:
    return {"n": len(scores), "median": round(quantile(scores, 0.5), 4), "highest": round(max(scores), 4)}


def _thresholds(controls: Sequence[float]) -> Mapping[str, float]:
    """Return the smallest score, of those seen and of 1, that reaches the p-value of each level."""
    tried = sorted({*controls, 1.0})
    tried = [*tried, *(score + 1e-6 for score in tried)]
    return {
        level: round(min(score for score in tried if conformal_p(score, controls) <= p), 4)
        for level, p in LEVELS.items()
        if conformal_p(2.0, controls) <= p
    }


def _alarms(scores: Sequence[float], controls: Sequence[float]) -> dict[str, list[float]]:
    """Count the scores whose p-value among `controls` reaches each level, with an interval."""
    found = [conformal_p(score, controls) for score in scores]
    return {level: share([p <= most for p in found]) for level, most in LEVELS.items()}


def _area(leaking: Sequence[float], controls: Sequence[float]) -> dict[str, float]:
    names = tuple([str(at) for at in range(len(side))] for side in (leaking, controls))
    return vars(auroc(leaking, controls, (names[0], names[1])))


if __name__ == "__main__":
    in_one_line(main)
