"""f(B, A) = mean cross-entropy of a network 64-`width`-`width`-10 with adapters on its three linear maps, on digits.

The network knows the digits 0 to 4 and is to learn all ten (`problems.pretrained`); its biases stay frozen. Only f >= 0
is claimed, over all weights: no smoothness constant holds on the whole space, so that a step size must find its own.
Source: the setting of Malinovsky et al. (2024), arXiv:2410.08305, on data that needs no network access.
"""

from functools import cache
from typing import Any

from flax import linen
from jax import Array

from problems import pretrained
from problems.adapter import low_rank
from problems.constants import require
from problems.problem import Family, Problem

ACTIVATIONS = {"tanh": linen.tanh, "relu": linen.relu}


@cache
def network(width: int, activation: str) -> Family:
    """Return the family of networks of a width: one object, hence static under jit."""
    act = ACTIVATIONS[activation]
    layers: Any = (linen.Dense(units, param_dtype=float) for units in (width, width, pretrained.CLASSES))
    first, second, last = layers
    return pretrained.family("mlp_adapter", linen.Sequential([first, act, second, act, last]))


def make(key: Array, *, rank: int = 4, width: int = 32, activation: str = "tanh", records: int = 500) -> Problem:
    """Return the problem on the first `records` images, the same for every key; rank 0: all parameters, no adapters.

    `activation` is tanh or relu.
    """
    require(width >= 1, f"width = {width}: at least one hidden unit")
    require(activation in ACTIVATIONS, f"activation = {activation}: must be one of {', '.join(ACTIVATIONS)}")
    problem = pretrained.problem_of(network(width, activation), records)
    return low_rank(problem, rank) if rank else problem
