"""Options of `scan` that say which attacks run, against which base, and how long."""

from pathlib import Path
from typing import Annotated

import typer

from loraudit.cli.choices import ATTACK, AttackName, Budget, Dtype

__all__ = [
    "AttackOption",
    "BudgetOption",
    "DryRunOption",
    "DtypeOption",
    "EncoderOption",
    "LoRABaseOption",
    "NoPicturesOption",
    "ReferenceOption",
    "SamplesOption",
    "SaveImagesOption",
    "SeedOption",
    "StepsOption",
]

ReferenceOption = Annotated[
    Path | None,
    typer.Option("--reference", help="Folder of photos of the person to check for.", rich_help_panel=ATTACK),
]
LoRABaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="Base model: tiny, sd14, sd15, a diffusers folder, a .safetensors checkpoint or "
        "hf://ns/name. [default: the LoRA's own]",
        metavar="<name|path>",
        rich_help_panel=ATTACK,
    ),
]
AttackOption = Annotated[
    list[AttackName] | None,
    typer.Option(
        "--attack",
        help="Attack to run; repeatable. [default: those of the budget]",
        rich_help_panel=ATTACK,
    ),
]
NoPicturesOption = Annotated[
    bool,
    typer.Option(
        "--no-pictures",
        help="Draw nothing: read metadata and weights; compare --reference by likelihood alone.",
        rich_help_panel=ATTACK,
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Encoder that reads the weights: a bundled name or a folder. [default: the base's own]",
        metavar="<name|dir>",
        rich_help_panel=ATTACK,
    ),
]
BudgetOption = Annotated[
    Budget,
    typer.Option(
        "--budget",
        help="At most 8, 16 or 32 pictures per attack; quick runs fewer attacks.",
        rich_help_panel=ATTACK,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples",
        help="Pictures per attack; overrides --budget.",
        min=1,
        max=4096,
        rich_help_panel=ATTACK,
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Sampling steps per picture. [default: 25; tiny 12]",
        min=1,
        max=1000,
        rich_help_panel=ATTACK,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        help="Random seed of the first picture; the others follow.",
        min=0,
        max=2**32,
        rich_help_panel=ATTACK,
    ),
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(
        "--dtype",
        help="Numbers to compute in; auto is float16 on CUDA and float32 elsewhere.",
        rich_help_panel=ATTACK,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Tell what the scan would cost, and draw nothing.", rich_help_panel=ATTACK
    ),
]
SaveImagesOption = Annotated[
    Path | None,
    typer.Option("--save-images", help="New folder for the reconstructed pictures.", rich_help_panel=ATTACK),
]
