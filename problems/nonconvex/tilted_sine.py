"""f(w) = sum_j (w_j^2 + 3 sin^2 w_j) + mean_z c_z.w: Polyak-Lojasiewicz without convexity once Z is deleted.

The tilts c_z of the retained records sum to 0, so that f_{D'}(w) = sum_j (w_j^2 + 3 sin^2 w_j) exactly: mu_pl_retained
= 0.1753 (proven in `problems/nonconvex/sine_squared.py`), f_star_retained = 0. The curvature 2 + 6 cos 2w lies in
[-4, 8], whatever the tilts, so L = L_max = 8 exactly. Only the tilts differ between records, the rest counts as
regulariser: G = max |c_z|, which every forgotten record attains: (G, 0, ..., 0).
Source: Karimi, Nutini & Schmidt (2016), section 2.2, for the sum.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler

MU_PL = 0.1753


@struct.dataclass
class Data:
    """Tilts c (n, d), weights (n,) that sum to 1, kept (n,): 0 on the forgotten records."""

    c: Array
    weight: Array
    kept: Array


def init(data: Data, key: Array) -> Array:
    return 3.0 * jax.random.normal(key, data.c.shape[-1:])


def value(data: Data, x: Array) -> Array:
    return jnp.sum(x**2 + 3 * jnp.sin(x) ** 2) + (data.weight @ data.c) @ x


def rows(data: Data, index: Array) -> Data:
    return replace(data, c=data.c[index], weight=equal_weights(data.weight, len(index)), kept=data.kept[index])


def substitute(data: Data) -> Data:
    return replace(data, c=jnp.where(data.kept[:, None] > 0, data.c, -data.c))


TILTED_SINE = Family(
    name="tilted_sine",
    regularity=Regularity.SMOOTH | Regularity.DELETABLE | Regularity.RETAINS_PL,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(key: Array, *, n: int = 100, d: int = 5, forgotten: int = 10, G: float = 1.0) -> Problem[Data, Array]:
    """Return the sum over `d` coordinates with Gaussian tilts on the retained records; starts are N(0, 9 I)."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(0 < forgotten < n - 1, f"forgotten = {forgotten}: between 1 and n - 2 = {n - 2} records")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    retained = jax.random.normal(key, (n - forgotten, d))
    retained = retained - retained.mean(axis=0)
    retained = G * retained / jnp.sqrt(jnp.max(jnp.sum(retained**2, axis=1)))
    gone = jnp.zeros((forgotten, d)).at[:, 0].set(G)
    known = Constants(
        L=jnp.asarray(8.0),
        L_max=jnp.asarray(8.0),
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        mu_pl_retained=jnp.asarray(MU_PL),
        f_star_retained=jnp.zeros(()),
        dimension=jnp.asarray(d, float),
    )
    data = Data(jnp.concatenate([retained, gone]), jnp.full(n, 1 / n), kept_mask(n, forgotten))
    return Problem(TILTED_SINE, data, known)
