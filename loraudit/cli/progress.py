"""The state of a long job on stderr: a bar on a terminal, a few lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loraudit.cli.console import say, shows_progress
from loraudit.cli.signals import Interrupted, Stop, interruptible
from loraudit.runs import OnStep, unheard

__all__ = ["progress", "resumable"]


@contextmanager
def resumable() -> Iterator[None]:
    """Turn a Ctrl-C, or a request to end, into `Interrupted`, for a job that the same command resumes."""
    stop = Stop()
    try:
        with interruptible() as stop:
            yield
    except KeyboardInterrupt:
        raise Interrupted(stop.words, "the same command goes on where this one stopped") from None


@contextmanager
def progress(title: str) -> Iterator[OnStep]:
    """Show a job called `title`: a bar on a terminal, elsewhere at most eleven lines a stage.

    The bar has the time since the stage began, and the time left once the last steps allow an estimate.
    A comma ends the name of a stage; what follows may change from step to step, such as the time left in all.
    Nothing is written with `--quiet` or `--no-progress`.
    """
    if not shows_progress():
        yield unheard
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield _lines(title)


def _lines(title: str) -> OnStep:
    tenth, before, running = -1, (0, 0), ""

    def line(done: int, total: int, stage: str) -> None:
        nonlocal tenth, before, running
        stage, (last, most) = stage or title, before
        other = stage.partition(",")[0] != running
        before, running = (done, total), stage.partition(",")[0]
        if not total:
            if other:
                say(stage)
            return
        if done < last or (other and (not done or total != most)):
            tenth = -1
        if 10 * done // total > tenth:
            tenth = 10 * done // total
            say(f"{stage}: {done} of {total}")

    return line


def _bar(title: str) -> Iterator[OnStep]:
    # Imported here: off a terminal no bar is drawn, and a metadata scan is over before rich is loaded.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.text import Text

    class Left(ProgressColumn):
        """The time left, once the last steps allow an estimate."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            left = task.time_remaining
            return Text("" if left is None else f"about {left // 60:.0f}:{left % 60:02.0f} left")

    text, count = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[count]}")
    columns = (SpinnerColumn(), text, BarColumn(bar_width=20), count, Elapsed(), Left())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        before, running = (0, 0), ""
        task = bars.add_task(title, total=None, count="")

        def step(done: int, total: int, stage: str) -> None:
            nonlocal task, before, running
            stage, (last, most) = stage or title, before
            if done < last or (total == 0) != (most == 0) or (stage != running and total != most):
                # Steps of another stage, or of an earlier run, must not count into the speed.
                bars.remove_task(task)
                task = bars.add_task(stage, total=total or None, completed=done, count="")
            before, running = (done, total), stage
            told = f"{done} of {total}" if total else ""
            bars.update(task, description=stage, completed=done, total=total or None, count=told)

        yield step
