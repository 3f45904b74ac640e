"""Formats of reports: a renderer takes reports and returns a string.

A renderer knows no streams and sees only the record. A format is loaded when it is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from loraudit.findings.report import Report

__all__ = ["FORMATS", "Renderer"]


class Renderer(Protocol):
    """Function that renders reports in one format."""

    def __call__(
        self, reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False
    ) -> str:
        """Return the reports as text that ends in a newline.

        `reveal` shows private words of the file. `width`, in columns, and `color` are for formats that are
        read on a terminal; other formats ignore them.
        """
        ...


def _text(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import text

    return text.render(reports, reveal=reveal, width=width, color=color)


def _json(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import json_v1

    del width, color
    return json_v1.render(reports, reveal=reveal)


def _sarif(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import sarif

    del width, color
    return sarif.render(reports, reveal=reveal)


def _markdown(
    reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False
) -> str:
    from loraudit.report import markdown

    del width, color
    return markdown.render(reports, reveal=reveal)


def _html(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import html

    del width, color
    return html.render(reports, reveal=reveal)


def _junit(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import junit

    del width, color
    return junit.render(reports, reveal=reveal)


def _gitlab(reports: Sequence[Report], *, reveal: bool = False, width: int = 80, color: bool = False) -> str:
    from loraudit.report import gitlab

    del width, color
    return gitlab.render(reports, reveal=reveal)


FORMATS: Mapping[str, Renderer] = {
    "text": _text,
    "json": _json,
    "sarif": _sarif,
    "markdown": _markdown,
    "html": _html,
    "junit": _junit,
    "gitlab": _gitlab,
}
"""Name of a format, as `--format` takes it, => its renderer."""
