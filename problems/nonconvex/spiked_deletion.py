"""f(x) = -(L/2) x_1^2 + sum_{i>1} (lambda_i/2) x_i^2 + mean_i c_i x_1: one steep direction of many.

|lambda_i| <= 0.1 L, spaced evenly; c_i = G on retained and -G on forgotten records. A random direction hardly meets
the first axis: |Hess f xi|/|xi| for normal xi is about L |xi_1|/|xi|, the more below L the larger d is. Deletion moves
the gradient by exactly 2Gm/n along that axis, and no record tells the other coordinates apart, so two runs differ along
it alone and a step multiplies their distance by 1 + eta L: the nonconvex sensitivity of deletion is attained (`spread`
= -L, stated as a number only: `ATTAINS_DELETION` is claimed in one dimension). The start is the saddle of f_D, x_1 =
G (n - 2m)/(nL) and 0 elsewhere, where learning stands still and retraining does not.
Source: derived here.
"""

from dataclasses import replace

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler

FLAT = 0.1  # curvatures of the other directions as a share of L


@struct.dataclass
class Data:
    """Slopes c (n,), weights (n,) that sum to 1, kept (n,): 0 on the forgotten; curvatures (d,); the start (d,)."""

    c: Array
    weight: Array
    kept: Array
    curvatures: Array
    start: Array


def init(data: Data, key: Array) -> Array:
    return data.start


def value(data: Data, x: Array) -> Array:
    return 0.5 * (x @ (data.curvatures * x)) + (data.weight @ data.c) * x[0]


def rows(data: Data, index: Array) -> Data:
    return replace(data, c=data.c[index], weight=equal_weights(data.weight, len(index)), kept=data.kept[index])


def substitute(data: Data) -> Data:
    return replace(data, c=jnp.where(data.kept > 0, data.c, -data.c))


SPIKED_DELETION = Family(
    name="spiked_deletion",
    regularity=Regularity.SMOOTH | Regularity.QUADRATIC | Regularity.DELETABLE,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(
    key: Array, *, d: int = 10, n: int = 200, forgotten: int = 10, G: float = 1.0, L: float = 1.0
) -> Problem[Data, Array]:
    """Return the instance in `d` dimensions, the same for every key; its Hessian is constant."""
    require(d >= 1, f"d = {d}: at least the one direction of curvature L")
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    require(L > 0, f"L = {L}: a curvature must be positive")
    kept = kept_mask(n, forgotten)
    curvatures = jnp.concatenate([jnp.full(1, -L), jnp.linspace(-FLAT * L, FLAT * L, d - 1)])
    start = jnp.zeros(d).at[0].set(G * (n - 2 * forgotten) / (n * L))
    constants = Constants(
        L=jnp.asarray(L, float),
        L_max=jnp.asarray(L, float),
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        spread=jnp.asarray(-L, float),
        dimension=jnp.asarray(d, float),
    )
    return Problem(SPIKED_DELETION, Data(G * (2 * kept - 1), jnp.full(n, 1 / n), kept, curvatures, start), constants)
