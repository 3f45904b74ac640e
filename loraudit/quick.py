"""Commands that start fast: one is loaded when it is asked for, and plain values cost no pydantic.

Importing pydantic takes longer than a scan of the metadata.

Typer 0.29 checks every value of a command, defaults too, by a pydantic adapter. Here a value that needs no
conversion, or is a choice, a number, a path or a truth as usually spelt, is taken here; any other, and every
mistake, is still Typer's.
"""

import os
from collections.abc import Sequence
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, get_args, get_origin

import typer.core
import typer.main

__all__ = ["LazyGroup", "QuickCommand"]


class QuickCommand(typer.core.TyperCommand):
    """A Typer command, given as `cls`, that leaves only values that need it to pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Its parameters and that of `--help`."""
        return _quick(super().get_params(ctx))


class LazyGroup(typer.core.TyperGroup):
    """A group of commands, given as `cls`: `scan-it` is the function `scan_it` in `package.scan_it`.

    module = import_module(f"{package}.{word}")
    found = getattr(module, word)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=getattr(module, "COMMAND", QuickCommand))(found)
    """

    package: ClassVar[str]
    names: ClassVar[Sequence[str]]
    """Of the commands, in the order of the help."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """The names."""
        del ctx
        return list(self.names)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """The command of that name, loaded now; None if there is none."""
        del ctx
        return _load(self.package, cmd_name) if cmd_name in self.names else None

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Its parameters and that of `--help`."""
        return _quick(super().get_params(ctx))


@cache
def _load(package: str, name: str) -> Any:  # noqa: ANN401
    word = name.replace("-", "_")
    module = import_module(f"{package}.{word}")
    found = getattr(module, word)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=getattr(module, "COMMAND", QuickCommand))(found)
    return typer.main.get_command(alone)


def _quick(params: list[Any]) -> list[Any]:
    for param in params:
        # Older releases of Typer have no such thing, and no pydantic.
        if hasattr(param, "get_runtime_param") and "get_runtime_param" not in vars(param):
            param.get_runtime_param = _Quick(param.type_descriptor, param.get_runtime_param).get
    return params


_DIGITS: Final = 18
_TRUTHS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class _Quick:
    """What stands in for Typer's own coercion of a parameter."""

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
        taken = [self._take(item) for item in given]
        if None in taken:
            return self.get_slow().coerce(value, param=param, ctx=ctx)
        return taken if self.many else taken[0]

    def _take(self, item: Any) -> Any:  # noqa: ANN401
        """`item` as what it is to be, None where that is for Typer to say."""
        if self.kind is int:
            return self._number(item)
        if type(item) is self.kind:
            return item
        if not isinstance(item, str):
            return None
        if self.kind is bool:
            return _TRUTHS.get(item.lower())
        if self.kind is Path:
            return self._path(item)
        if issubclass(self.kind, Enum):
            return next((choice for choice in self.kind if choice.value == item), None)
        return None

    def _number(self, item: Any) -> int | None:  # noqa: ANN401
        if isinstance(item, str) and item.isascii() and item.isdecimal() and len(item) < _DIGITS:
            item = int(item)
        least, most = self.limits.min, self.limits.max
        if (
            type(item) is not int
            or (least is not None and item < least)
            or (most is not None and item > most)
        ):
            return None
        return item

    def _path(self, item: str) -> Path | None:
        asked = self.limits
        plain = (
            asked.file_okay
            and asked.dir_okay
            and asked.readable
            and not (
                asked.exists or asked.writable or asked.resolve_path or asked.allow_dash or asked.path_type
            )
        )
        # Typer refuses what is there and cannot be read.
        return Path(item) if plain and (os.access(item, os.R_OK) or not os.path.lexists(item)) else None
