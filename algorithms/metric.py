"""What is measured along a run: metrics, and the folds that see every step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from problems.problem import Problem

Scalar = Array


def magnitude_of_value(problem: Problem, x: Any, state: Any) -> Scalar:
    """Return max(|f(x)|, |f_star|): the size of the numbers whose difference is the suboptimality."""
    return jnp.maximum(jnp.abs(problem.value(x)), jnp.abs(problem.constants.f_star))


@dataclass(frozen=True)
class Metric:
    """A scalar read from a run.

    `measure(problem, x, state)` reads the published point `x = readout(state)` and the state. With `fold`, the values
    of every step are folded (`jnp.minimum`: best so far); without, the value at the checkpoint counts.
    `scale` is the magnitude of the numbers that enter the measurement, by default the measured value: rounding of
    `100 eps scale` at the start is the floor below which nothing is judged.
    """

    name: str
    measure: Callable[[Problem, Any, Any], Scalar]
    fold: Callable[[Scalar, Scalar], Scalar] | None = None
    scale: Callable[[Problem, Any, Any], Scalar] | None = None


def keep_first(first: Scalar, later: Scalar) -> Scalar:
    """Fold to the value at the start; the later ones are never computed."""
    return first


def initial(metric: Metric) -> Metric:
    """Return the metric's value at the start of the run, which most bounds are multiples of."""
    return replace(metric, name=f"initial_{metric.name}", fold=keep_first)


def best(metric: Metric) -> Metric:
    """Return the smallest value of the metric so far, over every step."""
    return replace(metric, name=f"best_{metric.name}", fold=jnp.minimum)


def running_sum(metric: Metric) -> Metric:
    """Return the sum of the metric over every step so far, the current point included."""
    return replace(metric, name=f"sum_{metric.name}", fold=jnp.add)


VALUE = Metric("value", lambda problem, x, state: problem.value(x))

SUBOPTIMALITY = Metric(
    "suboptimality",
    lambda problem, x, state: problem.value(x) - problem.constants.f_star,
    scale=magnitude_of_value,
)

GRADIENT_NORM_SQ = Metric("gradient_norm_sq", lambda problem, x, state: optax.tree.norm(problem.grad(x), squared=True))


def distance_sq(problem: Problem, x: Any, state: Any) -> Scalar:
    """Return |x - x_star|^2."""
    return optax.tree.norm(optax.tree.sub(x, problem.x_star), squared=True)


def magnitude_of_distance_sq(problem: Problem, x: Any, state: Any) -> Scalar:
    """Return |x|^2 + |x_star|^2: rounding of the points, squared, is far below it."""
    return optax.tree.norm(x, squared=True) + optax.tree.norm(problem.x_star, squared=True)


DISTANCE_SQ = Metric("distance_sq", distance_sq, scale=magnitude_of_distance_sq)
