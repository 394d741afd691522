"""Runs of a method without the engine: the points x_0, ..., x_T and the values of a metric along them."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from algorithms.algorithm import Algorithm
from algorithms.metric import Metric
from problems.problem import Problem


def trace(algorithm: Algorithm, problem: Problem, hp, metric: Metric, steps: int, key: Array) -> Array:
    """Return the metric at x_0, ..., x_steps, folded where it folds."""
    start_key, init_key, run_key = jax.random.split(key, 3)

    def measure(state):
        return metric.measure(problem, algorithm.readout(state), state)

    def advance(state, t):
        return algorithm.step(problem, state, jax.random.fold_in(run_key, t), hp), measure(state)

    state = algorithm.init(problem, problem.init(start_key), init_key, hp)
    last, values = lax.scan(advance, state, jnp.arange(steps))
    values = jnp.append(values, measure(last))
    return values if metric.fold is None else lax.associative_scan(metric.fold, values)
