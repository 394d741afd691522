"""f(x) = mean cross-entropy of W_2 tanh(W_1 a) on the digits of 12 writers, one of whom is to be forgotten.

A network of 65-`width`-10 units without biases beside the 1 that every input carries; inputs have length 1. Only f >= 0
is claimed: no smoothness constant holds on the whole space, so that no method is certified here, and what a model
still knows of the forgotten writer is measured beside retraining (`problems.membership`). eta = 2, T = 1500 learns to
99 % on the training writers, far from converged.
Source: the setting of Mu & Klabjan (2024), arXiv:2409.09778, user by user, on data that needs no network access.
"""

from functools import cache
from typing import Any

import jax.numpy as jnp
from flax import linen
from jax import Array

from problems import users as groupings
from problems.constants import Constants, Regularity, require
from problems.module import family
from problems.problem import Family, Problem
from problems.users import Records

CLASSES = 10


@cache
def network(width: int) -> Family[Records, Any]:
    """Return the family of networks with `width` hidden units: one object a width, hence static under jit."""

    def layer(units: int) -> linen.Module:
        return linen.Dense(units, use_bias=False, param_dtype=float)

    model: Any = linen.Sequential([layer(width), linen.tanh, layer(CLASSES)])
    return family(
        "digits_network",
        model,
        classes=CLASSES,
        unseen=True,
        regularity=Regularity.NONNEGATIVE,
    )


def make(
    key: Array, *, width: int = 32, users: str = "writers", user: int = -1, forgotten: int = 100
) -> Problem[Records, Any]:
    """Return the network of `width` hidden units; `users`, `user` and `forgotten` as in `softmax_regression`.

    `adversarial` users are not offered: there is no point to choose them at.
    """
    require(width >= 1, f"width = {width}: at least one hidden unit")
    data = groupings.choose(key, "digits", users, user, forgotten)
    n, d = data.inputs.shape
    known = Constants(
        n=jnp.asarray(n, float),
        forgotten=n - jnp.sum(data.kept),
        dimension=jnp.asarray(width * (d + CLASSES), float),
    )
    return Problem(network(width), data, known)
