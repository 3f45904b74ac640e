"""Reader of JSON reports, to render them again or to compare with them: the opposite of `json_v1`.

Anybody may have written the file. A member without the type and range of `document` refuses the whole, and
every text is escaped for display. Verdict, fingerprints and exit code are derived again.
"""

import json
from typing import Any, NoReturn

from loraudit.errors import LorauditError
from loraudit.findings.report import Report
from loraudit.report.document import MOST_BYTES, ONE, SEVERAL, ReportsV1, ReportV1
from loraudit.report.kinds import HINT, refuse
from loraudit.report.shapes import Many, Object

__all__ = ["MOST_BYTES", "load_reports", "read_parts"]


def load_reports(data: bytes) -> list[Report]:
    """Return the reports in a JSON document of schema `loraudit.report/1` or `loraudit.reports/1`.

    Raises `LorauditError` for anything else.
    """
    return read_parts(data, ReportV1)


def read_parts(data: bytes, part: Object) -> list[Any]:
    """Return what `part`, `ReportV1` or some of its members, reads of every report in a JSON document.

    Raises `LorauditError` for a document of another schema, or if a member of `part` is refused.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, MemoryError):
        raise LorauditError("the report is no JSON", HINT) from None
    if not isinstance(document, dict):
        refuse("the whole", "an object")
    schema = document.get("schema")
    if schema == SEVERAL:
        several = ReportsV1.part(reports=Many(part)).read(document, "")
        return list(several["reports"])
    if schema == ONE:
        return [part.read(document, "")]
    raise LorauditError(f"the report is not of the schema {ONE} or {SEVERAL}", HINT)


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError
