"""Run a plan: finished groups are read, the others computed and written; what is finished is never computed again."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax

from bench.data import Data
from bench.errors import UserError
from bench.grid import Task
from bench.partial import PartialFile
from bench.task import Machine, fitting_chunk, program_of, run_task
from results import store
from results.schema import Group

COMPILING_THREADS = 2
STALE_SECONDS = 3600.0  # no process writes one file for an hour


@dataclass
class Summary:
    """What a run did, in numbers; `lanes` counts all groups, computed or reused."""

    groups: int = 0
    computed: int = 0
    reused: int = 0
    lanes: int = 0
    compiles: int = 0
    compile_s: float = 0.0
    run_s: float = 0.0
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Watcher:
    """Who is told how a run goes: `begin` a task, `advance` by lanes x steps, `note` something worth a line."""

    begin: Callable[[Task], None] = lambda task: None
    advance: Callable[[int], None] = lambda work: None
    note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Shard:
    """Part `i` of `n` of a plan: every n-th task, so that n processes share a folder without talking."""

    i: int = 0
    n: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard written `i/n`.

        Raises:
            UserError: not of that shape, or i outside 0 .. n-1.
        """
        i, _, n = text.partition("/")
        if not (i.isdigit() and n.isdigit() and int(n) >= 1 and int(i) < int(n)):
            raise UserError(f"--shard {text}: write i/n with 0 <= i < n, such as 0/2")
        return cls(int(i), int(n))

    def of(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """Return the tasks of this shard."""
        return tasks[self.i :: self.n]


def prepare_folder(folder: Path) -> None:
    """Make the folder, check that it can be written, and clear what killed processes left in mid-writing.

    Raises:
        UserError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the output folder {folder}: {error.strerror}; choose another with --out"
        ) from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write into the output folder {folder}; choose another with --out")
    for left in [*folder.glob(".*.unfinished"), *folder.glob(".*.partial.npz.*")]:
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            left.unlink(missing_ok=True)


def finished(task: Task, folder: Path | None, force: bool, summary: Summary, watcher: Watcher) -> bool:
    """Return whether the task's group lies readable in the folder; a damaged file is named and computed again."""
    if folder is None or force:
        return False
    path = folder / f"{task.digest()}.parquet"
    if not path.exists():
        return False
    try:
        store.read(path)
    except store.DamagedFile as error:
        summary.damaged.append(str(path))
        watcher.note(f"{error}; computing it again")
        return False
    return True


@contextmanager
def ahead_of_time(tasks: Iterable[Task], machine: Machine) -> Iterator[None]:
    """Compile the tasks' programs in the background while earlier tasks run; who needs one first waits for it.

    Most of a compilation runs outside Python's lock, so a second core shortens a suite of many small programs. The
    background only compiles: programs that *run* from several threads can wait for each other for ever on a CPU.
    """

    def compile_task(task: Task) -> None:
        with jax.enable_x64(task.dtype == "float64"), jax.default_matmul_precision("highest"):
            fitting_chunk(task, program_of(task), machine)

    pool = ThreadPoolExecutor(COMPILING_THREADS)
    try:
        for task in tasks:
            pool.submit(compile_task, task)
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run(
    tasks: tuple[Task, ...],
    machine: Machine,
    root: int,
    folder: Path | None,
    suite: str = "",
    force: bool = False,
    watcher: Watcher | None = None,
) -> tuple[Summary, list[Group]]:
    """Run the tasks. With a folder finished groups are written there and only counted, else they are returned."""
    watcher, summary, data, groups = watcher or Watcher(), Summary(groups=len(tasks)), Data(root), []
    summary.lanes = sum(len(task.seeds) * len(task.settings) for task in tasks)
    pending = [task for task in tasks if not finished(task, folder, force, summary, watcher)]
    summary.reused = len(tasks) - len(pending)
    watcher.advance(sum(task.work for task in tasks) - sum(task.work for task in pending))
    with ahead_of_time(pending, machine):
        for task in pending:
            watcher.begin(task)
            partial_file = PartialFile(folder / f".{task.digest()}.partial.npz" if folder else None)
            group = run_task(task, machine, data, partial_file, watcher.advance, suite)
            if folder is None:
                groups.append(group)
            else:
                store.write(group, folder, task.digest())
                partial_file.remove()
            summary.computed += 1
            summary.run_s += float(group.runs["run_s"].iloc[0])
    summary.compiles = len(machine.compiler.compiled)
    summary.compile_s = machine.compiler.seconds
    return summary, groups
