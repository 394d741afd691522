"""A plain Python loop as oracle of the engine: one lane, one step after the other, every metric at every step."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import jax
import numpy as np

from bench.grid import Plan, Request, Task, cross
from bench.resolve import resolve
from bench.runner import run
from bench.task import Machine
from results.schema import Group

SEED_STREAM, INSTANCE_STREAM = 0, 1


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


def key_of(root: int, stream: int, number: int) -> jax.Array:
    """Return the key of a seed or an instance: a function of the root and its number alone."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(root), stream), number)


@dataclass(frozen=True)
class Trajectory:
    """One lane: metrics (steps + 1,) by name, folds already folded; bounds, admission and floors by theorem."""

    metrics: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    admitted: dict[str, bool]
    floors: dict[str, float]


def states_of(task: Task, problem: Any, hp: Any, seed: int) -> list[Any]:
    """Return the states of one lane, the start included."""
    start_key, init_key, run_key = jax.random.split(key_of(task.root, SEED_STREAM, seed), 3)
    step = jax.jit(task.algorithm.step)
    states = [task.algorithm.init(problem, problem.init(start_key), init_key, hp)]
    for t in range(task.steps):
        states.append(step(problem, states[-1], jax.random.fold_in(run_key, t), hp))
    return states


def trajectory(task: Task, seed: int, setting: int) -> Trajectory:
    """Return what the engine should write down about one lane."""
    algorithm, theorems = task.algorithm, task.theorems
    problem = jax.jit(task.problem.make)(key_of(task.root, INSTANCE_STREAM, task.problem.instance_of(seed)))
    constants = jax.tree.map(lambda leaf: np.asarray(leaf)[None], problem.constants)
    hp = resolve(algorithm, task.static, (task.settings[setting],), constants)
    hp = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf)[0, 0], hp)
    states = states_of(task, problem, hp, seed)
    metrics = {m.name: m for th in theorems for m in (th.metric, *th.given)} | {m.name: m for m in algorithm.metrics}

    @jax.jit
    def measure(state):
        return {name: metric.measure(problem, algorithm.readout(state), state) for name, metric in metrics.items()}

    measured, curves = [jax.tree.map(np.asarray, measure(state)) for state in states], {}
    for name, metric in metrics.items():
        values = [now[name] for now in measured]
        curves[name] = list(accumulate(values, metric.fold)) if metric.fold else values
    bounds, admitted, floors = {}, {}, {}
    for theorem in theorems:
        given = [curves[metric.name] for metric in theorem.given]
        bound = jax.jit(lambda t, given, theorem=theorem: theorem.bound(t, problem.constants, hp, *given))
        bounds[theorem.name] = np.array([bound(float(t), [c[t] for c in given]) for t in range(len(states))])
        admitted[theorem.name] = bool(theorem.admits(problem.constants, hp))
        scale = theorem.metric.scale or (lambda *of, metric=theorem.metric: abs(metric.measure(*of)))
        floors[theorem.name] = 100 * 2.0**-52 * float(scale(problem, algorithm.readout(states[0]), states[0]))
    recorded = {m.name for m in algorithm.metrics} | {theorem.metric.name for theorem in theorems}
    return Trajectory({name: np.array(curves[name], float) for name in recorded}, bounds, admitted, floors)
