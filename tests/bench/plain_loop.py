"""A plain Python loop as oracle of the engine: one lane, one step after the other, every metric at every step."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.grid import Plan, Request, Task, cross
from bench.runner import run
from bench.task import Data, Machine, keys_of, program_of
from results.schema import Group

SEED_STREAM = 0


def plan_of(problem: str, algorithm: str, **numbers: Any) -> Plan:
    """Return the plan of one problem selector and one algorithm selector."""
    return cross(Request((problem,), (algorithm,), **numbers), root=0, dtype="float64")


def task_of(problem: str, algorithm: str, **numbers: Any) -> Task:
    """Return the only task of one problem selector and one algorithm selector."""
    (task,) = plan_of(problem, algorithm, **numbers).tasks
    return task


def group_of(task: Task, machine: Machine | None = None) -> Group:
    """Return the finished group of a task, on one device unless a machine is given."""
    _, (group,) = run((task,), machine or Machine(), task.root, None)
    return group


@dataclass(frozen=True)
class Trajectory:
    """One lane: metrics (steps + 1,) by name, folds already folded, bounds and floors by theorem."""

    metrics: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    admitted: dict[str, bool]
    floors: dict[str, float]


def trajectory(task: Task, seed: int, setting: int) -> Trajectory:
    """Return what the engine should write down about one lane."""
    lanes = Data(task.root).lanes(task, [seed], slice(setting, setting + 1))
    problem = jax.tree.map(lambda leaf: leaf[0], lanes.problem) if lanes.own_data else lanes.problem
    hp = jax.tree.map(lambda leaf: leaf[0, 0], lanes.hp)
    start_key, init_key, run_key = jax.random.split(keys_of(task.root, SEED_STREAM, [seed])[0], 3)
    algorithm, program = task.algorithm, program_of(task)
    step = jax.jit(algorithm.step)
    states = [algorithm.init(problem, problem.init(start_key), init_key, hp)]
    for t in range(task.steps):
        states.append(step(problem, states[-1], jax.random.fold_in(run_key, t), hp))

    metrics = {m.name: m for m in program.recorded} | {m.name: m for th in task.theorems for m in th.given}
    curves = {}
    for name, metric in metrics.items():
        measure = jax.jit(lambda state, metric=metric: metric.measure(problem, algorithm.readout(state), state))
        values = [measure(state) for state in states]
        curves[name] = [reduce(metric.fold, values[: t + 1]) for t in range(len(values))] if metric.fold else values
    bounds, admitted, floors = {}, {}, {}
    for theorem in task.theorems:
        given = [curves[metric.name] for metric in theorem.given]
        bounds[theorem.name] = np.array([
            theorem.bound(jnp.asarray(t, float), problem.constants, hp, *(curve[t] for curve in given))
            for t in range(len(states))
        ])  # fmt: skip
        admitted[theorem.name] = bool(theorem.admits(problem.constants, hp))
        scale = theorem.metric.scale or (lambda *of, metric=theorem.metric: abs(metric.measure(*of)))
        floors[theorem.name] = 100 * 2.0**-52 * float(scale(problem, algorithm.readout(states[0]), states[0]))
    recorded = {m.name: np.array(curves[m.name], float) for m in program.recorded}
    return Trajectory(recorded, bounds, admitted, floors)
