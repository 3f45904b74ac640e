"""LoRAs on the Hugging Face Hub: the whole file, or its header alone.

`huggingface_hub` does the talking, so `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and `HF_ENDPOINT` mean what
they mean everywhere. The import waits for an address of the Hub. Names, revisions and answers of the Hub are
as hostile as the file.

The ranges of a header are requested here and not through `HfFileSystem`. Before the first byte
`HfFileSystem` asks for the repository and for a listing of its folder. No commit and no hash come back. If a
server ignores `Range`, all that it sends is read: 67 MB for a header of 300 kB, where this module reads
300 kB.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.file.header import MAX_HEADER_BYTES
from loraudit.lora.source.address import PEFT_CONFIG, PEFT_WEIGHTS, PICKLES, WEIGHTS, HubSpec, sound_path
from loraudit.lora.source.hub_errors import explained, not_a_hub, not_cached, plain_errors
from loraudit.text import clean

__all__ = ["HubFile", "HubHeader", "cached_sha256", "fetch_file", "fetch_header", "fetch_side_files"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIRST: Final = 1 << 18
"""Size of the first request in bytes; the header of a kohya file with 264 modules fits."""
_README: Final = "README.md"
_SIDE_BYTES: Final = 1_000_000
"""Limit in bytes on a file beside a LoRA."""
_MAGIC: Final = 512
"""Bytes to read of a file without a sound header; they tell what it is."""


@dataclass(frozen=True)
class HubFile:
    """Whole file in the Hub cache."""

    path: Path
    origin: str
    """Address `hf://namespace/name@commit/path`, escaped for display and valid as a target."""


@dataclass(frozen=True)
class HubHeader:
    """Start of a file that was not downloaded, for `loraudit.lora.file.header.parse_header`."""

    path: str
    """Path within the repository, as a stranger chose it: `clean` it before display."""
    origin: str
    """Address `hf://namespace/name@commit/path`, escaped for display and valid as a target."""
    commit: str
    """Commit of the file, 40 hex digits."""
    data: bytes
    """Bytes from the first to the end of the header; fewer if there is no sound header."""
    size_bytes: int
    """Size of the whole file, as the Hub says."""
    sha256: str | None
    """Hash of the whole file in hex, as the Hub says; None if the file is not in LFS."""


@dataclass(frozen=True)
class _Known:
    """Facts about a file that the Hub tells without sending it."""

    commit: str
    size_bytes: int
    sha256: str | None


def fetch_file(spec: HubSpec, offline: bool = False) -> HubFile:
    """Fetch the file, its model card and its peft configuration, each unless the cache has it.

    Only the cache is asked if `offline` is set or the Hub cannot be reached. Raises `LorauditError` if the
    file cannot be had, `NotScannable` if the repository holds no LoRA.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    offline = offline or is_offline_mode()
    with plain_errors(spec, offline):
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
        card = replace(spec, path=str(PurePosixPath(spec.path).with_name(_README)), revision=commit)
        if not cached and try_to_load_from_cache(card.repo, card.path, revision=commit) is None:
            with suppress(RemoteEntryNotFoundError):
                known = _ask(card)
                if known is not None and known.size_bytes <= _SIDE_BYTES:
                    hf_hub_download(card.repo, card.path, revision=commit)
    return HubFile(path, _origin(spec, commit))


def fetch_header(spec: HubSpec, offline: bool = False) -> HubHeader:
    """Fetch the header alone: from the cache if the file is there, otherwise by requests for ranges.

    Reading stops after at most `MAX_HEADER_BYTES + 8` bytes, whatever the server sends. Raises like
    `fetch_file`.
    """
    from huggingface_hub import hf_hub_url, is_offline_mode

    offline = offline or is_offline_mode()
    with plain_errors(spec, offline):
        spec = _with_path(spec, offline)
        known = None if offline else _ask(spec)
        pinned = spec if known is None else replace(spec, revision=known.commit)
        cached = _from_cache(pinned)
        if cached is not None:
            return cached
        if known is None:
            raise not_cached(spec) if offline else explained(spec, None)
        data = _start(hf_hub_url(spec.repo, spec.path, revision=known.commit), known.size_bytes)
        origin = _origin(spec, known.commit)
        return HubHeader(spec.path, origin, known.commit, data, known.size_bytes, known.sha256)


def fetch_side_files(spec: HubSpec, header: HubHeader, offline: bool = False) -> Mapping[str, str]:
    """Read the model card and the peft configuration beside a header: path -> text, at most 1 MB each.

    A file that the cache lacks is read from the Hub, unless `offline`. The cache is not written. Raises
    `LorauditError`.
    """
    from huggingface_hub import hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    offline = offline or is_offline_mode()
    texts = {}
    for name in (_README, PEFT_CONFIG):
        path = str(PurePosixPath(header.path).with_name(name))
        with plain_errors(replace(spec, path=path), offline), suppress(RemoteEntryNotFoundError):
            found = try_to_load_from_cache(spec.repo, path, revision=header.commit)
            if isinstance(found, str):
                with Path(found).open("rb") as file:
                    texts[path] = file.read(_SIDE_BYTES).decode("utf-8", "replace")
            elif found is None and not offline:
                data = bytearray()
                with _blocks(hf_hub_url(spec.repo, path, revision=header.commit)) as (_, blocks):
                    for block in blocks:
                        data += block
                        if len(data) >= _SIDE_BYTES:
                            break
                texts[path] = data[:_SIDE_BYTES].decode("utf-8", "replace")
    return texts


def cached_sha256(path: Path) -> str | None:
    """Tell the SHA-256 in hex that the Hub gives for a file in its cache, or None if it gives none."""
    # The link leads to a file named by the hash. That may be a link too, to a name that is no SHA-256: files
    # from Xet are kept once for all repositories, each under its Xet hash.
    return _sha256(path.readlink().name) if path.is_symlink() else None


def _ask(spec: HubSpec) -> _Known | None:
    """Ask the Hub about a file; None if it cannot be reached."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    url = hf_hub_url(spec.repo, spec.path, revision=spec.revision)
    try:
        known = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except httpx.TransportError:
        return None
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None
    if known.commit_hash is None or not _COMMIT.fullmatch(known.commit_hash):
        raise not_a_hub()
    if known.size is None or known.size < 0:
        raise not_a_hub()
    return _Known(known.commit_hash, known.size, _sha256(known.etag or ""))


def _with_path(spec: HubSpec, offline: bool) -> HubSpec:
    """Add to a `spec` without a path the only LoRA file of its repository."""
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
    """List the paths of all files of the repository, or of those in the cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    if not offline:
        with suppress(httpx.TransportError):
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
    data = data[: _wanted(data, size)]
    return HubHeader(spec.path, _origin(spec, commit), commit, data, size, cached_sha256(path))


def _start(url: str, size: int) -> bytes:
    """Read the file of `size` bytes at `url` from its first byte to the end of its header."""
    data = bytearray()
    # Two, so that a server that answers a byte at a time gains nothing.
    for _ in range(2):
        begin, end = len(data), _wanted(data, size)
        if begin >= end:
            break
        with _blocks(url, {"Range": f"bytes={begin}-{end - 1}"}) as (content_range, blocks):
            if begin and not content_range.startswith(f"bytes {begin}-"):
                raise LorauditError("the Hub answers, but not with the bytes asked for", "try again later")
            for block in blocks:
                data += block
                if len(data) >= _wanted(data, size):
                    break
    return bytes(data[: _wanted(data, size)])


@contextmanager
def _blocks(url: str, headers: Mapping[str, str] | None = None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Open `url`: its `Content-Range` and its body, block by block as it comes."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # Compressed, few bytes could become many.
    headers = {"Accept-Encoding": "identity", **(headers or {})}
    with get_session().stream(
        "GET",
        url,
        headers=build_hf_headers(headers=headers),
        follow_redirects=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    ) as response:
        hf_raise_for_status(response)
        yield response.headers.get("Content-Range", ""), response.iter_raw()


def _wanted(data: bytes | bytearray, size: int) -> int:
    """Count the bytes to read of a file of `size` bytes that begins with `data`."""
    if len(data) < 8:
        return min(size, _FIRST)
    length = int.from_bytes(data[:8], "little")
    return min(size, 8 + length if length <= MAX_HEADER_BYTES else _MAGIC)


def _sha256(name: str) -> str | None:
    return name if _SHA256.fullmatch(name) else None


def _origin(spec: HubSpec, commit: str) -> str:
    return clean(f"hf://{spec.repo}@{commit}/{spec.path}", 500)
