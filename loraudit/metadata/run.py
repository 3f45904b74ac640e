"""Traces of the training run in the metadata: ties between files, the time zone, the number of pictures."""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from loraudit.findings.finding import Severity
from loraudit.metadata.judge import Trace
from loraudit.metadata.nested import NotReadError, members, read
from loraudit.metadata.quotes import EMPTY, quote

__all__ = ["run_traces", "utc_offset"]

_LINKS: Final = (
    "ss_session_id", "ss_seed", "ss_training_started_at", "ss_training_finished_at", "sshs_model_hash",
    "sshs_legacy_hash", "modelspec.hash_sha256", "modelspec.date",
)  # fmt: skip
"""Keys that are unique to a run, its moment or its result. Hashes of the public base model and of the
trainer's code do not count: thousands of files share them."""
_LAST_SECOND: Final = 4_000_000_000
_QUARTER: Final = timedelta(minutes=15)
"""Unit of time zones: each is a multiple away from UTC."""


def run_traces(metadata: Mapping[str, object]) -> Iterator[Trace]:
    """Yield the traces in the metadata that describe the training run; a value is a text or parsed JSON."""
    for key in _LINKS:
        text = _text(metadata.get(key))
        if text not in EMPTY:
            yield Trace("LA-LINK-001", Severity.LOW, key, quote(text))
    offset = utc_offset(_text(metadata.get("modelspec.date")), _text(metadata.get("ss_training_finished_at")))
    if offset:
        yield Trace("LA-LINK-002", Severity.LOW, "modelspec.date", f"UTC{_signed(offset)}")
    yield from _dataset(metadata)


def utc_offset(date: str, finished_at: str) -> timedelta | None:
    """Tell how far the local time `date` is from UTC, if the Unix time `finished_at` is of the same moment.

    None if the moments differ, or either is not a time. The trainer kohya takes both in the same second. A
    date with a zone of its own needs no second time.
    """
    try:
        local = datetime.fromisoformat(date[:40])
        if local.utcoffset() is not None:
            return local.utcoffset()
        seconds = float(finished_at[:40])
    except ValueError:
        return None
    if "T" not in date and " " not in date:
        return None  # a day without a time
    if not math.isfinite(seconds) or not 0 < seconds < _LAST_SECOND:
        return None
    try:
        difference = local.replace(tzinfo=UTC) - datetime.fromtimestamp(seconds, UTC)
    except OverflowError:
        return None
    offset = round(difference / _QUARTER) * _QUARTER
    plausible = abs(difference - offset) < timedelta(minutes=2)
    return offset if plausible and timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def _signed(offset: timedelta) -> str:
    minutes = abs(round(offset.total_seconds() / 60))
    return f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _dataset(metadata: Mapping[str, object]) -> Iterator[Trace]:
    """Count pictures by folder: kohya's `ss_num_train_images` counts each as often as it is repeated."""
    images = repeats = 0
    folders = metadata.get("ss_dataset_dirs")
    if isinstance(folders, str):
        try:
            folders = read(folders)
        except NotReadError:
            folders = None
    for _, folder in members(folders):
        told = dict(members(folder))
        images += _count(told.get("img_count"))
        repeats = max(repeats, _count(told.get("n_repeats")))
    place = "ss_dataset_dirs"
    if not images:
        images, place = _count(metadata.get("ss_num_train_images")), "ss_num_train_images"
    if images:
        told_numbers = {"images": images, "repeats": repeats, "epochs": _count(metadata.get("ss_num_epochs"))}
        numbers = {name: count for name, count in told_numbers.items() if count}
        yield Trace("LA-DATASET-001", Severity.LOW, place, numbers=numbers)


def _count(value: object) -> int:
    """Read `value` as a number of things; 0 if it is no such number."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if type(value) is int and 0 <= value < 10**9 else 0
