"""The command `calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from loraudit.commands.choices import AttackName, Device
from loraudit.console import say

__all__ = ["calibrate"]


def calibrate(
    controls: Annotated[
        Path,
        typer.Option("--controls", help="A folder of things, crowds, styles, noise, merged: LoRA files."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; goes on with what is in it.")],
    identities: Annotated[
        Path | None,
        typer.Option(
            "--identities",
            help="A folder per person: a LoRA and photos, compared with the next's; or a LoRA alone, of "
            "which only the weights are read.",
        ),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="A base by name.")] = "tiny",
    attack: Annotated[
        list[AttackName] | None, typer.Option("--attack", help="Run this one; repeatable. [default: all]")
    ] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="An encoder's name or folder.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Pictures per attack.", min=2, max=4096)] = 16,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Sampling steps per picture. [default: 25; tiny 12]", min=1, max=1000),
    ] = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="[default: cuda where there is one]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
) -> None:
    """Measure what LoRAs that hold nobody score, for scans to compare with."""
    from loraudit.audit.auditor import set_up
    from loraudit.audit.calibrate import calibrate_folders
    from loraudit.audit.request import ATTACKS, Request
    from loraudit.progress import progress

    request = Request(
        base=base,
        attacks=ATTACKS["standard"] if attack is None else tuple(name.value for name in attack),
        encoder=encoder,
        samples=samples,
        steps=steps,
        device=None if device is None else device.value,
        offline=offline,
    )
    bench, plan = set_up(request, base)
    with progress("calibrating") as on_step:
        made = calibrate_folders(bench, plan, controls, identities, out, on_step)
    say(f"{len(made.controls)} control LoRAs and {len(made.matches)} of other people: {out}")
