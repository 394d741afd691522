"""Advance all lanes of a group, segment by segment; nothing else.

A lane is one seed times one setting. Both axes are `vmap`ped and are the *last* axes of the state, so that shared data times
many lanes is one gemm, and what depends on the seed alone (draws, minibatches, own data) happens once for all settings. One
compiled program advances every lane from step `t` by `k` steps, both traced, and reports the metrics and bounds there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm
from algorithms.metric import Metric
from algorithms.theorem import Theorem
from problems.problem import Problem

ROUNDING = 100  # a bound is judged only above this many ulps of the numbers its metric subtracts


@dataclass(frozen=True)
class Program:
    """What is run and what is written down: the static part of a group, hashable."""

    algorithm: Algorithm
    theorems: tuple[Theorem, ...]
    metrics: tuple[Metric, ...]

    @property
    def recorded(self) -> tuple[Metric, ...]:
        """Return every metric that is written down, each once."""
        return unique((*self.metrics, *(theorem.metric for theorem in self.theorems)))

    @property
    def folded(self) -> tuple[Metric, ...]:
        """Return every metric that must see all steps, each once."""
        given = (metric for theorem in self.theorems for metric in theorem.given)
        return tuple(metric for metric in unique((*self.recorded, *given)) if metric.fold is not None)


def unique(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Return the metrics without repetitions of a name, in the order of first appearance."""
    return tuple({metric.name: metric for metric in metrics}.values())


@struct.dataclass
class Lanes:
    """The explicit data of a block of lanes.

    `problem` has a leading seed axis when `own_data`, none when all seeds share it; `keys` are (seeds, 3), one each for the
    start, for `init` and for the steps; the leaves of `hp` have shape (seeds, settings), for a setting may be an
    expression in the instance's constants.
    """

    problem: Problem
    keys: Array
    hp: Any
    own_data: bool = struct.field(pytree_node=False, default=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (seeds, settings)."""
        return jax.tree.leaves(self.hp)[0].shape


@struct.dataclass
class Carry:
    """What a lane carries from step to step: the method's state, the folded metrics, the rounding scale of each metric."""

    state: Any
    folded: dict[str, Array]
    scale: dict[str, Array]


@struct.dataclass
class Record:
    """What is written down at a checkpoint; `admitted` and `floor` do not change along the run."""

    metrics: dict[str, Array]
    bounds: dict[str, Array]
    admitted: dict[str, Array]
    floors: dict[str, Array]


def start(program: Program, problem: Problem, keys: Array, hp: Any) -> Carry:
    """Return one lane before its first step."""
    algorithm = program.algorithm
    state = algorithm.init(problem, problem.init(keys[0]), keys[1], hp)
    x = algorithm.readout(state)
    measured = {metric.name: metric.measure(problem, x, state) for metric in program.folded}
    scale = {}
    for metric in program.recorded:
        magnitude = metric.scale or (
            lambda problem, x, state, metric=metric: jnp.abs(metric.measure(problem, x, state))
        )
        scale[metric.name] = jnp.asarray(magnitude(problem, x, state), dtype=float)
    return Carry(state, measured, scale)


def fold(program: Program, problem: Problem, carry: Carry) -> dict[str, Array]:
    """Return the folded metrics with the present point included."""
    x = program.algorithm.readout(carry.state)
    return {
        metric.name: metric.fold(carry.folded[metric.name], metric.measure(problem, x, carry.state))
        for metric in program.folded
        if metric.fold is not None
    }


def advance(program: Program, problem: Problem, carry: Carry, keys: Array, hp: Any, t: Array) -> Carry:
    """Return one lane after step `t`; the start was measured by `start`, so folding begins at t = 1."""
    folded = fold(program, problem, carry)
    folded = jax.tree.map(partial(jnp.where, t > 0), folded, carry.folded)
    key = jax.random.fold_in(keys[2], t)
    return Carry(program.algorithm.step(problem, carry.state, key, hp), folded, carry.scale)


def observe(program: Program, problem: Problem, carry: Carry, hp: Any, t: Array) -> Record:
    """Return what is written down about one lane after `t` steps."""
    x = program.algorithm.readout(carry.state)
    folded = jax.tree.map(partial(jnp.where, t > 0), fold(program, problem, carry), carry.folded)

    def read(metric: Metric) -> Array:
        return folded[metric.name] if metric.fold is not None else metric.measure(problem, x, carry.state)

    bounds, admitted, floors = {}, {}, {}
    for theorem in program.theorems:
        given = (read(metric) for metric in theorem.given)
        bound = theorem.bound(jnp.asarray(t, dtype=float), problem.constants, hp, *given)
        bounds[theorem.name] = jnp.where(jnp.isfinite(bound), bound, jnp.nan).astype(float)
        admitted[theorem.name] = jnp.asarray(theorem.admits(problem.constants, hp))
        eps = jnp.finfo(jnp.zeros(()).dtype).eps
        floors[theorem.name] = ROUNDING * eps * carry.scale[theorem.metric.name]
    metrics = {metric.name: jnp.asarray(read(metric), dtype=float) for metric in program.recorded}
    return Record(metrics, bounds, admitted, floors)


def over_lanes(lane: Callable[..., Any], lanes: Lanes, carry: Carry | None = None) -> Any:
    """Return `lane(problem, carry, keys, hp)` mapped over settings, then seeds, with the lane axes last in every result."""
    data = 0 if lanes.own_data else None
    over_settings = jax.vmap(lane, (None, -1, None, -1), -1)
    over_seeds = jax.vmap(over_settings, (data, -2, 0, 0), -2)
    return over_seeds(lanes.problem, carry, lanes.keys, lanes.hp)


def start_all(program: Program, lanes: Lanes) -> Carry:
    """Return every lane before its first step."""
    return over_lanes(lambda problem, _, keys, hp: start(program, problem, keys, hp), lanes)


def segment(program: Program, lanes: Lanes, carry: Carry, t: Array, k: Array) -> tuple[Carry, Record]:
    """Advance every lane from step `t` by `k` steps and observe it there; at t = 0 the lanes are started first."""

    def body(i: Array, carry: Carry) -> Carry:
        return over_lanes(lambda problem, c, keys, hp: advance(program, problem, c, keys, hp, i), lanes, carry)

    carry = lax.cond(t == 0, lambda: start_all(program, lanes), lambda: carry)
    carry = lax.fori_loop(t, t + k, body, carry)
    return carry, over_lanes(lambda problem, c, keys, hp: observe(program, problem, c, hp, t + k), lanes, carry)
