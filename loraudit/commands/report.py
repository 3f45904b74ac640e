"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from loraudit.commands.choices import FailOn, ReportFormat

__all__ = ["report"]


def report(
    result: Annotated[Path, typer.Argument(help="A report that scan wrote with --format json.")],
    format: Annotated[  # noqa: A002
        ReportFormat, typer.Option("--format", "-f", help="What to print.")
    ] = ReportFormat.text,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="Write to this file; FORMAT=FILE, one more; repeatable."),
    ] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Exit 1 from this level on.")] = FailOn.high,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show private words too, if the report holds any.")
    ] = False,
) -> None:
    """Show a report again, in any format, without a new attack."""
    from loraudit.files import read_bounded
    from loraudit.findings.exits import combine_exit_codes, exit_code
    from loraudit.outputs import find_outputs, write_reports
    from loraudit.report.load import MOST_BYTES, load_reports

    outputs = find_outputs(output or (), format.value, [str(result)])
    reports = load_reports(read_bounded(result, "the report", MOST_BYTES))
    write_reports(reports, outputs, reveal)
    raise typer.Exit(combine_exit_codes(exit_code(one, fail_on.threshold) for one in reports))
