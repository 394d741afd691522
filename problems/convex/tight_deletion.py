"""f(x) = (curvature/2) x^2 + mean_i c_i x in one dimension, c_i = G on retained and -G on forgotten records.

Deleting the m forgotten of n records moves the gradient by G - G (n - 2m)/n = 2 G m / n everywhere, the
largest move that records with gradients up to G allow, and a gradient step multiplies distances by exactly
|1 - eta curvature|: sensitivity bounds of deletion are attained. One file for the three classes the theorems
speak of, since the sign decides nothing else: strongly convex (curvature > 0, mu = L), linear (curvature =
0), and concave (curvature < 0), the nonconvex case. Constants are exact; the linear one states L = L_max = 1,
valid as any positive number is. Only the strongly convex one has a minimum: x_star = -c/curvature and f_star
= -c^2/(2 curvature) with c = G (n - 2m)/n; sigma_star_sq = G^2 - c^2. Without the forgotten records c = G.
Source: derived here.
"""

from dataclasses import replace

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler


@struct.dataclass
class Data:
    """Slopes c (n,), weights (n,) that sum to 1, kept (n,): 0 on the forgotten records; the curvature."""

    c: Array
    weight: Array
    kept: Array
    curvature: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros(1, data.c.dtype)


def value(data: Data, x: Array) -> Array:
    return 0.5 * data.curvature * (x @ x) + (data.weight @ data.c) * jnp.sum(x)


def rows(data: Data, index: Array) -> Data:
    return Data(data.c[index], equal_weights(data.weight, len(index)), data.kept[index], data.curvature)


def substitute(data: Data) -> Data:
    return replace(data, c=jnp.where(data.kept > 0, data.c, -data.c))


CONCAVE = Family(
    name="tight_deletion",
    regularity=Regularity.SMOOTH | Regularity.QUADRATIC | Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)

LINEAR = replace(CONCAVE, regularity=CONCAVE.regularity | Regularity.CONVEX | Regularity.RETAINS_CONVEXITY)

STRONGLY_CONVEX = replace(
    LINEAR,
    regularity=LINEAR.regularity
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.STRONGLY_CONVEX
    | Regularity.FINITE_SUM
    | Regularity.RETAINS_STRONG_CONVEXITY
    | Regularity.RETAINS_PL,
)


def make(
    key: Array, *, n: int = 200, forgotten: int = 10, G: float = 1.0, curvature: float = 1.0
) -> Problem[Data, Array]:
    """Return the instance, the same for every key: strongly convex, linear or concave by `curvature`."""
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    kept = kept_mask(n, forgotten)
    data = Data(G * (2 * kept - 1), jnp.full(n, 1 / n), kept, jnp.asarray(curvature, float))
    L = jnp.asarray(abs(curvature) if curvature else 1.0, float)
    known = Constants(
        L=L,
        L_max=L,
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        spread=jnp.asarray(curvature, float),
        dimension=jnp.ones(()),
    )
    if curvature <= 0:
        return Problem(LINEAR if curvature == 0 else CONCAVE, data, known)
    c = jnp.asarray(G * (n - 2 * forgotten) / n, float)
    attained = replace(known, mu=L, mu_pl=L, mu_min=L, f_star=-(c**2) / (2 * L), sigma_star_sq=G**2 - c**2,
                       mu_pl_retained=L, f_star_retained=-(G**2) / (2 * L))  # fmt: skip
    return Problem(STRONGLY_CONVEX, data, attained, jnp.reshape(-c / L, 1))
