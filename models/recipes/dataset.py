"""A folder of drawn pictures for every training in this room: drawn once, in parallel, then memory-mapped.

python -m models.recipes.dataset runs/people --identities 6000 --pictures 8
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loraudit.cli.console import say
from loraudit.people.identity import split_of
from loraudit.people.portrait import SIZE, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Pictures", "draw_dataset", "open_dataset"]


@dataclass(frozen=True)
class Pictures:
    """Drawn pictures, grouped by identity."""

    pixels: NDArray[np.uint8]
    """`[N, 64, 64, 3]`, RGB, memory-mapped."""
    identity_seeds: NDArray[np.int64]
    """Seed of the person in each picture, `[N]`."""
    picture_seeds: NDArray[np.int64]
    """Number of each picture among its person's, `[N]`."""


def _draw(job: tuple[int, int]) -> NDArray[np.uint8]:
    seed, pictures = job
    return np.stack([picture(seed, index) for index in range(pictures)])


def draw_dataset(folder: Path, first: int, identities: int, pictures: int, workers: int = 2) -> Pictures:
    """Draw `pictures` pictures of each of `identities` people, seeds from `first` on, into `folder`.

    Raises `ValueError` if the seeds cross from one split into another.
    """
    if split_of(first) != split_of(first + identities - 1):
        raise ValueError("a dataset must stay inside one split of the identities")
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(
        folder / "pictures.npy", "w+", np.uint8, (identities * pictures, SIZE, SIZE, 3)
    )
    seeds = np.arange(first, first + identities)
    with ProcessPoolExecutor(workers) as pool:
        for index, block in enumerate(pool.map(_draw, [(int(s), pictures) for s in seeds], chunksize=32)):
            pixels[index * pictures : (index + 1) * pictures] = block
            if index % 500 == 499:
                say(f"drew {index + 1} of {identities} people")
    pixels.flush()
    layout = {"first": first, "identities": identities, "pictures": pictures}
    (folder / "dataset.json").write_text(json.dumps(layout) + "\n")
    return open_dataset(folder)


def open_dataset(folder: Path) -> Pictures:
    """Open the folder that `draw_dataset` wrote."""
    layout = json.loads((folder / "dataset.json").read_text())
    seeds = np.arange(layout["first"], layout["first"] + layout["identities"])
    return Pictures(
        pixels=np.load(folder / "pictures.npy", mmap_mode="r"),
        identity_seeds=np.repeat(seeds, layout["pictures"]),
        picture_seeds=np.tile(np.arange(layout["pictures"]), layout["identities"]),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--identities", type=int, default=6000)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    draw_dataset(options.folder, options.first, options.identities, options.pictures, options.workers)
