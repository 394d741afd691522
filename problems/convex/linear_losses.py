"""f(x) = mean_i c_i.x with gradients of norm G, the last one orthogonal to all others.

c_i = G u_i with unit vectors u_i, random for the n - 1 others and zero in the first coordinate, where the last record
alone lives: c_n = -G e_1. Whatever the others do, the first coordinate of a run tells how often the last record was
drawn and nothing else, the worst case of DP-SGD's last iterate (Steinke et al. 2024). L = L_max = 0 is the exact
smoothness of linear records, so a step size such as 1/L means nothing here; there is no minimum.
Source: Steinke et al. (2024), arXiv:2410.06186.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler


@struct.dataclass
class Data:
    """Gradients c (n, d), weights (n,) that sum to 1, kept (n,): 0 on the last record."""

    c: Array
    weight: Array
    kept: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros(data.c.shape[1], data.c.dtype)


def value(data: Data, x: Array) -> Array:
    return data.weight @ (data.c @ x)


def rows(data: Data, index: Array) -> Data:
    return Data(data.c[index], equal_weights(data.weight, len(index)), data.kept[index])


LINEAR_LOSSES = Family(
    name="linear_losses",
    regularity=Regularity.SMOOTH
    | Regularity.CONVEX
    | Regularity.QUADRATIC
    | Regularity.DELETABLE
    | Regularity.RETAINS_CONVEXITY,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(),
)


def make(key: Array, *, n: int = 4, d: int = 3, G: float = 1.0) -> Problem[Data, Array]:
    """Return `n` linear losses in `d` dimensions with gradients of norm `G`, the last of them to be forgotten."""
    require(n >= 2, f"n = {n}: a record to forget and one to keep")
    require(d >= 2, f"d = {d}: the last record needs a direction of its own")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    others = jax.random.normal(key, (n - 1, d)).at[:, 0].set(0.0)
    others = others / jnp.linalg.norm(others, axis=1, keepdims=True)
    own = jnp.zeros((1, d)).at[0, 0].set(-1.0)
    data = Data(G * jnp.concatenate([others, own]), jnp.full(n, 1 / n), kept_mask(n, 1))
    constants = Constants(
        L=jnp.zeros(()),
        L_max=jnp.zeros(()),
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.ones(()),
        dimension=jnp.asarray(d, float),
    )
    return Problem(LINEAR_LOSSES, data, constants)
