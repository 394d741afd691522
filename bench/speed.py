"""The engine against hand-written loops and peers: same lanes and checkpoints, interleaved repetitions, ratios."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from algorithms.deletion import SENSITIVITY
from algorithms.metric import SUBOPTIMALITY, Metric
from bench.compiler import run_segments
from bench.data import Data, facts_of
from bench.engine import Program
from bench.grid import Request, Task, cross
from bench.rivals import logistic_regression, lora_gradient_descent, rewind_to_delete, truncated_policy_gradient
from bench.table import padded, places
from bench.task import Machine, fitting_chunk

Make = Callable[..., Callable[[], np.ndarray]]
AGREEMENT = {"float64": 1e-8, "float32": 1e-2}  # at the end, in units of the metric's size


@dataclass(frozen=True)
class Work:
    """One comparison: what is run, which metric is recorded, who runs it; `draws` contenders draw for themselves."""

    name: str
    problem: str
    algorithm: str
    metric: Metric
    seeds: int
    steps: int
    hand_written: Make
    array_loop: Make
    libraries: tuple[str, ...] = ("numpy", "pytorch")
    draws: tuple[str, ...] = ()


WORKS = (
    Work(
        "logistic_regression_shared",
        "logistic_regression[n=500,d=50]",
        "gradient_descent[eta=[0.2/L,0.4/L,0.6/L,0.8/L,1/L,1.2/L,1.4/L,1.6/L]]",
        SUBOPTIMALITY,
        128,
        1000,
        logistic_regression.hand_written_shared,
        logistic_regression.array_loop_shared,
    ),
    Work(
        "logistic_regression_own",
        "logistic_regression[n=500,d=50,instances=each]",
        "gradient_descent[eta=1/L]",
        SUBOPTIMALITY,
        256,
        300,
        logistic_regression.hand_written_own,
        logistic_regression.array_loop_own,
    ),
    Work(
        "rewind_to_delete",
        "logistic_regression[n=500,d=50,l2=0.01]",
        "rewind_to_delete[T=1000,K=500,eta=[0.25/L_max,0.5/L_max,0.75/L_max,1/L_max]]",
        SENSITIVITY,
        64,
        1000,
        rewind_to_delete.hand_written,
        rewind_to_delete.array_loop,
    ),
    Work(
        "lora_gradient_descent",
        "matrix_factorization[m=64,n=64,rank=4]",
        "lora_gradient_descent[c=[0.25,0.5,0.75,1.0]]",
        SUBOPTIMALITY,
        64,
        500,
        lora_gradient_descent.hand_written,
        lora_gradient_descent.array_loop,
    ),
    Work(
        "truncated_policy_gradient",
        "garnet[S=10,A=3]",
        "truncated_policy_gradient[horizon=50,max_horizon=50,batch_size=8]",
        SUBOPTIMALITY,
        64,
        150,
        truncated_policy_gradient.hand_written,
        truncated_policy_gradient.numpy_loop,
        libraries=("numpy",),
        draws=("numpy",),
    ),
)


def engine_loop(task: Task, work: Work, machine: Machine, data: Data) -> Callable[[], np.ndarray]:
    """Return the engine's own loop over chunks and checkpoints, compiled: the metric at the first and the last one."""
    program = Program(task.algorithm, (), (work.metric,))
    chunk, _ = fitting_chunk(task, program, machine)
    blocks = [(at, data.lanes(task, *padded(task, at, chunk))) for at in places(task, chunk)]
    checkpoints = np.asarray(task.checkpoints)
    compiled = machine.compiler(program, blocks[0][1])

    def run() -> np.ndarray:
        ends = np.empty((2, len(task.seeds), len(task.settings)))
        for at, lanes in blocks:
            records = [record for _, _, record in run_segments(compiled, lanes, checkpoints)]
            for end, record in zip(ends, (records[0], records[-1]), strict=True):
                end[at] = record.metrics[work.metric.name][: at[0].stop - at[0].start]
        return ends.reshape(2, -1)

    return run


def contenders(task: Task, work: Work) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Yield everyone who runs the work, the engine first."""
    data = Data(task.root)
    devices = tuple(jax.local_devices())
    lanes = data.lanes(task, list(task.seeds), list(range(len(task.settings))))
    checkpoints = np.asarray(task.checkpoints)
    yield "engine", engine_loop(task, work, Machine(devices=devices[:1]), data)
    yield "hand_written", work.hand_written(lanes, checkpoints)
    if len(devices) > 1:
        yield "engine_all_devices", engine_loop(task, work, Machine(devices=devices), data)
    if "numpy" in work.libraries:
        yield "numpy", work.array_loop(lanes, checkpoints, np.asarray, np)
    if "pytorch" in work.libraries and find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        yield "pytorch", work.array_loop(lanes, checkpoints, lambda a: torch.asarray(np.array(a)), torch)


def calls_of(task: Task) -> float:
    """Return the oracle calls of all lanes together: gradients, or steps of the environment where trajectories are
    drawn.
    """
    lanes = Data(task.root).lanes(task, list(task.seeds), list(range(len(task.settings))))
    return float(facts_of(task, lanes)["calls:step"].sum()) * task.steps


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(work: Work, dtype: str, repeats: int) -> list[dict[str, Any]]:
    """Return a row a contender: median seconds of interleaved repetitions and the ratio to the engine's.

    Deterministic contenders must end where the engine ends: `agrees` says whether they do.
    """
    with jax.enable_x64(dtype == "float64"):
        request = Request((work.problem,), (work.algorithm,), seeds=work.seeds, steps=work.steps, checkpoints=50)
        task = cross(request, 0, dtype).tasks[0]
        runs, calls = dict(contenders(task, work)), calls_of(task)
        ends = {name: run() for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(repeats):
            for name, run in runs.items():
                if repeat == 0 or name not in ("numpy", "pytorch"):
                    times[name].append(seconds_of(run))
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    _, end = ends["engine"]
    scale = np.abs(ends["engine"]).max()

    def agrees(name: str) -> bool | None:
        last = ends[name][1] if ends[name].ndim == 2 else ends[name]
        return None if name in work.draws else bool(np.abs(last - end).max() <= AGREEMENT[dtype] * scale)

    return [
        {
            "work": work.name,
            "dtype": dtype,
            "contender": name,
            "seconds": seconds,
            "ratio_to_engine": seconds / medians["engine"],
            "calls_a_second": calls / seconds,
            "agrees": agrees(name),
        }
        for name, seconds in medians.items()
    ]
