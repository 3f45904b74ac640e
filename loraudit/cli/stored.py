"""The models that loraudit uses: the place of each, and how much of each is on this machine.

Small models are in `models/`. Large models are fetched when a scan first needs them. Their place is the
cache of the Hugging Face Hub, which other programs share, or loraudit's own folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from loraudit.cards import (
    CLIP_FILE,
    CLIP_REPO,
    CLIP_REVISION,
    CLIP_SHA256,
    FACE_FILE,
    FACE_RECORD,
    PIPELINE,
    base_card,
    base_names,
    cache_folder,
    models_dir,
)
from loraudit.errors import LorauditError
from loraudit.files import file_sha256

__all__ = ["Health", "State", "Stored", "examine", "fetched", "shipped"]

_ENCODER: Final = ("model.safetensors", "config.json")
_SD_BYTES: Final = 4_270_000_000
"""Bytes of SD 1.x's three networks in float32, as they are published."""
_CLIP_BYTES: Final = 1_710_000_000
_FACE_BYTES: Final = 112_000_000


class State(Enum):
    """The state of a model on this machine."""

    WHOLE = "whole"
    PARTIAL = "partial"
    ABSENT = "absent"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Stored:
    """One model that loraudit uses."""

    name: str
    """Name for display: `base tiny`, `face model`, ..."""
    where: str
    """Place in words: `ships with loraudit`, `Hub cache, namespace/name`, `loraudit's cache`."""
    folder: Path
    """Folder that holds the files; the root of the Hub cache for a model that is kept there."""
    files: tuple[str, ...]
    """Files that loraudit reads, as paths in `folder` or in the Hub repository."""
    about_bytes: int = 0
    """Rough size of a fetch in bytes; 0 if the model ships with loraudit."""
    repository: str | None = None
    """Hub repository `namespace/name` of a model that is kept in the Hub cache."""
    revision: str | None = None
    """Pinned commit of the repository, 40 hex digits; None without a repository."""
    pinned: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex of files, by their name in `files`, as far as they are pinned."""

    def paths(self) -> Mapping[str, Path]:
        """Map each of `files` that is on this machine to its path."""
        if self.repository is None:
            return {file: path for file in self.files if (path := self.folder / file).is_file()}
        from huggingface_hub import try_to_load_from_cache

        paths = {}
        for file in self.files:
            try:
                found = try_to_load_from_cache(self.repository, file, self.folder, self.revision)
            except (OSError, ValueError):  # the cache's note of a branch cannot be read
                continue
            if isinstance(found, str):
                paths[file] = Path(found)
        return paths


@dataclass(frozen=True)
class Health:
    """State, size and hashes of one model."""

    state: State
    size_bytes: int = 0
    hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex of each file of weights, by its name in `Stored.files`."""
    fault: str = ""
    """Description of what is missing or wrong; empty for a whole model."""


def shipped() -> tuple[Stored, ...]:
    """List the models in `models/`. Raises `LorauditError` if the installation lacks that folder."""
    root, ships = models_dir(), "ships with loraudit"
    bases = [base_card(name) for name in base_names()]
    found = [
        Stored(f"base {card.name}", ships, card.folder, PIPELINE) for card in bases if card.folder is not None
    ]
    found += [
        Stored(f"encoder {folder}", ships, root / folder, _ENCODER)
        for card in bases
        for folder in card.encoders.values()
    ]
    found.append(Stored("face model tiny-face", ships, root / "tiny-face", _ENCODER))
    clip = ("model.safetensors", "open_clip_config.json", "vocab.json", "merges.txt")
    found.append(Stored("CLIP tiny-clip", ships, root / "tiny-clip", clip))
    return tuple(found)


def fetched() -> tuple[Stored, ...]:
    """List the models that belong in a cache, fetched or not."""
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    cards = [base_card(name) for name in base_names()]
    found = [
        Stored(
            f"base {card.name}",
            f"Hub cache, {card.where}",
            hub,
            PIPELINE,
            _SD_BYTES,
            card.where,
            card.revision,
            card.hashes,
        )
        for card in cards
        if card.revision is not None
    ]
    found.append(
        Stored(
            "CLIP ViT-L/14",
            f"Hub cache, {CLIP_REPO}",
            hub,
            (CLIP_FILE,),
            _CLIP_BYTES,
            CLIP_REPO,
            CLIP_REVISION,
            {CLIP_FILE: CLIP_SHA256},
        )
    )
    own = cache_folder()
    found.append(Stored("face model FaceNet", "loraudit's cache", own, (FACE_FILE,), _FACE_BYTES))
    return tuple(found)


def examine(stored: Stored) -> Health:
    """Look at the files of a model, hash the weights, and compare each hash with the known hash."""
    paths = stored.paths()
    missing = [file for file in stored.files if file not in paths]
    size = sum(path.stat().st_size for path in paths.values())
    if not paths:
        return Health(State.ABSENT)
    if missing:
        return Health(State.PARTIAL, size, fault=f"lacks {', '.join(missing)}")
    weights = {file: path for file, path in paths.items() if file.endswith(".safetensors")}
    try:
        hashes = {file: file_sha256(path) for file, path in weights.items()}
        wrong = [
            file
            for file, path in weights.items()
            if _expected(stored, file, path) not in {None, hashes[file]}
        ]
        for path in weights.values():
            _check_framing(path)
    except OSError as error:
        return Health(State.DAMAGED, size, fault=f"cannot be read: {error.strerror}")
    except LorauditError as error:
        return Health(State.DAMAGED, size, hashes, str(error))
    if wrong:
        return Health(State.DAMAGED, size, hashes, f"{', '.join(wrong)} differs from its hash")
    return Health(State.WHOLE, size, hashes)


def _check_framing(path: Path) -> None:
    """Raise `LorauditError` unless `path` is a whole safetensors file."""
    from loraudit.lora.file.header import read_header

    read_header(path)


def _expected(stored: Stored, file: str, path: Path) -> str | None:
    """Return the SHA-256 in hex that a file ought to have; None if no record says."""
    if file in stored.pinned:
        return stored.pinned[file]
    if stored.repository is not None:
        from loraudit.lora.source.hub import cached_sha256

        return cached_sha256(path)
    if path.name == FACE_FILE:
        # Weights without their record are converted again, as changed ones are.
        try:
            return path.with_name(FACE_RECORD).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""
    config = stored.folder / "config.json"
    try:
        said = json.loads(config.read_text(encoding="utf-8")).get("weights_sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return said if isinstance(said, str) else None
