"""ell(W) = (1/2N) sum_k (<A_k, W> - y_k)^2: a matrix of low rank seen through N random measurements.

y_k = <A_k, M> + `noise` z_k with standard normal A_k and z_k, M = U diag(geomspace(1, 1/kappa, rank_star)) V^T. With
the rows vec(A_k) in a matrix C, L and mu_pl are the largest and the smallest eigenvalue of C^T C/N, or of C C^T/N where
N < mn: a least-squares loss is Polyak-Lojasiewicz with the smallest positive one. Without noise the infimum is 0, at M,
and in reach of adapters of rank `rank_star`; with noise it is the least-squares residual.
Source: Recht, Fazel & Parrilo (2010), Guaranteed minimum-rank solutions of linear matrix equations, for the setting.
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
    """C is (N, mn), a measurement a row, with y (N,) and record weights (N,) that sum to 1; M is (m, n)."""

    C: Array
    y: Array
    weight: Array
    M: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros_like(data.M)


def residual(data: Data, W: Array) -> Array:
    return data.C @ W.ravel() - data.y


def value(data: Data, W: Array) -> Array:
    return 0.5 * data.weight @ residual(data, W) ** 2


def rows(data: Data, index: Array) -> Data:
    return replace(data, C=data.C[index], y=data.y[index], weight=equal_weights(data.weight, len(index)))


def relative_error(data: Data, W: Array) -> Array:
    return jnp.sum((W - data.M) ** 2) / jnp.sum(data.M**2)


MATRIX_SENSING = Family(
    name="matrix_sensing",
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


def target(key: Array, m: int, n: int, rank_star: int, kappa: float) -> Array:
    """Return U diag(geomspace(1, 1/kappa, rank_star)) V^T with random rotations."""
    left, right = jax.random.split(key)
    U = jnp.linalg.qr(jax.random.normal(left, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right, (n, rank_star)))[0]
    return (U * jnp.geomspace(1.0, 1.0 / kappa, rank_star)) @ V.T


def proven(data: Data, W: Array) -> Constants:
    """Return the constants at the minimiser W."""
    N, size = data.C.shape
    spectrum = jnp.linalg.eigvalsh((data.C @ data.C.T if size > N else data.C.T @ data.C) / N)
    lengths, errors = jnp.sum(data.C**2, axis=1), residual(data, W)
    return Constants(
        L=spectrum[-1],
        mu_pl=spectrum[0],
        f_star=value(data, W),
        L_max=jnp.max(lengths),
        sigma_star_sq=jnp.mean(errors**2 * lengths),
        n=jnp.asarray(float(N)),
        rows=jnp.asarray(float(W.shape[0])),
        columns=jnp.asarray(float(W.shape[1])),
    )


def make(
    key: Array,
    *,
    m: int = 12,
    n: int = 10,
    rank: int = 3,
    rank_star: int = 3,
    N: int = 200,
    kappa: float = 3.0,
    noise: float = 0.0,
) -> Problem:
    """Return the problem of N measurements of an m x n matrix of rank `rank_star`, with adapters of rank `rank`.

    `kappa` is the condition number of the matrix; rank 0 asks for the problem in W itself.
    """
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(N >= 1, f"N = {N}: at least one measurement")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(noise >= 0, f"noise = {noise}: must not be negative")
    target_key, sensor_key, noise_key = jax.random.split(key, 3)
    M, C = target(target_key, m, n, rank_star, kappa), jax.random.normal(sensor_key, (N, m * n))
    y = C @ M.ravel() + noise * jax.random.normal(noise_key, (N,))
    data = Data(C, y, jnp.full(N, 1 / N), M)
    W = M if noise == 0 else jnp.linalg.lstsq(C, y)[0].reshape(m, n)
    constants = proven(data, W)
    if noise == 0:
        constants = replace(constants, f_star=jnp.zeros(()), sigma_star_sq=jnp.zeros(()))
    problem = Problem(MATRIX_SENSING, data, constants, W)
    if not rank:
        return problem
    if noise == 0 and rank >= rank_star:
        return low_rank(problem, rank, claims=Regularity.LOWER_BOUNDED, stated={"f_star": jnp.zeros(())})
    return low_rank(problem, rank)
