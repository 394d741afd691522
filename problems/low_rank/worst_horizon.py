"""ell(w) = D (1 - sqrt(2w)/R) where w0 <= w <= R^2/2: convex and L-smooth, and as slow as LoRA can be for T steps.

As a function of v = |V|, from B = A = v0/sqrt 2, f = D (1 - v/R) is a straight line: |grad f| = D/R at every step that
stays on it. Steps c/(L v^2 + |G|) move v by (c D/R)/(L v^2 + D/(R v)), so that v^3 grows by 3 c D/(R L) a step and
R = (3 c D T/L)^(1/4) makes the line last T steps:  |grad f|^2 = D^(3/2) sqrt(L/(3 c T))  (derived here, as all of it).
Below w0 = v0^2/2 ell is its tangent, v0 = 1.05 (D/(R L))^(1/3) (|ell''| = D/(R v^3) is at most L from there on);
beyond R^2/2 its slope -D/R^2 rises with curvature L to 0 and stays there, so that inf ell = -D^2/(2 L R^4).
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import constant_start, low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

CLAIMS = Regularity.LOWER_BOUNDED | Regularity.STRAIGHT_SLOPE


@struct.dataclass
class Data:
    """D, L, R, v0 of the formula."""

    D: Array
    L: Array
    R: Array
    v0: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros((1, 1))


def value(data: Data, W: Array) -> Array:
    low, high = data.v0**2 / 2, data.R**2 / 2
    on_slope = data.D * (1 - jnp.sqrt(2 * jnp.clip(W, low, high)) / data.R)
    before = -data.D / (data.R * data.v0) * jnp.minimum(W - low, 0)
    level = data.D / (data.R**2 * data.L)
    beyond = jnp.clip(W - high, 0, level)
    return jnp.sum(on_slope + before + data.L * beyond * (beyond / 2 - level))


WORST_HORIZON = Family(
    name="worst_horizon",
    regularity=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.CONVEX,
    init=init,
    value=value,
)


def make(key: Array, *, T: float = 1000.0, c: float = 0.5, L: float = 1.0, drop: float = 1.0) -> Problem:
    """Return the slope that lasts `T` steps of factor `c`, L-smooth, falling by D = `drop`; the same for every key."""
    require(0 < c <= 1, f"c = {c}: must lie in (0, 1]")
    require(c * T >= 5, f"T = {T}: at least 5/c = {5 / c:g} steps, for the start to lie on the slope")
    require(L > 0 and drop > 0, f"L = {L}, drop = {drop}: both must be positive")
    R = (3 * c * drop * T / L) ** 0.25
    v0 = 1.05 * (drop / (R * L)) ** (1 / 3)
    lowest = jnp.asarray(-(drop**2) / (2 * L * R**4))
    data = Data(*(jnp.asarray(number, float) for number in (drop, L, R, v0)))
    problem = Problem(WORST_HORIZON, data, Constants(L=data.L, f_star=lowest))
    numbers = {"horizon": T, "step_factor": c, "drop": drop, "f_star": lowest}
    stated = {name: jnp.asarray(number, float) for name, number in numbers.items()}
    return low_rank(problem, 1, init=constant_start, size=v0 / 2**0.5, claims=CLAIMS, stated=stated)
