"""Advance all lanes of a group, segment by segment; nothing else.

A lane is one seed times one setting. Both axes are `vmap`ped, settings inside, so that what depends on the seed alone
(draws, minibatches, own data) happens once for all settings. They are the last axes of vectors, so that shared data
times many lanes is one gemm (`Layout`). One compiled program advances every lane from step `t` by `k` steps, both
traced, and reports the metrics and bounds there.
"""

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
        compared = (theorem.against for theorem in self.theorems if theorem.against is not None)
        return unique((*self.metrics, *(theorem.metric for theorem in self.theorems), *compared))

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

    `problem` has a leading seed axis when `own_data`, none when all seeds share it; `keys` are (seeds, 3), one each
    for the start, for `init` and for the steps; the leaves of `hp` have shape (seeds, settings), for a setting may be
    an expression in the instance's constants.
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
    """What a lane carries from step to step: the state, the folded metrics, the rounding scale of each metric."""

    state: Any
    folded: dict[str, Array]
    scale: dict[str, Array]


@struct.dataclass
class Record:
    """What is written down at a checkpoint; `admitted`, `floors` and `certified` do not change along the run."""

    metrics: dict[str, Array]
    bounds: dict[str, Array]
    admitted: dict[str, Array]
    floors: dict[str, Array]
    certified: dict[str, Array]


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
    """Return what is written down about one lane after `t` steps; laws are admitted in double precision only."""
    x = program.algorithm.readout(carry.state)
    folded = jax.tree.map(partial(jnp.where, t > 0), fold(program, problem, carry), carry.folded)

    def read(metric: Metric) -> Array:
        return folded[metric.name] if metric.fold is not None else metric.measure(problem, x, carry.state)

    bounds, admitted, floors = {}, {}, {}
    for theorem in program.theorems:
        given = (read(metric) for metric in theorem.given)
        bound = theorem.bound(jnp.asarray(t, dtype=float), problem.constants, hp, *given)
        bounds[theorem.name] = jnp.where(jnp.isfinite(bound), bound, jnp.nan).astype(float)
        precision = jnp.finfo(jnp.zeros(()).dtype)
        enough = precision.bits >= 64 or not theorem.is_law
        admitted[theorem.name] = jnp.asarray(theorem.admits(problem.constants, hp)) & enough
        floors[theorem.name] = ROUNDING * precision.eps * carry.scale[theorem.metric.name]
    metrics = {metric.name: jnp.asarray(read(metric), dtype=float) for metric in program.recorded}
    return Record(metrics, bounds, admitted, floors, {"lane": certified(program, problem, hp)})


def certified(program: Program, problem: Problem, hp: Any) -> Array:
    """Return whether a theorem of the method, judged or not, certifies the lane."""
    certifying = (t for t in program.algorithm.theorems if t.certifies and t.assumes in problem.family.regularity)
    admitted = [jnp.asarray(theorem.admits(problem.constants, hp), bool) for theorem in certifying]
    return jnp.any(jnp.stack(admitted)) if admitted else jnp.asarray(False)


@dataclass(frozen=True)
class Layout:
    """Where the lane axes of each leaf stand: last for scalars and vectors, first for matrices and above.

    A vector's lanes are then the columns of one gemm with shared data; a matrix's lanes are the batch of a batched
    gemm, which the compiler would otherwise transpose to the front at every step. The axes are trees, as `vmap` and
    sharding take them. With own data the seeds come first throughout: each is one batch of a batched gemm.
    """

    shapes: Any  # of one lane's carry
    own_data: bool

    def seeds(self) -> Any:
        """Return, leaf by leaf, the axis of the seeds (as long as both lane axes are there)."""
        return jax.tree.map(lambda leaf: 0 if self.own_data or leaf.ndim >= 2 else -2, self.shapes)

    def settings(self) -> Any:
        """Return, leaf by leaf, the axis of the settings (the seeds' axis already gone)."""
        return jax.tree.map(lambda leaf: 0 if leaf.ndim >= 2 else -1, self.shapes)


def layout_of(program: Program, lanes: Lanes) -> Layout:
    """Return the layout of the carry of these lanes."""

    def one(lanes: Lanes) -> Carry:
        problem = jax.tree.map(lambda leaf: leaf[0], lanes.problem) if lanes.own_data else lanes.problem
        return start(program, problem, lanes.keys[0], jax.tree.map(lambda leaf: leaf[0, 0], lanes.hp))

    return Layout(jax.eval_shape(one, lanes), lanes.own_data)


def start_all(program: Program, lanes: Lanes) -> Carry:
    """Return every lane before its first step."""
    layout, data = layout_of(program, lanes), 0 if lanes.own_data else None
    over_settings = jax.vmap(partial(start, program), (None, None, -1), layout.settings())
    return jax.vmap(over_settings, (data, 0, 0), layout.seeds())(lanes.problem, lanes.keys, lanes.hp)


def advance_all(program: Program, lanes: Lanes, carry: Carry, t: Array) -> Carry:
    """Return every lane after step `t`."""
    layout, data = layout_of(program, lanes), 0 if lanes.own_data else None
    seeds, settings = layout.seeds(), layout.settings()
    over_settings = jax.vmap(partial(advance, program), (None, settings, None, -1, None), settings)
    over_seeds = jax.vmap(over_settings, (data, seeds, 0, 0, None), seeds)
    return over_seeds(lanes.problem, carry, lanes.keys, lanes.hp, t)


def observe_all(program: Program, lanes: Lanes, carry: Carry, t: Array) -> Record:
    """Return what is written down about every lane after `t` steps, in arrays (seeds, settings).

    Settings are the same for all seeds that share data: what a bound computes from both alone is computed once.
    """
    layout, data = layout_of(program, lanes), 0 if lanes.own_data else None
    hp = lanes.hp if lanes.own_data else jax.tree.map(lambda leaf: leaf[0], lanes.hp)
    over_settings = jax.vmap(partial(observe, program), (None, layout.settings(), -1, None), -1)
    return jax.vmap(over_settings, (data, layout.seeds(), data, None), 0)(lanes.problem, carry, hp, t)


def segment(program: Program, lanes: Lanes, carry: Carry, t: Array, k: Array) -> tuple[Carry, Record]:
    """Advance every lane from step `t` by `k` steps and observe it there; at t = 0 the lanes are started first."""
    carry = lax.cond(t == 0, lambda: start_all(program, lanes), lambda: carry)
    carry = lax.fori_loop(t, t + k, lambda i, carry: advance_all(program, lanes, carry, i), carry)
    return carry, observe_all(program, lanes, carry, t + k)
