"""ell(W) = (L/2) |W - M|_F^2: the quadratic of a matrix, seen through adapters of rank r, f(B, A) = ell(B A).

M = U diag(geomspace(1, 1/kappa, rank_star)) V^T times `scale`, with random rotations U and V. As a function of
the weight the loss is L-smooth with infimum 0; the infimum over adapters is (L/2) sum_{i>r} sigma_i^2 (Eckart &
Young 1936). f is not smooth in (B, A): its gradient grows like the cube of the adapters.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Adapted, Adapter, Start, constant_start, gaussian_start, lora_start, low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """M = left right is (m, n), its balanced factors (m, rank_star) and (rank_star, n), largest singular value first.

    `imbalance` and `off_range` are numbers that starts read.
    """

    M: Array
    left: Array
    right: Array
    L: Array
    imbalance: Array
    off_range: Array


def small_start(data: Adapted, key: Array) -> Adapter:
    """Return the gaussian start at a thousandth of its size."""
    x = gaussian_start(data, key)
    return Adapter(1e-3 * x.B, 1e-3 * x.A)


def scaled(data: Adapted, x: Adapter) -> Adapter:
    """Return the factors (B imbalance, A / imbalance) of the same product."""
    return Adapter(x.B * data.base.imbalance, x.A / data.base.imbalance)


def imbalanced_start(data: Adapted, key: Array) -> Adapter:
    """Return the gaussian start, imbalanced."""
    return scaled(data, gaussian_start(data, key))


def spectral_start(data: Adapted, key: Array) -> Adapter:
    """Return the best factors U sqrt(S), sqrt(S) V^T of M plus the gaussian start, imbalanced."""
    noise = gaussian_start(data, key)
    k = min(data.rank, data.base.left.shape[1])
    B, A = noise.B.at[:, :k].add(data.base.left[:, :k]), noise.A.at[:k].add(data.base.right[:k])
    return scaled(data, Adapter(B, A))


def nystrom_start(data: Adapted, key: Array) -> Adapter:
    """Return B = M Omega + off_range Z, A = 0: Omega has normal entries of size `start`, Z those of size 1."""
    omega_key, off_key = jax.random.split(key)
    (m, n), r = data.base.M.shape, data.rank
    B = data.base.M @ (data.size * jax.random.normal(omega_key, (n, r)))
    return Adapter(B + data.base.off_range * jax.random.normal(off_key, (m, r)), jnp.zeros((r, n)))


def nora_start(data: Adapted, key: Array) -> Adapter:
    """Return B = 0, A = Omega M + off_range Z, the Nystrom start of the other factor."""
    omega_key, off_key = jax.random.split(key)
    (m, n), r = data.base.M.shape, data.rank
    A = data.size * jax.random.normal(omega_key, (r, m)) @ data.base.M
    return Adapter(jnp.zeros((m, r)), A + data.base.off_range * jax.random.normal(off_key, (r, n)))


NYSTROM: dict[str, Start] = {"nystrom": nystrom_start, "nora": nora_start}
IMBALANCED: dict[str, Start] = {"imbalanced": imbalanced_start, "spectral": spectral_start}
STARTS: dict[str, Start] = {
    "lora": lora_start,
    "constant": constant_start,
    "gaussian": gaussian_start,
    "small": small_start,
    **IMBALANCED,
    **NYSTROM,
}


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
    imbalance: float = 1.0,
    off_range: float = 0.0,
) -> Problem:
    """Return the factorisation of an m x n matrix of rank `rank_star` by adapters of rank `rank`; 0: W itself.

    `init` is lora (B = 0, A uniform), constant (every entry of B and A is `start`), gaussian (normal entries of that
    size), small (a thousandth of it), imbalanced (gaussian, then B times `imbalance`, A divided by it), spectral (the
    best factors of M moved by normal entries of size `start`, then the same), nystrom (B = M Omega, A = 0, Omega of
    normal entries of size `start`) or nora (B = 0, A = Omega M); the last two moved by normal entries of size
    `off_range`.
    """
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(L > 0 and scale > 0, f"L = {L}, scale = {scale}: both must be positive")
    require(start > 0, f"start = {start}: must be positive")
    require(init in STARTS, f"init = {init}: must be one of {', '.join(STARTS)}")
    require(imbalance > 0, f"imbalance = {imbalance}: must be positive")
    require(imbalance == 1 or init in IMBALANCED, f"imbalance = {imbalance}: only with init {', '.join(IMBALANCED)}")
    require(off_range >= 0, f"off_range = {off_range}: must not be negative")
    require(off_range == 0 or init in NYSTROM, f"off_range = {off_range}: only with init {', '.join(NYSTROM)}")
    left_key, right_key = jax.random.split(key)
    U = jnp.linalg.qr(jax.random.normal(left_key, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (n, rank_star)))[0]
    spectrum = scale * jnp.geomspace(1.0, 1.0 / kappa, rank_star)
    root = jnp.sqrt(spectrum)
    numbers = (jnp.asarray(number, float) for number in (L, imbalance, off_range))
    data = Data((U * spectrum) @ V.T, U * root, (V * root).T, *numbers)
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
        if rank == rank_star < min(m, n):
            claims |= Regularity.EXACT_RANK
        if init in NYSTROM:
            claims, stated = claims | Regularity.NYSTROM_START, stated | {"off_range": data.off_range}
    return low_rank(problem, rank, init=STARTS[init], size=start, claims=claims, stated=stated)
