"""Options that several commands share: their fixed values, their help texts, and checks before any loading.

An import of this module loads neither torch nor diffusers.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from loraudit.attacks.table import ATTACKS
from loraudit.cli.console import hush
from loraudit.errors import LorauditError

if TYPE_CHECKING:
    from loraudit.findings.finding import Severity

__all__ = [
    "ATTACK",
    "GATE",
    "AttackName",
    "BaseOption",
    "Budget",
    "CalibrationOption",
    "Depth",
    "Device",
    "DeviceOption",
    "Dtype",
    "ExcludeOption",
    "FailOn",
    "IgnoreOption",
    "Layout",
    "MinSeverity",
    "MinSeverityOption",
    "NoProgressOption",
    "OfflineOption",
    "QuietOption",
    "ReportFormat",
    "SelectOption",
    "TargetsFromOption",
    "TextOrJson",
    "check_base",
    "check_calibration",
    "check_encoder",
    "check_no_pictures",
    "given",
]


class TextOrJson(StrEnum):
    """The values of `--format` where no report is written."""

    text = "text"
    json = "json"


class ReportFormat(StrEnum):
    """The formats of a report."""

    text = "text"
    json = "json"
    sarif = "sarif"
    markdown = "markdown"
    html = "html"
    junit = "junit"
    gitlab = "gitlab"


class Depth(StrEnum):
    """The values of `--depth`."""

    metadata = "metadata"
    weights = "weights"
    attack = "attack"


if TYPE_CHECKING:

    class AttackName(StrEnum):
        """The values of `--attack`."""
else:
    AttackName = StrEnum("AttackName", {row.name: row.name for row in ATTACKS})


class Budget(StrEnum):
    """The values of `--budget`."""

    quick = "quick"
    standard = "standard"
    deep = "deep"


class Device(StrEnum):
    """The values of `--device`."""

    cpu = "cpu"
    cuda = "cuda"


class Dtype(StrEnum):
    """The values of `--dtype`."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class FailOn(StrEnum):
    """The values of `--fail-on`."""

    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"
    never = "never"

    @property
    def threshold(self) -> "Severity | None":
        """The level, None for `never`."""
        from loraudit.findings.finding import Severity

        return None if self is FailOn.never else Severity(self.value)


class MinSeverity(StrEnum):
    """The values of `--min-severity`."""

    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"


class Layout(StrEnum):
    """The values of `--layout` and `--export`: how a LoRA file names its matrices."""

    diffusers = "diffusers"
    kohya = "kohya"
    peft = "peft"


BaseOption = Annotated[
    str,
    typer.Option(
        "--base",
        help="Base model: tiny, sd14, sd15, a diffusers folder, a .safetensors checkpoint or hf://ns/name.",
        metavar="<name|path>",
    ),
]
DeviceOption = Annotated[
    Device | None, typer.Option("--device", help="Device to compute on. [default: cuda if present, else cpu]")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


def _quiet(asked: bool) -> bool:
    if asked:
        hush("chatter")
    return asked


def _no_progress(asked: bool) -> bool:
    if asked:
        hush("progress")
    return asked


QuietOption = Annotated[
    bool,
    # Eager: the messages of other options are chatter too.
    typer.Option("--quiet", "-q", callback=_quiet, is_eager=True, help="Write nothing to stderr but errors."),
]
NoProgressOption = Annotated[
    bool, typer.Option("--no-progress", callback=_no_progress, help="Show no progress on stderr.")
]


ATTACK: Final = "Attack options"
GATE: Final = "Report and exit code"
TargetsFromOption = Annotated[
    Path | None,
    typer.Option("--targets-from", help="File of further targets, one a line; - for stdin."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", help="Files and folders to leave out, such as 'drafts/*'; repeatable.", metavar="PATTERN"
    ),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        help="Rule that counts, by its id or its start, LA-NAME; repeatable. [default: all]",
        metavar="RULE",
        rich_help_panel=GATE,
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        help="Rule that does not count; repeatable.",
        metavar="RULE",
        rich_help_panel=GATE,
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help="Calibration data: a bundled name or a folder. [default: the base's own]",
        metavar="<name|dir>",
        rich_help_panel=ATTACK,
    ),
]
MinSeverityOption = Annotated[
    MinSeverity | None,
    typer.Option(
        "--min-severity",
        help="Lowest severity of findings that are shown. The exit code stays. [default: all]",
        rich_help_panel=GATE,
    ),
]


def check_base(name: str) -> None:
    """Raise `LorauditError` unless `name` can stand for a base; the Hub is not asked."""
    from loraudit.base.source import find_base

    find_base(name)


def check_encoder(name: str) -> None:
    """Raise `LorauditError` unless `name` is a folder, as a path or among the bundled models."""
    _check_folder(name, "encoder", "give the folder that 'loraudit train-encoder' wrote")


def check_calibration(name: str) -> None:
    """Raise `LorauditError` unless `name` is a folder, as a path or among the bundled models."""
    _check_folder(name, "calibration", "give the folder that 'loraudit calibrate' wrote")


def check_no_pictures(attacks: Sequence[str], save_images: Path | None) -> None:
    """Raise `LorauditError` if one of `attacks` draws pictures, or pictures are to be saved."""
    drawing = [row.name for row in ATTACKS if row.draws and row.name in attacks]
    if drawing:
        raise LorauditError(f"the attack {drawing[0]} draws pictures", "leave out --attack or --no-pictures")
    if save_images is not None:
        raise LorauditError("--no-pictures leaves nothing to save", "leave out --save-images")


def _check_folder(name: str, what: str, hint: str) -> None:
    from loraudit.cards import models_dir
    from loraudit.text import clean

    if not Path(name).is_dir() and not (models_dir() / name).is_dir():
        raise LorauditError(f"there is no {what} {clean(name, 300)}", hint)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: the values other than None."""
    return {name: value for name, value in values.items() if value is not None}
