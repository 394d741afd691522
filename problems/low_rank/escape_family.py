"""ell(w) = (1 + w^2)^(-p/2) of a scalar weight w = B A: the adapters escape to infinity at a known slow rate.

For p in (0, 2], ell is p-smooth (|ell''| is largest at w = 0) with infimum 0, which is not attained. From B = A = 1,
|grad f|^2 falls like t^(-(2p+1)/(p+2)) under steps c/(L |V|^2 + |G|) and like t^(-(2p+1)/(p+1)) under a constant
step: v' = -eta f'(v) with f ~ (v^2/2)^-p in v = |V| (derived here).
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import constant_start, low_rank
from problems.problem import Constants, Family, Problem, Regularity, require


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
    constants = Constants(L=jnp.asarray(p, float), f_star=jnp.zeros(()))
    problem = Problem(ESCAPE_FAMILY, Data(jnp.asarray(p, float)), constants)
    return low_rank(problem, 1, init=constant_start, claims=Regularity.LOWER_BOUNDED, stated={"f_star": jnp.zeros(())})
