"""Baseline for `--baseline`: findings of an earlier report are known, and only new findings count.

A finding of the earlier report is found again by its fingerprint, or by what its fingerprint is made of. So
reports of releases that made other fingerprints still serve.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.findings.finding import Finding, Severity
from loraudit.findings.fingerprints import PICKLES, file_of, fingerprint, lasting_places
from loraudit.findings.report import Target
from loraudit.report.document import MOST_BYTES, FindingV1, ReportV1, TargetV1
from loraudit.report.kinds import HINT
from loraudit.report.load import read_parts
from loraudit.report.shapes import Many
from loraudit.text import clean

__all__ = ["Baseline", "read_baseline"]

_REPORT: Final = ReportV1.part(
    target=TargetV1.part("name", "path", "origin", "sha256", "size_bytes"),
    findings=Many(FindingV1.part("id", "severity", "places", "fingerprint", "allowed")),
)
"""Members of a report that a comparison needs."""
_NAMED_BY_TRAINERS: Final = frozenset({"adapter_model.safetensors", "pytorch_lora_weights.safetensors"})
"""Names that say nothing: the folder tells such files apart."""


@dataclass(frozen=True, eq=False)
class _Known:
    """Finding of the earlier report."""

    rule: str
    severity: Severity
    places: frozenset[str]
    target: Mapping[str, Any]
    """Members of the target: `name`, `path`, `origin`, `sha256` and `size_bytes`."""
    fingerprint: str

    @property
    def files(self) -> set[str]:
        """Names that the file has without its folders."""
        names = {file_of(self.target["name"], self.target["origin"])}
        if self.target["origin"] is None and self.target.get("path"):
            names.add(file_of(self.target["path"]))
        return names

    @property
    def keys(self) -> set[str]:
        """Words to find the finding by."""
        exact = f"{self.fingerprint} {self.target.get('path')} {self.target['name']}"
        about = {PICKLES} if self.places == {PICKLES} else self.files
        return {self.fingerprint, exact, *about}


class Baseline:
    """Findings of an earlier report, by the words that they may be found by."""

    def __init__(self, known: Iterable[_Known]) -> None:
        self._known: dict[tuple[str, str], list[_Known]] = {}
        for one in known:
            for key in one.keys:
                self._known.setdefault((one.rule, key), []).append(one)
        self._used: set[_Known] = set()

    def knows(self, target: Target, finding: Finding, folder: str = "") -> bool:
        """Return True if the earlier report holds `finding`, at least as severe; each finding serves once.

        A finding seen at fewer places than before is known too. A finding from the weights must have come
        from the same bytes: other weights under the same name may hold another person. `folder` is the name
        of the file's folder, under which earlier releases kept the only LoRA of a folder.
        """
        mark, places = fingerprint(target, finding), lasting_places(finding.places)
        file = PICKLES if places == [PICKLES] else file_of(target.name, target.origin)
        # The nearest serves, so that the others are left for files of the same name.
        for keys in ((f"{mark} {target.path} {target.name}",), (mark, file, folder)):
            fits = [
                one
                for key in keys
                for one in self._unused(finding.id, key)
                if finding.severity <= one.severity and _same(one, target, places, mark, folder)
            ]
            if fits:
                self._used.add(min(fits, key=lambda one: (len(one.places - set(places)), one.severity)))
                return True
        return False

    def _unused(self, rule: str, key: str) -> list[_Known]:
        left = [one for one in self._known.get((rule, key), ()) if one not in self._used]
        if left:
            self._known[rule, key] = left
        else:
            self._known.pop((rule, key), None)
        return left


def _same(known: _Known, target: Target, places: Sequence[str], mark: str, folder: str) -> bool:
    """Return True if `known` is about the same file and about no fewer places."""
    earlier = known.target
    if not places and earlier["sha256"] != target.sha256:
        return False
    if known.fingerprint == mark:
        return _same_folder(earlier, target)
    if bool(places) is not bool(known.places) or not known.places.issuperset(places):
        return False
    if places == [PICKLES]:
        return True
    if file_of(target.name, target.origin) in known.files:
        return _same_folder(earlier, target)
    # Several files share a folder, so its name alone is not enough.
    only_one = earlier["origin"] is None and target.origin is None and earlier["name"] == folder != ""
    return only_one and earlier["size_bytes"] is not None and earlier["size_bytes"] == target.size_bytes


def _same_folder(earlier: Mapping[str, Any], target: Target) -> bool:
    """Return False if both files have a name that trainers give, in folders of different names."""
    if target.origin is not None or file_of(target.name) not in _NAMED_BY_TRAINERS:
        return True
    before, now = (
        PurePosixPath(path or name).parent.name
        for path, name in ((earlier.get("path"), earlier["name"]), (target.path, target.name))
    )
    return before == now or not before or not now


def read_baseline(path: Path) -> Baseline:
    """Return the findings in the JSON report at `path`, without those that were allowed.

    An allowed finding is not known for ever, as a decision may expire. Raises `LorauditError` if the file is
    no such report.
    """
    data = read_bounded(path, "the baseline", MOST_BYTES)
    shown = clean(str(path), 300)
    try:
        reports = read_parts(data, _REPORT)
    except LorauditError:
        raise LorauditError(f"the baseline {shown} is no report of a scan in JSON", HINT) from None
    known: list[_Known] = []
    for report in reports:
        for finding in report["findings"]:
            if finding.get("allowed") is not None:
                continue
            if "fingerprint" not in finding:
                raise LorauditError(
                    f"the baseline {shown} is by an earlier loraudit: its findings have no fingerprint",
                    HINT,
                )
            places = frozenset(lasting_places(finding.get("places", ())))
            one = (finding["id"], finding["severity"], places, report["target"], finding["fingerprint"])
            known.append(_Known(*one))
    return Baseline(known)
