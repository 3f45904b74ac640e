"""The command `scan`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from loraudit.cli.attack_options import (
    AttackOption,
    BudgetOption,
    DryRunOption,
    DtypeOption,
    EncoderOption,
    LoRABaseOption,
    NoPicturesOption,
    ReferenceOption,
    SamplesOption,
    SaveImagesOption,
    SeedOption,
    StepsOption,
)
from loraudit.cli.choices import (
    GATE,
    Budget,
    CalibrationOption,
    Depth,
    DeviceOption,
    Dtype,
    ExcludeOption,
    FailOn,
    IgnoreOption,
    MinSeverityOption,
    NoProgressOption,
    OfflineOption,
    QuietOption,
    ReportFormat,
    SelectOption,
    TargetsFromOption,
    check_base,
    check_calibration,
    check_encoder,
    check_no_pictures,
)
from loraudit.cli.console import say
from loraudit.cli.failures import say_failures
from loraudit.cli.settings import SettingsCommand, use_project_settings
from loraudit.cli.targets import find_targets
from loraudit.errors import LorauditError

if TYPE_CHECKING:
    from loraudit.audit.scan import Scanned
    from loraudit.gate import Gate

__all__ = ["scan"]

COMMAND: Final = SettingsCommand
EXAMPLES: Final = (
    "loraudit scan --example",
    "loraudit scan lora.safetensors --reference photos/ --save-images out/",
    "loraudit scan loras/ --depth metadata --fail-on medium",
    "loraudit scan lora.safetensors -o json=report.json -o html=report.html",
)


def scan(
    target: Annotated[
        list[str] | None,
        typer.Argument(
            help="LoRA files, folders of them, or addresses on the Hub: hf://ns/name/path.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        Depth,
        typer.Option(
            "--depth",
            help="Depth of the audit: the metadata alone, the weights too, or also attacks on the weights.",
        ),
    ] = Depth.attack,
    example: Annotated[
        bool, typer.Option("--example", help="Scan the bundled LoRA of a person who does not exist.")
    ] = False,
    targets_from: TargetsFromOption = None,
    exclude: ExcludeOption = None,
    offline: OfflineOption = False,
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
    reference: ReferenceOption = None,
    base: LoRABaseOption = None,
    attack: AttackOption = None,
    no_pictures: NoPicturesOption = False,
    encoder: EncoderOption = None,
    calibration: CalibrationOption = None,
    budget: BudgetOption = Budget.standard,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.auto,
    dry_run: DryRunOption = False,
    save_images: SaveImagesOption = None,
    format: Annotated[  # noqa: A002
        ReportFormat, typer.Option("--format", "-f", help="Format of the report.", rich_help_panel=GATE)
    ] = ReportFormat.text,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; FORMAT=FILE adds one of that format; repeatable. [default: stdout]",
            rich_help_panel=GATE,
        ),
    ] = None,
    reveal: Annotated[
        bool,
        typer.Option(
            "--reveal",
            help="Show private words in files and pipes too, and faces in HTML.",
            rich_help_panel=GATE,
        ),
    ] = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    min_severity: MinSeverityOption = None,
    fail_on: Annotated[
        FailOn,
        typer.Option("--fail-on", help="Lowest verdict that makes the exit code 1.", rich_help_panel=GATE),
    ] = FailOn.high,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            help="Earlier JSON report, whose findings do not count again.",
            rich_help_panel=GATE,
        ),
    ] = None,
    allow: Annotated[
        Path | None,
        typer.Option(
            "--allow", help="TOML file of allowed findings, each with a reason.", rich_help_panel=GATE
        ),
    ] = None,
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
    """Audit LoRA files: what their metadata and weights give away.

    The environment can set all options but --reveal, --example and --dry-run: LORAUDIT_FAIL_ON sets
    --fail-on.
    [tool.loraudit] in a pyproject.toml can set most options. See docs/gate.md.
    """
    from loraudit.attacks.table import names_at
    from loraudit.audit.request import BUDGETS, Request
    from loraudit.audit.scan import scan as scan_targets
    from loraudit.cli.outputs import find_outputs, write_reports
    from loraudit.cli.progress import progress
    from loraudit.findings.exits import combine_exit_codes, exit_code

    targets, photos = find_targets(target or (), targets_from, example)
    if photos is not None and depth is Depth.attack:
        reference = reference or photos
    choice = None
    if select or ignore:
        from loraudit.gate.choice import choose_rules

        choice = choose_rules(select or (), ignore or ())
    gate = None
    if baseline is not None or allow is not None:
        from loraudit.gate import read_gate

        gate = read_gate(baseline, allow)
        for line in gate.expired:
            say(line)
    read = [str(word) for word in (targets_from, reference, base, encoder) if word is not None]
    outputs = find_outputs(output or (), format.value, [*targets, *read])
    if depth is not Depth.attack and (reference or save_images or dry_run):
        raise LorauditError("--reference, --save-images and --dry-run need pictures", "leave --depth out")
    if no_pictures:
        check_no_pictures(attack or (), save_images)
    if base is not None:
        check_base(base)
    if encoder is not None:
        check_encoder(encoder)
    if calibration is not None:
        check_calibration(calibration)
    request = Request(
        depth=depth.value,
        base=base,
        attacks=names_at(budget.value, pictures=not no_pictures)
        if attack is None
        else tuple(name.value for name in attack),
        named=attack is not None,
        encoder=encoder,
        calibration=calibration,
        pictures=not no_pictures,
        reference=reference,
        samples=samples or BUDGETS[budget.value],
        quick=budget is Budget.quick,
        steps=steps,
        seed=seed,
        device=None if device is None else device.value,
        dtype=dtype.value,
        offline=offline,
        exclude=tuple(exclude or ()),
        save_images=save_images,
        sheet=("clear" if reveal else "pixelated") if any(one.format == "html" for one in outputs) else None,
    )
    if dry_run:
        from loraudit.cli.dry_run import tell_cost

        raise typer.Exit(tell_cost(targets, request))
    with progress("loading the base model" if depth is Depth.attack else "reading") as on_step:
        scanned = scan_targets(targets, request, say, on_step)
    if choice is not None:
        scanned = [replace(one, report=choice.apply(one.report)) for one in scanned]
    if gate is not None:
        scanned = [_marked(one, gate) for one in scanned]
    say_failures([(one.report.target.name, one.error) for one in scanned if one.error is not None])
    reports = [one.report for one in scanned]
    if min_severity is not None:
        from loraudit.findings.finding import Severity
        from loraudit.gate.choice import withhold

        reports = [withhold(one, Severity(min_severity.value)) for one in reports]
    write_reports(reports, outputs, reveal)
    raise typer.Exit(combine_exit_codes(exit_code(one.report, fail_on.threshold) for one in scanned))


def _marked(one: "Scanned", gate: "Gate") -> "Scanned":
    """Mark the findings of one target; an error there is told in its report and costs no other."""
    from loraudit.findings.failures import reported
    from loraudit.findings.report import gap

    try:
        return replace(one, report=gate.mark(one.report, one.files))
    except Exception as error:
        told = reported(error)
        gaps = (*one.report.incomplete, gap("the allow file and the baseline", told))
        return replace(one, report=replace(one.report, incomplete=gaps, failed=True), error=told)
