"""The command `report`."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit.cli.choices import FailOn, ReportFormat
from loraudit.errors import LorauditError

__all__ = ["report"]

EXAMPLES: Final = (
    "loraudit report report.json",
    "loraudit report report.json --format html -o report.html",
    "cat report.json | loraudit report - --format markdown",
)


def report(
    result: Annotated[
        Path, typer.Argument(help="JSON report that 'scan --format json' wrote; - reads stdin.")
    ],
    format: Annotated[  # noqa: A002
        ReportFormat, typer.Option("--format", "-f", help="Format of the report.")
    ] = ReportFormat.text,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; FORMAT=FILE adds one of that format; repeatable. [default: stdout]",
        ),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Lowest verdict that makes the exit code 1.")
    ] = FailOn.high,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="Show private words in files and pipes too, where the report has any."),
    ] = False,
) -> None:
    """Show a saved JSON report again, in any format.

    No attack runs again, and the exit code is that of the scan.
    """
    from loraudit.cli.outputs import find_outputs, write_reports
    from loraudit.findings.exits import combine_exit_codes, exit_code
    from loraudit.report.load import load_reports

    outputs = find_outputs(output or (), format.value, [str(result)])
    reports = load_reports(_read(result))
    write_reports(reports, outputs, reveal)
    raise typer.Exit(combine_exit_codes(exit_code(one, fail_on.threshold) for one in reports))


def _read(result: Path) -> bytes:
    from loraudit.files import read_bounded
    from loraudit.report.load import MOST_BYTES

    if str(result) != "-":
        return read_bounded(result, "the report", MOST_BYTES)
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise LorauditError(
            f"the report on standard input is larger than {MOST_BYTES // 1000} kB", "is it the right file?"
        )
    return data
