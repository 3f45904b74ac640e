"""Names of the files that go out with a LoRA: those of its name, or all in its folder and below."""

import os
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from loraudit.lora.source.address import PICKLES, WEIGHTS

__all__ = ["ARCHIVES", "PICTURES", "SIDES", "Listing", "below", "ending_of", "named"]

_ENTRIES: Final = 10_000
"""Limit on the files of a folder, and of those in it, that are listed."""
PICTURES: Final = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".jxl",
    ".jp2", ".jfif", ".apng", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    ".jpe", ".j2k", ".hif", ".heics", ".avifs", ".ico", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".exr",
    ".hdr", ".xcf", ".kra", ".eps", ".pef", ".srw", ".sr2", ".nrw", ".x3f",
    ".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".mts", ".m2ts", ".3gp",
)  # fmt: skip
"""Endings of pictures and films, those of no format that is read included."""
ARCHIVES: Final = (
    ".zip", ".7z", ".rar", ".tar", ".tar.gz", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".cbz", ".npz", ".npy",
    ".parquet", ".arrow", ".tbz2", ".txz", ".lz4", ".lzma", ".zipx", ".cbr", ".iso", ".dmg", ".feather",
    ".h5", ".hdf5", ".mdb", ".tfrecord", "thumbs.db",
)  # fmt: skip
"""Endings of archives, and of the tables and caches in which trainers and file managers keep pictures."""
SIDES: Final = (
    ".civitai.info", ".cm-info.json", ".metadata.json", ".json", ".description.txt", ".txt", ".md",
)  # fmt: skip
"""Endings of side files, longer ones first: `name.civitai.info` of `name.safetensors`."""
_PREVIEWS: Final = tuple(
    f"{middle}{ending}"
    for middle in ("", ".preview")
    for small in (".png", ".jpg", ".jpeg", ".webp")
    for ending in (small, small.upper())
)
"""Endings of previews: A1111 shows `name.png` or `name.preview.png` of `name.safetensors`. Cameras write
`.JPG`."""
_NAMED: Final = (
    *_PREVIEWS,
    *SIDES,
    *(spelled for ending in (*ARCHIVES[:6], *PICKLES) for spelled in (ending, ending.upper())),
)
_HALVES: Final = frozenset({"unet", "text_encoder"})


class Listing(NamedTuple):
    """Files of a folder."""

    folder: Path
    names: tuple[str, ...]
    """Paths below `folder` with `/`, sorted."""
    stems: frozenset[str]
    """Names without the ending of the LoRAs that the files belong to."""
    whole: bool = True
    """True if all files were listed."""


def named(weights: Path) -> Listing:
    """List the files that bear the name of the file `weights`: previews, side files, archives, pickles."""
    stem, folder = weights.stem, weights.parent
    # Joined as text: a folder may hold thousands of LoRAs, and each asks for dozens.
    beside = ((f"{stem}{ending}", f"{folder}{os.sep}{stem}{ending}") for ending in _NAMED)
    names = [name for name, path in beside if os.path.isfile(path)]  # noqa: PTH113
    if len(names) > 1:  # where case does not count, one file answers to both spellings
        names = list({(folder / name).stat().st_ino: name for name in reversed(names)}.values())
    return Listing(folder, tuple(sorted(names)), frozenset({stem}))


def below(folder: Path, stems: frozenset[str], but: frozenset[str] = frozenset()) -> Listing:
    """List the files of `folder` and the folders in it, at most 10,000, without those of the names `but`.

    Left out are links to folders, hidden folders, and folders that hold LoRAs of their own. An `OSError` of
    `folder` itself passes through.
    """
    names: list[str] = []
    left, whole = _ENTRIES, True
    waiting = [""]
    while waiting and left > 0:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as scanned:
                entries = list(islice(scanned, left + 1))
        except OSError:
            if not prefix:
                raise
            whole = False
            continue
        whole &= len(entries) <= left
        entries = entries[:left]
        left -= len(entries)
        files = [entry.name for entry in entries if _is_file(entry)]
        own = any(name.lower().endswith(WEIGHTS) for name in files)
        if own and prefix and prefix.rstrip("/") not in _HALVES:
            continue
        names += [f"{prefix}{name}" for name in files if prefix or not _bears(name, but)]
        waiting += [
            f"{prefix}{entry.name}/"
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
    return Listing(folder, tuple(sorted(names)), stems, whole and not waiting)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself leads to no file
        return False


def ending_of(name: str, endings: tuple[str, ...]) -> str:
    """Return the first of `endings` that `name` has, in small letters; empty if it has none."""
    lowered = name.lower()
    return next((ending for ending in endings if lowered.endswith(ending)), "")


def _bears(name: str, stems: frozenset[str]) -> bool:
    """Tell whether `name` is one of `stems` with an ending of one or two parts."""
    once = name.rpartition(".")[0]
    return bool(stems) and (once in stems or once.rpartition(".")[0] in stems)
