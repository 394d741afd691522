"""A plain oracle for the engine: one jitted loop that runs a method and writes a theorem's two sides down."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from algorithms.algorithm import Algorithm
from algorithms.theorem import Holds, Theorem
from bench import catalogue
from bench.expression import evaluate
from bench.selector import parse_selector
from problems.problem import Problem

FAST = {"xla_backend_optimization_level": 0}  # run briefly: compile fast


@partial(
    jax.jit,
    static_argnames=("algorithm", "theorems", "steps"),
    compiler_options=FAST,
)
def curves(algorithm: Algorithm, theorems: tuple[Theorem, ...], problem: Problem, hp: Any, keys: Array, steps: int):
    """Return each theorem's values and bounds (lanes, steps) at t = 1..steps and floors (lanes,).

    The leaves of `hp` have the shape of `keys`: one setting a lane.
    """
    return jax.vmap(lambda one, key: lane(algorithm, theorems, problem, one, key, steps))(hp, keys)


def lane(algorithm: Algorithm, theorems: tuple[Theorem, ...], problem: Problem, hp: Any, key: Array, steps: int):
    start_key, init_key, run_key = jax.random.split(key, 3)
    start = algorithm.init(problem, problem.init(start_key), init_key, hp)
    metrics = tuple({m.name: m for theorem in theorems for m in (theorem.metric, *theorem.given)}.values())

    def measure(state):
        return {m.name: m.measure(problem, algorithm.readout(state), state) for m in metrics}

    def advance(carry, t):
        state, folded = carry
        state = algorithm.step(problem, state, jax.random.fold_in(run_key, t - 1), hp)
        now = measure(state)
        folded = {m.name: m.fold(folded[m.name], now[m.name]) if m.fold else now[m.name] for m in metrics}
        return (state, folded), [(folded[theorem.metric.name], bound(theorem, t, folded)) for theorem in theorems]

    def bound(theorem, t, folded):
        return theorem.bound(jnp.asarray(t, float), problem.constants, hp, *(folded[m.name] for m in theorem.given))

    def floor(metric):
        scale = metric.scale or metric.measure
        return 100 * jnp.finfo(float).eps * jnp.abs(scale(problem, algorithm.readout(start), start))

    _, sides = lax.scan(advance, (start, measure(start)), jnp.arange(1, steps + 1))
    return [(*pair, floor(theorem.metric)) for theorem, pair in zip(theorems, sides, strict=True)]


def is_violated(theorem: Theorem, values: np.ndarray, bounds: np.ndarray, floors: np.ndarray) -> bool:
    """Judge (lanes, steps) lane by lane, or for a mean over lanes by its lower limit at five standard errors."""
    if theorem.holds is Holds.IN_EXPECTATION:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        values, bounds, floors = values.mean(axis=0) - 5 * error, bounds.mean(axis=0), floors.mean()
    else:
        floors = floors[:, None]
    return bool(np.any((bounds > floors) & (values > bounds * (1 + 1e-9) + floors)))


def judged(
    algorithm: Algorithm, theorem: Theorem, problem: Problem, hp: Any, seeds: int, steps: int
) -> list[np.ndarray]:
    """Return values, bounds and floors of one theorem and one setting, over `seeds` lanes."""
    keys = jax.random.split(jax.random.key(11), seeds)
    lanes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds,)), hp)
    return [np.asarray(side) for side in curves(algorithm, (theorem,), problem, lanes, keys, steps)[0]]


@cache
def chosen(selector: str) -> Problem:
    """Return the instance that a selector names."""
    (point,) = parse_selector(selector).points()
    module, _ = catalogue.load("problems", parse_selector(selector).name)
    return jax.jit(lambda key: module.make(key, **point), compiler_options=FAST)(jax.random.key(2))


def setting(algorithm: Algorithm, text: str, problem: Problem) -> Any:
    """Return the hyper-parameters with expressions resolved in the problem's constants."""
    (point,) = parse_selector(f"{algorithm.name}[{text}]").points()
    hp = replace(algorithm.hparams(), **point)
    stated = {name: value for name, value in vars(problem.constants).items() if value is not None}
    numbers = {k: evaluate(v, stated) if isinstance(v, str) else v for k, v in vars(hp).items()}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), replace(hp, **numbers))


def misstated(problem: Problem, factors: Any) -> Problem:
    """Return the problem whose constants a control multiplies by wrong factors."""
    wrong = {name: factor * getattr(problem.constants, name) for name, factor in factors.items()}
    return replace(problem, constants=replace(problem.constants, **wrong))
