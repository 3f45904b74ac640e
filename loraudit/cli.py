"""The command line: parse, wire, render, exit code.

Heavy imports stay inside the commands, so that `--help` and `inspect` load neither torch nor diffusers. What
a command reports goes to stdout or `-o`, everything else to stderr.
"""

import os
import shutil
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit import __version__
from loraudit.errors import Incomplete, LorauditError
from loraudit.interrupt import interruptible
from loraudit.quick import QuickCommand, QuickGroup
from loraudit.training.commands import Layout, finetune, train_encoder

__all__ = ["app", "main"]

INTERRUPTED: Final = 130
PIPE_WIDTH: Final = 100
SHOWN_ERRORS: Final = 10

app = typer.Typer(
    name="loraudit",
    cls=QuickGroup,
    help="Find out whom a LoRA file gives away, before you share it.",
    epilog=(
        "Exit codes: 0 done, 1 findings at or above --fail-on, 2 usage or internal error, 3 nothing that can "
        "be scanned, 4 incomplete or inconclusive, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class TextOrJson(StrEnum):
    """The formats of what is printed."""

    text = "text"
    json = "json"


class Depth(StrEnum):
    """What `--depth` takes."""

    metadata = "metadata"
    weights = "weights"
    attack = "attack"


class AttackName(StrEnum):
    """What `--attack` takes."""

    encoder = "encoder"
    paper = "paper"
    guidance = "guidance"
    search = "search"
    prompts = "prompts"


class Budget(StrEnum):
    """What `--budget` takes."""

    quick = "quick"
    standard = "standard"
    deep = "deep"


class Device(StrEnum):
    """What `--device` takes."""

    cpu = "cpu"
    cuda = "cuda"


class FailOn(StrEnum):
    """What `--fail-on` takes."""

    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"
    never = "never"


def main() -> None:
    """Run the command line and exit; errors become one line on stderr."""
    try:
        with interruptible():
            app()
    except LorauditError as error:
        _fail(str(error), error.hint, error.exit_code)
    except MemoryError:
        _fail("not enough memory", "close other programs, or use a machine with more", 2)
    except KeyboardInterrupt:
        _fail("interrupted", "", INTERRUPTED)
    except SystemExit as stop:
        # Typer answers Ctrl-C inside a command with this code and no word.
        if stop.code == INTERRUPTED:
            _fail("interrupted", "", INTERRUPTED)
        raise
    except Exception as error:
        # Python's own exit code for this is 1, which here means "findings". What it says may be a file's.
        from loraudit.lora.text import clean

        for line in traceback.format_exc().splitlines():
            _say(clean(line, 300))
        _fail(f"internal error ({type(error).__name__})", "this is a bug in loraudit; please report it", 2)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"loraudit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@app.command(cls=QuickCommand)
def inspect(
    target: Annotated[
        str, typer.Argument(help="A LoRA file, a folder with one, or one on the Hub: hf://ns/name/path.")
    ],
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    format: Annotated[TextOrJson, typer.Option("--format", "-f", help="What to print.")] = TextOrJson.text,  # noqa: A002
    export: Annotated[
        Layout | None,
        typer.Option("--export", help="Write the LoRA to -o in this layout."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file; with --export, the LoRA (peft: a folder)."),
    ] = None,
) -> None:
    """Say what a LoRA file is and what could not be read."""
    from loraudit.inspection import export_line, inspection_json, inspection_text
    from loraudit.lora import export_lora, load_lora

    if export is not None and output is None:
        raise LorauditError("--export writes a file", "name a new one with -o")
    lora = load_lora(target, offline)
    if export is not None and output is not None:
        export_lora(lora, export.value, output)
        _say(export_line(lora, export.value, output))
        output = None
    if format is TextOrJson.json:
        _emit(inspection_json(lora), output)
    else:
        _emit(inspection_text(lora, width=_width(output), colour=_colour(output)), output)
    if export is not None and lora.unread:
        raise typer.Exit(Incomplete.exit_code)


@app.command(cls=QuickCommand)
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
        Budget, typer.Option("--budget", help="At most 8, 16 or 32 pictures per attack; deep also searches.")
    ] = Budget.standard,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Instead of --budget: so many.", min=1, max=4096)
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Sampling steps per picture.", min=1, max=1000)] = 25,
    seed: Annotated[int, typer.Option("--seed", help="Of the first picture.", min=0, max=2**32)] = 0,
    device: Annotated[
        Device | None, typer.Option("--device", help="[default: cuda where there is one]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    format: Annotated[TextOrJson, typer.Option("--format", "-f", help="What to print.")] = TextOrJson.text,  # noqa: A002
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Exit 1 from this level on.")] = FailOn.high,
    save_images: Annotated[
        Path | None, typer.Option("--save-images", help="Write the pictures to this new folder.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show private words of the file in files and pipes too.")
    ] = False,
) -> None:
    """Find whom a LoRA file gives away, in its words and in its weights."""
    from loraudit.findings import Severity, combine_exit_codes
    from loraudit.lora.header import clean
    from loraudit.progress import progress
    from loraudit.report import FORMATS
    from loraudit.request import ATTACKS, BUDGETS, Request
    from loraudit.scan import scan as scan_targets

    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        # Said now and not after the work.
        raise LorauditError(f"cannot write {clean(str(output), 300)}", "choose another path with -o")
    if depth is not Depth.attack and (reference or save_images):
        raise LorauditError("--reference and --save-images need pictures", "leave --depth out")
    request = Request(
        depth=depth.value,
        base=base,
        attacks=ATTACKS[budget.value] if attack is None else tuple(name.value for name in attack),
        encoder=encoder,
        reference=reference,
        samples=samples or BUDGETS[budget.value],
        steps=steps,
        seed=seed,
        device=None if device is None else device.value,
        offline=offline,
        save_images=save_images,
    )
    with progress("reconstructing" if depth is Depth.attack else "reading") as on_step:
        scanned = scan_targets(target, request, _say, on_step)
    failed = [one for one in scanned if one.error is not None]
    for one in failed[:SHOWN_ERRORS]:
        if one.error is not None:
            shown = one.report.target.name
            _say_error(str(one.error) if shown in str(one.error) else f"{shown}: {one.error}", one.error.hint)
    if len(failed) > SHOWN_ERRORS:
        _say(f"and {len(failed) - SHOWN_ERRORS} more that could not be scanned; the report names them")
    on_terminal = output is None and format is TextOrJson.text and sys.stdout.isatty()
    text = FORMATS[format.value](
        [one.report for one in scanned],
        reveal=reveal or on_terminal,
        width=_width(output),
        color=_colour(output),
    )
    _emit(text, output, 0o600 if reveal else 0o666)
    threshold = None if fail_on is FailOn.never else Severity(fail_on.value)
    raise typer.Exit(combine_exit_codes(one.exit_code(threshold) for one in scanned))


@app.command()
def scrub(
    target: Annotated[Path, typer.Argument(help="A safetensors file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the copy to this file.")],
) -> None:
    """Write a copy of a file without its metadata, all but what loaders need."""
    from loraudit.findings import judge_metadata
    from loraudit.lora.metadata import read_exposure, traces
    from loraudit.lora.scrub import scrub as scrub_file
    from loraudit.lora.source import find_source
    from loraudit.scrubbing import scrub_text

    scrubbed = scrub_file(target, output)
    left = judge_metadata(traces(read_exposure(find_source(output))))
    _emit(scrub_text(scrubbed, output, left), None)


@app.command()
def calibrate(
    controls: Annotated[
        Path,
        typer.Option("--controls", help="A folder of things, crowds, styles, noise, merged: LoRA files."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; goes on with what is in it.")],
    identities: Annotated[
        Path | None,
        typer.Option(
            "--identities", help="A folder per person: a LoRA and photos. Compared with the next's."
        ),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="A base by name.")] = "tiny",
    attack: Annotated[
        list[AttackName] | None, typer.Option("--attack", help="Run this one; repeatable. [default: all]")
    ] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="An encoder's name or folder.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Pictures per attack.", min=2, max=4096)] = 16,
    steps: Annotated[int, typer.Option("--steps", help="Sampling steps per picture.", min=1, max=1000)] = 25,
    device: Annotated[
        Device | None, typer.Option("--device", help="[default: cuda where there is one]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
) -> None:
    """Measure what LoRAs that hold nobody score, for scans to compare with."""
    from loraudit.calibrating import calibrate_folders
    from loraudit.progress import progress
    from loraudit.request import ATTACKS, Request
    from loraudit.workbench import set_up

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
    _say(f"{len(made.controls)} control LoRAs and {len(made.matches)} of other people: {out}")


app.command()(finetune)
app.command("train-encoder")(train_encoder)


def _emit(text: str, output: Path | None, mode: int = 0o666) -> None:
    """The command's result to stdout, or whole and at once to `output` with permissions `mode`."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        from loraudit.lora.atomic import write_atomic

        write_atomic(output, text.encode(), mode)


def _colour(output: Path | None) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return output is None and sys.stdout.isatty() and not plain


def _width(output: Path | None) -> int:
    on_terminal = output is None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _say_error(message: str, hint: str) -> None:
    sys.stderr.write(f"loraudit: error: {message}\n" + (f"  {hint}\n" if hint else ""))


def _fail(message: str, hint: str, code: int) -> None:
    _say_error(message, hint)
    raise SystemExit(code)
