"""Files beside a LoRA that go out with its folder: model card, side files, pictures and their captions."""

import codecs
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

from loraudit.lora.source.address import PICKLES
from loraudit.lora.source.source import Around, Source
from loraudit.metadata.front import CARD_BYTES, Front, front_matter
from loraudit.metadata.listing import ARCHIVES, PICTURES, SIDES, Listing, below, ending_of, named

__all__ = [
    "ABOUT",
    "CAPTION",
    "CONFIG_BYTES",
    "FOLDER",
    "INSIDE",
    "IN_SIDES",
    "JSON_SIDES",
    "PICTURE",
    "README",
    "TEXT_SIDES",
    "Beside",
    "Said",
    "card_texts",
    "look_beside",
    "start",
]

README: Final = "README.md"
PICTURE: Final = "pictures beside the file"
CAPTION: Final = "caption files beside it"
ABOUT: Final = "files about pictures beside it"
FOLDER: Final = "the folder"
INSIDE: Final = "pictures in the file"
IN_SIDES: Final = "pictures in files beside it"
"""Places of `Said`."""
_PLACES: Final = {ending: f"the {ending} beside it" for ending in SIDES}
TEXT_SIDES: Final = frozenset(
    place for ending, place in _PLACES.items() if not ending.endswith((".json", ".info"))
)
JSON_SIDES: Final = frozenset({*_PLACES.values(), ABOUT}) - TEXT_SIDES
"""Places of side files."""
_CARDS: Final = (README, "readme.md", "Readme.md", "README.MD")
"""Names of a model card; the Hub itself knows the first."""
CONFIG_BYTES: Final = 1_000_000
_CAPTION_BYTES: Final = 16_384
_READ: Final = 1_000
"""Limit on pictures that are looked into, on captions and on side files: more than anybody trains on."""
_CAPTIONS: Final = (".txt", ".caption")
"""Endings of files that kohya takes for the caption of a picture of the same name."""
_TELLERS: Final = (".xmp", ".json")
"""Endings of what photo programs and exports of albums write about a picture, beside it."""
_LATITUDE: Final = re.compile(r'"(?:\w{0,20}_)?latitude"\s{0,9}:\s{0,9}"?-?[0.]{0,20}[1-9]', re.IGNORECASE)
_OF_ANY: Final = SIDES[:3]
"""Endings of side files that no other file has: in a folder they count under any name."""


class Said(NamedTuple):
    """Text in a LoRA's files."""

    place: str
    """Place in words of ours: `header`, the name or kind of a side file, `PICTURE` or `CAPTION`."""
    key: str
    """Key in the file's own spelling."""
    text: str


class Beside(NamedTuple):
    """Texts, pictures and unread files beside a LoRA."""

    said: tuple[Said, ...] = ()
    pictures: tuple[str, ...] = ()
    """Names of the pictures, and their paths in folders below."""
    located: int = 0
    """Number of pictures that say where they were taken."""
    unread: tuple[str, ...] = ()
    """Places of which not all was read."""
    unknown: int = 0
    """Number of pictures of no format that is read."""
    pixels: int = 0
    """Number of pictures whose pixels may hide a prompt and were not looked at."""
    archives: tuple[str, ...] = ()
    """Names of archives and caches; none was opened."""
    pickles: tuple[str, ...] = ()
    """Names of pickle files; none was opened."""


def look_beside(source: Source) -> Beside:
    """Read model card, side files, pictures and captions of `source`. What cannot be read is in `unread`.

    A folder gives every picture in it and below, a file only what bears its name. Other files in a download
    folder have nothing to do with that file.
    """
    looked = [
        _tried(README, lambda: _read_cards(source)),
        _tried(FOLDER, lambda: _read(_own(source))),
        *(_tried(FOLDER, partial(_around, around)) for around in source.around),
    ]
    return Beside(
        tuple(one for beside in looked for one in beside.said),
        tuple(sorted(name for beside in looked for name in beside.pictures)),
        sum(beside.located for beside in looked),
        tuple(dict.fromkeys(place for beside in looked for place in beside.unread)),
        sum(beside.unknown for beside in looked),
        sum(beside.pixels for beside in looked),
        tuple(sorted(name for beside in looked for name in beside.archives)),
        # A folder's scan gives each pickle to one LoRA.
        tuple(sorted(name for beside in looked for name in beside.pickles))
        if source.pickles is None
        else source.pickles,
    )


def _tried(place: str, read: Callable[[], Beside]) -> Beside:
    """Run `read`; where the files of `place` cannot be read, that costs nothing else."""
    try:
        return read()
    except OSError:
        return Beside(unread=(place,))


def _own(source: Source) -> Listing:
    if source.path.is_dir():
        return below(source.path, frozenset(part.weights.stem for part in source.parts))
    return named(source.path)


def _read_cards(source: Source) -> Beside:
    cards = list(_cards(source))
    said = tuple(text for card in cards for text in card_texts(card))
    return Beside(said, unread=tuple(README for card in cards if not card.whole))


@lru_cache(maxsize=8)
def _around(around: Around) -> Beside:
    """Read the files that several LoRAs share, once for all of them."""
    return _read(below(around.folder, frozenset(), around.stems))


def _read(listing: Listing) -> Beside:
    folder, names = listing.folder, listing.names
    said: list[Said] = []
    unread = [] if listing.whole else [FOLDER]
    pictures = [name for name in names if ending_of(name, PICTURES)]
    located = unknown = pixels = 0
    if pictures:
        # Few files have pictures beside them, and each scan pays for what it loads.
        from loraudit.metadata.pictures import packet_of, read_picture
    for name in pictures[:_READ]:
        try:
            size, picture = (folder / name).stat().st_size, read_picture(folder / name)
        except OSError:
            unread.append(PICTURE)
            continue
        if picture is not None:
            said += [Said(PICTURE, key, text) for key, text in picture.texts]
            located += picture.located
            pixels += picture.pixels
            unread += [] if picture.whole else [PICTURE]
        else:
            unknown += size > 0  # an empty file hides nothing
    captions = _captions(names, pictures)
    known = set(captions)
    sides = [name for name in names if name not in known and _is_side(name, listing.stems)]
    texts = [(name, CAPTION, _CAPTION_BYTES) for name in captions[:_READ]]
    texts += [(name, _PLACES[ending_of(name, SIDES)], CONFIG_BYTES) for name in sides[:_READ]]
    tellers = _tellers(names, pictures, known | set(sides))
    texts += [(name, ABOUT, CONFIG_BYTES) for name in tellers[:_READ]]
    for name, place, limit in texts:
        try:
            text = start(folder / name, limit)
            unread += [place] if (folder / name).stat().st_size > limit else []
        except OSError:
            unread.append(place)
            continue
        if name.lower().endswith(".xmp"):
            packet = packet_of(text)
            said += [Said(PICTURE, key, inner) for key, inner in packet.texts]
            located += packet.located
        else:
            said.append(Said(place, "", text))
            located += place == ABOUT and _LATITUDE.search(text) is not None
    unread += [
        place
        for place, found in (
            (PICTURE, pictures),
            (CAPTION, captions),
            (ABOUT, tellers),
            ("side files", sides),
        )
        if len(found) > _READ
    ]
    archives, pickles = (
        tuple(name for name in names if ending_of(name, endings)) for endings in (ARCHIVES, PICKLES)
    )
    return Beside(tuple(said), tuple(pictures), located, tuple(unread), unknown, pixels, archives, pickles)


def _captions(names: tuple[str, ...], pictures: list[str]) -> list[str]:
    stems = {name.rpartition(".")[0] for name in pictures}
    return [name for name in names if name.rpartition(".")[0] in stems and ending_of(name, _CAPTIONS)]


def _tellers(names: tuple[str, ...], pictures: list[str], known: set[str]) -> list[str]:
    """List files about one of `pictures`: `a.xmp`, `a.jpg.json`, `a.jpg.supplemental-metadata.json`."""
    about = {*pictures, *(name.rpartition(".")[0] for name in pictures)}
    found = []
    for name in names:
        if ending_of(name, _TELLERS) and name not in known:
            once = name.rpartition(".")[0]
            found += [name] if not about.isdisjoint((once, once.rpartition(".")[0])) else []
    return found


def _is_side(name: str, stems: frozenset[str]) -> bool:
    ending = ending_of(name, SIDES)
    return bool(ending) and (ending in _OF_ANY or name[: -len(ending)] in stems)


def card_texts(card: Front) -> list[Said]:
    """Give the texts of a model card's front matter their place."""
    return [Said(README, key, text) for key, text in card.texts]


def _cards(source: Source) -> Iterator[Front]:
    for folder in dict.fromkeys([*(part.weights.parent for part in source.parts), source.path]):
        for name in _CARDS:
            card = folder / name
            if card.is_file():
                yield front_matter(start(card, CARD_BYTES))
                break


def start(path: Path, limit: int) -> str:
    """Read the first `limit` bytes of the file at `path` as text, in UTF-16 if its first bytes say so."""
    with path.open("rb") as file:
        data = file.read(limit)
    return data.decode(
        "utf-16" if data[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8", "replace"
    )
