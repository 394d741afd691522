"""When noise alone leaves a strict saddle: the median law, and the condition under which it is accurate.

From 0 with noise s along the escape direction, z_k ~ (1 + eta lam)^k s sqrt(eta/(2 lam + eta lam^2)) N(0, 1)
(`algorithms.truncation`). The law is linearised: the amplitude must stay inside the escape radius at three times its
scale, and the growth a step be small.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.truncation import MEDIAN_OF_ABS_NORMAL, steps_to_escape
from problems.constants import Constants


def noise_scale(c: Constants, hp: Any, s_sq: Array) -> Array:
    """Return s sqrt(eta/(2 lam + eta lam^2)): the spread of the amplitude with which the saddle is left."""
    rate = hp.eta * c.curvature
    return jnp.sqrt(s_sq) * hp.eta / jnp.sqrt(rate * (2 + rate))


def median_near(t: Array, c: Constants, hp: Any, s_sq: Array, z_0: Array) -> Array:
    """Return min(t + 1, k_esc), the median number of near points among x_0, ..., x_t; NaN where z_0 != 0."""
    k = steps_to_escape(c, hp.eta, c.escape_radius / (MEDIAN_OF_ABS_NORMAL * noise_scale(c, hp, s_sq)))
    return jnp.where(z_0 == 0, jnp.minimum(t + 1, k), jnp.nan)


def is_small_noise(c: Constants, hp: Any, s_sq: Array) -> Array:
    """Return whether noise alone moves the point, and three times its scale is inside the escape radius.

    A return that two steps determine has the whole saddle at H >= 2; one without a future (gamma = 0) at H >= 1.
    """
    unbiased = (c.delay_cost == 0) & (hp.baseline == 0) & ((hp.horizon >= 2) | (c.gamma == 0))
    slow = hp.eta * c.curvature <= 0.05
    return unbiased & slow & (s_sq > 0) & (3 * noise_scale(c, hp, s_sq) <= c.escape_radius)
