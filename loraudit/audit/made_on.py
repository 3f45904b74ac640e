"""Comparison of the base that a LoRA's files name with the base that the scan used.

An attack sees most on the base that a LoRA was made on, so a report says where the two differ. Files on a
checkpoint go by many names: names are compared without folders, endings and signs, hashes as AUTOMATIC1111
and kohya take them of a single file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loraudit.base.source import Folder, Listed, OnHub, SingleFile
from loraudit.cards import base_card, base_names
from loraudit.files import file_sha256
from loraudit.findings.conditions import StatedBase
from loraudit.hiding import HIDDEN, mask
from loraudit.metadata.base_names import base_name
from loraudit.metadata.quotes import quote

if TYPE_CHECKING:
    from loraudit.base.source import BaseSource
    from loraudit.metadata.stated import Stated

__all__ = ["compare"]

_ENDINGS: Final = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin)$")
_LEGACY_AT, _LEGACY_BYTES, _LEGACY_DIGITS = 0x100000, 0x10000, 8
"""Part of a file that the older hash is of, and its length in hex digits (`model_hash` of AUTOMATIC1111's
`modules/sd_models.py` and of kohya's `library/train_util.py`)."""


@dataclass(frozen=True)
class _Known:
    """Names and hashes that the base of a scan goes by."""

    names: frozenset[str]
    hashes: tuple[str, ...] = ()
    file: Path | None = None
    """Single file, whose hashes take time."""

    def holds(self, hashes: tuple[str, ...]) -> bool | None:
        """Tell whether one of `hashes` is the base's; None if its hashes are not known."""
        if not hashes or not (self.hashes or self.file):
            return None
        return any(known.startswith(one) for known in self._all() for one in hashes)

    def _all(self) -> Iterator[str]:
        """Yield the known hashes; those that take reading the whole file come last."""
        yield from self.hashes
        if self.file is not None:
            try:
                with self.file.open("rb") as file:
                    file.seek(_LEGACY_AT)
                    yield hashlib.sha256(file.read(_LEGACY_BYTES)).hexdigest()[:_LEGACY_DIGITS]
                yield file_sha256(self.file)
            except OSError:
                return


def compare(stated: Stated | None, used: BaseSource, secrets: Collection[str] = ()) -> StatedBase | None:
    """Compare what a LoRA's files say with the base `used`; None if nothing can be compared.

    The `secrets` in the files stay hidden.
    """
    if stated is None:
        return None
    known = _known(used)
    by_name = bool(known.names & frozenset(map(_plain, stated.names))) if stated.names else None
    by_hash = True if by_name else known.holds(stated.hashes)
    if by_name is None and by_hash is None:
        return None
    public = [name for text in stated.names if (name := base_name(text))]
    hashes = tuple(f"hash {one[:10]}" for one in stated.hashes[:1])
    shown = public[0] if public else HIDDEN if stated.names else hashes[0]
    quotes = tuple(quote(mask(text, secrets)) for text in stated.names)
    return StatedBase(bool(by_name or by_hash), shown, quotes or hashes)


def _known(used: BaseSource) -> _Known:
    match used:
        case Listed(card):
            names = {_plain(card.name)}
        case OnHub(spec):
            names = {_plain(spec.path or spec.repo)}
        case Folder(path) | SingleFile(path):
            names = {_plain(path.resolve().name)}
    hashes: list[str] = []
    for card in map(base_card, base_names()):
        known = {_plain(one) for one in (card.name, card.where, card.revision or "", *card.known_as) if one}
        if names & known:
            names |= known
            hashes += card.known_hashes
    file = used.path if isinstance(used, SingleFile) else None
    return _Known(frozenset(names), tuple(hashes), file)


def _plain(name: str) -> str:
    """Strip a name of folders, endings and signs: `runwayml/sd-v1-5.ckpt` gives `sdv15`."""
    last = re.split(r"[/\\]", name.rstrip("/\\").lower())[-1]
    return re.sub(r"[^a-z0-9]", "", _ENDINGS.sub("", last))
