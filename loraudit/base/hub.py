"""Pipelines on the Hugging Face Hub: the files that a base is loaded from, in the Hub's cache.

Names, sizes and answers of the Hub are as hostile as the files. Configurations come first, so that a model of
another kind is refused before its weights are fetched. What was fetched lies in a folder, and is checked as
any folder is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from loraudit.base.folder import PARTS, check_configs, weight_file
from loraudit.base.refusal import refuse
from loraudit.errors import LorauditError
from loraudit.lora.source.address import PICKLES, WEIGHTS, HubSpec
from loraudit.lora.source.hub_errors import plain_errors
from loraudit.text import clean

__all__ = ["Fetched", "NoBase", "fetch_base"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CONFIGS: Final = (*(f"{part}/config.json" for part in PARTS), "scheduler/scheduler_config.json")
_MARK: Final = "unet/config.json"
"""File by which the cache's folder of a pipeline is found."""
_WORDS: Final = re.compile(r"tokenizer/[\w.-]{1,100}\.(?:json|txt)", re.ASCII)
_TOKENIZERS: Final = (("tokenizer/tokenizer.json",), ("tokenizer/vocab.json", "tokenizer/merges.txt"))
"""Files without which a tokenizer is none; either set does."""
_SHARD: Final = re.compile(r"[\w.-]{1,100}-of-\d{5}\.safetensors", re.ASCII)
_LARGEST: Final = 16_000_000_000
_LARGEST_SMALL: Final = 64_000_000
"""Limits in bytes on a file of weights, and on any other; those of SD 1.x have 3.4 GB and 1 MB."""


class NoBase(LorauditError):
    """Base on the Hub that is not on this machine and cannot be fetched. Exit code 2."""


@dataclass(frozen=True)
class Fetched:
    """Base in the Hub's cache."""

    path: Path
    """Folder of the pipeline, or the single file."""
    commit: str
    """Commit of the repository, 40 hex digits."""


@dataclass(frozen=True)
class _Listing:
    """Files of a repository at one commit."""

    commit: str
    sizes: Mapping[str, int | None]
    """Path => size in bytes, None where the Hub does not say."""
    folder: Path | None = None
    """Folder in the cache that holds all of them; None if they may have to be fetched."""


def fetch_base(spec: HubSpec, shown: str, half: bool, offline: bool, hint: str | None = None) -> Fetched:
    """Find the files of the base at `spec` in the Hub's cache, and fetch those that it lacks.

    `half` prefers weights in half precision. `offline` looks in the cache alone. `hint` belongs to a listed
    base. Raises `NoBase` if a file is not there and cannot be fetched; `LorauditError` if there is no such
    repository, or it holds no sound pipeline.
    """
    from huggingface_hub import is_offline_mode

    asked, offline = offline, offline or is_offline_mode()
    reason = "--offline is set" if asked else "HF_HUB_OFFLINE is set" if offline else "it cannot be fetched"
    absent = NoBase(
        f"the base '{clean(shown, 300)}' is not on this machine, and {reason}",
        hint or "run once with a network, or name a folder or a .safetensors checkpoint with --base",
    )

    def talking() -> AbstractContextManager[None]:
        return _talking(spec, absent, offline, listed=hint is not None)

    listing = _list(spec, half, offline, talking)

    def get(name: str, most: int) -> Path:
        size = listing.sizes.get(name) or 0
        if size > most:
            refuse(
                shown, f"{clean(name, 100)} has {size / 1e9:.1f} GB, more than any of Stable Diffusion 1.x"
            )
        with talking():
            return _get(spec, name, listing)

    if spec.path:
        return Fetched(get(spec.path, _LARGEST), listing.commit)
    _check_kind(shown, listing.sizes)
    weights = {part: _weights(shown, part, _in(part, listing.sizes), half) for part in PARTS}
    for name in sorted(name for name in listing.sizes if name in _CONFIGS or _WORDS.fullmatch(name)):
        folder = get(name, _LARGEST_SMALL).parents[name.count("/")]
    check_configs(shown, folder)
    for part, names in weights.items():
        for name in names:
            get(f"{part}/{name}", _LARGEST if name.endswith(WEIGHTS) else _LARGEST_SMALL)
    return Fetched(folder, listing.commit)


@contextmanager
def _talking(spec: HubSpec, absent: NoBase, offline: bool, listed: bool) -> Iterator[None]:
    """Put errors of the Hub in plain words: `absent` where it cannot be reached, or the base is listed."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with plain_errors(spec, offline):
            try:
                yield
            except LocalEntryNotFoundError as error:
                raise absent from error
    except NoBase:
        raise
    except LorauditError as error:
        # The user did not choose the repository of a listed base.
        if not listed:
            raise
        raise absent from error
    except OSError as error:
        raise LorauditError(
            f"cannot keep {clean(spec.repo, 300)}: {error.strerror}",
            "make room on the disk of the Hub's cache (HF_HOME), and make the cache writable",
        ) from error


def _list(
    spec: HubSpec, half: bool, offline: bool, talking: Callable[[], AbstractContextManager[None]]
) -> _Listing:
    """List the repository by its cache or by the Hub; the cache alone is asked for a commit that it holds."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    here = _cached(spec)
    whole = here is not None and not _lacks(spec, here.sizes, half)
    pinned = spec.revision is not None and _COMMIT.fullmatch(spec.revision) is not None
    if here is not None and whole and (offline or pinned):
        return here
    with talking():
        asked = None if offline else _ask(spec)
        if asked is not None:
            return asked
        if here is None or not whole:
            raise LocalEntryNotFoundError("not in the cache")
    return here


def _cached(spec: HubSpec) -> _Listing | None:
    """List what the cache holds of the repository; None if it holds nothing of the revision."""
    from huggingface_hub import try_to_load_from_cache

    mark = spec.path or _MARK
    try:
        found = try_to_load_from_cache(spec.repo, mark, revision=spec.revision)
    except (OSError, ValueError):  # the cache's note of a branch cannot be read
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parents[mark.count("/")]
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return _Listing(folder.name, {name: file.stat().st_size for name, file in files.items()}, folder)


def _ask(spec: HubSpec) -> _Listing | None:
    """Ask the Hub for the files of the repository; None if it cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        info = HfApi().model_info(spec.repo, revision=spec.revision, files_metadata=True)
    except httpx.TransportError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise ValueError("no commit")
    return _Listing(info.sha, {file.rfilename: file.size for file in info.siblings or ()})


def _get(spec: HubSpec, name: str, listing: _Listing) -> Path:
    from huggingface_hub import hf_hub_download

    if listing.folder is not None:
        return listing.folder / name
    path = Path(hf_hub_download(spec.repo, name, revision=listing.commit))
    if name == (spec.path or _MARK):
        # Asked for by its branch, the file is at hand already, and the cache notes the branch's commit.
        hf_hub_download(spec.repo, name, revision=spec.revision)
    return path


def _lacks(spec: HubSpec, names: Collection[str], half: bool) -> bool:
    """Tell whether a file of the base is not among `names`."""
    if spec.path:
        return spec.path not in names
    configs = all(f"{part}/config.json" in names for part in PARTS)
    weights = all(weight_file(_in(part, names), part, half) for part in PARTS)
    words = any(all(name in names for name in files) for files in _TOKENIZERS)
    return not (configs and weights and words)


def _check_kind(shown: str, names: Collection[str]) -> None:
    """Raise `LorauditError` unless a repository with the files `names` looks like a pipeline of SD 1.x."""
    if any(name.startswith("text_encoder_2/") for name in names):
        refuse(shown, "it is an SDXL or SD 3 pipeline, not Stable Diffusion 1.x")
    if any(name.startswith("transformer/") for name in names):
        refuse(shown, "it is a pipeline with a transformer, such as FLUX or SD 3, not Stable Diffusion 1.x")
    singles = sorted(name for name in names if "/" not in name and name.lower().endswith(WEIGHTS))
    lacking = next((part for part in PARTS if f"{part}/config.json" not in names), None)
    if lacking and singles:
        listed = clean(", ".join(singles), 200)
        refuse(shown, f"it is no diffusers pipeline; name one of its files, hf://{shown}/FILE: {listed}")
    if lacking:
        refuse(shown, f"it lacks {lacking}/config.json")


def _weights(shown: str, part: str, names: Collection[str], half: bool) -> list[str]:
    """Choose the files of weights of `part` among `names` in its folder."""
    chosen = weight_file(names, part, half)
    if chosen is None:
        pickle = any(name.endswith(PICKLES) for name in names)
        what = "holds a pickle, which is not fetched, and no safetensors file" if pickle else "lacks weights"
        refuse(shown, f"{part} {what}")
    shards = sorted(filter(_SHARD.fullmatch, names)) if chosen[0].endswith(".json") else []
    return [chosen[0], *shards]


def _in(part: str, names: Collection[str]) -> list[str]:
    """List the names of files that lie in the folder `part`."""
    return [path.name for path in map(PurePosixPath, names) if str(path.parent) == part]
