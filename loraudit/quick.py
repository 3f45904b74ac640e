"""Commands whose plain values cost no pydantic: importing it takes longer than a scan of the metadata.

Typer 0.29 checks every value of a command, defaults too, by a pydantic adapter. Here a value that needs no
conversion, or is the name of a choice, is taken as it is; any other, and every mistake, is still Typer's.
"""

from enum import Enum
from typing import Any, get_args, get_origin

import typer.core

__all__ = ["QuickCommand", "QuickGroup"]


class QuickCommand(typer.core.TyperCommand):
    """A Typer command, given as `cls`, that leaves only values that need it to pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Its parameters and that of `--help`."""
        return _quick(super().get_params(ctx))


class QuickGroup(typer.core.TyperGroup):
    """The same of a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Its parameters and that of `--help`."""
        return _quick(super().get_params(ctx))


def _quick(params: list[Any]) -> list[Any]:
    for param in params:
        # Older releases of Typer have no such thing, and no pydantic.
        if hasattr(param, "get_runtime_param") and "get_runtime_param" not in vars(param):
            param.get_runtime_param = _Quick(param.type_descriptor.annotation, param.get_runtime_param).get
    return params


class _Quick:
    """What stands in for Typer's own coercion of the parameter of type `kind`."""

    def __init__(self, kind: Any, get_slow: Any) -> None:  # noqa: ANN401
        self.many = get_origin(kind) is list
        self.kind = get_args(kind)[0] if self.many else kind
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
        if type(item) is self.kind:
            return item
        if isinstance(item, str) and issubclass(self.kind, Enum):
            return next((choice for choice in self.kind if choice.value == item), None)
        return None
