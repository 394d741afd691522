"""ell(W) = (1/2) sum over observed (i, j) of (W_ij - M_ij)^2: a matrix of low rank of which a part is observed.

M = U diag(geomspace(1, 1/kappa, rank_star)) V^T; the N observed entries are drawn without replacement. L = 1, and since
|grad ell|^2 = 2 ell, ell is 1-Polyak-Lojasiewicz, though not strongly convex: any values may stand elsewhere. The
infimum is 0, at M among others, and in reach of adapters of rank `rank_star`. A record is an entry, N times its square.
Source: Candes & Recht (2009), Exact matrix completion via convex optimization, for the setting.
"""

from dataclasses import replace

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
    """Numbers (N,) of the observed entries, row by row, with record weights (N,) that sum to 1; M is (m, n)."""

    observed: Array
    weight: Array
    M: Array
    N: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros_like(data.M)


def value(data: Data, W: Array) -> Array:
    return 0.5 * data.N * data.weight @ (W - data.M).ravel()[data.observed] ** 2


def rows(data: Data, index: Array) -> Data:
    return replace(data, observed=data.observed[index], weight=equal_weights(data.weight, len(index)))


def relative_error(data: Data, W: Array) -> Array:
    return jnp.sum((W - data.M) ** 2) / jnp.sum(data.M**2)


MATRIX_COMPLETION = Family(
    name="matrix_completion",
    regularity=Regularity.SMOOTH
    | Regularity.CONVEX
    | Regularity.PL
    | Regularity.QUADRATIC
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.FINITE_SUM
    | Regularity.MATRIX,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    measures=(("relative_error", relative_error),),
)


def make(
    key: Array,
    *,
    m: int = 12,
    n: int = 10,
    rank: int = 3,
    rank_star: int = 3,
    observed: float = 0.6,
    kappa: float = 3.0,
) -> Problem:
    """Return the completion of an m x n matrix of rank `rank_star`, a share `observed` of it known, by adapters.

    `kappa` is the condition number of the matrix; rank 0 asks for the problem in W itself.
    """
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    N = round(observed * m * n)
    require(1 <= N <= m * n, f"observed = {observed}: a share in (0, 1] with at least one entry of {m} x {n}")
    left_key, right_key, entry_key = jax.random.split(key, 3)
    U = jnp.linalg.qr(jax.random.normal(left_key, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (n, rank_star)))[0]
    M = (U * jnp.geomspace(1.0, 1.0 / kappa, rank_star)) @ V.T
    entries, size = jnp.sort(jax.random.permutation(entry_key, m * n)[:N]), jnp.asarray(float(N))
    constants = Constants(
        L=jnp.ones(()),
        mu_pl=jnp.ones(()),
        f_star=jnp.zeros(()),
        L_max=size,
        sigma_star_sq=jnp.zeros(()),
        n=size,
        rows=jnp.asarray(float(m)),
        columns=jnp.asarray(float(n)),
    )
    problem = Problem(MATRIX_COMPLETION, Data(entries, jnp.full(N, 1 / N), M, size), constants, M)
    if not rank:
        return problem
    if rank >= rank_star:
        return low_rank(problem, rank, claims=Regularity.LOWER_BOUNDED, stated={"f_star": jnp.zeros(())})
    return low_rank(problem, rank)
