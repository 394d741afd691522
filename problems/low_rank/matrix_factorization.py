"""ell(W) = (L/2) |W - M|_F^2: the quadratic of a matrix, seen through adapters of rank r, f(B, A) = ell(B A).

M = U diag(geomspace(1, 1/kappa, rank_star)) V^T times `scale`, with random rotations U and V. As a function of
the weight the loss is L-smooth with infimum 0; the infimum over adapters is (L/2) sum_{i>r} sigma_i^2 (Eckart &
Young 1936). f is not smooth in (B, A): its gradient grows like the cube of the adapters.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Start, constant_start, gaussian_start, lora_start, low_rank
from problems.problem import Constants, Family, Problem, Regularity, require

STARTS: dict[str, Start] = {"lora": lora_start, "constant": constant_start, "gaussian": gaussian_start}


@struct.dataclass
class Data:
    """M is (m, n)."""

    M: Array
    L: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros_like(data.M)


def value(data: Data, W: Array) -> Array:
    return 0.5 * data.L * jnp.sum((W - data.M) ** 2)


MATRIX_FACTORIZATION = Family(
    name="matrix_factorization",
    regularity=Regularity.SMOOTH
    | Regularity.STRONGLY_CONVEX
    | Regularity.CONVEX
    | Regularity.PL
    | Regularity.QUADRATIC
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.MATRIX,
    init=init,
    value=value,
)


def make(
    key: Array,
    *,
    m: int = 16,
    n: int = 16,
    rank: int = 4,
    rank_star: int = 4,
    kappa: float = 10.0,
    L: float = 1.0,
    scale: float = 1.0,
    init: str = "lora",
    start: float = 1.0,
) -> Problem:
    """Return the factorisation of an m x n matrix of rank `rank_star` by adapters of rank `rank`; 0: W itself.

    `init` is lora, constant (every entry of B and A is `start`) or gaussian (normal entries of that size).
    """
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(L > 0 and scale > 0, f"L = {L}, scale = {scale}: both must be positive")
    require(start > 0, f"start = {start}: must be positive")
    require(init in STARTS, f"init = {init}: must be one of {', '.join(STARTS)}")
    left_key, right_key = jax.random.split(key)
    U = jnp.linalg.qr(jax.random.normal(left_key, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (n, rank_star)))[0]
    spectrum = scale * jnp.geomspace(1.0, 1.0 / kappa, rank_star)
    data = Data((U * spectrum) @ V.T, jnp.asarray(L, float))
    constants = Constants(
        L=data.L,
        mu=data.L,
        mu_pl=data.L,
        f_star=jnp.zeros(()),
        rows=jnp.asarray(float(m)),
        columns=jnp.asarray(float(n)),
    )
    problem = Problem(MATRIX_FACTORIZATION, data, constants, data.M)
    if not rank:
        return problem
    claims, stated = Regularity.LOWER_BOUNDED, {"f_star": 0.5 * data.L * jnp.sum(spectrum[rank:] ** 2)}
    if L == 1 and rank >= rank_star:
        claims |= Regularity.TARGET
        stated |= {"sigma_1": spectrum[0], "sigma_r": spectrum[-1]}
    return low_rank(problem, rank, init=STARTS[init], size=start, claims=claims, stated=stated)
