"""LoRAs on the Hugging Face Hub: the whole file, or no more of it than its header.

`huggingface_hub` does the talking, so `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and `HF_ENDPOINT` mean what
they mean everywhere; it is imported only once an address of the Hub is met. Names, revisions and answers that
come from the Hub are as hostile as the file.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.address import PICKLES, WEIGHTS, HubSpec, sound_path
from loraudit.lora.header import MAX_HEADER_BYTES, clean
from loraudit.lora.source import PEFT_CONFIG, PEFT_WEIGHTS

__all__ = ["HubFile", "HubHeader", "fetch_file", "fetch_header"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIRST: Final = 1 << 18
"""Bytes of the first request; the header of a kohya file with 264 modules fits."""
_MAGIC: Final = 512
"""Bytes that tell what a file is that has no sound header."""


@dataclass(frozen=True)
class HubFile:
    """A whole file, in the Hub cache."""

    path: Path
    origin: str
    """`hf://namespace/name@commit/path`, harmless for display and good for another run."""


@dataclass(frozen=True)
class HubHeader:
    """The start of a file that was not downloaded, for `loraudit.lora.header.parse_header`."""

    path: str
    """Within the repository: of a stranger's choice, so `clean` it before display."""
    origin: str
    """As of `HubFile`."""
    commit: str
    """40 hex digits."""
    data: bytes
    """From the first byte to the end of the header; less if there is no sound header."""
    size_bytes: int
    """Of the whole file, as the Hub says."""
    sha256: str | None
    """Of the whole file, as the Hub says; None if the file is not in LFS."""


@dataclass(frozen=True)
class _Known:
    """What the Hub says of a file without sending it."""

    commit: str
    size_bytes: int
    sha256: str | None


def fetch_file(spec: HubSpec, offline: bool = False) -> HubFile:
    """The file, downloaded unless the cache has it, with the configuration beside it if it is a peft one.

    `offline`, or where the Hub cannot be reached, the cache alone is asked. Raises `LorauditError` if the
    file cannot be had, `NotScannable` if the repository holds no LoRA.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    offline = offline or is_offline_mode()
    with _plain_errors(spec, offline):
        spec = _with_path(spec, offline)
        # Asked first, since the client takes the server's word for a commit, and long to give up.
        cached = offline or _ask(spec) is None
        path = Path(hf_hub_download(spec.repo, spec.path, revision=spec.revision, local_files_only=cached))
        commit = path.parents[spec.path.count("/")].name
        if path.name == PEFT_WEIGHTS:
            config = str(PurePosixPath(spec.path).with_name(PEFT_CONFIG))
            # The reader says what its absence means.
            with suppress(LocalEntryNotFoundError if cached else RemoteEntryNotFoundError):
                hf_hub_download(spec.repo, config, revision=commit, local_files_only=cached)
    return HubFile(path, _origin(spec, commit))


def fetch_header(spec: HubSpec, offline: bool = False) -> HubHeader:
    """No more than the header: from the cache if the file is there, otherwise by requests for ranges.

    At most `MAX_HEADER_BYTES + 8` bytes are kept and reading stops there, whatever the server sends. Raises
    like `fetch_file`.
    """
    from huggingface_hub import hf_hub_url, is_offline_mode

    offline = offline or is_offline_mode()
    with _plain_errors(spec, offline):
        spec = _with_path(spec, offline)
        known = None if offline else _ask(spec)
        pinned = spec if known is None else replace(spec, revision=known.commit)
        cached = _from_cache(pinned)
        if cached is not None:
            return cached
        if known is None:
            raise _not_cached(spec) if offline else _explained(spec, None)
        data = _start(hf_hub_url(spec.repo, spec.path, revision=known.commit), known.size_bytes)
        origin = _origin(spec, known.commit)
        return HubHeader(spec.path, origin, known.commit, data, known.size_bytes, known.sha256)


def _ask(spec: HubSpec) -> _Known | None:
    """What the Hub says of a file; None if it cannot be reached."""
    import httpx2
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(spec.repo, spec.path, revision=spec.revision)
    try:
        known = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except httpx2.TransportError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None
    if known.commit_hash is None or not _COMMIT.fullmatch(known.commit_hash):
        raise _not_a_hub()
    if known.size is None or known.size < 0:
        raise _not_a_hub()
    return _Known(known.commit_hash, known.size, _sha256(known.etag or ""))


def _with_path(spec: HubSpec, offline: bool) -> HubSpec:
    """`spec` itself if it names a file, otherwise with the only one that its repository holds."""
    if spec.path:
        return spec
    names = _names(spec, offline)
    if "model_index.json" in names:
        raise NotScannable(f"{spec.repo} is a whole diffusion model, not a LoRA", "give a LoRA trained on it")
    files = sorted(name for name in names if name.lower().endswith(WEIGHTS))
    if len(files) > 1:
        listed = clean(", ".join(files), 300)
        raise LorauditError(
            f"{spec.repo} holds {len(files)} {WEIGHTS} files", f"name one, hf://{spec.repo}/PATH: {listed}"
        )
    if files:
        return replace(spec, path=sound_path(files[0]))
    if any(name.lower().endswith(PICKLES) for name in names):
        raise NotScannable(
            f"{spec.repo} holds pickle files and no {WEIGHTS} file",
            "loraudit never unpickles; ask for the .safetensors file",
        )
    raise NotScannable(f"{spec.repo} holds no LoRA file", f"give a repository with a {WEIGHTS} file")


def _names(spec: HubSpec, offline: bool) -> list[str]:
    """The paths of all files of the repository, or of those of it that the cache has."""
    import httpx2
    from huggingface_hub import HfApi, snapshot_download

    if not offline:
        with suppress(httpx2.TransportError):
            info = HfApi().model_info(spec.repo, revision=spec.revision)
            return [file.rfilename for file in info.siblings or ()]
    folder = Path(snapshot_download(spec.repo, revision=spec.revision, local_files_only=True))
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def _from_cache(spec: HubSpec) -> HubHeader | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.repo, spec.path, revision=spec.revision)
    if not isinstance(found, str):
        return None
    path = Path(found)
    size = path.stat().st_size
    with path.open("rb") as file:
        data = file.read(_wanted(b"", size))
        data += file.read(max(0, _wanted(data, size) - len(data)))
    commit = path.parents[spec.path.count("/")].name
    # The cache names what a link in it leads to by the Hub's own hash.
    sha256 = _sha256(path.resolve().name)
    return HubHeader(spec.path, _origin(spec, commit), commit, data[: _wanted(data, size)], size, sha256)


def _start(url: str, size: int) -> bytes:
    """The first bytes of the file at `url`, of `size` bytes, to the end of its header."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    data = bytearray()
    # Two, so that a server that answers a byte at a time gains nothing.
    for _ in range(2):
        begin, end = len(data), _wanted(data, size)
        if begin >= end:
            break
        # Compressed, few bytes could become many.
        headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        with get_session().stream(
            "GET",
            url,
            headers=build_hf_headers(headers=headers),
            follow_redirects=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        ) as response:
            hf_raise_for_status(response)
            if begin and not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                raise LorauditError("the Hub answers, but not with the bytes asked for", "try again later")
            for block in response.iter_raw():
                data += block
                if len(data) >= _wanted(data, size):
                    break
    return bytes(data[: _wanted(data, size)])


def _wanted(data: bytes | bytearray, size: int) -> int:
    """Bytes to read of a file of `size` bytes that begins with `data`."""
    if len(data) < 8:
        return min(size, _FIRST)
    length = int.from_bytes(data[:8], "little")
    return min(size, 8 + length if length <= MAX_HEADER_BYTES else _MAGIC)


def _sha256(name: str) -> str | None:
    return name if _SHA256.fullmatch(name) else None


def _origin(spec: HubSpec, commit: str) -> str:
    return clean(f"hf://{spec.repo}@{commit}/{spec.path}", 500)


def _not_a_hub() -> LorauditError:
    return LorauditError(
        "the server does not answer as the Hub does", "check HF_ENDPOINT, proxy and firewall"
    )


def _not_cached(spec: HubSpec) -> LorauditError:
    what = f"{spec.repo}/{spec.path}" if spec.path else spec.repo
    return LorauditError(
        f"{clean(what, 300)} is not in the Hub cache, and the network is off",
        "leave out --offline and HF_HUB_OFFLINE once, or give a local file",
    )


@contextmanager
def _plain_errors(spec: HubSpec, offline: bool) -> Iterator[None]:
    """What the Hub's client raises, in one line."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError
    from huggingface_hub.utils import logging

    # It warns of every try before it gives up, which then is one error of ours.
    logging.get_logger().setLevel("ERROR")
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise (_not_cached(spec) if offline else _explained(spec, error.__cause__)) from None
    except (HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _explained(spec, error) from None
    except (OSError, XetDownloadError) as error:
        if isinstance(error, OSError) and error.strerror is not None:
            raise
        raise LorauditError(f"the download from {spec.repo} did not come through", "try again") from None
    except (ValueError, KeyError, TypeError):
        raise _not_a_hub() from None


def _explained(spec: HubSpec, error: BaseException | None) -> LorauditError:
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return LorauditError(
                f"{spec.repo} is gated", "ask for access on its page, then set HF_TOKEN to a token of yours"
            )
        case RepositoryNotFoundError():
            return LorauditError(
                f"no such repository on the Hub, nor a local path: {spec.repo}",
                "check the name; a private repository needs HF_TOKEN",
            )
        case RevisionNotFoundError():
            return LorauditError(f"{spec.repo} has no revision {spec.revision}", "check the part after @")
        case RemoteEntryNotFoundError():
            return LorauditError(f"{spec.repo} has no file {clean(spec.path, 300)}", "check the path")
        case FileMetadataError():
            return _not_a_hub()
        case HfHubHTTPError() if error.response.status_code in {401, 403}:
            return LorauditError(f"the Hub refuses access to {spec.repo}", "check HF_TOKEN")
        case HfHubHTTPError():
            return LorauditError(
                f"the Hub answers with status {error.response.status_code} for {spec.repo}", "try again later"
            )
    return LorauditError(
        f"the Hub cannot be reached for {spec.repo}", "check the network; --offline uses the Hub cache alone"
    )
