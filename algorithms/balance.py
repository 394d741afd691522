"""How unequal the two factors of an adapter are, and the minibatch that a step on adapters may be taken on.

calB = (|B|_F^2 - |A|_F^2)/2, one an adapter. For any point V~ the gradient of J(B, A) = ell(B A) obeys
<B~, g~_B> = <G~, B~ A~> = <A~, g~_A>, so that a gradient step at V itself changes calB by
eta^2 (|g_B|^2 - |g_A|^2)/2 only. Balance says nothing about the fit: read it beside `weight_gap`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from algorithms.algorithm import refuse_unless
from algorithms.metric import Metric
from problems.adapter import Adapter, is_adapter
from problems.oracles import Key
from problems.problem import Problem


def each_adapter(function: Any, x: Any, *others: Any) -> Any:
    """Return the tree of `function(adapter, ...)` over the adapters of a point."""
    return jax.tree.map(function, x, *others, is_leaf=is_adapter)


def total(tree: Any) -> Array:
    """Return the sum of a tree of scalars."""
    return jax.tree.reduce(jnp.add, tree)


def balance(adapter: Adapter) -> Array:
    """Return calB = (|B|_F^2 - |A|_F^2)/2 of one adapter, or of its gradient."""
    return (jnp.sum(adapter.B**2) - jnp.sum(adapter.A**2)) / 2


def minibatch(problem: Problem, key: Key, batch_size: int) -> Problem:
    """Return the problem of `batch_size` records, or the whole one for 0."""
    return problem.sample(key, batch_size) if batch_size else problem


def refuse_batch_size(batch_size: int, problem: Problem | None = None) -> None:
    """Raise `InvalidSetting` for a negative batch size, or for a positive one where nothing can be sampled."""
    refuse_unless(batch_size >= 0, f"batch_size = {batch_size}: must be at least 0, the whole objective")
    if problem is not None:
        name = problem.family.name
        can = not batch_size or problem.family.sample is not None
        refuse_unless(can, f"batch_size = {batch_size}: {name} offers no minibatches; 0 is the whole objective")


def batch_calls(problem: Problem, batch_size: int) -> Array | float:
    """Return what a gradient on the minibatch costs, in gradients of the whole objective."""
    return batch_size / problem.constants.n if batch_size else 1.0


IMBALANCE = Metric(
    "imbalance",
    lambda problem, x, state: total(each_adapter(lambda adapter: 2 * jnp.abs(balance(adapter)), x)),
    scale=lambda problem, x, state: optax.tree.norm(x, squared=True),
)
