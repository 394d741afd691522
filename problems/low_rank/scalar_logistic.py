"""ell(w) = log(1 + exp(-w)) of a scalar weight w = B A: a separable record, 1/4-smooth, infimum 0 not attained.

It looks like a slow instance and is none: from B = A > 0 the adapters grow like sqrt(log t) only and |grad f|^2 falls
almost like t^-2, for |ell'| falls as fast as ell (derived here: v' = -eta f'(v), f ~ exp(-v^2/2)).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import constant_start, low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """No number: the record is x = y = 1."""


def init(data: Data, key: Array) -> Array:
    return jnp.zeros((1, 1))


def value(data: Data, W: Array) -> Array:
    return jnp.sum(jax.nn.softplus(-W))


SCALAR_LOGISTIC = Family(
    name="scalar_logistic",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.CONVEX,
    init=init,
    value=value,
)


def make(key: Array, *, start: float = 1.0) -> Problem:
    """Return the problem from B = A = `start`, the same for every key."""
    require(start > 0, f"start = {start}: must be positive, for B = A = 0 is stationary")
    problem = Problem(SCALAR_LOGISTIC, Data(), Constants(L=jnp.asarray(0.25), f_star=jnp.zeros(())))
    stated = {"f_star": jnp.zeros(())}
    return low_rank(problem, 1, init=constant_start, size=start, claims=Regularity.LOWER_BOUNDED, stated=stated)
