"""LoRAs on the Hugging Face Hub: the whole file, or no more of it than its header.

`huggingface_hub` does the talking, so `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and `HF_ENDPOINT` mean what
they mean everywhere; it is imported only once an address of the Hub is met. Names, revisions and answers that
come from the Hub are as hostile as the file.
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

__all__ = ["HubFile", "HubHeader", "fetch_file", "fetch_header", "fetch_side_files"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIRST: Final = 1 << 18
"""Bytes of the first request; the header of a kohya file with 264 modules fits."""
_README: Final = "README.md"
_SIDE_BYTES: Final = 1_000_000
"""Of a file beside a LoRA, at most."""
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
    """The start of a file that was not downloaded, for `loraudit.lora.file.header.parse_header`."""

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
    """The file, downloaded unless the cache has it, with its model card and peft's configuration.

    `offline`, or where the Hub cannot be reached, the cache alone is asked. Raises `LorauditError` if the
    file cannot be had, `NotScannable` if the repository holds no LoRA.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode
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
        if not cached:
            card = replace(spec, path=str(PurePosixPath(spec.path).with_name(_README)), revision=commit)
            with suppress(RemoteEntryNotFoundError):
                known = _ask(card)
                if known is not None and known.size_bytes <= _SIDE_BYTES:
                    hf_hub_download(card.repo, card.path, revision=commit)
    return HubFile(path, _origin(spec, commit))


def fetch_header(spec: HubSpec, offline: bool = False) -> HubHeader:
    """No more than the header: from the cache if the file is there, otherwise by requests for ranges.

    At most `MAX_HEADER_BYTES + 8` bytes are kept and reading stops there, whatever the server sends. Raises
    like `fetch_file`.
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
    """Text of the model card and the peft configuration beside a header, at most 1 MB each, by their path.

    From the cache, or, unless `offline`, from the Hub; nothing is written. Raises `LorauditError`.
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
        raise not_a_hub()
    if known.size is None or known.size < 0:
        raise not_a_hub()
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
    """`Content-Range` and body of what is at `url`, as it comes."""
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
    """Bytes to read of a file of `size` bytes that begins with `data`."""
    if len(data) < 8:
        return min(size, _FIRST)
    length = int.from_bytes(data[:8], "little")
    return min(size, 8 + length if length <= MAX_HEADER_BYTES else _MAGIC)


def _sha256(name: str) -> str | None:
    return name if _SHA256.fullmatch(name) else None


def _origin(spec: HubSpec, commit: str) -> str:
    return clean(f"hf://{spec.repo}@{commit}/{spec.path}", 500)
