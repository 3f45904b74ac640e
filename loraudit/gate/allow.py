"""Decisions for `--allow`: a finding about one file is acceptable, each with a reason.

    [[allow]]
    sha256 = "f4ef7c6e..."      # of the file; or `tensors`, of its tensors' bytes
    rule = "LA-NAME-002"
    reason = "The artist publishes under this name."
    expires = 2027-01-31        # may be left out: the last day that it holds, in UTC

A decision is about bytes. When the bytes change, somebody has to look again.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.files import file_sha256, read_bounded
from loraudit.findings.finding import Allowed
from loraudit.findings.report import Target
from loraudit.lora.file.hashes import tensor_sha256
from loraudit.text import clean
from loraudit.verdict.catalogue import catalogue

__all__ = ["AllowList", "read_allow"]

_MOST: Final = 1_000_000
"""Size of the file at most, in bytes."""
_KEYS: Final = ("sha256", "tensors", "rule", "reason", "expires")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Decision:
    kind: str
    """Kind of `digest`: `sha256` of the file, or `tensors`, of the bytes of its tensors."""
    digest: str
    rule: str
    allowed: Allowed


@dataclass(frozen=True)
class AllowList:
    """Decisions in force, and lines about the expired ones."""

    decisions: tuple[_Decision, ...]
    expired: tuple[str, ...]
    """Lines about the decisions whose time is over, one each."""

    def digests_of(
        self, target: Target, files: Sequence[Path], rules: Collection[str]
    ) -> Mapping[str, str | None]:
        """Return the digests of `target` by kind, as far as decisions about `rules` ask for them.

        A digest is None if the `files` of the target are not here or cannot be read: nothing is allowed then.
        """
        wanted = {decision.kind for decision in self.decisions if decision.rule in rules}
        digests = {"sha256": target.sha256}
        if "sha256" in wanted and target.sha256 is None:
            digests["sha256"] = _digest(file_sha256, files)
        if "tensors" in wanted:
            digests["tensors"] = _digest(tensor_sha256, files)
        return digests

    def decision(self, rule: str, digests: Mapping[str, str | None]) -> Allowed | None:
        """Return the decision about `rule` for the file with `digests`; None without a decision."""
        for decision in self.decisions:
            if decision.rule == rule and decision.digest == digests.get(decision.kind):
                return decision.allowed
        return None


def read_allow(path: Path, today: date | None = None) -> AllowList:
    """Read the decisions in the TOML file at `path`, by the day `today`; None: today in UTC.

    Raises `LorauditError` at the first mistake.
    """
    shown = clean(str(path), 300)
    data = read_bounded(path, "the allow file", _MOST)
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise LorauditError(
            f"the allow file {shown} is not TOML: {clean(str(error), 200)}", "correct the file"
        ) from None
    entries = document.get("allow", [])
    if set(document) - {"allow"} or not isinstance(entries, list):
        raise LorauditError(
            f"the allow file {shown} holds more than [[allow]] entries", "see docs/gate.md for its keys"
        )
    rules = frozenset(rule.id for rule in catalogue())
    today = today or datetime.now(UTC).date()
    decisions: list[_Decision] = []
    expired: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            decision = _decision(entry, rules)
        except ValueError as error:
            raise LorauditError(
                f"the allow file {shown}, entry {number}: {error}", "see docs/gate.md for its keys"
            ) from None
        until = decision.allowed.until
        if until is not None and date.fromisoformat(until) < today:
            expired.append(f"{shown}, entry {number}: {decision.rule} was allowed until {until}, not longer")
        else:
            decisions.append(decision)
    return AllowList(tuple(decisions), tuple(expired))


def _digest(digest: Callable[..., str], files: Sequence[Path]) -> str | None:
    try:
        return digest(*files) if files else None
    except (LorauditError, OSError):
        return None


def _decision(entry: Any, rules: Collection[str]) -> _Decision:  # noqa: ANN401
    """Return the decision in `entry`, about one of `rules`. Raises ValueError that names the mistake."""
    if not isinstance(entry, dict):
        raise ValueError("not a table; write [[allow]] above the entry")
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise ValueError(f"unknown key {clean(unknown[0])!r}; the keys are {', '.join(_KEYS)}")
    kinds = [kind for kind in ("sha256", "tensors") if kind in entry]
    if len(kinds) != 1:
        raise ValueError("needs either sha256, of the file, or tensors, of the bytes of its tensors")
    digest, rule, reason = (entry.get(key) for key in (kinds[0], "rule", "reason"))
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest.lower()):
        raise ValueError(f"{kinds[0]} is not 64 hex digits")
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("gives no reason; every decision needs one")
    if not isinstance(rule, str) or rule not in rules:
        raise ValueError(f"no rule is called {clean(str(rule))!r}; list all rules with: loraudit rules")
    return _Decision(
        kinds[0], digest.lower(), rule, Allowed(clean(" ".join(reason.split()), 300), _until(entry))
    )


def _until(entry: Mapping[str, Any]) -> str | None:
    expires = entry.get("expires")
    if "expires" not in entry:
        return None
    if isinstance(expires, str):
        try:
            expires = date.fromisoformat(expires)
        except ValueError:
            expires = None
    # A date with a time is a date too, but its day depends on the time zone.
    if not isinstance(expires, date) or isinstance(expires, datetime):
        raise ValueError("expires is not a day such as 2027-01-31")
    return expires.isoformat()
