"""Words of a target: the metadata of its files, read before the weights and without numpy."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loraudit.audit.request import Request
from loraudit.errors import LorauditError
from loraudit.findings.finding import Finding
from loraudit.findings.report import Gap, Target
from loraudit.lora.file.header import parse_header
from loraudit.lora.source.address import HubSpec, parse_spec
from loraudit.lora.source.source import Source, find_source
from loraudit.metadata import Exposure, header_exposure, read_exposure, traces
from loraudit.metadata.judge import judge_metadata
from loraudit.metadata.masking import secrets_in
from loraudit.metadata.stated import Stated, stated_base
from loraudit.metadata.unread import gaps
from loraudit.text import clean

__all__ = ["Words", "read_words", "without_collections"]


@dataclass(frozen=True)
class Words:
    """A target as far as its metadata."""

    source: Source
    target: Target
    findings: tuple[Finding, ...]
    triggers: tuple[str, ...]
    """Words that call up the subject, told beside the header."""
    gaps: tuple[Gap, ...] = ()
    """Parts of what lies beside the file that were not looked at."""
    secrets: tuple[str, ...] = ()
    """Secrets in and beside the file, which no report may quote."""
    stated: Stated | None = None
    """Base that the files name."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of weights on this machine."""
        return tuple(part.weights for part in self.source.parts)


@contextmanager
def without_collections() -> Iterator[None]:
    """Suspend garbage collection, which takes a quarter of the time of parsing thousands of objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_words(target: str | Source | LorauditError, request: Request) -> Words:
    """Read the metadata of a target. Raises `LorauditError` if that fails, or if `target` is an error."""
    if isinstance(target, LorauditError):
        raise target
    if isinstance(target, Source):
        return _read_local_words(target)
    # A file on the Hub whose weights are not asked for need not be downloaded.
    spec = parse_spec(target) if request.depth == "metadata" else None
    try:
        if spec is not None:
            return _read_hub_words(spec, request.offline)
        source = find_source(target, request.offline)
    except OSError as error:
        raise LorauditError(
            f"cannot read {clean(target, 300)}: {error.strerror}", "check its permissions"
        ) from None
    return _read_local_words(source)


def _read_local_words(source: Source) -> Words:
    exposure = read_exposure(source)
    target = Target(source.name, size_bytes=exposure.size_bytes, origin=source.origin)
    return _judged(source, target, exposure)


def _read_hub_words(spec: HubSpec, offline: bool) -> Words:
    from loraudit.lora.source.hub import fetch_header, fetch_side_files

    got = fetch_header(spec, offline)
    path = Path(got.path)
    header = parse_header(got.data, path, got.size_bytes)
    side_files = fetch_side_files(spec, got, offline)
    exposure = header_exposure(header, side_files)
    name = clean(path.name)
    target = Target(name, sha256=got.sha256, size_bytes=got.size_bytes, origin=got.origin)
    return _judged(Source(name, path, (), got.origin), target, exposure)


def _judged(source: Source, target: Target, exposure: Exposure) -> Words:
    findings = judge_metadata(traces(exposure))
    has_secrets = any(finding.id == "LA-SECRET-001" for finding in findings)
    secrets = secrets_in(exposure) if has_secrets else ()
    stated = stated_base(exposure)
    return Words(source, target, findings, exposure.triggers, gaps(exposure), secrets, stated)
