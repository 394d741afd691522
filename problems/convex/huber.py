"""f(x) = (L/2) |x|^2 for |x| <= delta, L delta |x| - L delta^2/2 beyond: gradient descent attains its bound.

From |x_0| = 1, steps h/L walk straight along the linear part: |x_t| = 1 - t h delta as long as that is >=
delta. With delta = 1/(2 N h + 1) the point is still there after N steps and
  f(x_N) = L delta (1 - N h delta) - L delta^2/2 = L / (4 N h + 2) = |x_0 - x*|^2 / (4 eta N + 2/L),
the bound of Drori & Teboulle with equality. L is exact (the inner curvature), f_star = 0 at x_star = 0.
Source: Drori & Teboulle (2014), Performance of first-order methods, Theorem 3.2.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """The curvature L inside, the threshold delta, and the minimiser 0 (d,)."""

    L: Array
    delta: Array
    x_star: Array


def init(data: Data, key: Array) -> Array:
    direction = jax.random.normal(key, data.x_star.shape)
    return direction / jnp.linalg.norm(direction)


def value(data: Data, x: Array) -> Array:
    norm_sq = x @ x
    outside = norm_sq > data.delta**2
    norm = jnp.sqrt(jnp.where(outside, norm_sq, 1.0))  # the root has no slope at 0
    return data.L * jnp.where(outside, data.delta * norm - 0.5 * data.delta**2, 0.5 * norm_sq)


HUBER = Family(
    name="huber",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.CONVEX,
    init=init,
    value=value,
)


def make(key: Array, *, N: int = 100, h: float = 1.0, L: float = 1.0, d: int = 3) -> Problem[Data, Array]:
    """Return the function on which `N` gradient steps of size `h/L` from distance 1 attain the bound."""
    require(N >= 1, f"N = {N}: at least one step")
    require(0 < h <= 1, f"h = {h}: the bound is proven for 0 < h <= 1")
    require(L > 0, f"L = {L}: the curvature must be positive")
    require(d >= 1, f"d = {d}: at least one dimension")
    data = Data(jnp.asarray(L, float), jnp.asarray(1 / (2 * N * h + 1), float), jnp.zeros(d))
    return Problem(HUBER, data, Constants(L=data.L, f_star=jnp.zeros(())), data.x_star)
