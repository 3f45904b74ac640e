"""The command `rules`."""

from enum import StrEnum
from typing import Annotated

import typer

from loraudit.console import emit, width

__all__ = ["rules"]


class RulesFormat(StrEnum):
    """What `--format` takes."""

    text = "text"
    json = "json"
    markdown = "markdown"


def rules(
    rule: Annotated[str | None, typer.Argument(help="The id of one, as in a finding.")] = None,
    format: Annotated[RulesFormat, typer.Option("--format", "-f", help="What to print.")] = RulesFormat.text,  # noqa: A002
) -> None:
    """Explain the rules behind the findings, or one of them."""
    from loraudit.rulebook import find_rule, rules_json, rules_markdown, rules_text
    from loraudit.verdict.catalogue import catalogue

    every = catalogue()
    shown = every if rule is None else (find_rule(every, rule),)
    if format is RulesFormat.json:
        emit(rules_json(shown), None)
    elif format is RulesFormat.markdown:
        emit(rules_markdown(shown), None)
    else:
        emit(rules_text(shown, width=width(None)), None)
