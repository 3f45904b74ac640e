"""What the commands that train have in common. Importing this loads neither torch nor diffusers."""

from importlib import import_module
from typing import Annotated, Any

import typer

from loraudit.errors import LorauditError

__all__ = ["BaseOption", "DeviceOption", "OfflineOption", "given", "training_module"]

BaseOption = Annotated[str, typer.Option("--base", help="A base by name, or a diffusers pipeline folder.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda. [default: cuda where there is one]")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def training_module(name: str) -> Any:  # noqa: ANN401
    """A module of `loraudit.training`, loaded late: it brings torch."""
    try:
        return import_module(f"loraudit.training.{name}")
    except ModuleNotFoundError as error:
        raise LorauditError(
            f"training needs {error.name}, which is not installed",
            "install it with: pip install 'loraudit[attack]'",
        ) from None
