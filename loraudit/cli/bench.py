"""The commands `bench attacks` and `bench verdict`: measurements of attacks and verdicts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loraudit.cli.choices import NoProgressOption, QuietOption, TextOrJson, check_calibration, check_encoder
from loraudit.cli.console import emit, say
from loraudit.cli.progress import progress, resumable
from loraudit.cli.quick import QuickCommand, QuickGroup, examples

__all__ = ["bench"]

bench = typer.Typer(
    name="bench",
    cls=QuickGroup,
    help="Measure attacks and verdicts on LoRAs of synthetic people.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    epilog=examples(
        "loraudit bench attacks --zoo zoo/ -o bench/attacks",
        "loraudit bench verdict --leaking people/ --harmless things/ -o bench/verdict",
    ),
)

Samples = Annotated[int, typer.Option("--samples", help="Pictures per attack.", min=2, max=4096)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the results; an interrupted run in it goes on.")
]
Steps = Annotated[int, typer.Option("--steps", help="Sampling steps per picture.", min=1, max=1000)]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads. [default: all]", min=1)]
Format = Annotated[TextOrJson, typer.Option("--format", "-f", help="Format of the table.")]


class Finder(StrEnum):
    """The values of `--with`."""

    matching = "matching"


@bench.command(
    cls=QuickCommand, epilog=examples("loraudit bench attacks --zoo zoo/ --people 16 -o bench/attacks")
)
def attacks(
    zoo: Annotated[
        Path,
        typer.Option(
            "--zoo",
            help="Folder of LoRAs of synthetic people that no training has seen; made first if missing.",
        ),
    ],
    out: Output,
    people: Annotated[int, typer.Option("--people", help="Number of LoRAs to attack.", min=2)] = 128,
    encoder: Annotated[
        str,
        typer.Option("--encoder", help="Probe encoder: a bundled name or a folder.", metavar="<name|dir>"),
    ] = "probe-tiny",
    paper: Annotated[
        str,
        typer.Option(
            "--paper", help="The paper's encoder: a bundled name or a folder.", metavar="<name|dir>"
        ),
    ] = "paper-tiny",
    constant: Annotated[
        Path | None, typer.Option("--constant", help="Folder that 'train-encoder --constant' wrote.")
    ] = None,
    finder: Annotated[
        list[Finder] | None, typer.Option("--with", help="Slow attack to run too; repeatable.")
    ] = None,
    samples: Samples = 8,
    steps: Steps = 12,
    snapshot: Annotated[
        int | None,
        typer.Option("--snapshot", help="Fine-tuning step at which to attack the LoRAs. [default: the last]"),
    ] = None,
    threads: Threads = None,
    format: Format = TextOrJson.text,  # noqa: A002
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
) -> None:
    """Measure every attack beside its upper bound, rivals and controls."""
    check_encoder(encoder)
    check_encoder(paper)
    from loraudit.bench.attacks import AttackBench, bench_attacks
    from loraudit.bench.columns import attack_columns

    _use(threads)
    job = AttackBench(
        zoo,
        out,
        people,
        encoder,
        paper,
        constant,
        tuple(one.value for one in finder or ()),
        samples,
        steps,
        snapshot=snapshot,
    )
    with resumable(), progress("building the zoo") as on_step:
        rows = bench_attacks(job, say, on_step)
    table = (out / "table.json").read_text(encoding="utf-8")
    emit(table if format is TextOrJson.json else attack_columns(rows), None)
    say(f"table.json, table.md and table.png are in {out}")


@bench.command(
    cls=QuickCommand,
    epilog=examples("loraudit bench verdict --leaking people/ --harmless things/ -o bench/verdict"),
)
def verdict(
    leaking: Annotated[
        list[Path], typer.Option("--leaking", help="Folder of LoRAs of one person each; repeatable.")
    ],
    harmless: Annotated[
        list[Path], typer.Option("--harmless", help="Folder of LoRAs that hold no single person; repeatable.")
    ],
    out: Output,
    extra: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge",
            help="Folder of LoRAs of people from which to make merged and noise LoRAs; repeatable.",
        ),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--curve",
            help="Folder of LoRAs with snapshots, for the score over the fine-tuning steps.",
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option("--encoder", help="Probe encoder: a bundled name or a folder.", metavar="<name|dir>"),
    ] = "probe-tiny",
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration", help="Calibration data: a bundled name or a folder.", metavar="<name|dir>"
        ),
    ] = "calibration-tiny",
    people: Annotated[
        int | None,
        typer.Option("--people", help="Number of LoRAs to read per zoo, at most. [default: all]", min=2),
    ] = None,
    samples: Samples = 16,
    steps: Steps = 12,
    threads: Threads = None,
    format: Format = TextOrJson.text,  # noqa: A002
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
) -> None:
    """Measure ROC curve, severities and false alarms of the verdict."""
    check_encoder(encoder)
    check_calibration(calibration)
    from loraudit.bench.verdict import VerdictBench, bench_verdict
    from loraudit.bench.verdict_tables import verdict_columns

    _use(threads)
    job = VerdictBench(
        tuple(leaking),
        tuple(harmless),
        out,
        tuple(extra or ()),
        curve,
        encoder,
        calibration,
        VerdictBench.people if people is None else people,
        samples,
        steps,
    )
    with resumable():
        record = bench_verdict(job, say)
    whole = (out / "verdict.json").read_text(encoding="utf-8")
    emit(whole if format is TextOrJson.json else verdict_columns(record), None)
    say(f"verdict.json, verdict.md and verdict.png are in {out}")


def _use(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
