"""f(B, A) = sum_ij (1 - cos((B A - M)_ij)): a smooth nonconvex loss of the weight, with an optimum in reach.

M has rank `rank`, so the infimum 0 is attained at B A = M (and at weights that differ by multiples of 2 pi).
|cos''| <= 1 entry by entry, so the loss is 1-smooth in the weight.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Adapter, kaiming_start, merge
from problems.problem import Constants, Factored, Family, Problem, Regularity, require


@struct.dataclass
class Data:
    """M is (m, n)."""

    M: Array
    rank: int = struct.field(pytree_node=False)


def init(data: Data, key: Array) -> Adapter:
    return kaiming_start(key, data.M, data.rank)


def loss(data: Data, W: Array) -> Array:
    return 2 * jnp.sum(jnp.sin((W - data.M) / 2) ** 2)


def merged(data: Data, x: Adapter) -> Array:
    return merge(jnp.zeros_like(data.M), x)


def value(data: Data, x: Adapter) -> Array:
    return loss(data, merged(data, x))


COSINE = Family(
    name="cosine",
    regularity=Regularity.SMOOTH_IN_WEIGHT | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
    init=init,
    value=value,
    factored=Factored(merged, loss),
)


def make(key: Array, *, m: int = 8, n: int = 8, rank: int = 2) -> Problem[Data, Adapter]:
    """Return the problem of a random m x n matrix of rank `rank` with entries of size about 1."""
    require(1 <= rank <= min(m, n), f"rank = {rank}: adapters of a {m} x {n} weight have rank 1 to {min(m, n)}")
    left_key, right_key = jax.random.split(key)
    left, right = jax.random.normal(left_key, (m, rank)), jax.random.normal(right_key, (rank, n))
    constants = Constants(L_weight=jnp.ones(()), ell_star=jnp.zeros(()), f_star=jnp.zeros(()))
    return Problem(COSINE, Data(left @ right / rank**0.5, rank), constants)
