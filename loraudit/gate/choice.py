"""Choice of rules for `--select` and `--ignore`, and of what `--min-severity` shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loraudit.errors import LorauditError
from loraudit.findings.finding import Severity
from loraudit.findings.report import Report, Withheld
from loraudit.text import clean
from loraudit.verdict.catalogue import catalogue

__all__ = ["RuleChoice", "choose_rules", "withhold"]


@dataclass(frozen=True)
class RuleChoice:
    """Rules that a scan judges by; the others are as if they did not exist."""

    kept: frozenset[str]
    """Ids of the rules."""
    told: str
    """Choice in words, for the settings of a report."""

    def apply(self, report: Report) -> Report:
        """Return `report` with the findings of the chosen rules alone; its settings tell the choice."""
        findings = tuple(finding for finding in report.findings if finding.id in self.kept)
        return replace(report, findings=findings, settings=replace(report.settings, rules=self.told))


def choose_rules(select: Sequence[str], ignore: Sequence[str]) -> RuleChoice | None:
    """Choose the rules in `select`, or all if it is empty, without those in `ignore`; None: no choice.

    A rule is named by its id, or several by the start of theirs: `LA-NAME`. Case does not count. Raises
    `LorauditError` if there is no such rule, or no rule is left.
    """
    if not select and not ignore:
        return None
    every = [rule.id for rule in catalogue()]
    wanted, unwanted = ([_named(word, every) for word in words] for words in (select, ignore))
    kept = frozenset().union(*wanted) if select else frozenset(every)
    kept -= frozenset().union(*unwanted)
    if not kept:
        raise LorauditError("--select and --ignore leave no rule", "list all rules with: loraudit rules")
    told = [f"only {', '.join(dict.fromkeys(map(_tidy, select)))}"] if select else []
    told += [f"without {', '.join(dict.fromkeys(map(_tidy, ignore)))}"] if ignore else []
    return RuleChoice(kept, "; ".join(told))


def withhold(report: Report, least: Severity) -> Report:
    """Return `report` without findings below `least`, which it only counts.

    Level and exit code stay the same. Inconclusive findings are kept, as nobody knows how severe they are.
    """
    shown = tuple(f for f in report.findings if f.severity >= least or f.severity is Severity.INCONCLUSIVE)
    hidden = tuple(Withheld(f.id, f.severity, f.counts) for f in report.findings if f not in shown)
    return replace(report, findings=shown, withheld=(report.withheld or ()) + hidden or None)


def _tidy(word: str) -> str:
    return word.strip().upper()


def _named(word: str, every: Sequence[str]) -> frozenset[str]:
    """Return the rules that `word` names. Raises `LorauditError` if it names none."""
    start = _tidy(word)
    found = frozenset(rule for rule in every if rule == start or rule.startswith(f"{start}-"))
    if not found:
        raise LorauditError(f"no rule is called {clean(word)!r}", "list all rules with: loraudit rules")
    return found
