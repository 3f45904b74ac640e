"""Draw pictures of one synthetic person as PNG files, to fine-tune on or to give as references.

python -m models.recipes.photos 200008 photos/ --first 0 --count 5
"""

import argparse
from pathlib import Path

from PIL import Image

from loraudit.people.portrait import picture

__all__ = ["draw_photos"]


def draw_photos(identity: int, folder: Path, first: int, count: int) -> None:
    """Write `count` pictures of an identity, from number `first` on, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.fromarray(picture(identity, number)).save(folder / f"{number:02d}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("identity", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    options = parser.parse_args()
    draw_photos(options.identity, options.folder, options.first, options.count)
