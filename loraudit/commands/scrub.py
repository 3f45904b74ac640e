"""The command `scrub`."""

from pathlib import Path
from typing import Annotated

import typer

from loraudit.console import emit

__all__ = ["scrub"]


def scrub(
    target: Annotated[Path, typer.Argument(help="A safetensors file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the copy to this file.")],
) -> None:
    """Write a copy of a file without its metadata, all but what loaders need."""
    from loraudit.lora.source.source import find_source
    from loraudit.metadata import read_exposure, traces
    from loraudit.metadata.judge import judge_metadata
    from loraudit.metadata.scrub import scrub as scrub_file
    from loraudit.scrubbing import scrub_text

    scrubbed = scrub_file(target, output)
    left = judge_metadata(traces(read_exposure(find_source(output))))
    emit(scrub_text(scrubbed, output, left), None)
