"""The mean of squared residuals,  f(x) = (1/(2n)) |A x - b|^2, which several families of linear regression share."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Regularity
from problems.linear_model import Design, matvec

REGULARITY = (
    Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.CONVEX
    | Regularity.QUADRATIC
    | Regularity.FINITE_SUM
    | Regularity.RETAINS_CONVEXITY
)


@struct.dataclass
class Data:
    """A (n, d) beside its transpose, b (n,)."""

    design: Design
    b: Array


def init(data: Data, key: Array) -> Array:
    return jax.random.normal(key, data.design.A.shape[-1:])


def value(data: Data, x: Array) -> Array:
    return 0.5 * jnp.mean((matvec(data.design, x) - data.b) ** 2)


def sample(data: Data, key: Array, batch_size: int) -> Data:
    index = jax.random.randint(key, (batch_size,), 0, len(data.b))
    return Data(data.design.rows(index), data.b[index])
