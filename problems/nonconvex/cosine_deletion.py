"""f(x) = L cos x + mean_z c_z sin x in one dimension, c_z = G on retained and -G on forgotten records, x_0 = 0.

The nonconvex sensitivity bound is attained although f is bounded below: near the maximum the curvature is -L, the
tilts are c_z, so two runs part by 2 eta G m/n and their distance grows by 1 + eta L a step, up to relative terms of
the order x^2. With G tiny x stays tiny: G = 1e-9 leaves the ratio to the bound at 1 - 1e-8 while (1 + eta L)^T < 1e5.
Every record is sqrt(L^2 + c_z^2) times a cosine, and so is the mean, with c = G (n - 2m)/n in place of c_z; hence
L = sqrt(L^2 + c^2), L_max = sqrt(L^2 + G^2), f_star = -sqrt(L^2 + c^2), all exact, at x_star = arctan(c/L) - pi.
The common part L cos x counts as regulariser: G bounds the tilt. Source: derived here.
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
    """Tilts c (n,), weights (n,) that sum to 1, kept (n,): 0 on the forgotten records; the curvature L at the top."""

    c: Array
    weight: Array
    kept: Array
    L: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros(1, data.c.dtype)


def value(data: Data, x: Array) -> Array:
    return jnp.sum(data.L * jnp.cos(x) + (data.weight @ data.c) * jnp.sin(x))


def rows(data: Data, index: Array) -> Data:
    return replace(data, c=data.c[index], weight=equal_weights(data.weight, len(index)), kept=data.kept[index])


def substitute(data: Data) -> Data:
    return replace(data, c=jnp.where(data.kept > 0, data.c, -data.c))


COSINE_DELETION = Family(
    name="cosine_deletion",
    regularity=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.FINITE_SUM | Regularity.DELETABLE,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(key: Array, *, n: int = 200, forgotten: int = 10, G: float = 1e-9, L: float = 1.0) -> Problem[Data, Array]:
    """Return the instance, the same for every key."""
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    require(L > 0, f"L = {L}: the curvature at the top must be positive")
    kept = kept_mask(n, forgotten)
    data = Data(G * (2 * kept - 1), jnp.full(n, 1 / n), kept, jnp.asarray(L, float))
    c = jnp.asarray(G * (n - 2 * forgotten) / n)
    height = jnp.hypot(c, L)
    x_star = jnp.reshape(jnp.arctan2(c, L) - jnp.pi, 1)
    known = Constants(
        L=height,
        f_star=-height,
        L_max=jnp.hypot(jnp.asarray(G), L),
        sigma_star_sq=jnp.mean((data.c * jnp.cos(x_star) - L * jnp.sin(x_star)) ** 2),
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        dimension=jnp.ones(()),
    )
    return Problem(COSINE_DELETION, data, known, x_star)
