"""f(B, A) = (1 + (B A)^2)^(-p/2) with scalars B and A: the adapters escape to infinity at a known slow rate.

For p in (0, 2], ell(w) = (1 + w^2)^(-p/2) is p-smooth (|ell''| is largest at w = 0) with infimum 0, which is
not attained. From B = A = 1, |grad f|^2 falls like t^(-(2p+1)/(p+2)) under steps c/(L |V|^2 + |G|) and like
t^(-(2p+1)/(p+1)) under a constant step: v' = -eta f'(v) with f ~ (v^2/2)^-p in v = |V| (derived here).
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Adapter, merge
from problems.problem import Constants, Factored, Family, Problem, Regularity, require


@struct.dataclass
class Data:
    """The power p."""

    p: Array


def init(data: Data, key: Array) -> Adapter:
    return Adapter(jnp.ones((1, 1)), jnp.ones((1, 1)))


def loss(data: Data, W: Array) -> Array:
    return jnp.sum((1 + W**2) ** (-data.p / 2))


def merged(data: Data, x: Adapter) -> Array:
    return merge(jnp.zeros((1, 1)), x)


def value(data: Data, x: Adapter) -> Array:
    return loss(data, merged(data, x))


ESCAPE_FAMILY = Family(
    name="escape_family",
    regularity=Regularity.SMOOTH_IN_WEIGHT | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
    init=init,
    value=value,
    factored=Factored(merged, loss),
)


def make(key: Array, *, p: float = 2.0) -> Problem[Data, Adapter]:
    """Return the escape problem of power `p`, the same for every key."""
    require(0 < p <= 2, f"p = {p}: the smoothness constant p is proven for 0 < p <= 2")
    constants = Constants(L_weight=jnp.asarray(p, float), ell_star=jnp.zeros(()), f_star=jnp.zeros(()))
    return Problem(ESCAPE_FAMILY, Data(jnp.asarray(p, float)), constants)
