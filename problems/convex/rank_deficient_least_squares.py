"""f(x) = (1/(2n)) |A x - b|^2 with rank A < d: convex and PL, not strongly convex.

H = A^T A / n = V diag(lambda) V^T has `rank` < d nonzero eigenvalues, log-spaced from L to L/kappa, and b = A
x_true, so that f_star = 0 on the whole affine set x_true + ker A. Everything is exact: f(x) = (1/2) sum_j
lambda_j c_j^2 and |grad f(x)|^2 = sum_j lambda_j^2 c_j^2 with c = V^T (x - x_true), hence mu_pl = L/kappa,
the smallest nonzero eigenvalue. x_star is the minimiser of least norm (not the closest to the start); every
record vanishes there: sigma_star_sq = 0.
Source: Karimi, Nutini & Schmidt (2016), section 2.3.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.constants import Constants, require
from problems.linear_model import Design
from problems.mean_square import REGULARITY, Data, init, sample, value
from problems.problem import Family, Problem

RANK_DEFICIENT_LEAST_SQUARES = Family(
    name="rank_deficient_least_squares",
    regularity=REGULARITY,
    init=init,
    value=value,
    sample=sample,
)


def make(
    key: Array, *, n: int = 40, d: int = 60, rank: int = 20, kappa: float = 100.0, L: float = 1.0
) -> Problem[Data, Array]:
    """Return consistent least squares whose H has `rank` nonzero eigenvalues from `L` down to `L/kappa`."""
    require(2 <= rank <= n, f"rank = {rank}: between 2 and n = {n}")
    require(rank < d, f"rank = {rank}: below d = {d}, else the problem is strongly convex")
    require(kappa >= 1, f"kappa = {kappa}: a ratio of eigenvalues from large to small is at least 1")
    require(L > 0, f"L = {L}: the largest eigenvalue must be positive")
    left_key, right_key, true_key = jax.random.split(key, 3)
    U = jnp.linalg.qr(jax.random.normal(left_key, (n, rank)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (d, rank)))[0]
    spectrum = L * jnp.geomspace(1.0, 1.0 / kappa, rank)
    A = (U * jnp.sqrt(n * spectrum)) @ V.T
    x_star = V @ (V.T @ jax.random.normal(true_key, (d,)))
    constants = Constants(
        L=spectrum[0],
        mu_pl=spectrum[-1],
        f_star=jnp.zeros(()),
        L_max=jnp.max(jnp.sum(A**2, axis=1)),
        sigma_star_sq=jnp.zeros(()),
        n=jnp.asarray(n, float),
    )
    return Problem(RANK_DEFICIENT_LEAST_SQUARES, Data(Design.of(A), A @ x_star), constants, x_star)
