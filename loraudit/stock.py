"""The models that loraudit uses: where each is kept, and what of it is on this machine.

The small ones are in `models/`. The others are fetched when a scan first needs them, into the cache of the
Hugging Face Hub, which other programs share, or into loraudit's own folder.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from loraudit.cards import (
    CLIP_FILE,
    CLIP_REPO,
    FACE_FILE,
    base_card,
    base_names,
    cache_folder,
    file_sha256,
    models_dir,
)
from loraudit.errors import LorauditError

__all__ = ["Health", "State", "Stored", "examine", "fetched", "shipped"]

_PIPELINE: Final = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
)
_ENCODER: Final = ("model.safetensors", "config.json")
_SD_BYTES: Final = 4_270_000_000
"""Of SD 1.x's three networks in float32, which is how they are published."""


class State(Enum):
    """What is there of a model."""

    WHOLE = "whole"
    PARTIAL = "partial"
    ABSENT = "absent"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Stored:
    """One model that loraudit uses."""

    name: str
    """`base tiny`, `face model`, ..."""
    where: str
    """In words: `ships with loraudit`, `Hub cache, namespace/name`, `loraudit's cache`."""
    folder: Path
    files: tuple[str, ...]
    """Those that loraudit reads, by their path in `folder`."""
    about_bytes: int = 0
    """What a fetch of it takes, roughly; 0 if it ships."""
    repository: Path | None = None
    """Its folder in the Hub cache; `folder` is a snapshot in it."""

    def present(self) -> Iterator[Path]:
        """Those of the files that are there."""
        return (path for file in self.files if (path := self.folder / file).is_file())


@dataclass(frozen=True)
class Health:
    """What was found of a model."""

    state: State
    size_bytes: int = 0
    hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex of each file of weights, by its path."""
    fault: str = ""
    """What is missing or wrong."""


def shipped() -> tuple[Stored, ...]:
    """Those in `models/`. Raises `LorauditError` if the installation lacks that folder."""
    root, ships = models_dir(), "ships with loraudit"
    bases = [base_card(name) for name in base_names()]
    found = [
        Stored(f"base {card.name}", ships, card.folder, _PIPELINE)
        for card in bases
        if card.folder is not None
    ]
    for base in base_names():
        encoders = [root / f"{kind}-{base}" for kind in ("probe", "paper")]
        found += [
            Stored(f"encoder {folder.name}", ships, folder, _ENCODER)
            for folder in encoders
            if folder.is_dir() or base == "tiny"
        ]
    found.append(Stored("face model tiny-face", ships, root / "tiny-face", _ENCODER))
    clip = ("model.safetensors", "open_clip_config.json", "vocab.json", "merges.txt")
    found.append(Stored("CLIP tiny-clip", ships, root / "tiny-clip", clip))
    return tuple(found)


def fetched() -> tuple[Stored, ...]:
    """Those that are kept in a cache, here or not."""
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    found = []
    for card in map(base_card, base_names()):
        if card.revision is not None:
            repository = _repository(hub, card.where)
            snapshot = repository / "snapshots" / card.revision
            where = f"Hub cache, {card.where}"
            found.append(Stored(f"base {card.name}", where, snapshot, _PIPELINE, _SD_BYTES, repository))
    clip = _repository(hub, CLIP_REPO)
    found.append(
        Stored(
            "CLIP ViT-L/14",
            f"Hub cache, {CLIP_REPO}",
            clip / "snapshots" / _main(clip),
            (CLIP_FILE,),
            1_710_000_000,
            clip,
        )
    )
    found.append(Stored("face model FaceNet", "loraudit's cache", cache_folder(), (FACE_FILE,), 112_000_000))
    return tuple(found)


def examine(stored: Stored) -> Health:
    """What is there of a model; its weights are hashed, and held against the hash they ought to have."""
    paths = {str(path.relative_to(stored.folder)): path for path in stored.present()}
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
            file for file, path in weights.items() if _expected(stored, path) not in {None, hashes[file]}
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


def _expected(stored: Stored, path: Path) -> str | None:
    """The SHA-256 that a file ought to have, if that is written anywhere."""
    if stored.repository is not None:
        # The Hub's cache names what it keeps by its hash, and links to it.
        name = path.resolve().name
        return name if re.fullmatch("[0-9a-f]{64}", name) else None
    config = stored.folder / "config.json"
    try:
        said = json.loads(config.read_text(encoding="utf-8")).get("weights_sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return said if isinstance(said, str) else None


def _repository(hub: Path, name: str) -> Path:
    return hub / f"models--{name.replace('/', '--')}"


def _main(repository: Path) -> str:
    """The commit that the cache takes for `main`, or `main` if it has none."""
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return "main"
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else "main"
