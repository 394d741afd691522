"""f(B, A) = (L/2) |B A - M|_F^2: the quadratic of a matrix, seen through adapters of rank r.

M = U diag(geomspace(1, 1/kappa, rank_star)) V^T times `scale`, with random rotations U and V. As a function of
the weight the loss is L-smooth with infimum 0; the infimum over adapters is (L/2) sum_{i>r} sigma_i^2 (Eckart &
Young 1936). f is not smooth in (B, A): its gradient grows like the cube of the adapters.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Adapter, kaiming_start, merge
from problems.problem import Constants, Factored, Family, Problem, Regularity, require


@struct.dataclass
class Data:
    """M is (m, n); `start` > 0 is where every entry of B and A starts, 0 means LoRA's start."""

    M: Array
    L: Array
    start: Array
    rank: int = struct.field(pytree_node=False)


def init(data: Data, key: Array) -> Adapter:
    lora = kaiming_start(key, data.M, data.rank)
    return jax.tree.map(lambda leaf: jnp.where(data.start > 0, data.start, leaf), lora)


def loss(data: Data, W: Array) -> Array:
    return 0.5 * data.L * jnp.sum((W - data.M) ** 2)


def merged(data: Data, x: Adapter) -> Array:
    return merge(jnp.zeros_like(data.M), x)


def value(data: Data, x: Adapter) -> Array:
    return loss(data, merged(data, x))


MATRIX_FACTORIZATION = Family(
    name="matrix_factorization",
    regularity=Regularity.SMOOTH_IN_WEIGHT | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
    init=init,
    value=value,
    factored=Factored(merged, loss),
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
    start: float = 0.0,
) -> Problem[Data, Adapter]:
    """Return the factorisation of an m x n matrix of rank `rank_star` by adapters of rank `rank`."""
    require(1 <= rank <= min(m, n), f"rank = {rank}: adapters of a {m} x {n} weight have rank 1 to {min(m, n)}")
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    require(L > 0 and scale > 0, f"L = {L}, scale = {scale}: both must be positive")
    require(start >= 0, f"start = {start}: must be 0 (LoRA's start) or positive")
    left_key, right_key = jax.random.split(key)
    U = jnp.linalg.qr(jax.random.normal(left_key, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (n, rank_star)))[0]
    spectrum = scale * jnp.geomspace(1.0, 1.0 / kappa, rank_star)
    data = Data((U * spectrum) @ V.T, jnp.asarray(L, float), jnp.asarray(start, float), rank)
    constants = Constants(
        L_weight=data.L,
        ell_star=jnp.zeros(()),
        f_star=0.5 * data.L * jnp.sum(spectrum[rank:] ** 2),
    )
    return Problem(MATRIX_FACTORIZATION, data, constants)
