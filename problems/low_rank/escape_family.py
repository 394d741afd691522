"""ell(w) = (1 + w^2)^(-p/2) of a scalar weight w = B A: the adapters escape to infinity at a known slow rate.

For p in (0, 2], ell is p-smooth (|ell''| is largest at w = 0) with infimum 0, which is not attained. From B = A = 1,
with v = |V|, f = (1 + v^4/4)^(-p/2) ~ 2^p v^(-2p) and v' = -eta f'(v): steps c/(L |V|^2 + |G|) make v grow like
t^(1/(2p+4)) and |grad f|^2 fall like t^(-(2p+1)/(p+2)), a constant step like t^(-(2p+1)/(p+1)) (derived here).
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import constant_start, low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

CLAIMS = Regularity.LOWER_BOUNDED | Regularity.ESCAPES


@struct.dataclass
class Data:
    """The power p."""

    p: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros((1, 1))


def value(data: Data, W: Array) -> Array:
    return jnp.sum((1 + W**2) ** (-data.p / 2))


ESCAPE_FAMILY = Family(
    name="escape_family",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
    init=init,
    value=value,
)


def make(key: Array, *, p: float = 2.0) -> Problem:
    """Return the escape problem of power `p`, the same for every key."""
    require(0 < p <= 2, f"p = {p}: the smoothness constant p is proven for 0 < p <= 2")
    power = jnp.asarray(p, float)
    problem = Problem(ESCAPE_FAMILY, Data(power), Constants(L=power, f_star=jnp.zeros(())))
    stated = {"f_star": jnp.zeros(()), "power": power}
    return low_rank(problem, 1, init=constant_start, claims=CLAIMS, stated=stated)
