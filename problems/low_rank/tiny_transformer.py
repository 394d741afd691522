"""f(B, A) = mean cross-entropy of a transformer with adapters on all its linear maps, on digits.

An image of 8 x 8 pixels is 8 tokens, its rows: embedding to `width` plus positions, `blocks` of attention with 2 heads
and a feed-forward map, h + attention(norm h), then h + W2 silu(W1 norm h), the mean over tokens, 10 scores. The network
knows the digits 0 to 4 and is to learn all ten (`problems.pretrained`); positions, biases and norms stay frozen. Only
f >= 0 is claimed, over all weights: no smoothness constant holds on the whole space.
Source: Vaswani et al. (2017), Attention is all you need; Hu et al. (2021), arXiv:2106.09685, for the adapters.
"""

from functools import cache
from typing import Any

import jax.numpy as jnp
from flax import linen
from jax import Array

from problems import pretrained
from problems.adapter import low_rank
from problems.constants import require
from problems.problem import Family, Problem

SIDE, HEADS = 8, 2


def dense(units: int, name: str) -> linen.Dense:
    """Return a linear map whose kernel is a matrix in the session's precision."""
    return linen.Dense(units, param_dtype=float, name=name)


class Block(linen.Module):
    """Attention, then a feed-forward map, each added to what came before."""

    width: int

    @linen.compact
    def __call__(self, h: Array) -> Array:
        """Return the tokens (b, 8, width) after the block."""
        h = h + self.attention(linen.RMSNorm(param_dtype=float)(h))
        hidden = linen.silu(dense(2 * self.width, "up")(linen.RMSNorm(param_dtype=float)(h)))
        return h + dense(self.width, "down")(hidden)

    def attention(self, h: Array) -> Array:
        """Return softmax(Q K^T/sqrt(d)) V of both heads, mixed."""
        size = self.width // HEADS
        QKV = dense(3 * self.width, "qkv")(h).reshape(*h.shape[:-1], 3, HEADS, size)
        Q, K, V = jnp.moveaxis(QKV, -3, 0)
        likeness = jnp.einsum("bthd,bshd->bhts", Q, K) / size**0.5
        seen = jnp.einsum("bhts,bshd->bthd", linen.softmax(likeness), V)
        return dense(self.width, "out")(seen.reshape(h.shape))


class Transformer(linen.Module):
    """Images (b, 64) to scores (b, 10)."""

    width: int
    blocks: int

    @linen.compact
    def __call__(self, images: Array) -> Array:
        """Return the scores of the images."""
        position: Any = self.param("position", linen.initializers.normal(0.1), (SIDE, self.width), float)
        h = dense(self.width, "embed")(images.reshape(-1, SIDE, SIDE)) + position
        for number in range(self.blocks):
            h = Block(self.width, name=f"block_{number}")(h)
        return dense(pretrained.CLASSES, "head")(jnp.mean(linen.RMSNorm(param_dtype=float)(h), axis=1))


@cache
def network(width: int, blocks: int) -> Family:
    """Return the family of transformers of a size: one object, hence static under jit."""
    return pretrained.family("tiny_transformer", Transformer(width, blocks))


def make(key: Array, *, rank: int = 4, width: int = 16, blocks: int = 1, records: int = 200) -> Problem:
    """Return the problem on the first `records` images, the same for every key; rank 0: all parameters, no adapters."""
    require(width >= 2 and width % HEADS == 0, f"width = {width}: a positive multiple of {HEADS} heads")
    require(blocks >= 1, f"blocks = {blocks}: at least one")
    problem = pretrained.problem_of(network(width, blocks), records)
    return low_rank(problem, rank, matrices=("kernel",)) if rank else problem
