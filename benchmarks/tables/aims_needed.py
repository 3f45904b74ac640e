"""A test of what each attack adds to the verdict, from calibration data alone.

    python -m benchmarks.tables.aims_needed models/calibration-tiny

For every set of attacks: the share of LoRAs of one person that score above all control LoRAs, and the area
between the two. A file's score is the highest of its aims, as in a verdict. Nothing is drawn.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loraudit.cli.failures import in_one_line
from loraudit.evidence.calibration import Calibration, Shares, load_calibration

__all__ = ["main", "power"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, compare all sets of attacks that leave out one or none, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("calibration", type=Path, help="folder of calibration data")
    data = load_calibration(parser.parse_args(arguments).calibration)
    attacks = sorted({aim.partition(":")[0] for aim in data.controls[0].scores})
    table = {"all": power(data, attacks)}
    for left_out in attacks:
        table[f"without {left_out}"] = power(data, [one for one in attacks if one != left_out])
    sys.stdout.write(json.dumps(table, indent=2) + "\n")


def power(data: Calibration, attacks: list[str]) -> dict[str, float]:
    """Score people and controls by the aims of `attacks`: share above all controls, and area."""
    people = np.array([_highest(one.agreement, attacks) for one in data.leaking])
    controls = np.array([_highest(one.scores, attacks) for one in data.controls])
    ahead = (people[:, None] > controls).mean() + (people[:, None] == controls).mean() / 2
    return {
        "above all controls": round(float((people > controls.max()).mean()), 3),
        "area": round(float(ahead), 4),
        "highest control": round(float(controls.max()), 3),
    }


def _highest(scores: Shares, attacks: list[str]) -> float:
    """Return the highest score of all aims of `attacks`, at any look."""
    return max(_shares(scores, attacks))


def _shares(scores: Shares, attacks: list[str]) -> Iterator[float]:
    """Yield the scores of all aims of `attacks`, at every look."""
    for aim, shares in scores.items():
        if aim.partition(":")[0] in attacks:
            yield from shares


if __name__ == "__main__":
    in_one_line(main)
