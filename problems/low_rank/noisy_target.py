"""ell(W) = E |W - T|_F^2 with T = A + alpha N drawn anew for every gradient: adapters of a target behind noise.

`outer` is the rank-1 factorisation x y^T of A = diag(.5, 0, 0) with N = diag(1, .8, .5) U, `inner` the scalar weight
x^T y with target .5 and N = U, `weight` the 3 x 3 problem of `outer` in W itself; U has independent standard normal
entries. ell(W) = |W - A|_F^2 + noise_sq, noise_sq = alpha^2 E|N|_F^2, so that L = mu = 2 and f_star = noise_sq,
attained in every kind. A minibatch of b draws is the same problem with their mean as target and their spread as floor;
its gradient in W is off by 2 alpha times a mean of b draws of N, of variance 4 noise_sq/b everywhere.
The start is x = x_norm u, y = -y_norm u with u along (2, -1, 3), the same for every key.
Source: Li, Zhang & He (2024), Implicit regularization of sharpness-aware minimization for scale-invariant problems,
arXiv:2410.14802, Figure 1.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.adapter import Adapted, Adapter, low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

U0 = (2.0, -1.0, 3.0)
NORM = 0.14**0.5  # of the published start (.2, -.1, .3); y is -3 times it


@struct.dataclass
class Data:
    """T and noise are (m, n): the target and the standard deviation of its entries; floor is the least loss.

    x and y (3,) are where the adapters start.
    """

    T: Array
    noise: Array
    floor: Array
    x: Array
    y: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros_like(data.T)


def value(data: Data, W: Array) -> Array:
    return jnp.sum((W - data.T) ** 2) + data.floor


def sample(data: Data, key: Array, batch_size: int) -> Data:
    draws = data.T + data.noise * jax.random.normal(key, (batch_size, *data.T.shape))
    T = jnp.mean(draws, axis=0)
    return replace(data, T=T, floor=jnp.sum((draws - T) ** 2) / batch_size)


def start(data: Adapted, key: Array) -> Adapter:
    m, n = data.base.T.shape
    return Adapter(data.base.x.reshape(m, data.rank), data.base.y.reshape(data.rank, n))


NOISY_TARGET = Family(
    name="noisy_target",
    regularity=Regularity.SMOOTH
    | Regularity.STRONGLY_CONVEX
    | Regularity.CONVEX
    | Regularity.PL
    | Regularity.QUADRATIC
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.MATRIX
    | Regularity.BOUNDED_VARIANCE,
    init=init,
    value=value,
    sample=sample,
)

# target and standard deviation of N, and the rank of the adapters; 0: none
KINDS = {
    "outer": (((0.5, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((1.0,) * 3, (0.8,) * 3, (0.5,) * 3), 1),
    "inner": (((0.5,),), ((1.0,),), 3),
    "weight": (((0.5, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((1.0,) * 3, (0.8,) * 3, (0.5,) * 3), 0),
}


def make(
    key: Array, *, kind: str = "outer", alpha: float = 1.0, x_norm: float = NORM, y_norm: float = 3 * NORM
) -> Problem:
    """Return the problem with noise of size `alpha`, the same for every key; `kind` is outer, inner or weight."""
    require(kind in KINDS, f"kind = {kind}: must be one of {', '.join(KINDS)}")
    require(alpha >= 0, f"alpha = {alpha}: must not be negative")
    require(x_norm >= 0 and y_norm >= 0, f"x_norm = {x_norm}, y_norm = {y_norm}: norms must not be negative")
    target, deviation, rank = KINDS[kind]
    T, noise, u = jnp.array(target), alpha * jnp.array(deviation), jnp.array(U0)
    u = u / jnp.linalg.norm(u)
    noise_sq = jnp.sum(noise**2)
    constants = Constants(
        L=jnp.asarray(2.0),
        mu=jnp.asarray(2.0),
        mu_pl=jnp.asarray(2.0),
        f_star=noise_sq,
        L_max=jnp.asarray(2.0),
        sigma_sq=4 * noise_sq,
        n=jnp.ones(()),  # a draw's gradient costs what the exact one does
        rows=jnp.asarray(float(len(T))),
        columns=jnp.asarray(float(len(T[0]))),
    )
    problem = Problem(NOISY_TARGET, Data(T, noise, noise_sq, x_norm * u, -y_norm * u), constants, T)
    if not rank:
        return problem
    claims = Regularity.LOWER_BOUNDED | Regularity.NOISY_TARGET
    stated = {"f_star": noise_sq, "noise_sq": noise_sq, "dimension": jnp.asarray(6.0), "rows": constants.rows}
    adapted = low_rank(problem, 1, init=start, claims=claims, stated=stated)
    # the scalar weight is factored beyond its rank, on purpose
    return replace(adapted, data=replace(adapted.data, rank=rank))
