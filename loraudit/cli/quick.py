"""Commands that start fast, each loaded when asked for, and help that fits the terminal.

Typer 0.29 checks every value of a command, defaults too, by a pydantic adapter; importing pydantic takes
longer than a scan of the metadata. Here choices, numbers, paths and truths in their usual spelling are taken
directly, and so is a value that needs no conversion. Any other value, and every mistake, is left to Typer.
"""

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, get_args, get_origin

import typer.core
import typer.main

__all__ = ["LazyGroup", "QuickCommand", "QuickGroup", "examples"]


class QuickCommand(typer.core.TyperCommand):
    """A Typer command, given as `cls`, that leaves only unusual values to pydantic.

    Options with a `rich_help_panel` are listed under that heading in the help.
    """

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Return the parameters of the command, `--help` included."""
        return _quick(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse `args`; an unknown option's error names the ones that look like it."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            _suggest(error)
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write arguments and options, each under its heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                heading = getattr(param, "rich_help_panel", None) or usual
                sections.setdefault(heading, []).append((_plain(record[0]), record[1]))
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class QuickGroup(typer.core.TyperGroup):
    """A group of commands, given as `cls`, whose help has every summary whole."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Return the parameters of the group, `--help` included."""
        return _quick(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse `args`; an unknown option's error names the ones that look like it."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            _suggest(error)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Find the command that `args` begin with; the error for an unknown name suggests a similar one."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            near = get_close_matches(args[0], self.list_commands(ctx))
            if near and hasattr(error, "message"):
                error.message = f"{error.message.partition('. ')[0].rstrip('.')}. {_did_you_mean(near)}"
            raise

    def headings(self, ctx: Any) -> Mapping[str, Sequence[str]]:  # noqa: ANN401
        """Return the names of the commands under the headings of the help."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write every command with its summary, under its heading."""
        column = max(map(len, self.list_commands(ctx)))
        for heading, names in self.headings(ctx).items():
            commands: list[tuple[str, Any]] = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{name:<{column}}", one.get_short_help_str(limit=1000)) for name, one in commands]
                )


class LazyGroup(QuickGroup):
    """A group of commands, given as `cls`: `scan-it` is the function `scan_it` in `package.scan_it`.

    The module holds `EXAMPLES`, lines for the help, and may hold `COMMAND`, the class of the command.
    """

    package: ClassVar[str]
    groups: ClassVar[Mapping[str, Sequence[str]]]
    """Names of commands under the heading of their group, in the order of the help."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """Return the names in the order of the help."""
        del ctx
        return [name for names in self.groups.values() for name in names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """Load the command of that name; None if the group has no such command."""
        return _load(self.package, cmd_name) if cmd_name in self.list_commands(ctx) else None

    def headings(self, ctx: Any) -> Mapping[str, Sequence[str]]:  # noqa: ANN401
        """Return the names of the commands under the headings of the help."""
        del ctx
        return self.groups


def examples(*lines: str) -> str:
    """Make the end of a command's help: one command a line."""
    return "\b\nExamples:" + "".join(f"\n  {line}" for line in lines)


def _plain(name: str) -> str:
    """Write an option's type as that of one value: `<path>`, not `<list[Path]>`; `<int>`, no range."""
    one = re.sub(r"<list\[(.*)\]>", r"<\1>", name)
    return one.replace("<Path>", "<path>").replace("<int range>", "<int>")


def _suggest(error: Exception) -> None:
    """Add "did you mean" to the error about an unknown option, where Typer knows similar names."""
    near = getattr(error, "possibilities", None)
    if near and hasattr(error, "message"):
        error.message, error.possibilities = f"{error.message}. {_did_you_mean(near)}", None  # type: ignore[attr-defined]


def _did_you_mean(near: Sequence[str]) -> str:
    return f"Did you mean {near[0]}?"


@cache
def _load(package: str, name: str) -> Any:  # noqa: ANN401
    word = name.replace("-", "_")
    module = import_module(f"{package}.{word}")
    found = getattr(module, word)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    kind, epilog = getattr(module, "COMMAND", QuickCommand), examples(*module.EXAMPLES)
    alone.command(name, cls=kind, epilog=epilog)(found)
    return typer.main.get_command(alone)


def _quick(params: list[Any]) -> list[Any]:
    for param in params:
        if "get_runtime_param" not in vars(param):
            param.get_runtime_param = _Quick(param.type_descriptor, param.get_runtime_param).get
    return params


_DIGITS: Final = 18
_TRUTHS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class _Quick:
    """Stand-in for Typer's own coercion of a parameter."""

    def __init__(self, described: Any, get_slow: Any) -> None:  # noqa: ANN401
        kind = described.annotation
        self.many = get_origin(kind) is list
        self.kind = get_args(kind)[0] if self.many else kind
        self.limits = described.parameter_info
        self.get_slow = get_slow

    def get(self) -> "_Quick":
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        given = value if self.many and isinstance(value, list | tuple) else [value]
        taken = [self._take(item, param, ctx) for item in given]
        if None in taken:
            return self.get_slow().coerce(value, param=param, ctx=ctx)
        return taken if self.many else taken[0]

    def _take(self, item: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401
        """Convert `item` to its value; None leaves the item to Typer."""
        if self.kind is int:
            return self._number(item)
        if type(item) is self.kind:
            return item
        if not isinstance(item, str):
            return None
        if self.kind is bool:
            return _TRUTHS.get(item)
        if self.kind is Path:
            # Typer refuses what is there and cannot be read.
            return Path(item) if os.access(item, os.R_OK) or not os.path.lexists(item) else None
        if issubclass(self.kind, Enum):
            values = {choice.value: choice for choice in self.kind}
            return values[item] if item in values else _no_choice(item, list(values), param, ctx)
        return None

    def _number(self, item: Any) -> int | None:  # noqa: ANN401
        if isinstance(item, str) and item.isascii() and item.isdecimal() and len(item) < _DIGITS:
            item = int(item)
        least, most = self.limits.min, self.limits.max
        if type(item) is not int or (least is not None and item < least):
            return None
        return None if most is not None and item > most else item


def _no_choice(item: str, values: Sequence[str], param: Any, ctx: Any) -> NoReturn:  # noqa: ANN401
    from loraudit.text import clean

    message = f"'{clean(item, 100)}' is not one of {', '.join(f'{value!r}' for value in values)}."
    near = get_close_matches(item, values)
    raise typer.BadParameter(f"{message} {_did_you_mean(near)}" if near else message, ctx, param)
