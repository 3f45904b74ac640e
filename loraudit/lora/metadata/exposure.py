"""Everything that goes out with a LoRA besides its numbers: header, tensor names, file name, side files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from loraudit.errors import LorauditError
from loraudit.lora.header import Header, Hidden, clean, read_header
from loraudit.lora.source import Source

__all__ = ["Exposure", "Said", "header_exposure", "read_exposure"]

README: Final = "README.md"
_README_CHARACTERS: Final = 65_536
_CONFIG_BYTES: Final = 1_000_000
_FOLDER_ENTRIES: Final = 10_000
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic", ".bmp", ".tif", ".tiff")
_PREVIEWS: Final = tuple(f"{middle}{ending}" for middle in ("", ".preview") for ending in _PICTURES[:4])
"""A1111 shows `name.png` or `name.preview.png` for `name.safetensors`."""


class Said(NamedTuple):
    """One text of a LoRA's files."""

    place: str
    """`header`, or the name of a side file: a word of ours."""
    key: str
    """As the file spells it."""
    text: str


@dataclass(frozen=True)
class Exposure:
    """What one LoRA's files say, as they say it: hostile text, to be `clean`ed before display."""

    names: tuple[str, ...]
    """Of the files, without their ending."""
    said: tuple[Said, ...]
    """Metadata (values that were passed over too), adapter configuration, front matter of the README."""
    tensors: tuple[str, ...]
    hidden: tuple[Hidden, ...]
    pictures: tuple[str, ...]
    """Names of pictures beside the file."""
    size_bytes: int
    """Of the weights."""


def read_exposure(source: Source) -> Exposure:
    """Read headers and small side files only.

    Raises `LorauditError` if a file cannot be read, `NotScannable` if it is no sound safetensors file.
    """
    headers = [read_header(part.weights) for part in source.parts]
    said = [Said("header", key, text) for header in headers for key, text in header.metadata.items()]
    hidden = tuple(item for header in headers for item in header.hidden)
    said += [Said("header", item.key, item.text) for item in hidden if item.kind == "metadata key"]
    folders = list(dict.fromkeys([*(part.weights.parent for part in source.parts), source.path]))
    try:
        for part in source.parts:
            if part.config is not None:
                said.append(Said(part.config.name, "", _start(part.config, _CONFIG_BYTES)))
        for folder in folders:
            said += _front_matter(folder / README)
        pictures = _pictures(source)
    except OSError as error:
        raise LorauditError(
            f"cannot read beside {source.name}: {clean(str(error.strerror))}", "check its permissions"
        ) from None
    return Exposure(
        names=tuple(dict.fromkeys(path.stem for path in (source.path, *(p.weights for p in source.parts)))),
        said=tuple(said),
        tensors=tuple(key for header in headers for key in header.tensors),
        hidden=hidden,
        pictures=tuple(pictures),
        size_bytes=sum(header.size_bytes for header in headers),
    )


def header_exposure(header: Header) -> Exposure:
    """What a file says whose header is at hand and nothing else: one on the Hub that was not downloaded."""
    said = [Said("header", key, text) for key, text in header.metadata.items()]
    said += [Said("header", item.key, item.text) for item in header.hidden if item.kind == "metadata key"]
    return Exposure(
        names=(header.path.stem,),
        said=tuple(said),
        tensors=tuple(header.tensors),
        hidden=header.hidden,
        pictures=(),
        size_bytes=header.size_bytes,
    )


def _start(path: Path, limit: int) -> str:
    with path.open("rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def _front_matter(readme: Path) -> Iterator[Said]:
    """`key: value` lines between the first two `---`, a list's dash left out."""
    if not readme.is_file():
        return
    lines = _start(readme, _README_CHARACTERS).splitlines()
    if not lines or lines[0].strip() != "---":
        return
    for line in lines[1:]:
        if line.strip() == "---":
            return
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if colon:
            yield Said(README, key.strip(), value.strip().strip("\"'"))


def _pictures(source: Source) -> list[str]:
    if not source.path.is_dir():
        # What else lies in a download folder has nothing to do with the file.
        beside = (source.path.with_name(source.path.stem + ending) for ending in _PREVIEWS)
        return [path.name for path in beside if path.is_file()]
    found = []
    with os.scandir(source.path) as entries:
        for number, entry in enumerate(entries):
            if number == _FOLDER_ENTRIES:
                break
            if entry.name.lower().endswith(_PICTURES) and entry.is_file():
                found.append(entry.name)
    return sorted(found)
