"""What cutting a return after H steps does to its gradient: the bias, its bound, the escape it causes.

Bias. For |u| = 1, u.(grad J - grad J_H) = sum_(t>=H) gamma^t E[(r_t - r_mid) u.S_t] with the scores S_t =
sum_(k<=t) score_k, whose martingale-difference summands give E|u.S_t| <= sqrt((t+1) lamF); by Cauchy-Schwarz
over t
    |grad J - grad J_H| <= sqrt(lamF) R_c gamma^H sqrt(H + 1/(1-gamma)) / (1-gamma) =: beta(H).

Biased ascent. With E g_k = grad J_H, conditional variance at most sig2 and eta <= 1/L: <grad J, m> - (L
eta/2)|m|^2 >= (|grad J|^2 - |grad J - m|^2)/2 for m = grad J_H, so the ascent lemma summed over k <= t gives
    sum_(k<=t) E|grad J(x_k)|^2 <= 2 (J* - J(x_0))/eta + (t+1) (beta^2 + L eta sig2).

Escape. Where grad J = 0 and Hess J has top eigenpair (lam, v), the coordinate z = v.x obeys
    z+ = (1 + eta lam) z + eta (b_v + s xi)
with the bias b_v and the noise s along v. Without noise z first reaches delta after
    k = log((delta + b_v/lam)/(z_0 + b_v/lam))/log(1 + eta lam)
steps: linear in H, and never for z_0 = b_v = 0. With noise alone, from 0,
    z_k ~ (1 + eta lam)^k s sqrt(eta/(2 lam + eta lam^2)) N(0, 1),
and the median of |N(0, 1)| gives the median of k.
Derived here; the square-root form of the bias is that of Yuan, Gower & Lazaric (2022), the questions are those of
Mu & Klabjan (2024), arXiv:2311.02546.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from algorithms.algorithm import refuse_unless
from algorithms.metric import Metric, running_sum
from problems.constants import Constants
from problems.problem import Problem

MEDIAN_OF_ABS_NORMAL = 0.674489750196


def truncation_bias(problem: Problem, x: Any, state: Any) -> Array:
    """Return |grad J - grad J_H| at the point, H being the state's horizon."""
    return optax.tree.norm(optax.tree.sub(problem.grad(x), problem.truncated(state.horizon).grad(x)))


TRUNCATION_BIAS = Metric(
    "truncation_bias",
    truncation_bias,
    scale=lambda problem, x, state: optax.tree.norm(problem.grad(x)),
)


def escape_distance(problem: Problem, x: Any, state: Any) -> Array:
    """Return z = v.x, signed."""
    escape = problem.policy.escape
    assert escape is not None
    return escape(problem.data, x)


ESCAPE_DISTANCE = Metric("escape_distance", escape_distance)


def is_near_saddle(problem: Problem, x: Any, state: Any) -> Array:
    """Return 1 while |v.x| < delta, else 0."""
    return jnp.where(jnp.abs(escape_distance(problem, x, state)) < problem.constants.escape_radius, 1.0, 0.0)


STEPS_NEAR_SADDLE = running_sum(Metric("near_saddle", is_near_saddle))


def bias_bound(c: Constants, horizon: Array) -> Array:
    """Return beta(H)."""
    tail = jnp.sqrt(horizon + 1 / (1 - c.gamma)) * c.gamma**horizon / (1 - c.gamma)
    return jnp.sqrt(c.fisher) * c.R_c * tail


def biased_ascent_bound(t: Array, c: Constants, hp: Any, gap: Array, variance: Array | float) -> Array:
    """Return the bound on the sum of |grad J|^2 over the t + 1 points so far; `variance` is sig2."""
    return 2 * gap / hp.eta + (t + 1) * (bias_bound(c, hp.horizon) ** 2 + c.L * hp.eta * variance)


def saddle_bias(c: Constants, horizon: Array) -> Array:
    """Return b_v, the truncation bias along the escape direction at the saddle."""
    return c.delay_cost * c.gamma**horizon / (4 * 2**0.5 * (1 - c.gamma))


def steps_to_escape(c: Constants, eta: Array, ratio: Array) -> Array:
    """Return log(ratio)/log(1 + eta lam): the steps in which the unstable direction grows by `ratio`, at least 0."""
    return jnp.maximum(jnp.log(ratio) / jnp.log1p(eta * c.curvature), 0.0)


def near_points(t: Array, c: Constants, eta: Array, offset: Array | float, z_0: Array) -> Array:
    """Return min(t + 1, k rounded up), the number of near points among x_0, ..., x_t; NaN where z_0 < 0.

    `offset` is b_v/lam.
    """
    k = steps_to_escape(c, eta, (c.escape_radius + offset) / (z_0 + offset))
    return jnp.where(z_0 >= 0, jnp.minimum(t + 1, jnp.ceil(k)), jnp.nan)


def is_linear(c: Constants, eta: Array) -> Array:
    """Return whether the linearised escape is accurate to a step."""
    rate = eta * c.curvature
    return (rate >= c.escape_radius**2 / 6) & (rate <= 1)


def is_cut(c: Constants, hp: Any) -> Array:
    """Return whether H >= 1."""
    return hp.horizon >= 1


def is_stable(c: Constants, hp: Any) -> Array:
    """Return whether 0 < eta <= 1/L."""
    return (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L)


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` unless eta > 0 and the horizon is a whole number from 1 to 4095.

    An eta that is NaN is not known yet.
    """
    eta, horizon = np.asarray(hp.eta, float), np.asarray(hp.horizon, float)
    refuse_unless(~(eta <= 0) & ~np.isinf(eta), f"eta = {hp.eta}: a step size must be positive and finite")
    whole = (horizon >= 1) & (horizon <= 4095) & (np.floor(horizon) == horizon)
    refuse_unless(whole, f"horizon = {hp.horizon}: a return is cut after a whole number of steps from 1 to 4095")
    return hp
