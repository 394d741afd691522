"""ell(W) = mean_i sum_jk (1 - cos((W - M_i)_jk)): a smooth nonconvex loss of the weight, with an optimum in reach.

The records M_i (N of them) are a matrix M of rank `rank_star` plus `noise` times normal entries. |cos''| <= 1 entry by
entry, so every record is 1-smooth in the weight. With z the mean of exp(i M_i), entry by entry, f = 1 - |z| cos(w -
arg z): the infimum is the sum of 1 - |z|, attained at arg z (at M if there is one record) and, from 0, in reach of
adapters of rank `rank_star` without noise. sigma_sq bounds the variance of a record's gradient at every W: entry by
entry it is that of sin(w - M_i), at most the top eigenvalue of the covariance of (cos M_i, sin M_i), which is attained.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import equal_weights, finite_sum, sampler


@struct.dataclass
class Data:
    """M is (N, m, n), one target a record, with weights (N,) that sum to 1."""

    M: Array
    weight: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros_like(data.M[0])


def value(data: Data, W: Array) -> Array:
    return 2 * jnp.einsum("i,ijk->", data.weight, jnp.sin((W - data.M) / 2) ** 2)


def rows(data: Data, index: Array) -> Data:
    return Data(data.M[index], equal_weights(data.weight, len(index)))


def variance(M: Array) -> Array:
    """Return the largest variance over records, summed over entries, that sin(W - M_i) has at any W."""
    covariance = [[jnp.mean(a * b, 0) - jnp.mean(a, 0) * jnp.mean(b, 0) for a in waves(M)] for b in waves(M)]
    (cc, cs), (_, ss) = covariance
    return jnp.sum((cc + ss) / 2 + jnp.sqrt((cc - ss) ** 2 / 4 + cs**2))


def waves(M: Array) -> tuple[Array, Array]:
    return jnp.cos(M), jnp.sin(M)


COSINE = Family(
    name="cosine",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.FINITE_SUM
    | Regularity.MATRIX
    | Regularity.BOUNDED_VARIANCE,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
)


def make(
    key: Array, *, m: int = 8, n: int = 8, rank: int = 2, rank_star: int = 2, N: int = 1, noise: float = 0.0
) -> Problem:
    """Return the problem of N random m x n targets near one of rank `rank_star` with entries of size about 1.

    `rank` is that of the adapters, 0 asks for the problem in W itself.
    """
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(N >= 1, f"N = {N}: at least one record")
    require(noise >= 0, f"noise = {noise}: must not be negative")
    left_key, right_key = jax.random.split(key)
    left, right = jax.random.normal(left_key, (m, rank_star)), jax.random.normal(right_key, (rank_star, n))
    noises = noise * jax.random.normal(jax.random.fold_in(key, 1), (N, m, n))
    M = left @ right / rank_star**0.5 + noises
    z = jnp.mean(jnp.exp(1j * M), axis=0)
    one_target = N == 1 and noise == 0
    constants = Constants(
        L=jnp.ones(()),
        f_star=jnp.zeros(()) if one_target else jnp.sum(1 - jnp.abs(z)),
        L_max=jnp.ones(()),
        sigma_sq=variance(M),
        sigma_star_sq=jnp.sum(jnp.mean(jnp.sin(jnp.angle(z) - M) ** 2, axis=0)),
        n=jnp.asarray(float(N)),
        rows=jnp.asarray(float(m)),
        columns=jnp.asarray(float(n)),
    )
    problem = Problem(COSINE, Data(M, jnp.full(N, 1 / N)), constants, M[0] if one_target else jnp.angle(z))
    if not rank:
        return problem
    if one_target and rank >= rank_star:
        return low_rank(problem, rank, claims=Regularity.LOWER_BOUNDED, stated={"f_star": jnp.zeros(())})
    return low_rank(problem, rank)
