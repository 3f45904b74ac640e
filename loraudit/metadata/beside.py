"""Files beside a LoRA that go out with its folder: its model card, pictures, and the captions of pictures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from loraudit.lora.source.address import PICKLES
from loraudit.lora.source.source import Source
from loraudit.metadata.front import CARD_BYTES, Front, front_matter

__all__ = [
    "CAPTION",
    "CONFIG_BYTES",
    "JSON_SIDES",
    "PICTURE",
    "README",
    "Beside",
    "Said",
    "card_texts",
    "look_beside",
    "start",
]

README: Final = "README.md"
PICTURE: Final = "pictures beside the file"
CAPTION: Final = "caption files beside it"
"""Places of `Said`."""
JSON_SIDES: Final = frozenset[str]()
CONFIG_BYTES: Final = 1_000_000
_CAPTION_BYTES: Final = 16_384
_FOLDER_ENTRIES: Final = 10_000
_READ: Final = 1_000
"""Limit on pictures that are looked into, and on captions that are read: more than anybody trains on."""
_PICTURES: Final = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff",
)  # fmt: skip
_PREVIEWS: Final = tuple(
    f"{middle}{ending}"
    for middle in ("", ".preview")
    for small in _PICTURES[:4]
    for ending in (small, small.upper())
)
"""Endings of previews: A1111 shows `name.png` or `name.preview.png` of `name.safetensors`. Cameras write
`.JPG`."""
_CAPTIONS: Final = (".txt", ".caption")
"""Endings of files that kohya takes for the caption of a picture of the same name."""


class Said(NamedTuple):
    """Text in a LoRA's files."""

    place: str
    """Place in words of ours: `header`, the name of a side file, `PICTURE` or `CAPTION`."""
    key: str
    """Key in the file's own spelling."""
    text: str


class Beside(NamedTuple):
    """Texts and pictures beside a LoRA."""

    said: tuple[Said, ...] = ()
    pictures: tuple[str, ...] = ()
    """Names of the pictures."""
    located: int = 0
    """Number of pictures that say where they were taken."""
    unread: tuple[str, ...] = ()
    """Places of which not all was read."""
    pickles: tuple[str, ...] = ()
    """Names of the pickle files; none was opened."""


def look_beside(source: Source) -> Beside:
    """Read model card, pictures and captions of `source`. An `OSError` passes through.

    A folder gives every picture in it, a file only its own previews. Other pictures in a download folder have
    nothing to do with that file.
    """
    cards = list(_cards(source))
    said = [text for card in cards for text in card_texts(card)]
    unread = [README for card in cards if not card.whole]
    folder = source.path if source.path.is_dir() else source.path.parent
    names, stems = _pictures(source)
    located = 0
    if names:
        # Few files have pictures beside them, and each scan pays for what it loads.
        from loraudit.metadata.pictures import read_picture
    for name in names[:_READ]:
        picture = read_picture(folder / name)
        if picture is not None:
            said += [Said(PICTURE, key, text) for key, text in picture.texts]
            located += picture.located
            unread += [] if picture.whole else [PICTURE]
    captions = [folder / f"{stem}{ending}" for stem in stems[:_READ] for ending in _CAPTIONS]
    for caption in captions:
        if caption.is_file():
            said.append(Said(CAPTION, "", start(caption, _CAPTION_BYTES)))
    if len(names) > _READ:
        unread.append(PICTURE)
    return Beside(tuple(said), tuple(names), located, tuple(dict.fromkeys(unread)), _pickles(source))


def card_texts(card: Front) -> list[Said]:
    """Give the texts of a model card's front matter their place."""
    return [Said(README, key, text) for key, text in card.texts]


def _cards(source: Source) -> Iterator[Front]:
    for folder in dict.fromkeys([*(part.weights.parent for part in source.parts), source.path]):
        card = folder / README
        if card.is_file():
            yield front_matter(start(card, CARD_BYTES))


def start(path: Path, limit: int) -> str:
    """Read the first `limit` bytes of the file at `path` as text."""
    with path.open("rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def _pickles(source: Source) -> tuple[str, ...]:
    """List the pickles that lie with `source`: those found with it, or those of the same name."""
    if source.pickles or source.path.is_dir():
        return source.pickles
    stem = f"{source.path.parent}{os.sep}{source.path.stem}"
    return tuple(
        f"{source.path.stem}{ending}"
        for ending in PICKLES
        if os.path.isfile(f"{stem}{ending}")  # noqa: PTH113
    )


def _pictures(source: Source) -> tuple[list[str], list[str]]:
    """List the pictures that belong to `source`, and their names without the ending, both sorted."""
    if not source.path.is_dir():
        stem, folder = source.path.stem, source.path.parent
        # Joined as text: a folder may hold thousands of LoRAs, and each asks for sixteen.
        beside = ((f"{stem}{ending}", f"{folder}{os.sep}{stem}{ending}") for ending in _PREVIEWS)
        names = [name for name, path in beside if os.path.isfile(path)]  # noqa: PTH113
        if len(names) > 1:  # where case does not count, one file answers to both spellings
            names = list({(folder / name).stat().st_ino: name for name in reversed(names)}.values())
    else:
        names = []
        with os.scandir(source.path) as entries:
            for number, entry in enumerate(entries):
                if number == _FOLDER_ENTRIES:
                    break
                if entry.name.lower().endswith(_PICTURES) and entry.is_file():
                    names.append(entry.name)
    return sorted(names), sorted({Path(name).stem for name in names})
