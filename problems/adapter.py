"""The low-rank adapter of a frozen weight:  W = W0 + B A."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array


@struct.dataclass
class Adapter:
    """B is (m, r), A is (r, n)."""

    B: Array
    A: Array


def merge(W0: Array, x: Adapter) -> Array:
    """Return W0 + B A."""
    return W0 + x.B @ x.A


def kaiming_start(key: Array, W0: Array, rank: int) -> Adapter:
    """Return LoRA's start (Hu et al. 2021) for an m x n weight: B = 0, A uniform on (-1/sqrt n, 1/sqrt n)."""
    m, n = W0.shape
    radius = n**-0.5
    return Adapter(jnp.zeros((m, rank)), jax.random.uniform(key, (rank, n), minval=-radius, maxval=radius))
