"""How far a long job is, on stderr: a bar on a terminal, a few lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loraudit.console import say

__all__ = ["progress"]


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A callable `(done, total)` that draws a bar on a terminal and elsewhere writes at most eleven lines."""
    if not sys.stderr.isatty():
        shown = -1

        def line(done: int, total: int) -> None:
            nonlocal shown
            if done == 0:
                shown = -1
            if total and (tenth := 10 * done // total) > shown:
                shown = tenth
                say(f"{title}: {done} of {total}")

        yield line
        return
    # Off a terminal nothing is drawn, and a scan of the metadata is over before this is loaded.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
