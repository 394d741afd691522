"""Run one task: the chunk that fits, its chunks one after the other, the group of results that they fill."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import numpy as np

from algorithms.metric import VALUE, Metric
from bench.compiler import Compiler, Device, run_segments
from bench.data import Data, facts_of, own_bytes, shapes_of
from bench.engine import Carry, Program
from bench.grid import Task
from bench.group import as_group
from bench.partial import PartialFile, Progress
from bench.plan import Chunk, first_chunk
from bench.table import Table, padded, places
from problems.problem import Family
from results.schema import Group

Report = Callable[[int], None]  # called with lanes x steps done since the last call


@dataclass
class Machine:
    """Where tasks run: devices, the compiled programs so far, and the bytes a device may hold."""

    devices: tuple[Device, ...] = field(default_factory=lambda: tuple(jax.local_devices()))
    max_bytes: int = 8 << 30
    compiler: Compiler = field(init=False)

    def __post_init__(self):
        self.compiler = Compiler(self.devices)

    @property
    def on_cpu(self) -> bool:
        """Return whether the lanes run on host processors."""
        return self.devices[0].platform == "cpu"


@cache
def measures(family: Family) -> tuple[Metric, ...]:
    """Return the family's own measures as metrics."""

    def as_metric(name: str, measure: Callable[[Any, Any], jax.Array]) -> Metric:
        return Metric(name, lambda problem, x, state: measure(problem.data, x))

    return tuple(as_metric(name, measure) for name, measure in family.measures)


def program_of(task: Task) -> Program:
    """Return the static part of a task; where nothing else would be written down, the objective is."""
    metrics = (*task.algorithm.metrics, *measures(task.problem.family))
    return Program(task.algorithm, task.theorems, metrics if metrics or task.theorems else (VALUE,))


def fitting_chunk(task: Task, program: Program, machine: Machine) -> tuple[Chunk, float]:
    """Return the largest chunk whose compiled program fits the memory limit, and the seconds that compiling it took.

    Bytes are not affine in seeds, so the real chunk is compiled and halved from the first guess.
    """
    chunk = first_chunk(
        max(len(task.seeds), task.sibling_seeds),
        len(task.settings),
        len(machine.devices),
        machine.on_cpu,
        own_bytes(task.problem),
        machine.max_bytes,
    )
    while True:
        compiled = machine.compiler(program, shapes_of(task, chunk), task.brief)
        smaller = chunk.halved()
        if compiled.bytes <= machine.max_bytes or smaller is None:
            return chunk, compiled.seconds
        chunk = smaller


def run_task(task: Task, machine: Machine, data: Data, partial_file: PartialFile, report: Report, suite: str) -> Group:
    """Return the finished group of a task, going on from its partial file where there is one.

    A chunk that runs out of memory is halved and begun again.
    """
    program, progress = program_of(task), partial_file.load()
    chunk, compile_s = (progress.chunk, 0.0) if progress else fitting_chunk(task, program, machine)
    began = time.perf_counter()
    while True:
        try:
            table = run_chunks(task, program, machine, data, chunk, progress, partial_file, report)
            break
        except jax.errors.JaxRuntimeError as error:
            smaller = chunk.halved()
            if "RESOURCE_EXHAUSTED" not in str(error) or smaller is None:
                raise
            chunk, progress = smaller, None
    run_s = time.perf_counter() - began
    facts = {"suite": suite, "chunk": chunk.lanes, "compile_s": compile_s, "run_s": run_s}
    return as_group(task, table, machine.devices, facts)


def run_chunks(
    task: Task,
    program: Program,
    machine: Machine,
    data: Data,
    chunk: Chunk,
    progress: Progress | None,
    partial_file: PartialFile,
    report: Report,
) -> Table:
    """Return the table of a task, chunk after chunk, checkpoint after checkpoint."""
    checkpoints = np.asarray(task.checkpoints)
    table = Table(len(task.seeds), len(task.settings), len(checkpoints), dict(progress.arrays) if progress else {})
    blocks = places(task, chunk)
    for number in range(progress.number if progress else 0, len(blocks)):
        at = blocks[number]
        lanes = data.lanes(task, *padded(task, at, chunk))
        for name, array in facts_of(task, lanes).items():
            table.enter(at, name, array)
        compiled = machine.compiler(program, lanes, task.brief)
        carry: Carry | None = None
        done = 0
        if progress and number == progress.number and progress.leaves:
            carry, done = compiled.restore(progress.leaves), progress.done
        real = (at[0].stop - at[0].start) * (at[1].stop - at[1].start)
        for i, now, record in run_segments(compiled, lanes, checkpoints, carry, done, partial_file.due):
            table.write(at, i, record)
            report(real * int(checkpoints[i] - (checkpoints[i - 1] if i else 0)))
            if now is not None and i + 1 < len(checkpoints):
                partial_file.save(chunk, number, i + 1, now, table.arrays)
        if partial_file.due():
            partial_file.save(chunk, number + 1, 0, None, table.arrays)
    return table
