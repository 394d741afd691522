"""f(X) = |X X^T - A|_F^2/4: one factor X (m x r) of a positive semidefinite matrix A of rank r_A.

A = Q diag(sigma) Q^T, sigma = geomspace(1, 1/kappa, r_A), with a random frame Q. The infimum is (1/4) sum_{i>r}
sigma_i^2 (Eckart & Young 1936), 0 from r = r_A on. From a start X = A Omega every gradient method that multiplies
from the right stays in the range of A. The singular values of Sigma^{-1/2} Q^T X are all 1 exactly where
X X^T = A (r >= r_A and nothing outside the range).
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import UNSTATED, Constants, Regularity, require
from problems.oracles import Target
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """Q is (m, r_A), sigma (r_A,), A (m, m); size and off_range are numbers that starts read."""

    Q: Array
    sigma: Array
    A: Array
    size: Array
    off_range: Array
    rank: int = struct.field(pytree_node=False)


def generic(data: Data, key: Array) -> Array:
    """Return normal entries of size `start`."""
    return data.size * jax.random.normal(key, (data.A.shape[0], data.rank))


def small(data: Data, key: Array) -> Array:
    """Return normal entries of a thousandth of that size."""
    return 1e-3 * generic(data, key)


def nystrom(data: Data, key: Array) -> Array:
    """Return A Omega + off_range Z, Omega of normal entries of size `start`, Z of size 1."""
    omega_key, off_key = jax.random.split(key)
    moved = data.off_range * jax.random.normal(off_key, (data.A.shape[0], data.rank))
    return data.A @ generic(data, omega_key) + moved


STARTS: dict[str, Callable[[Data, Array], Array]] = {"nystrom": nystrom, "small": small, "generic": generic}


def value(data: Data, X: Array) -> Array:
    return 0.25 * jnp.sum((X @ X.T - data.A) ** 2)


def whitened(data: Data, X: Array) -> Array:
    return data.Q.T @ X / jnp.sqrt(data.sigma)[:, None]


def off_range(data: Data, X: Array) -> Array:
    return jnp.linalg.norm(X - data.Q @ (data.Q.T @ X))


@lru_cache
def family_of(init: str, claims: Regularity) -> Family:
    """Return the family of one start: the same object for the same arguments, so that nothing recompiles."""
    return Family(
        name="symmetric_factorization",
        regularity=Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.PSD_TARGET | claims,
        init=STARTS[init],
        value=value,
        target=Target(whitened, off_range),
    )


def make(
    key: Array,
    *,
    m: int = 16,
    rank: int = 4,
    rank_star: int = 4,
    kappa: float = 10.0,
    init: str = "nystrom",
    start: float = 1.0,
    off_range: float = 0.0,
) -> Problem:
    """Return the factorisation of an m x m matrix of rank `rank_star` by a factor with `rank` columns.

    `init` is nystrom (X = A Omega, Omega of normal entries of size `start`, X moved by normal entries of size
    `off_range`), generic (normal entries of size `start`) or small (a thousandth of it).
    """
    require(1 <= rank_star <= m, f"rank_star = {rank_star}: must lie in 1 .. {m}")
    require(1 <= rank <= m, f"rank = {rank}: must lie in 1 .. {m}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(start > 0, f"start = {start}: must be positive")
    require(init in STARTS, f"init = {init}: must be one of {', '.join(STARTS)}")
    require(off_range >= 0, f"off_range = {off_range}: must not be negative")
    require(off_range == 0 or init == "nystrom", f"off_range = {off_range}: only with init nystrom")
    Q = jnp.linalg.qr(jax.random.normal(key, (m, rank_star)))[0]
    sigma = jnp.geomspace(1.0, 1.0 / kappa, rank_star)
    data = Data(Q, sigma, (Q * sigma) @ Q.T, jnp.asarray(start, float), jnp.asarray(off_range, float), rank)
    proper = init == "nystrom" and rank >= rank_star
    constants = Constants(
        f_star=0.25 * jnp.sum(sigma[rank:] ** 2),
        sigma_1=sigma[0],
        sigma_r=sigma[-1],
        off_range=data.off_range if proper else UNSTATED,
    )
    return Problem(family_of(init, Regularity.NYSTROM_START if proper else Regularity.NONE), data, constants)
