"""ell(W) = (1/2N) |X W^T - Y|_F^2: multi-output linear regression, a finite sum of squared residuals |W x_i - y_i|^2/2.

X is (N, n) with standard normal entries, Y = X M^T + noise * normal with M of rank `rank_star` and entries of size
about 1. With S = X^T X/N the gradient is (W - W_star) S, so that L = lambda_max(S), mu = lambda_min(S), and a record
is |x_i|^2-smooth. `skew` multiplies the columns of X by geomspace(1, 1/skew, n): a condition number of about skew^2.
Source: Boyd & Vandenberghe, Convex Optimization (2004), section 1.2.1, one regression a row of W.
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
    """X is (N, n), Y (N, m), with record weights (N,) that sum to 1."""

    X: Array
    Y: Array
    weight: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros((data.Y.shape[1], data.X.shape[1]))


def value(data: Data, W: Array) -> Array:
    return 0.5 * data.weight @ jnp.sum((data.X @ W.T - data.Y) ** 2, axis=1)


def rows(data: Data, index: Array) -> Data:
    return Data(data.X[index], data.Y[index], equal_weights(data.weight, len(index)))


MATRIX_LEAST_SQUARES = Family(
    name="matrix_least_squares",
    regularity=Regularity.SMOOTH
    | Regularity.STRONGLY_CONVEX
    | Regularity.CONVEX
    | Regularity.PL
    | Regularity.QUADRATIC
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.FINITE_SUM
    | Regularity.RETAINS_CONVEXITY
    | Regularity.MATRIX,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
)


def make(
    key: Array,
    *,
    m: int = 16,
    n: int = 16,
    N: int = 128,
    rank: int = 0,
    rank_star: int = 4,
    noise: float = 0.0,
    skew: float = 1.0,
) -> Problem:
    """Return the regression of m outputs on n inputs with N records, in W itself or through adapters of rank > 0."""
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(2 * n <= N, f"N = {N}, n = {n}: fewer than two records an input are ill-conditioned")
    require(noise >= 0 and skew >= 1, f"noise = {noise}, skew = {skew}: noise >= 0 and skew >= 1")
    left, right, inputs, noises = jax.random.split(key, 4)
    M = jax.random.normal(left, (m, rank_star)) @ jax.random.normal(right, (rank_star, n)) / rank_star**0.5
    X = jax.random.normal(inputs, (N, n)) * jnp.geomspace(1.0, 1.0 / skew, n)
    Y = X @ M.T + noise * jax.random.normal(noises, (N, m))
    S = X.T @ X / N
    spectrum, row_norm_sq = jnp.linalg.eigvalsh(S), jnp.sum(X**2, axis=1)
    W_star = M + jnp.linalg.solve(S, X.T @ (Y - X @ M.T) / N).T
    residual_sq = jnp.sum((X @ W_star.T - Y) ** 2, axis=1)
    constants = Constants(
        L=spectrum[-1],
        mu=spectrum[0],
        mu_pl=spectrum[0],
        f_star=0.5 * jnp.mean(residual_sq),
        L_max=jnp.max(row_norm_sq),
        sigma_star_sq=jnp.mean(residual_sq * row_norm_sq),
        n=jnp.asarray(float(N)),
        rows=jnp.asarray(float(m)),
        columns=jnp.asarray(float(n)),
    )
    problem = Problem(MATRIX_LEAST_SQUARES, Data(X, Y, jnp.full(N, 1 / N)), constants, W_star)
    if not rank:
        return problem
    if noise == 0 and rank >= rank_star:
        return low_rank(problem, rank, claims=Regularity.LOWER_BOUNDED, stated={"f_star": jnp.zeros(())})
    return low_rank(problem, rank)
