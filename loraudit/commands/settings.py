"""Where options come from: the command line, else the environment, else the project, else our defaults."""

from typing import Any, Final

import typer

from loraudit.console import say
from loraudit.quick import QuickCommand
from loraudit.settings import PROJECT, project_settings, refuse
from loraudit.text import clean

__all__ = ["SettingsCommand", "use_project_settings"]

SAID_EACH_TIME: Final = frozenset({"help", "reveal"})
"""Options that neither the environment nor a project can set."""
NOT_FOR_A_PROJECT: Final = frozenset({"isolated", "output", "save-images"})
"""What a project cannot: where a scan writes, for the project may be a stranger's."""


class SettingsCommand(QuickCommand):
    """A command whose options have twins in the environment, `--fail-on` that of `LORAUDIT_FAIL_ON`."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Its parameters."""
        params = super().get_params(ctx)
        for param in params:
            name = _long_name(param)
            if name is not None and name not in SAID_EACH_TIME:
                param.envvar, param.show_envvar = f"LORAUDIT_{name.upper().replace('-', '_')}", False
        return params


def use_project_settings(ctx: typer.Context, isolated: bool) -> bool:
    """Unless `isolated`, take from the project what nothing closer says; for an eager option."""
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
        say(f"{PROJECT} sets {', '.join(table)}")
        ctx.default_map = {str(options[key].name): value for key, value in table.items()}
    return isolated


def _long_name(param: Any) -> str | None:  # noqa: ANN401
    """`fail-on` of the option `--fail-on`; None of an argument."""
    return next((word[2:] for word in param.opts if word.startswith("--")), None)


_KINDS: Final = {bool: "true or false", int: "a whole number", str: "a text"}


def _check(ctx: typer.Context, option: Any, key: str, value: Any) -> None:  # noqa: ANN401
    """Raise `LorauditError` unless `value` is what `option` takes."""
    texts = value if isinstance(value, list) else [value]
    if option.multiple and not (isinstance(value, list) and all(isinstance(text, str) for text in texts)):
        raise refuse(f"{key} is to be a list of texts")
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise refuse(f"{key} holds a NUL character")
    try:
        taken = option.process_value(ctx, value)
    except typer.BadParameter as error:
        raise refuse(f"{key}: {clean(error.message.removeprefix('Value error, '), 300)}") from None
    # What a command line spells, a file has in the right type.
    kind = bool if option.is_flag else int if type(taken) is int else str
    if not option.multiple and type(value) is not kind:
        raise refuse(f"{key} is to be {_KINDS[kind]}")
