"""f(x) = (1/2) (x - x_star)^T H (x - x_star) with a chosen spectrum of H: the strongly convex yardstick.

H = Q diag(lambda) Q^T with a random rotation Q and eigenvalues log-spaced from 1 to 1/kappa, times `L`. All constants
are exact: L and mu = L/kappa are the extreme eigenvalues, f_star = 0 at x_star.
Source: Nesterov, Lectures on Convex Optimization (2018), section 2.1.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """H is (d, d) symmetric positive definite, x_star is (d,)."""

    H: Array
    x_star: Array


def init(data: Data, key: Array) -> Array:
    return jax.random.normal(key, data.x_star.shape)


def value(data: Data, x: Array) -> Array:
    r = x - data.x_star
    return 0.5 * r @ (data.H @ r)


QUADRATIC = Family(
    name="quadratic",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.CONVEX
    | Regularity.STRONGLY_CONVEX
    | Regularity.QUADRATIC,
    init=init,
    value=value,
)


def make(key: Array, *, d: int = 20, kappa: float = 100.0, L: float = 1.0) -> Problem[Data, Array]:
    """Return the quadratic in `d` dimensions with condition number `kappa` and largest eigenvalue `L`."""
    require(d >= 2, f"d = {d}: a quadratic with two extreme eigenvalues needs d >= 2")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(L > 0, f"L = {L}: the largest eigenvalue must be positive")
    rotation_key, star_key = jax.random.split(key)
    Q = jnp.linalg.qr(jax.random.normal(rotation_key, (d, d)))[0]
    spectrum = L * jnp.geomspace(1.0, 1.0 / kappa, d)
    data = Data(H=(Q * spectrum) @ Q.T, x_star=jax.random.normal(star_key, (d,)))
    constants = Constants(
        L=jnp.asarray(L, float),
        mu=spectrum[-1],
        mu_pl=spectrum[-1],
        f_star=jnp.zeros(()),
    )
    return Problem(QUADRATIC, data, constants, data.x_star)
