"""The command `calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from loraudit.cli.choices import (
    AttackName,
    BaseOption,
    DeviceOption,
    Dtype,
    NoProgressOption,
    OfflineOption,
    QuietOption,
    check_base,
    check_encoder,
)
from loraudit.cli.console import emit, say
from loraudit.cli.progress import progress, resumable
from loraudit.errors import LorauditError
from loraudit.text import clean, duration

if TYPE_CHECKING:
    from loraudit.audit.calibrate_base import Ahead
    from loraudit.audit.request import Request

__all__ = ["ahead_text", "calibrate"]

EXAMPLES: Final = (
    "loraudit calibrate --base sd15 --dry-run",
    "loraudit calibrate --base my-mix.safetensors",
    "loraudit calibrate --controls controls/ --identities people/ -o calibration/",
)


def calibrate(
    base: BaseOption = "tiny",
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write; an interrupted run in it goes on. [default: the user's data folder, where "
            "a scan finds it]",
        ),
    ] = None,
    controls: Annotated[
        Path | None,
        typer.Option(
            "--controls",
            help="Folder of LoRA files that hold no single person, in folders by kind: "
            "things, crowds, styles, noise, merged. [default: made from the base's own pictures]",
        ),
    ] = None,
    identities: Annotated[
        Path | None,
        typer.Option(
            "--identities",
            help="With --controls: folder with a folder per person, lora.safetensors and photos of the "
            "person. Without photos, only the weights are read.",
        ),
    ] = None,
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
    dtype: Annotated[
        Dtype,
        typer.Option(
            "--dtype", help="Numbers to draw pictures in; auto is float16 on CUDA and float32 elsewhere."
        ),
    ] = Dtype.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell pictures, LoRAs, hours and disk space, and make nothing.")
    ] = False,
    offline: OfflineOption = False,
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
) -> None:
    """Make calibration data: how LoRAs of no single person score.

    The base draws people, crowds, styles and things that nobody knows, LoRAs are fine-tuned on them, and the
    attacks measure those. With --controls LoRA files are measured instead.
    """
    from loraudit.attacks.table import names_at
    from loraudit.audit.request import Request

    check_base(base)
    if encoder is not None:
        check_encoder(encoder)
    request = Request(
        base=base,
        attacks=names_at("standard") if attack is None else tuple(name.value for name in attack),
        encoder=encoder,
        samples=samples,
        steps=steps,
        device=None if device is None else device.value,
        dtype=dtype.value,
        offline=offline,
    )
    if controls is not None:
        _files(request, base, controls, identities, out, dry_run)
    elif identities is not None:
        raise LorauditError("--identities goes with --controls", "name the folder of controls as well")
    else:
        _self_made(request, base, out, dry_run)


def _files(
    request: "Request", base: str, controls: Path, identities: Path | None, out: Path | None, dry_run: bool
) -> None:
    """Measure LoRA files."""
    from loraudit.audit.calibrate_folders import calibrate_folders, check_folders
    from loraudit.audit.setup import set_up_to_calibrate

    if out is None or dry_run:
        raise LorauditError(
            "--controls needs --output, and has no --dry-run", "name the folder to write with --output"
        )
    check_folders(controls, identities, out)
    setup, plan = set_up_to_calibrate(request, base)
    with resumable(), progress("calibrating") as on_step:
        made = calibrate_folders(setup, plan, controls, identities, out, on_step)
    say(f"{len(made.controls)} control LoRAs and {len(made.matches)} of other people: {out}")


def _self_made(request: "Request", base: str, out: Path | None, dry_run: bool) -> None:
    """Let the base make its own calibration."""
    from loraudit.audit.calibrate_base import calibrate_base, look_ahead

    with resumable():
        say("timing this device")
        ahead = look_ahead(request, base, out)
        if dry_run:
            emit(ahead_text(ahead), None)
            return
        for line in ahead_text(ahead).splitlines():
            say(line)
        with progress("calibrating") as on_step:
            made = calibrate_base(request, base, ahead, on_step)
    folder = ahead.making.folder
    found = "scans of this base find it" if out is None else f"give it to a scan with --calibration {folder}"
    say(f"{len(made.controls)} control LoRAs and {len(made.matches)} of people: {clean(found, None)}")


def ahead_text(ahead: "Ahead") -> str:
    """Lay out what a calibration has ahead."""
    work, seconds = ahead.work, ahead.seconds
    drawing, class_pictures, training, measuring = (duration(one) for one in seconds.values())
    rates = ahead.rates
    rows = (
        ("folder", clean(str(ahead.making.folder), 300)),
        ("pictures", f"{work.pictures:,} to draw, {work.drawn:,} evaluations: {drawing}"),
        ("LoRAs", f"{work.loras} to fine-tune, {work.trained:,} samples: {training}"),
        ("", f"class pictures for them, {work.class_pictures:,} evaluations: {class_pictures}"),
        ("measuring", f"{work.measured} LoRAs, {work.evaluations:,} evaluations: {measuring}"),
        ("disk", f"about {_gigabytes(work.size)}, {_gigabytes(ahead.free)} free"),
        (
            "time",
            f"about {duration(sum(seconds.values()))} in all ({ahead.device}: {rates.evaluation:.2g} s an "
            f"evaluation, {rates.trained:.2g} s a trained sample)",
        ),
    )
    body = "".join(f"  {label:<11}{value}\n" for label, value in rows)
    return f"calibration of {ahead.base}\n{body}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
