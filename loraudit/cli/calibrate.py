"""The command `calibrate`."""

from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit.cli.choices import (
    AttackName,
    BaseOption,
    DeviceOption,
    NoProgressOption,
    OfflineOption,
    QuietOption,
    check_base,
    check_encoder,
)
from loraudit.cli.console import say

__all__ = ["calibrate"]

EXAMPLES: Final = ("loraudit calibrate --controls controls/ --identities people/ -o calibration/",)


def calibrate(
    controls: Annotated[
        Path,
        typer.Option(
            "--controls",
            help="Folder of LoRA files that hold no single person, in folders by kind: "
            "things, crowds, styles, noise, merged.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write; an interrupted run in it goes on.")
    ],
    identities: Annotated[
        Path | None,
        typer.Option(
            "--identities",
            help="Folder with a folder per person: lora.safetensors and photos of the person. "
            "Without photos, only the weights are read.",
        ),
    ] = None,
    base: BaseOption = "tiny",
    attack: Annotated[
        list[AttackName] | None,
        typer.Option("--attack", help="Attack to run; repeatable. [default: those of a standard scan]"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Encoder that reads the weights: a bundled name or a folder. [default: the base's own]",
            metavar="<name|dir>",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Pictures per attack.", min=2, max=4096)] = 16,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Sampling steps per picture. [default: 25; tiny 12]", min=1, max=1000),
    ] = None,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
) -> None:
    """Make calibration data: how LoRAs of no single person score."""
    check_base(base)
    if encoder is not None:
        check_encoder(encoder)
    from loraudit.attacks.table import names_at
    from loraudit.audit.calibrate_folders import calibrate_folders, check_folders
    from loraudit.audit.request import Request
    from loraudit.audit.setup import set_up_to_calibrate
    from loraudit.cli.progress import progress

    check_folders(controls, identities, out)
    request = Request(
        base=base,
        attacks=names_at("standard") if attack is None else tuple(name.value for name in attack),
        encoder=encoder,
        samples=samples,
        steps=steps,
        device=None if device is None else device.value,
        offline=offline,
    )
    setup, plan = set_up_to_calibrate(request, base)
    with progress("calibrating") as on_step:
        made = calibrate_folders(setup, plan, controls, identities, out, on_step)
    say(f"{len(made.controls)} control LoRAs and {len(made.matches)} of other people: {out}")
