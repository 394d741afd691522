"""f(x) = (1/(2n)) |A x - b|^2 with more parameters than records, d > n: every retained set is fitted exactly, and PL.

Rows are Gaussian, of norm about 1, b = A x_true, x_0 = 0, the last `forgotten` records are deleted. All exact but G:
  L = lambda_max(A A^T)/n,  mu_pl = lambda_min(A A^T)/n,  f_star = 0,  L_max = max |a_i|^2,  sigma_star_sq = 0
  mu_pl_retained = lambda_min(A' A'^T)/n' > 0 of the n' = n - m retained rows A',  f_star_retained = 0
x_star is the solution of least norm, which gradient descent from 0 tends to.
  G = sqrt(2 n f(0)) max |a_i|    bounds the record gradients r_i a_i wherever f(x) <= f(0), since |r_i| <= |r| =
                                  sqrt(2 n f(x)). Learning on D with eta <= 2/L never leaves this set.
There is no such bound on the whole space: the family is not `DELETABLE` (nothing is certified), G serves theorems
that stay on the learning path, with eta <= 1/L. Source: Karimi, Nutini & Schmidt (2016), section 2.3.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.linear_model import Design, matvec
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler


@struct.dataclass
class Data:
    """A (n, d) beside its transpose, b (n,), weights (n,) that sum to 1, kept (n,): 0 on the forgotten records."""

    design: Design
    b: Array
    weight: Array
    kept: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros(data.design.A.shape[-1:], data.b.dtype)


def value(data: Data, x: Array) -> Array:
    return 0.5 * data.weight @ (matvec(data.design, x) - data.b) ** 2


def rows(data: Data, index: Array) -> Data:
    return Data(data.design.rows(index), data.b[index], equal_weights(data.weight, len(index)), data.kept[index])


def substitute(data: Data) -> Data:
    return replace(data, b=(2 * data.kept - 1) * data.b)  # a forgotten record's target changes its sign


OVERPARAMETERISED_DELETION = Family(
    name="overparameterised_deletion",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.CONVEX
    | Regularity.QUADRATIC
    | Regularity.FINITE_SUM
    | Regularity.RETAINS_CONVEXITY
    | Regularity.RETAINS_PL,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(key: Array, *, n: int = 40, d: int = 120, forgotten: int = 4) -> Problem[Data, Array]:
    """Return least squares on `n` Gaussian records in `d` > `n` dimensions."""
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    require(d > n, f"d = {d}: above n = {n}, or records cannot all be fitted")
    row_key, true_key = jax.random.split(key)
    A = jax.random.normal(row_key, (n, d)) / d**0.5
    b = A @ jax.random.normal(true_key, (d,))
    gram, kept = A @ A.T, kept_mask(n, forgotten)
    spectrum = jnp.linalg.eigvalsh(gram) / n
    retained = jnp.linalg.eigvalsh(gram[:-forgotten, :-forgotten]) / (n - forgotten)
    L_max = jnp.max(jnp.diagonal(gram))
    known = Constants(
        L=spectrum[-1],
        mu_pl=spectrum[0],
        f_star=jnp.zeros(()),
        L_max=L_max,
        sigma_star_sq=jnp.zeros(()),
        G=jnp.sqrt(jnp.sum(b**2) * L_max),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        mu_pl_retained=retained[0],
        f_star_retained=jnp.zeros(()),
        dimension=jnp.asarray(d, float),
    )
    x_star = A.T @ jnp.linalg.solve(gram, b)
    return Problem(OVERPARAMETERISED_DELETION, Data(Design.of(A), b, jnp.full(n, 1 / n), kept), known, x_star)
