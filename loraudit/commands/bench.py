"""The commands `bench attacks` and `bench verdict`: how good attacks and verdicts are."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from loraudit.commands.choices import TextOrJson
from loraudit.console import emit, say

__all__ = ["bench"]

bench = typer.Typer(
    name="bench",
    help="Measure attacks and verdicts on LoRAs of people who do not exist.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Samples = Annotated[int, typer.Option("--samples", help="Pictures per attack.", min=2, max=4096)]
Steps = Annotated[int, typer.Option("--steps", help="Sampling steps per picture.", min=1, max=1000)]
Threads = Annotated[int | None, typer.Option("--threads", help="Of the CPU. [default: all]", min=1)]
Format = Annotated[TextOrJson, typer.Option("--format", "-f", help="What to print.")]


class Finder(StrEnum):
    """What `--with` takes."""

    matching = "matching"


@bench.command()
def attacks(
    zoo: Annotated[
        Path, typer.Option("--zoo", help="LoRAs of private people, made first if they are not there.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the table; goes on with what is in it.")],
    people: Annotated[int, typer.Option("--people", help="LoRAs to attack.", min=2)] = 128,
    encoder: Annotated[
        str, typer.Option("--encoder", help="A probe encoder's name or folder.")
    ] = "probe-tiny",
    paper: Annotated[str, typer.Option("--paper", help="A paper encoder's name or folder.")] = "paper-tiny",
    constant: Annotated[
        Path | None, typer.Option("--constant", help="A folder of 'train-encoder --constant'.")
    ] = None,
    finder: Annotated[
        list[Finder] | None, typer.Option("--with", help="Run this slow one too; repeatable.")
    ] = None,
    samples: Samples = 8,
    steps: Steps = 12,
    snapshot: Annotated[
        int | None, typer.Option("--snapshot", help="A saved step of the LoRAs. [default: the last]")
    ] = None,
    threads: Threads = None,
    format: Format = TextOrJson.text,  # noqa: A002
) -> None:
    """Every attack beside its bound, its rivals and its controls, on the base tiny."""
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
    rows = bench_attacks(job, say)
    table = (out / "table.json").read_text(encoding="utf-8")
    emit(table if format is TextOrJson.json else attack_columns(rows), None)
    say(f"table.json, table.md and table.png are in {out}")


@bench.command()
def verdict(
    leaking: Annotated[
        list[Path], typer.Option("--leaking", help="Zoos of LoRAs of one person each; repeatable.")
    ],
    harmless: Annotated[
        list[Path], typer.Option("--harmless", help="Zoos of LoRAs of nobody in particular; repeatable.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the record; goes on with what is in it.")],
    extra: Annotated[
        list[Path] | None,
        typer.Option("--merge", help="Zoos of people to make merged and noise LoRAs of; repeatable."),
    ] = None,
    curve: Annotated[
        Path | None, typer.Option("--curve", help="A zoo with snapshots: the score over the steps.")
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="A probe encoder's name or folder.")
    ] = "probe-tiny",
    calibration: Annotated[
        str, typer.Option("--calibration", help="Calibration data: a name or a folder.")
    ] = "calibration-tiny",
    people: Annotated[int, typer.Option("--people", help="LoRAs of each zoo, at most.", min=2)] = 1_000_000,
    samples: Samples = 16,
    steps: Steps = 12,
    threads: Threads = None,
    format: Format = TextOrJson.text,  # noqa: A002
) -> None:
    """ROC, levels and false alarms over leaking and harmless LoRAs, on the base tiny."""
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
        people,
        samples,
        steps,
    )
    record = bench_verdict(job, say)
    whole = (out / "verdict.json").read_text(encoding="utf-8")
    emit(whole if format is TextOrJson.json else verdict_columns(record), None)
    say(f"verdict.json, verdict.md and verdict.png are in {out}")


def _use(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
