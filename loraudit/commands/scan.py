"""The command `scan`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit.commands.choices import AttackName, Budget, Depth, Device, FailOn, ReportFormat
from loraudit.commands.settings import SettingsCommand, use_project_settings
from loraudit.console import say, say_error
from loraudit.errors import LorauditError

__all__ = ["scan"]

COMMAND: Final = SettingsCommand
SHOWN_ERRORS: Final = 10


def scan(
    target: Annotated[
        list[str], typer.Argument(help="LoRA files, folders of them, or on the Hub: hf://ns/name/path.")
    ],
    depth: Annotated[
        Depth, typer.Option("--depth", help="Read the words, the matrices too, or attack as well.")
    ] = Depth.attack,
    base: Annotated[
        str | None,
        typer.Option("--base", help="A base by name, or a diffusers folder. [default: the LoRA's own]"),
    ] = None,
    attack: Annotated[
        list[AttackName] | None,
        typer.Option("--attack", help="Run this one; repeatable. [default: those of the budget]"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="An encoder's name or folder. [default: the base's own]"),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A folder of photos: is it this person?")
    ] = None,
    budget: Annotated[
        Budget,
        typer.Option("--budget", help="At most 8, 16 or 32 pictures per attack; quick runs fewer attacks."),
    ] = Budget.standard,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Instead of --budget: so many.", min=1, max=4096)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Sampling steps per picture. [default: 25; tiny 12]", min=1, max=1000),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the first picture.", min=0, max=2**32)] = 0,
    device: Annotated[
        Device | None, typer.Option("--device", help="[default: cuda where there is one]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    format: Annotated[  # noqa: A002
        ReportFormat, typer.Option("--format", "-f", help="What to print.")
    ] = ReportFormat.text,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="Write to this file; FORMAT=FILE, one more; repeatable."),
    ] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Exit 1 from this level on.")] = FailOn.high,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="An earlier JSON report: only what is new counts.")
    ] = None,
    allow: Annotated[
        Path | None, typer.Option("--allow", help="A TOML file of findings that are allowed, and why.")
    ] = None,
    save_images: Annotated[
        Path | None, typer.Option("--save-images", help="Write the pictures to this new folder.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show private words in files and pipes too, and faces in HTML.")
    ] = False,
    _isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            callback=use_project_settings,
            is_eager=True,
            help="Ignore [tool.loraudit] in the pyproject.toml of the current folder.",
        ),
    ] = False,
) -> None:
    """Find whom a LoRA file gives away, in its words and in its weights.

    Every option but --reveal can also be set by a variable of the environment, such as LORAUDIT_FAIL_ON for
    --fail-on, and most in [tool.loraudit] of a pyproject.toml: docs/gate.md.
    """
    from loraudit.audit.request import ATTACKS, BUDGETS, Request
    from loraudit.audit.scan import scan as scan_targets
    from loraudit.findings.exits import combine_exit_codes, exit_code
    from loraudit.outputs import find_outputs, write_reports
    from loraudit.progress import progress

    gate = None
    if baseline is not None or allow is not None:
        from loraudit.gate import read_gate

        gate = read_gate(baseline, allow)
        for line in gate.expired:
            say(line)
    outputs = find_outputs(output or (), format.value, target)
    if depth is not Depth.attack and (reference or save_images):
        raise LorauditError("--reference and --save-images need pictures", "leave --depth out")
    request = Request(
        depth=depth.value,
        base=base,
        attacks=ATTACKS[budget.value] if attack is None else tuple(name.value for name in attack),
        named=attack is not None,
        encoder=encoder,
        reference=reference,
        samples=samples or BUDGETS[budget.value],
        steps=steps,
        seed=seed,
        device=None if device is None else device.value,
        offline=offline,
        save_images=save_images,
        sheet=("clear" if reveal else "pixelated") if any(one.format == "html" for one in outputs) else None,
    )
    with progress("reconstructing" if depth is Depth.attack else "reading") as on_step:
        scanned = scan_targets(target, request, say, on_step)
    if gate is not None:
        scanned = [replace(one, report=gate.mark(one.report, one.files)) for one in scanned]
    failed = [one for one in scanned if one.error is not None]
    for one in failed[:SHOWN_ERRORS]:
        if one.error is not None:
            shown = one.report.target.name
            say_error(str(one.error) if shown in str(one.error) else f"{shown}: {one.error}", one.error.hint)
    if len(failed) > SHOWN_ERRORS:
        say(f"and {len(failed) - SHOWN_ERRORS} more that could not be scanned; the report names them")
    write_reports([one.report for one in scanned], outputs, reveal)
    raise typer.Exit(combine_exit_codes(exit_code(one.report, fail_on.threshold) for one in scanned))
