"""Directional derivatives from two values, and what their error costs a descent method.

(E1) c = (f(x + e Z) - f(x - e Z))/(2 e) = <grad f(x), Z> + delta, |delta| <= (L e/2) |Z|^2 for an L-smooth f;
     delta = 0 on quadratics. For d standard normals u: E <g, u>^2 |u|^2 = (d + 2) |g|^2,
     E |u|^6 = d (d + 2) (d + 4), so that u delta has at most the root mean square b = (L e/2) sqrt(d (d + 2) (d + 4)).
(E2) x+ = x - h c u with h L (d + 2) <= 1: E f+ <= f - (h/2) |g|^2 + 2 h |g| b + h b^2/2 (expand L-smoothness, then
     Minkowski: sqrt(E |c u|^2) <= sqrt(d + 2) |g| + b). Summed over t steps and solved for the root mean square of g:
     sum_(s<t) E |g_s|^2 <= (sqrt(2 (f_0 - inf f)/h) + 5 b sqrt t)^2.
(E3) On f = |x - x*|^2/2 the step multiplies f by 1 - 2 h s + h^2 s |u|^2 with s = <u, x - x*>^2/|x - x*|^2, so its mean
     is g = 1 - 2 h + h^2 (d + 2) and, from E s^2 = 3, E s^2 |u|^2 = 3 (d + 4), E s^2 |u|^4 = 3 (d + 4) (d + 6), its
     mean square 1 - 4 h + 2 h^2 (d + 8) - 12 h^3 (d + 4) + 3 h^4 (d + 4) (d + 6).
Derived here.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from algorithms.algorithm import refuse_unless, refuse_unless_positive
from problems.problem import Problem

SMALLEST = 1e-8  # below, rounding of the two values exceeds their difference
SPREAD = 6.0  # a law for a mean is claimed while E f^2 <= 6 (E f)^2: beyond, a few seeds carry all of it


def refuse_settings(hp: Any) -> None:
    """Raise `InvalidSetting` for a step size eta that is not positive, or a distance e below 1e-8."""
    refuse_unless_positive(hp.eta)
    e = np.asarray(hp.e, float)
    refuse_unless((e >= SMALLEST) & np.isfinite(e), f"e = {hp.e}: the distance must be at least {SMALLEST:g}")


def central_difference(problem: Problem, x: Any, Z: Any, e: Array) -> Array:
    """Return c = (f(x + e Z) - f(x - e Z))/(2 e)."""
    ahead, behind = (problem.value(optax.tree.add_scale(x, sign * e, Z)) for sign in (1.0, -1.0))
    return (ahead - behind) / (2 * e)


def difference_error(L: Array, e: Array, d: Array) -> Array:
    """Return b of (E1), a bound on sqrt(E |c u - <g, u> u|^2)."""
    return L * e / 2 * jnp.sqrt(d * (d + 2) * (d + 4))


def mean_factor(h: Array, d: Array) -> Array:
    """Return g of (E3)."""
    return 1 - 2 * h + h**2 * (d + 2)


def mean_square_factor(h: Array, d: Array) -> Array:
    """Return the mean square of (E3)."""
    return 1 - 4 * h + 2 * h**2 * (d + 8) - 12 * h**3 * (d + 4) + 3 * h**4 * (d + 4) * (d + 6)


def while_telling(mean: Array, mean_square: Array) -> Array:
    """Return the mean of a positive number, NaN where its mean square exceeds 6 times the mean squared."""
    return jnp.where(mean_square <= SPREAD * mean**2, mean, jnp.nan)
