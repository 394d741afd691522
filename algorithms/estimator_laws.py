"""What the last estimate g = (x - x_before)/eta of a run obeys, whatever was drawn before it.

Given x_before, E<g, grad J_H> = |grad J_H|^2 and E|g|^2 is the second moment of `algorithms.estimator_moments`: the
ratio to the prediction has conditional mean 1 at every checkpoint, hence mean 1.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from algorithms.estimator_moments import Scored, of_batch, scored
from algorithms.metric import Metric
from algorithms.score_estimators import NEGLIGIBLE
from problems.constants import Constants
from problems.problem import Problem


def estimate(x: Any, state: Any) -> Any:
    """Return g, 0 before the first step."""
    return optax.tree.scale(1 / state.eta, optax.tree.sub(x, state.before))


def slope(problem: Problem, state: Any) -> Any:
    """Return -grad J at the point before."""
    return problem.grad(state.before)


def cut_slope(problem: Problem, state: Any) -> Any:
    """Return -grad J_H at the point before."""
    return problem.truncated(state.horizon).grad(state.before)


def along(of: Callable[[Problem, Any], Any]) -> Callable[[Problem, Any, Any], Array]:
    """Return the measure <g, -of(before)>."""
    return lambda problem, x, state: -jnp.asarray(optax.tree.vdot(estimate(x, state), of(problem, state)))


def size_sq(of: Callable[[Problem, Any], Any]) -> Callable[[Problem, Any, Any], Array]:
    """Return the measure |of(before)|^2."""
    return lambda problem, x, state: optax.tree.norm(of(problem, state), squared=True)


ESTIMATE_SQ = Metric("estimate_sq", lambda problem, x, state: optax.tree.norm(estimate(x, state), squared=True))
ALONG_GRADIENT = Metric("estimate_along_gradient", along(slope))
ALONG_CUT_GRADIENT = Metric("estimate_along_cut_gradient", along(cut_slope))
SLOPE_SQ = Metric("gradient_before_sq", size_sq(slope))
CUT_SLOPE_SQ = Metric("cut_gradient_before_sq", size_sq(cut_slope))


def process_before(problem: Problem, x: Any, state: Any) -> Any:
    """Return the process under the policy at the point before, with its scores."""
    return scored(problem, state.before)


PROCESS = Metric("process_before", process_before)


def largest_score(problem: Problem, x: Any, state: Any) -> Array:
    """Return max |score(s, a)| at the point before."""
    return jnp.sqrt((scored(problem, state.before).c ** 2).sum(-1)).max()


SCORE_MAX = Metric("score_before_max", largest_score)


def is_whole(c: Constants, hp: Any) -> Array:
    """Return whether the cap cuts off next to nothing of the return."""
    return c.gamma**hp.max_horizon <= NEGLIGIBLE


def is_drawn(c: Constants, hp: Any) -> Array:
    """Return whether H >= 1 and B >= 1."""
    return jnp.asarray(hp.horizon >= 1) & (hp.batch_size >= 1)


def after_a_step(t: Array, bound: Array) -> Array:
    """Return the bound, NaN at the start, where nothing was drawn."""
    return jnp.where(t > 0, bound, jnp.nan)


def second_moment(
    moments: Callable[[Scored, Any], Any],
) -> Callable[[Array, Constants, Any, Scored], Array]:
    """Return the bound E|g|^2 of a batch, from the moments of one trajectory."""
    return lambda t, c, hp, process: after_a_step(t, of_batch(moments(process, hp), hp.batch_size).square)


def largest_reward(c: Constants, hp: Any) -> Array:
    """Return R = R_c + |baseline - r_mid| >= |r - baseline|."""
    return c.R_c + jnp.abs(hp.baseline - c.r_mid)
