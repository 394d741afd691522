"""One bar over groups and checkpoints with lanes x steps per second and time left; quiet when not a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from bench import grid
from bench.runner import Watcher


class Rate(ProgressColumn):
    """Lanes x steps per second."""

    def render(self, task: Task) -> Text:
        """Return the speed of the bar."""
        return Text(f"{(task.finished_speed or task.speed or 0) / 1e6:.2f} M lane-steps/s")


@contextmanager
def watching(tasks: tuple[grid.Task, ...], quiet: bool) -> Iterator[Watcher]:
    """Yield the watcher of a run: a bar on a terminal, one line for each note elsewhere, nothing when quiet."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Watcher(note=lambda line: print(line, file=sys.stderr))
        return
    columns = (
        TextColumn("{task.description:<44.44}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        total = bar.add_task("starting", total=sum(task.work for task in tasks))

        def begin(task: grid.Task) -> None:
            bar.update(total, description=f"{task.algorithm.name} on {task.problem.label}")

        yield Watcher(begin, lambda work: bar.advance(total, work), console.print)
