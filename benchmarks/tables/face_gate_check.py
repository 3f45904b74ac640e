"""Shares that pass the gate of `tiny-face`: held-out people and things, drawn, overdrawn, through the VAE.

python -m benchmarks.tables.face_gate_check
"""

import argparse
import json
import sys

import torch

from loraudit.base.load import load_base
from loraudit.cards import artefact
from loraudit.cli.failures import in_one_line
from loraudit.people.identity import SPLITS
from loraudit.scores.face import load_tiny_face
from models.recipes.face import faces, things
from models.recipes.face_gate import non_faces, overshot

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and print `[passed, of]` for every kind of picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--people", type=int, default=200, help="number of people, and of things, two pictures each"
    )
    options = parser.parse_args(arguments)
    base, face = load_base("tiny"), load_tiny_face(artefact("tiny-face"))
    people = faces(SPLITS["private"][60_000 : 60_000 + options.people], 2)
    objects = things(SPLITS["private"][500 : 500 + options.people], 2)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    shown = {
        "faces": people,
        "faces, overdrawn": overshot(people, seeded()),
        "things": objects,
        "things, through the VAE": base.decode(base.encode_images(objects)),
        "things, overdrawn": overshot(objects, seeded()),
        "noise, shuffled faces and the like": non_faces(people, seeded()),
    }
    passed = {name: [sum(face.embed(pictures).found), len(pictures)] for name, pictures in shown.items()}
    sys.stdout.write(json.dumps(passed, indent=1) + "\n")


if __name__ == "__main__":
    in_one_line(main)
