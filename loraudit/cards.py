"""Cards of the diffusion models that loraudit knows, and artefacts in `models/`: rows of `models/cards.toml`.

The folder sits beside the package in a checkout and inside it in a wheel.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.files import file_sha256

__all__ = [
    "CLIP_FILE",
    "CLIP_REPO",
    "CLIP_REVISION",
    "CLIP_SHA256",
    "FACE_FILE",
    "FACE_RECORD",
    "PIPELINE",
    "PIPELINE_FILES",
    "PRIOR_FOLDER",
    "BaseCard",
    "artefact",
    "base_card",
    "base_names",
    "cache_folder",
    "calibration_folder",
    "card_like",
    "is_fetchable",
    "models_dir",
    "verify",
]

PIPELINE_FILES: Final = (
    "*/config.json", "*/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/*",
)  # fmt: skip
"""Patterns of the files of a Stable Diffusion 1.x repository that a scan reads."""
PIPELINE: Final = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
)
"""Files of a Stable Diffusion 1.x repository without which a scan cannot run."""
CLIP_REPO: Final = "timm/vit_large_patch14_clip_224.openai"
CLIP_FILE: Final = "open_clip_model.safetensors"
"""File of the CLIP model for photographs, in `CLIP_REPO` on the Hub."""
CLIP_REVISION: Final = "18d0535469bb561bf468d76c1d73aa35156c922b"
"""Pinned commit of `CLIP_REPO`."""
CLIP_SHA256: Final = "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"
"""SHA-256 of `CLIP_FILE` at that commit, in hex.

Commit and hash stand together in several public repositories, for one in the reward registry of a GenEval
verifier ("openclip_checkpoint") and in listings of Hub caches, where the hash is the name of the blob.
"""
FACE_FILE: Final = "facenet-vggface2.safetensors"
"""File of the face model for photographs, in `cache_folder()`."""
FACE_RECORD: Final = "facenet-vggface2.sha256"
"""File beside `FACE_FILE` with its SHA-256 in hex, written when the weights were converted."""
PRIOR_FOLDER: Final = "class-pictures"
"""Folder of the latents of class pictures (`loraudit.training.prior`), in `cache_folder()`."""


@dataclass(frozen=True)
class BaseCard:
    """Diffusion model that loraudit can run."""

    name: str
    where: str
    """Folder in `models/` if `revision` is None, otherwise a Hugging Face Hub repository."""
    revision: str | None
    """Pinned commit of a Hub repository, 40 hex digits."""
    embedding_shape: tuple[int, int]
    """Shape `(L, d)` of the text encoder's output."""
    image_size: int
    """Side of a picture in pixels."""
    dtype: str
    """Name of the weights' dtype on CUDA; a CPU computes in float32."""
    licence: str
    hashes: Mapping[str, str]
    """SHA-256 in hex of files, by their path within the folder or repository."""
    face: str
    """Face model that looks at its pictures (`loraudit.scores.scorers`)."""
    clip: str
    """CLIP model that looks at its pictures."""
    steps: int
    """Sampling steps of a picture."""
    guidance: float
    """Weight of guidance, `w`; 1 means none."""
    recipe: str
    """Recipe of fine-tuning, `tiny` or `paper`."""
    cast: str
    """Cast that it can draw (`loraudit.people.cast`), `portraits` or `photographs`."""
    calibration: str | None = None
    """Folder in `models/` of its calibration data; None if nothing was measured."""
    decoys: str | None = None
    """Folder in `models/` of its decoys, other people's photos; None if there is none."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """Attack -> folder in `models/` of the encoder that ships for it."""
    known_as: tuple[str, ...] = ()
    """Other names that LoRAs give its checkpoints."""
    known_hashes: tuple[str, ...] = ()
    """Hashes in hex of its checkpoints in single files, SHA-256 or the older one of 8 digits."""

    @property
    def fetch_command(self) -> str:
        """Command that fetches the files a scan reads into the Hub's cache; empty if the base ships."""
        if self.revision is None:
            return ""
        at, files = self.revision, PIPELINE_FILES
        return f"hf download {self.where} --revision {at}" + "".join(f" --include '{one}'" for one in files)

    @property
    def folder(self) -> Path | None:
        """Folder in `models/`, or None for a Hub repository."""
        return models_dir() / self.where if self.revision is None else None


def models_dir() -> Path:
    """Find the folder of models. Raises `LorauditError` if the installation lacks it."""
    package = Path(__file__).resolve().parent
    for folder in (package / "models", package.parent / "models"):
        if (folder / "cards.toml").is_file():
            return folder
    raise LorauditError("this installation has no models folder", "install loraudit again")


def base_names() -> tuple[str, ...]:
    """List the names of the bases, in the order of the file."""
    return tuple(_cards()["base"])


def base_card(name: str) -> BaseCard:
    """Return the card of the base `name`. Raises `LorauditError` if there is none."""
    row = _cards()["base"].get(name)
    if row is None:
        raise LorauditError(f"no base is called '{name}'", f"known bases: {', '.join(base_names())}")
    length, width = row["embedding_shape"]
    return BaseCard(
        name=name,
        where=row["where"],
        revision=row.get("revision"),
        embedding_shape=(length, width),
        image_size=row["image_size"],
        dtype=row["dtype"],
        licence=row["licence"],
        hashes=row.get("hashes", {}),
        face=row["face"],
        clip=row["clip"],
        steps=row["steps"],
        guidance=row["guidance"],
        recipe=row["recipe"],
        cast=row["cast"],
        calibration=row.get("calibration"),
        decoys=row.get("decoys"),
        encoders=row.get("encoders", {}),
        known_as=tuple(row.get("known_as", ())),
        known_hashes=tuple(row.get("known_hashes", ())),
    )


def card_like(image_size: int) -> BaseCard:
    """Return the card for a base that is not listed, by the side of its pictures in pixels.

    The columns come from the listed base whose pictures are nearest in size, by the ratio of sides. Data
    measured with that base's own weights are left out.
    """
    cards = [base_card(name) for name in base_names()]
    nearest = min(cards, key=lambda card: max(card.image_size / image_size, image_size / card.image_size))
    return replace(nearest, calibration=None, decoys=None, encoders={})


def is_fetchable(repository: str, files: Sequence[str], revision: str | None = None) -> bool:
    """Tell whether one of `files` of a Hub repository is missing from the cache and can be asked for.

    The Hub is asked once. Its client would ask six times, which takes 23 s on a machine without a network.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        for file in files:
            if not isinstance(try_to_load_from_cache(repository, file, revision=revision), str):
                url = hf_hub_url(repository, file, revision=revision)
                get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                return True
    except httpx.TransportError:
        return False
    except (OSError, ValueError, httpx.HTTPError):
        return True  # there is an answer, and the client will say what is wrong with it
    return False


def artefact(name: str) -> Path:
    """Return the folder `models/<name>`, its listed files verified.

    Raises `LorauditError` if the folder is missing or a file differs from its hash.
    """
    folder = models_dir() / name
    if not folder.is_dir():
        raise LorauditError(f"this installation lacks models/{name}", "install loraudit again")
    verify(folder, _cards().get("artefact", {}).get(name, {}).get("hashes", {}))
    return folder


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise `LorauditError` unless each file in `folder` that `hashes` names has that SHA-256."""
    for file, expected in hashes.items():
        path = folder / file
        if not path.is_file():
            raise LorauditError(f"{path.name} is missing from {folder.name}", "install or download it again")
        if file_sha256(path) != expected.lower():
            raise LorauditError(
                f"{folder.name}/{file} is not the file that loraudit was tested with",
                "install or download it again",
            )


@cache
def _cards() -> dict[str, Any]:
    with (models_dir() / "cards.toml").open("rb") as file:
        return tomllib.load(file)


def cache_folder() -> Path:
    """Name the folder of converted weights and class pictures.

    Class pictures are what a base draws of a prompt that names nobody. The folder never holds a photo, or
    anything of a LoRA.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "loraudit"


def calibration_folder(fingerprint: str) -> Path:
    """Name the folder of the calibration that was made here for the base with this fingerprint."""
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return data / "loraudit" / "calibrations" / fingerprint[:16]
