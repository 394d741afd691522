"""What a task has written down so far, and the blocks of lanes that fill it."""

from dataclasses import dataclass, field

import numpy as np

from bench.engine import Record
from bench.grid import Task
from bench.plan import Chunk

Place = tuple[slice, slice]  # a block of (seeds, settings)
ALONG_THE_RUN = ("metrics:", "bounds:")


@dataclass
class Table:
    """Arrays (seeds, settings), or (seeds, settings, checkpoints) for what changes along the run, by `kind:name`."""

    seeds: int
    settings: int
    checkpoints: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def enter(self, at: Place, name: str, array: np.ndarray, i: int | None = None) -> None:
        """Enter the values of the lanes `at`, at checkpoint `i` for what changes along the run; padding is dropped."""
        if name not in self.arrays:
            shape = (self.seeds, self.settings) if i is None else (self.seeds, self.settings, self.checkpoints)
            self.arrays[name] = np.zeros(shape, array.dtype)
        part = array[: at[0].stop - at[0].start, : at[1].stop - at[1].start]
        self.arrays[name][at if i is None else (*at, i)] = part

    def write(self, at: Place, i: int, record: Record) -> None:
        """Enter the record of checkpoint `i` of the lanes `at`."""
        for kind, part in vars(record).items():
            for name, array in part.items():
                self.enter(at, f"{kind}:{name}", array, i if f"{kind}:" in ALONG_THE_RUN else None)


def places(task: Task, chunk: Chunk) -> list[Place]:
    """Return the blocks of (seeds, settings) of a task, in order."""
    seeds, settings = len(task.seeds), len(task.settings)
    return [
        (slice(i, min(i + chunk.seeds, seeds)), slice(j, min(j + chunk.settings, settings)))
        for i in range(0, seeds, chunk.seeds)
        for j in range(0, settings, chunk.settings)
    ]


def padded(task: Task, at: Place, chunk: Chunk) -> tuple[list[int], list[int]]:
    """Return the seeds and the settings' numbers of a block, the last ones repeated: one shape for all blocks."""
    seeds, settings = list(task.seeds[at[0]]), list(range(at[1].start, at[1].stop))
    seeds += [seeds[-1]] * (chunk.seeds - len(seeds))
    return seeds, settings + [settings[-1]] * (chunk.settings - len(settings))
