"""f(x) = (1/(2n)) |A x - b|^2 with Gaussian rows and noisy b: a well-conditioned finite sum.

A is (n, d) with standard normal entries, b = A x_true + noise * normal. All constants are exact but the
smoothness of single records, which is that of the worst one: with H = A^T A / n,
  L = lambda_max(H), mu = mu_pl = lambda_min(H), L_max = max_i |a_i|^2, x_star = H^-1 A^T b / n.
Source: Boyd & Vandenberghe, Convex Optimization (2004), section 1.2.1.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.linear_model import Design
from problems.mean_square import REGULARITY, Data, init, sample, value
from problems.problem import Family, Problem

LEAST_SQUARES = Family(
    name="least_squares",
    regularity=REGULARITY | Regularity.STRONGLY_CONVEX,
    init=init,
    value=value,
    sample=sample,
)


def make(key: Array, *, n: int = 200, d: int = 20, noise: float = 0.5) -> Problem[Data, Array]:
    """Return least squares with `n` records in `d` dimensions and residuals of standard deviation `noise`."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(n >= 2 * d, f"n = {n}, d = {d}: fewer than two records a dimension are ill-conditioned")
    require(noise >= 0, f"noise = {noise}: a standard deviation cannot be negative")
    row_key, true_key, noise_key = jax.random.split(key, 3)
    A = jax.random.normal(row_key, (n, d))
    b = A @ jax.random.normal(true_key, (d,)) + noise * jax.random.normal(noise_key, (n,))
    H = A.T @ A / n
    x_star = jnp.linalg.solve(H, A.T @ b / n)
    residual, row_norm_sq, spectrum = A @ x_star - b, jnp.sum(A**2, axis=1), jnp.linalg.eigvalsh(H)
    constants = Constants(
        L=spectrum[-1],
        mu=spectrum[0],
        mu_pl=spectrum[0],
        f_star=0.5 * jnp.mean(residual**2),
        L_max=jnp.max(row_norm_sq),
        sigma_star_sq=jnp.mean(residual**2 * row_norm_sq),
        n=jnp.asarray(n, float),
    )
    return Problem(LEAST_SQUARES, Data(Design.of(A), b), constants, x_star)
