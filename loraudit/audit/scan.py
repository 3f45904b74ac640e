"""Scan of targets: a report for each, even if a target cannot be scanned, or only in part.

    target --metadata--> findings --weights--> LoRA --attack--> more findings, scores

The findings in the metadata are part of every report, even if the weights cannot be attacked. Importing this
module loads neither numpy nor torch. A scan of the metadata needs neither, and an installation without them
can name the missing packages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loraudit.audit.clock import given_time, made_now
from loraudit.audit.exclude import is_excluded
from loraudit.audit.request import Request
from loraudit.audit.target import target_of, unread_gaps, update_of
from loraudit.audit.words import Words, read_words, without_collections
from loraudit.base.limits import ATTACKS, READING, require_left
from loraudit.errors import INSTALL, LorauditError, NotScannable, RequestError, missing
from loraudit.findings.conditions import Settings
from loraudit.findings.exits import Exit
from loraudit.findings.failures import reported
from loraudit.findings.report import Gap, Report, Target, gap, unscannable
from loraudit.lora.source.folder import members_of, pickles_in, with_pickles
from loraudit.lora.source.source import Source
from loraudit.runs import OnStep, unheard
from loraudit.text import clean
from loraudit.version import __version__

if TYPE_CHECKING:
    from loraudit.audit.auditor import Auditor
    from loraudit.lora import LoRA

__all__ = ["Scanned", "items_of", "read_weights", "scan"]


@dataclass(frozen=True)
class Scanned:
    """A target that is done."""

    report: Report
    error: LorauditError | None = None
    """Error that kept the target from being scanned, or broke its attack off; None: there was none."""
    files: tuple[Path, ...] = ()
    """Files of weights on this machine; empty for a file on the Hub of which only the header was read."""


def scan(
    targets: Sequence[str],
    request: Request,
    say: Callable[[str], None] = lambda _line: None,
    on_step: OnStep = unheard,
) -> list[Scanned]:
    """Audit every target, in order, and every LoRA in those that are folders.

    `say` receives lines on what is going on. `on_step` receives the number of pictures of one LoRA that are
    done, their total and the name of what runs. At depths without pictures the numbers are those of LoRAs.

    No target costs another its report: an error or a bug that one meets is told in the report of that one.

    Raises `RequestError` if the request itself cannot be met. Reasons are the name of a base or an encoder
    that does not exist, a missing device, reference photos that cannot be read, and a folder for pictures
    that is not empty. Raises `LorauditError` if the only target is not there, or if `SOURCE_DATE_EPOCH` is
    set and no number of seconds.
    """
    given_time()
    several = len(targets) > 1
    items = [item for target in targets for item in items_of(target, several, request.exclude, say)]
    if request.exclude and not items:
        raise NotScannable("--exclude leaves nothing to scan", "exclude less, or name other targets")
    scanner = _Scanner(request, len(items), say, on_step)
    return [scanner.scan_one(number, *item) for number, item in enumerate(items, 1)]


class _Scanner:
    """A scan under way: what was asked for, and the auditor once a LoRA needs it."""

    def __init__(
        self,
        request: Request,
        total: int,
        say: Callable[[str], None],
        on_step: OnStep,
    ) -> None:
        self._request, self._total, self._say, self._on_step = request, total, say, on_step
        self._auditor: Auditor | None = None

    def scan_one(self, number: int, name: str, target: str | Source | LorauditError) -> Scanned:
        """Scan the target `number`, shown as `name`.

        Raises `LorauditError` if it is alone and not there, `RequestError` if the request cannot be met.
        """
        started, words = time.perf_counter(), None
        if self._total > 1 and self._request.depth != "attack":
            self._on_step(number, self._total, "reading")
        try:
            with without_collections():
                words = read_words(target, self._request)
            done = _with_gaps(self._look(words, number), words)
        except RequestError:
            raise
        except Exception as error:
            told = reported(error)
            if words is None and self._total == 1 and told.exit_code == Exit.ERROR:
                raise
            done = _failed(words, Target(name), told)
        place = target if words is None else words.source
        shown, settings = replace(done.report.target, path=_below_here(place)), done.report.settings
        if not self._request.pictures:
            settings = replace(settings, pictures=False)
        report = replace(done.report, target=shown, settings=settings, made=made_now(started))
        return replace(done, report=report)

    def _look(self, words: Words, number: int) -> Scanned:
        """Look as deep as was asked. Raises `LorauditError` if the weights are not those of a LoRA."""
        depth = self._request.depth
        if depth == "metadata":
            return _words_only(words)
        lora = read_weights(words)
        if depth == "weights" or not (self._request.pictures or self._request.reference):
            # Without pictures only the photos have a question for the base.
            return _unattacked(lora, words, "weights", unread_gaps(lora))
        if lacking := missing():
            why = Gap("the attack", f"{lacking[0]} is not installed; {INSTALL}")
            return _unattacked(lora, words, depth, [why, *unread_gaps(lora)])
        try:
            report = self._attack(lora, number, words)
        except RequestError:
            raise
        except Exception as error:
            told = reported(error)
            return _unattacked(lora, words, depth, [gap("the attack", told), *unread_gaps(lora)], told)
        return Scanned(replace(report, findings=(*report.findings, *words.findings)), files=words.files)

    def _attack(self, lora: LoRA, number: int, words: Words) -> Report:
        if "torch" not in sys.modules:
            require_left(ATTACKS, "an attack")
        from loraudit.audit.auditor import Auditor
        from loraudit.audit.made_on import compare
        from loraudit.base.source import find_base

        if self._auditor is None:
            try:
                self._auditor = Auditor(self._request, self._say, self._on_step)
            except LorauditError as error:
                raise RequestError(str(error), error.hint) from None
        digits = max(2, len(str(self._total)))
        report = self._auditor.audit(lora, f"{number:0{digits}d}" if self._total > 1 else None)
        used = self._request.base or lora.base
        made_on = None if used is None else compare(words.stated, find_base(used), words.secrets)
        return replace(report, settings=replace(report.settings, stated_base=made_on))


def items_of(
    target: str, qualified: bool, exclude: Sequence[str], say: Callable[[str], None]
) -> list[tuple[str, str | Source | LorauditError]]:
    """Return names and targets that `target` stands for: itself, or the LoRAs in a folder.

    With `qualified`, the names of LoRAs in a folder begin with the name of the folder. Files that match
    `exclude` are left out.
    """
    path = Path(target)
    name = clean(path.name or target)
    if exclude and is_excluded(exclude, path.name or target, *_places(path)):
        say(f"{name}: excluded")
        return []
    try:
        if not path.is_dir():
            return [(name, target)]
    except OSError as error:
        return [(name, reported(error))]
    members = members_of(path)
    if not members:
        return [(name, target)]
    if exclude:
        every = len(members)
        members = [one for one in members if not is_excluded(exclude, one[0], *_places(_place(path, *one)))]
        if every > len(members):
            say(f"{name}: {every - len(members)} of {every} targets excluded")
    pickles = [
        pickle
        for pickle in pickles_in(path)
        if not (exclude and is_excluded(exclude, pickle.relative_to(path), *_places(pickle)))
    ]
    if pickles:
        files = "1 pickle file was" if len(pickles) == 1 else f"{len(pickles)} pickle files were"
        say(f"{name}: {files} not opened")
        members = with_pickles(path, members, pickles)
    return [
        (shown, replace(found, name=shown) if isinstance(found, Source) else found)
        for shown, found in ((f"{name}/{inner}" if qualified else inner, found) for inner, found in members)
    ]


def _place(folder: Path, name: str, found: Source | LorauditError) -> Path:
    """Return the path of a member of `folder`."""
    if isinstance(found, LorauditError):
        return folder / name
    return found.parts[0].weights if len(found.parts) == 1 else found.path


def _places(path: Path) -> list[str]:
    """Return `path` as it is, and as seen from the working folder if it is there."""
    below = _below(path)
    return [str(path.absolute()), *([] if below is None else [below.as_posix()])]


def _below(path: Path) -> Path | None:
    """Return `path` relative to the working folder; None if it is elsewhere."""
    try:
        return Path(os.path.normpath(path.absolute())).relative_to(Path.cwd())
    except ValueError:
        return None


def read_weights(words: Words) -> LoRA:
    """Read the matrices of a target; its trigger words and secrets go along, for the attack by words.

    Raises `LorauditError` if the weights cannot be read or are not those of a LoRA.
    """
    if "numpy" not in sys.modules:
        require_left(READING, "reading weights")
    from loraudit.lora import load_lora

    lora = load_lora(words.source)
    return replace(lora, file=replace(lora.file, triggers=words.triggers, secrets=words.secrets))


def _below_here(found: str | Source | LorauditError) -> str | None:
    """Return the path of a file below the working folder; None for files elsewhere or on the Hub."""
    if isinstance(found, LorauditError) or (isinstance(found, Source) and found.origin is not None):
        return None
    path = Path(found) if isinstance(found, str) else found.path
    if isinstance(found, Source) and len(found.parts) == 1:
        path = found.parts[0].weights
    try:
        below = _below(path)
        return clean(below.as_posix(), 500) if below is not None and path.exists() else None
    except OSError:
        return None


def _failed(words: Words | None, name: Target, error: LorauditError) -> Scanned:
    """Return the report of a target that was not attacked at all; findings in the metadata still count."""
    why, failed = gap("target", error).why, error.exit_code == Exit.ERROR
    if words is None:
        return Scanned(unscannable(__version__, name, why, failed=failed), error)
    if error.exit_code == Exit.INCOMPLETE:
        # The file may be sound: it was this machine that got no further than its metadata.
        gaps = (gap("the weights", error),)
        return Scanned(replace(_words_only(words).report, incomplete=gaps), files=words.files)
    return Scanned(unscannable(__version__, words.target, why, words.findings, failed), error, words.files)


def _with_gaps(done: Scanned, words: Words) -> Scanned:
    """Say in a report what lies beside the file and was not looked at."""
    report = replace(done.report, incomplete=(*done.report.incomplete, *words.gaps))
    return replace(done, report=report)


def _words_only(words: Words) -> Scanned:
    report = Report(__version__, words.target, words.findings, settings=Settings(depth="metadata"))
    return Scanned(report, files=words.files)


def _unattacked(
    lora: LoRA, words: Words, depth: str, gaps: Sequence[Gap], why: LorauditError | None = None
) -> Scanned:
    """Return the report of a LoRA that was read but not attacked, on request or for the reasons in `gaps`.

    `why` is the error that kept the attack from running, None if none did.
    """
    failed = why is not None and why.exit_code == Exit.ERROR
    report = Report(
        __version__,
        target_of(lora),
        words.findings,
        settings=Settings(depth=depth),
        incomplete=tuple(gaps),
        update=update_of(lora),
        failed=failed,
    )
    return Scanned(report, why if failed else None, words.files)
