"""f(w) = sum_i (w_i^2 + 3 sin^2 w_i): Polyak-Lojasiewicz without convexity.

With g(w) = w^2 + 3 sin^2 w: g'' = 2 + 6 cos 2w lies in [-4, 8], so L = 8 exactly; f_star = 0 at x_star = 0.
For PL it suffices that h = g'^2 - 2 mu g >= 0 in one dimension, w > 0, since both sides of the inequality are
sums over coordinates:
  w <= pi/2:      sin 2w >= 0 and g <= 4 w^2, so g'^2 / (2g) >= 4 w^2 / (8 w^2) = 1/2;
  w >= 4:         g' >= 2w - 3 and g <= w^2 + 3, so g'^2 / (2g) >= 25/38, increasing in w;
  pi/2 <= w <= 4: |h'| = 2 |g'| |g'' - mu| <= 2 (8 + 3) (8 + mu) < 180, and h > 180 * 5e-6 on a grid of
                  spacing 1e-5 for mu = 0.1753 (a test evaluates it; the largest mu is 0.17553).
So mu_pl = 0.1753 is a lower bound, within 0.1 % of the best.
Source: Karimi, Nutini & Schmidt (2016), section 2.2, who state mu = 1/32.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

MU_PL = 0.1753


@struct.dataclass
class Data:
    """The minimiser 0 (d,)."""

    x_star: Array


def init(data: Data, key: Array) -> Array:
    return 3.0 * jax.random.normal(key, data.x_star.shape)


def value(data: Data, x: Array) -> Array:
    return jnp.sum(x**2 + 3 * jnp.sin(x) ** 2)


SINE_SQUARED = Family(
    name="sine_squared",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.PL,
    init=init,
    value=value,
)


def make(key: Array, *, d: int = 5) -> Problem[Data, Array]:
    """Return the separable sum over `d` coordinates, the same for every key; starts are N(0, 9 I)."""
    require(d >= 1, f"d = {d}: at least one dimension")
    constants = Constants(L=jnp.asarray(8.0), mu_pl=jnp.asarray(MU_PL), f_star=jnp.zeros(()))
    data = Data(jnp.zeros(d))
    return Problem(SINE_SQUARED, data, constants, data.x_star)
