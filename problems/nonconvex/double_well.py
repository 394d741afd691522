"""f(x) = x_1^2/2 - (2/b^2) log cosh(b x_1) + (x_2^2 + ... + x_d^2)/2 + mean_z c_z x_1: two wells, one tilt.

b = 1.915... solves b = 2 tanh b, which puts the untilted minima at x_1 = -1 and 1 and the saddle at 0. The
curvature 1 - 2 sech^2(b x_1) runs from -1 (at the saddle) to 1, so L = L_max = 1 exactly. Only c_z differs between
records, the rest counts as regulariser: retained c_z = c, forgotten c_z = -G with c = m G/(2n - m), so the mean tilt
is -c on D and c on D', and G is exact. A step with eta <= 1 = 1/L keeps the order of points on the line, the saddles
lie at or beyond -c (of f_D) and c (of f_{D'}), and starts are drawn from |x_1| <= c/2. So learning on D ends in the
right minimum w, on D' in the left one -w, and basins = 2w exactly, where w - (2/b) tanh(b w) = c, w > 1.

The choice falls early: x_1 + c grows like (c/2 to 3c/2) (1 + eta)^t, which passes the saddle of f_{D'} within about
log 4/log(1 + eta) steps; from then on descending on D' never turns back. With eta = 0.5 and T = 100 that is 4 steps
(and 30 more to settle): every rewind of K <= 0.9 T = 90 is too late, and ends in the shallow right minimum of f_{D'},
3 % nearer to v_T than `basins` in the default instance; K = T alone surely reaches v_T.
Source: derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler

B = 1.9150080481545372  # b = 2 tanh b
STEEPEST = (np.sqrt(2) - np.arctanh(np.sqrt(0.5))) / B  # the tilt at which the shallow well is gone


@struct.dataclass
class Data:
    """Tilts c (n,), weights (n,) that sum to 1, kept (n,): 0 on the forgotten records; how far starts reach (d,)."""

    c: Array
    weight: Array
    kept: Array
    reach: Array


def init(data: Data, key: Array) -> Array:
    return data.reach * jax.random.uniform(key, data.reach.shape, minval=-1.0, maxval=1.0)


def value(data: Data, x: Array) -> Array:
    log_cosh = jnp.logaddexp(B * x[0], -B * x[0]) - jnp.log(2.0)
    return 0.5 * (x @ x) - 2 / B**2 * log_cosh + (data.weight @ data.c) * x[0]


def rows(data: Data, index: Array) -> Data:
    return replace(data, c=data.c[index], weight=equal_weights(data.weight, len(index)), kept=data.kept[index])


def substitute(data: Data) -> Data:
    return replace(data, c=jnp.where(data.kept > 0, data.c, -data.c))


DOUBLE_WELL = Family(
    name="double_well",
    regularity=Regularity.SMOOTH
    | Regularity.LOWER_BOUNDED
    | Regularity.FINITE_SUM
    | Regularity.DELETABLE
    | Regularity.TWO_BASINS,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(key: Array, *, n: int = 200, forgotten: int = 10, d: int = 1, G: float = 1.0) -> Problem[Data, Array]:
    """Return the wells in `d` dimensions, the same for every key; the start is drawn beside the saddle."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    require(G > 0, f"G = {G}: records need a gradient to differ in")
    tilt = forgotten * G / (2 * n - forgotten)
    require(tilt < STEEPEST, f"m G/(2n - m) = {tilt:.3g}: below {STEEPEST:.3g}, or one of the two wells is gone")
    w, kept = well(tilt), kept_mask(n, forgotten)
    c = tilt * kept - G * (1 - kept)
    data = Data(c, jnp.full(n, 1 / n), kept, jnp.ones(d).at[0].set(tilt / 2))
    x_star = jnp.zeros(d).at[0].set(w)
    known = Constants(
        L=jnp.ones(()),
        f_star=value(data, x_star),
        L_max=jnp.ones(()),
        sigma_star_sq=jnp.mean((tilt + c) ** 2),
        G=jnp.asarray(G, float),
        n=jnp.asarray(n, float),
        forgotten=jnp.asarray(forgotten, float),
        basins=jnp.asarray(2 * w, float),
        dimension=jnp.asarray(d, float),
    )
    return Problem(DOUBLE_WELL, data, known, x_star)


def well(tilt: float) -> float:
    """Return w > 0 with w - (2/b) tanh(b w) = tilt: Newton's method from beyond, where the left side is convex."""
    w = tilt + 2 / B
    for _ in range(50):
        w -= (w - 2 / B * np.tanh(B * w) - tilt) / (1 - 2 / np.cosh(B * w) ** 2)
    return float(w)
