"""Scan of targets: a report for each, even if a target cannot be scanned, or only in part.

    target --metadata--> findings --weights--> LoRA --attack--> more findings, scores

The findings in the metadata are part of every report, even if the weights cannot be attacked. Importing this
module loads neither numpy nor torch. A scan of the metadata needs neither, and an installation without them
can name the missing packages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from loraudit.audit.request import Request
from loraudit.audit.target import target_of, unread_gaps, update_of
from loraudit.audit.words import Words, read_words, without_collections
from loraudit.errors import INSTALL, Incomplete, LorauditError, NotScannable, missing
from loraudit.findings.conditions import Settings
from loraudit.findings.exits import Exit
from loraudit.findings.report import Gap, Made, Report, Target, gap, unscannable
from loraudit.lora.source.folder import members_of, pickles_in
from loraudit.lora.source.source import Source
from loraudit.text import clean
from loraudit.version import __version__

if TYPE_CHECKING:
    from loraudit.audit.auditor import Auditor
    from loraudit.lora import LoRA

__all__ = ["Scanned", "made_now", "read_weights", "scan"]

_T = TypeVar("_T")
_LAST_SECOND: Final = 253_402_300_799
"""End of the year 9999, in seconds since 1970."""


@dataclass(frozen=True)
class Scanned:
    """A target that is done."""

    report: Report
    error: LorauditError | None = None
    """Reason why the target could not be scanned at all; None: it was."""
    files: tuple[Path, ...] = ()
    """Files of weights on this machine; empty for a file on the Hub of which only the header was read."""


def scan(
    targets: Sequence[str],
    request: Request,
    say: Callable[[str], None] = lambda _line: None,
    on_step: Callable[[int, int, str], None] = lambda _done, _total, _stage: None,
) -> list[Scanned]:
    """Audit every target, in order, and every LoRA in those that are folders.

    `say` receives lines on what is going on. `on_step` receives the number of pictures of one LoRA that are
    done, their total and the name of what runs. At depths without pictures the numbers are those of LoRAs.

    Raises `LorauditError` if the request itself cannot be met. Reasons are a missing base, encoder, device,
    reference photo or single target, and a folder for pictures that is not empty. Raises `LorauditError` also
    if `SOURCE_DATE_EPOCH` is set and no number of seconds.
    """
    _given_time()
    made: list[Made] = []
    auditor: Auditor | None = None
    done: list[Scanned] = []
    found: list[str | Source | LorauditError] = []
    items = [item for target in targets for item in _items(target, len(targets) > 1, say)]
    digits = max(2, len(str(len(items))))
    for number, (shown, target) in enumerate(_timed(items, made), 1):
        if len(items) > 1 and request.depth != "attack":
            on_step(number, len(items), "reading")
        name, words = Target(shown), None
        found.append(target)
        try:
            with without_collections():
                words = read_words(target, request)
            found[-1] = words.source
            if request.depth == "metadata":
                done.append(_words_only(words))
                continue
            lora = read_weights(words)
        except LorauditError as error:
            if len(items) == 1 and error.exit_code == Exit.ERROR:
                raise
            done.append(_failed(words, name, error))
            continue
        if request.depth == "weights":
            done.append(_unattacked(lora, words, request.depth, unread_gaps(lora)))
            continue
        if lacking := missing():
            why = Gap("any attack", f"{lacking[0]} is not installed; {INSTALL}")
            done.append(_unattacked(lora, words, request.depth, [why]))
            continue
        if auditor is None:
            from loraudit.audit.auditor import Auditor

            auditor = Auditor(request, say, on_step)
        try:
            within = f"{number:0{digits}d}" if len(items) > 1 else None
            report = auditor.audit(lora, within)
            report = replace(report, findings=(*report.findings, *words.findings))
            done.append(Scanned(report, files=words.files))
        except NotScannable as error:
            done.append(_failed(words, name, error))
        except Incomplete as error:
            why = gap("any attack", error)
            done.append(_unattacked(lora, words, request.depth, [why]))
    return [
        replace(
            one,
            report=replace(one.report, target=replace(one.report.target, path=_below_here(where)), made=when),
        )
        for one, where, when in zip(done, found, made, strict=True)
    ]


def made_now(started: float) -> Made:
    """Return the time of a scan that began at `started`, by `time.perf_counter()`, and ends now.

    Where `SOURCE_DATE_EPOCH` is set, that is the date, without a duration: equal input gives equal bytes.
    Raises `LorauditError` if the variable is no number of seconds.
    """
    given = _given_time()
    seconds = round(time.perf_counter() - started, 1)
    began = time.gmtime(time.time() - seconds if given is None else given)
    return Made(time.strftime("%Y-%m-%dT%H:%M:%SZ", began), seconds if given is None else None)


def _given_time() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LAST_SECOND):
        raise LorauditError(
            "SOURCE_DATE_EPOCH is no number of seconds since 1970", "unset it, or set it to a whole number"
        )
    return int(text)


def _timed(items: Iterable[_T], made: list[Made]) -> Iterator[_T]:
    """Yield the items; the time of each is appended to `made` once the next item is asked for."""
    for item in items:
        started = time.perf_counter()
        yield item
        made.append(made_now(started))


def _items(
    target: str, qualified: bool, say: Callable[[str], None]
) -> list[tuple[str, str | Source | LorauditError]]:
    """Return names and targets that `target` stands for: itself, or the LoRAs in a folder.

    With `qualified`, the names of LoRAs in a folder begin with the name of the folder.
    """
    path = Path(target)
    name = clean(path.name or target)
    if not path.is_dir():
        return [(name, target)]
    members = members_of(path)
    if not members or (
        len(members) == 1 and isinstance(members[0][1], Source) and members[0][1].path == path
    ):
        return [(name, target)]
    if pickles := pickles_in(path):
        say(f"{name}: {pickles} pickle files were not opened")
    return [
        (shown, replace(found, name=shown) if isinstance(found, Source) else found)
        for shown, found in ((f"{name}/{inner}" if qualified else inner, found) for inner, found in members)
    ]


def read_weights(words: Words) -> LoRA:
    """Read the matrices of a target; trigger words told beside the file go along, for the attack by them.

    Raises `LorauditError` if the weights cannot be read or are not those of a LoRA.
    """
    from loraudit.lora import load_lora

    lora = load_lora(words.source)
    return replace(lora, file=replace(lora.file, triggers=words.triggers))


def _below_here(found: str | Source | LorauditError) -> str | None:
    """Return the path of a file below the working folder; None for files elsewhere or on the Hub."""
    if isinstance(found, LorauditError) or (isinstance(found, Source) and found.origin is not None):
        return None
    path = Path(found) if isinstance(found, str) else found.path
    if isinstance(found, Source) and len(found.parts) == 1:
        path = found.parts[0].weights
    try:
        below = Path(os.path.normpath(path.absolute())).relative_to(Path.cwd())
    except ValueError:
        return None
    return clean(below.as_posix(), 500) if path.exists() else None


def _failed(words: Words | None, name: Target, error: LorauditError) -> Scanned:
    """Return the report of a target that was not attacked at all; findings in the metadata still count."""
    why, failed = gap("target", error).why, error.exit_code == Exit.ERROR
    if words is None:
        return Scanned(unscannable(__version__, name, why, failed=failed), error)
    return Scanned(unscannable(__version__, words.target, why, words.findings, failed), error, words.files)


def _words_only(words: Words) -> Scanned:
    report = Report(__version__, words.target, words.findings, settings=Settings(depth="metadata"))
    return Scanned(report, files=words.files)


def _unattacked(lora: LoRA, words: Words, depth: str, gaps: Sequence[Gap]) -> Scanned:
    """Return the report of a LoRA that was read but not attacked, on request or for the reasons in `gaps`."""
    report = Report(
        __version__,
        target_of(lora),
        words.findings,
        settings=Settings(depth=depth),
        incomplete=tuple(gaps),
        update=update_of(lora),
    )
    return Scanned(report, files=words.files)
