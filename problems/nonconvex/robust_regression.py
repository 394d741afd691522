"""f(x) = (1/n) sum_i phi(a_i.x - b_i) with the bounded loss phi(r) = (1/2) r^2 / (1 + r^2), and b = A x_star.

Nonconvex far from x_star, where residuals exceed 1/sqrt3; f_star = 0 at x_star. Rows are Gaussian, their
largest norm is rho = 1; the last `forgotten` records are deleted. With s = r^2:
  phi'  = r / (1 + s)^2         is largest at s = 1/3:                        sup |phi'|  = 3 sqrt3 / 16
  phi'' = (1 - 3s) / (1 + s)^3  is 1 at s = 0 and -1/4 at s = 1, its minimum: sup |phi''| = 1
so L = lambda_max(A^T A / n) (exact: the curvature at x_star), L_max = rho^2 and G = 3 sqrt3 rho / 16 (upper
bounds). Every record vanishes at x_star: sigma_star_sq = 0.
Source: Geman & McClure (1987), Statistical methods for tomographic image reconstruction, for the loss.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.linear_model import Design, link, matvec
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler


@struct.dataclass
class Data:
    """Rows (n, d), b (n,), weights (n,) that sum to 1, and kept (n,): 0 on the forgotten records."""

    design: Design
    b: Array
    weight: Array
    kept: Array


def init(data: Data, key: Array) -> Array:
    return 5.0 * jax.random.normal(key, data.design.A.shape[-1:])


loss = link(lambda r: 0.5 * r**2 / (1 + r**2), lambda r: r / (1 + r**2) ** 2)


def value(data: Data, x: Array) -> Array:
    return data.weight @ loss(matvec(data.design, x) - data.b)


def rows(data: Data, index: Array) -> Data:
    return Data(data.design.rows(index), data.b[index], equal_weights(data.weight, len(index)), data.kept[index])


ROBUST_REGRESSION = Family(
    name="robust_regression",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.FINITE_SUM
    | Regularity.DELETABLE,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(),
)


def make(key: Array, *, n: int = 500, d: int = 20, forgotten: int = 10) -> Problem[Data, Array]:
    """Return noise-free robust regression on `n` Gaussian records in `d` dimensions; x_0 is N(0, 25 I)."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(n >= 1, f"n = {n}: at least one record")
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    row_key, star_key = jax.random.split(key)
    A = jax.random.normal(row_key, (n, d))
    A = A / jnp.sqrt(jnp.max(jnp.sum(A**2, axis=1)))
    x_star = jax.random.normal(star_key, (d,))
    kept = kept_mask(n, forgotten)
    constants = Constants(
        L=jnp.linalg.eigvalsh(A.T @ A / n)[-1],
        f_star=jnp.zeros(()),
        L_max=jnp.ones(()),
        sigma_star_sq=jnp.zeros(()),
        G=jnp.asarray(3 * math.sqrt(3) / 16),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        dimension=jnp.asarray(d, float),
    )
    data = Data(Design.of(A), A @ x_star, jnp.full(n, 1 / n), kept)
    return Problem(ROBUST_REGRESSION, data, constants, x_star)
