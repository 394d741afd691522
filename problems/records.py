"""What deletion and minibatches are for a mean over weighted records, the last m of which are to be forgotten.

A family's data carry `weight` (n,), which sums to 1 and which its value is linear in, and `kept` (n,): 0 on the
forgotten records. Deleting is a zero weight, so that shapes stay; a minibatch is fewer rows of equal weight.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from problems.oracles import Deletion, FiniteSum, Key

D = TypeVar("D")


def kept_mask(n: int, forgotten: int) -> Array:
    """Return 1 on the first n - forgotten records and 0 on the others."""
    return jnp.where(jnp.arange(n) < n - forgotten, 1.0, 0.0)


def retain(data: Any, deleted: Array | None) -> Any:
    """Return the data without the forgotten records, or without the last `deleted` of them."""
    if deleted is None:
        return replace(data, weight=data.kept / jnp.sum(data.kept))
    n = len(data.weight)
    left = (jnp.arange(n) < n - deleted).astype(data.weight.dtype)
    return replace(data, weight=left / jnp.sum(left))


def forget(data: Any) -> Any:
    """Return the forgotten records alone."""
    return replace(data, weight=(1 - data.kept) / jnp.sum(1 - data.kept))


def count(data: Any) -> int:
    """Return the number of records."""
    return len(data.weight)


def equal_weights(like: Array, b: int) -> Array:
    """Return b weights 1/b."""
    return jnp.full_like(like, 1 / b, shape=(b,))


def sampler(rows: Callable[[D, Array], D]) -> Callable[[D, Key, int], D]:
    """Return `sample(data, key, b)`: b records drawn independently and uniformly from those with a weight."""

    def sample(data: Any, key: Key, batch_size: int) -> Any:
        records = jnp.count_nonzero(data.weight)  # retained ones come first
        return rows(data, jax.random.randint(key, (batch_size,), 0, records))

    return sample


def finite_sum(rows: Callable[[D, Array], D]) -> FiniteSum[D]:
    """Return the records of a family by weights; `rows(data, index)` picks records, equally weighted."""
    return FiniteSum(rows, count)


def deletion(substitute: Callable[[D], D] | None = None) -> Deletion[D]:
    """Return the deletion of a family by weights."""
    return Deletion(retain, forget, substitute)
