"""Scrubbed copies of safetensors files: nothing but what loaders need, and the tensors' bytes as they are.

The header is written anew. Metadata pass the allow-list of `allowed`. Tensors keep their three fields, in the
order of their bytes. Equal keys, extra fields and padding are therefore gone without a rule of their own. The
name of an adapter, which peft puts into the name of every tensor, becomes `default`.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError, NotScannable
from loraudit.files import read_within, write_atomic
from loraudit.findings.finding import Finding
from loraudit.hiding import is_public, mask, named
from loraudit.lora.file.header import Header, read_header
from loraudit.lora.layouts.adapter_names import adapter_names, without_adapter_names
from loraudit.lora.source.source import Part, Source
from loraudit.metadata.allowed import KEPT_KEYS, allowed_metadata
from loraudit.metadata.beside import CONFIG_BYTES
from loraudit.metadata.configuration import allowed_config, loses_scale
from loraudit.metadata.exposure import header_exposure, read_exposure
from loraudit.metadata.judge import judge_metadata
from loraudit.metadata.keys import is_known_key
from loraudit.metadata.masking import secrets_in
from loraudit.metadata.rules import traces
from loraudit.text import clean

__all__ = ["KEPT_KEYS", "Removed", "Scrubbed", "allowed_metadata", "scrub"]

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Removed:
    """Text of the old header that is not in the new one."""

    key: str
    """Metadata key, tensor or adapter, escaped and without secrets; private, so messages take `told`."""
    characters: int
    """Length of the removed text in characters."""
    in_part: bool = False
    """True if the key is still there, with less in it."""
    kind: str = ""
    """Kind of a text that is no metadata, in words of ours."""

    def told(self, reveal: bool) -> str:
        """Return kind and key; a key that is somebody's own is hidden unless `reveal`."""
        if reveal:
            return f"{self.kind} {self.key}".strip()
        if self.kind:
            return f"{self.kind} {named(self.key)}".strip()
        return self.key if is_known_key(self.key) else "a key of its own"


@dataclass(frozen=True)
class Scrubbed:
    """Result of `scrub`."""

    kept: tuple[str, ...]
    """Metadata keys, sorted."""
    removed: tuple[Removed, ...]
    tensors: int
    """Number of tensors."""
    tensor_bytes: int
    tensor_sha256: str
    """SHA-256 in hex of the tensors' bytes, one after another: the same in both files."""
    left: tuple[Finding, ...] = ()
    """Findings of the new file."""
    odd_names: int = 0
    """Number of tensors whose names hold other words than those of networks and layouts."""
    scale_lost: bool = False
    """True if the file said something of its scale that is no ordinary number or name, and was dropped."""


def scrub(
    path: Path, output: Path | None, *, provenance: bool = False, config: Path | None = None
) -> Scrubbed:
    """Write the file at `path` to the new file `output`, with nothing in the header but what loaders need.

    Without `output` nothing is written. With `provenance`, hashes, base model and licence stay. `config` is
    peft's configuration, which is written beside `output`. The tensors are copied in blocks, so memory does
    not grow with the file.

    Raises `LorauditError` if a file cannot be read or written or `output` is there already, `NotScannable` if
    `path` is no sound safetensors file. Nothing is left behind then.
    """
    header = read_header(path)
    if output is not None:
        _check(path, output)
    metadata = allowed_metadata(header.metadata, provenance)
    names = without_adapter_names(header.tensors)
    digest = hashlib.sha256()
    blocks = _blocks(header, metadata, names, digest)
    said, rebuilt = ("", None) if config is None else _rebuilt(config, provenance)
    if output is None:
        for _ in blocks:
            pass
    else:
        write_atomic(output, blocks)
        if config is not None and rebuilt is not None:
            write_atomic(output.with_name(config.name), rebuilt.encode())
    known = secrets_in(header_exposure(header))
    removed = [*_removed(header, metadata, known), *_removed_names(header, known)]
    if config is not None and rebuilt != said:
        removed.append(Removed("", len(said), rebuilt is not None, config.name))
    adapter = "lora_adapter_metadata"
    return Scrubbed(
        kept=tuple(sorted(metadata)),
        removed=tuple(removed),
        tensors=len(header.tensors),
        tensor_bytes=sum(info.size for info in header.tensors.values()),
        tensor_sha256=digest.hexdigest(),
        left=_left(header, metadata, names, output, config if rebuilt is not None else None),
        odd_names=sum(not is_public(name) for name in names.values()),
        scale_lost=loses_scale(header.metadata.get(adapter, ""), metadata.get(adapter, ""))
        or (config is not None and loses_scale(said, rebuilt or "")),
    )


def _check(path: Path, output: Path) -> None:
    if output.exists() and output.samefile(path):
        raise LorauditError(
            "the output is the input, and the input stays as it is", "choose another path with -o"
        )
    if os.path.lexists(output):
        raise LorauditError(
            f"{clean(str(output), 300)} exists already", "remove it, or choose another path with -o"
        )


def _rebuilt(config: Path, provenance: bool) -> tuple[str, str | None]:
    """Read peft's configuration, and rebuild what may stay of it. Raises `LorauditError`."""
    try:
        text = read_within(config, CONFIG_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise LorauditError(f"cannot read {config.name}: {error.strerror}", "check its permissions") from None
    return text, allowed_config(text, provenance)


def _left(
    header: Header,
    metadata: Mapping[str, str],
    names: Mapping[str, str],
    output: Path | None,
    config: Path | None,
) -> tuple[Finding, ...]:
    """Judge the new file: as it lies there, or as it would."""
    if output is None:
        tensors = {names[key]: info for key, info in header.tensors.items()}
        told = header_exposure(Header(header.path, tensors, metadata, header.size_bytes))
    else:
        beside = None if config is None else output.with_name(config.name)
        told = read_exposure(Source(clean(output.name), output, (Part(output, beside),)))
    if config is not None:
        # A scan knows a folder with an adapter by the folder's name.
        told = replace(told, names=(*told.names, (output or header.path).absolute().parent.name))
    return judge_metadata(traces(told))


def _blocks(
    header: Header, metadata: Mapping[str, str], names: Mapping[str, str], digest: "hashlib._Hash"
) -> Iterator[bytes]:
    table: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for key, info in sorted(header.tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        shape = list(info.shape)
        table[names[key]] = {"dtype": info.dtype, "shape": shape, "data_offsets": [end, end + info.size]}
        end += info.size
    text = json.dumps(table, separators=(",", ":")).encode()
    # Spaces up to a multiple of 8 align the buffer, as the reference writer does.
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    with header.path.open("rb") as file:
        file.seek(header.size_bytes - end)
        while end:
            block = file.read(min(_BLOCK, end))
            if not block:
                raise NotScannable(f"{clean(header.path.name)} shrank while it was read", "try again")
            digest.update(block)
            end -= len(block)
            yield block


def _removed(header: Header, metadata: Mapping[str, str], known: Collection[str]) -> Iterator[Removed]:
    for key, text in sorted(header.metadata.items()):
        if metadata.get(key) != text:
            # A known key stays what it is where a secret is called so.
            shown = key if is_known_key(key) else mask(key, known)
            yield Removed(clean(shown), len(text), key in metadata)
    for item in header.hidden:
        yield Removed(clean(mask(item.key, known)), len(item.text), kind=f"(hidden) {item.kind}")


def _removed_names(header: Header, known: Collection[str]) -> Iterator[Removed]:
    for name in adapter_names(header.tensors):
        yield Removed(clean(mask(name, known)), len(name), kind="(tensor names) name of an adapter")
