"""The sources of options: the command line, else the environment, else the project, else the defaults.

The project is `[tool.loraudit]` in the pyproject.toml of the current folder alone: a file that came with a
LoRA must not decide how the LoRA is judged. Nor may a file decide what a scan writes or reveals.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import typer

from loraudit.cli.console import hush, say
from loraudit.cli.quick import QuickCommand
from loraudit.errors import LorauditError
from loraudit.files import read_bounded
from loraudit.text import clean

__all__ = ["PROJECT", "SettingsCommand", "project_settings", "refuse", "use_project_settings"]

PROJECT: Final = "pyproject.toml"
SAID_EACH_TIME: Final = frozenset({"help", "reveal", "example", "dry-run"})
"""Options that neither the environment nor a project can set; a dry run, for one, fails no gate."""
NOT_FOR_A_PROJECT: Final = frozenset({"isolated", "output", "save-images"})
"""Options that the environment can set and a project cannot: a stranger must not say where to write."""
_MOST: Final = 1_000_000


class SettingsCommand(QuickCommand):
    """A command whose options have twins in the environment, such as `LORAUDIT_FAIL_ON` for `--fail-on`."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Return the parameters, each with its environment variable."""
        params = super().get_params(ctx)
        for param in params:
            name = _long_name(param)
            if name is not None and name not in SAID_EACH_TIME:
                param.envvar, param.show_envvar = f"LORAUDIT_{name.upper().replace('-', '_')}", False
        return params


def use_project_settings(ctx: typer.Context, isolated: bool) -> bool:
    """Take from the project the values that no closer source sets, unless `isolated`.

    Callback of an eager option. Raises `LorauditError` if the project's table cannot be used.
    """
    if isolated or ctx.resilient_parsing:
        return isolated
    names = {_long_name(param): param for param in ctx.command.params}
    options = {
        name: param
        for name, param in names.items()
        if name is not None and name not in SAID_EACH_TIME | NOT_FOR_A_PROJECT
    }
    table = project_settings(options)
    for key, value in table.items():
        _check(ctx, options[key], key, value)
    if table:
        if table.get("quiet"):
            hush("chatter")
        say(f"{PROJECT} sets {', '.join(table)}")
        ctx.default_map = {str(options[key].name): value for key, value in table.items()}
    return isolated


def _long_name(param: Any) -> str | None:  # noqa: ANN401
    """Return `fail-on` for the option `--fail-on`; None for an argument."""
    return next((word[2:] for word in param.opts if word.startswith("--")), None)


_KINDS: Final = {bool: "true or false", int: "a whole number", str: "a text"}


def _check(ctx: typer.Context, option: Any, key: str, value: Any) -> None:  # noqa: ANN401
    """Raise `LorauditError` unless `option` takes `value`."""
    texts = value if isinstance(value, list) else [value]
    if option.multiple and not (isinstance(value, list) and all(isinstance(text, str) for text in texts)):
        raise refuse(f"{key} must be a list of texts")
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise refuse(f"{key} holds a NUL character")
    try:
        taken = option.process_value(ctx, value)
    except typer.BadParameter as error:
        raise refuse(f"{key}: {clean(error.message.removeprefix('Value error, '), 300)}") from None
    # A command line spells every value as text; a file gives the value its type.
    kind = bool if option.is_flag else int if type(taken) is int else str
    if not option.multiple and type(value) is not kind:
        raise refuse(f"{key} must be {_KINDS[kind]}")


def project_settings(known: Collection[str]) -> dict[str, Any]:
    """Read the table `[tool.loraudit]`, empty if the project has none.

    Raises `LorauditError` if the file cannot be read, or a key is not one of `known`.
    """
    path = Path(PROJECT)
    if not path.exists():
        return {}
    data = read_bounded(path, "the file", _MOST)
    if b"loraudit" not in data:
        # The faults of a project that never names loraudit are none of our business.
        return {}
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get("loraudit", {})
        keys = list(table.keys())
    except (ValueError, AttributeError, RecursionError) as error:
        raise refuse(f"cannot be read: {clean(str(error), 200)}") from None
    if unknown := [key for key in keys if key not in known]:
        raise refuse(f"unknown key {clean(unknown[0])!r}; known keys are {', '.join(sorted(known))}")
    return dict(table)


def refuse(why: str) -> LorauditError:
    """Make the error that says why the table cannot be used."""
    return LorauditError(
        f"{PROJECT}, [tool.loraudit]: {why}", "correct the table, or ignore it with --isolated"
    )
