"""Build decoys: latents and faces of control people of whom no LoRA is made.

python -m models.recipes.decoys models/decoys-tiny
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from loraudit.cards import artefact
from loraudit.cli.failures import in_one_line
from loraudit.people.identity import FAMILY, SPLITS
from loraudit.people.sources import REFERENCES, portraits
from loraudit.scores.face import load_tiny_face
from loraudit.training.defaults import training_base

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and build the decoys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=99, help="with 99 a p-value can be as low as 0.01")
    parser.add_argument("--photos", type=int, default=3, help="photos of each person")
    parser.add_argument("--first", type=int, default=15_000, help="families of look-alikes to skip")
    options = parser.parse_args(arguments)
    base = training_base("tiny", "cpu", offline=True)
    people = [SPLITS["control"][FAMILY * (options.first + i)] for i in range(options.people)]
    face = load_tiny_face(artefact("tiny-face"))
    photos = [portraits(who, REFERENCES.start, options.photos) for who in people]
    latents = torch.stack([base.encode_images(own) for own in photos]).half().contiguous()
    faces = torch.stack([functional.normalize(face.embed(own).vectors.mean(0), dim=0) for own in photos])
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file({"latents": latents, "faces": faces.half()}, options.folder / "decoys.safetensors")


if __name__ == "__main__":
    in_one_line(main)
