"""TD(0)'s exact moments from a first state beside those from the stationary law, and what both tend to.

The recursion of `algorithms.td_moments` is linear in the first law, so the difference of the two runs follows it too,
with total mass 0. It is kept at size 1 with its logarithm apart, and is exact however small it gets.

With the spectral radii r2 of second moments, r1 of means and |lambda_2| of the chain, at a constant step:
- E|e|^2 converges from every start iff r2 < 1, else it grows by r2 a step (the operator maps positive semidefinite
  matrices to such, so r2 is an eigenvalue with a positive semidefinite eigenvector). By Jensen r1^2 <= r2.
- The limit is the fixed point of the recursion, one for all starts; a difference falls or grows by max(r2, r1,
  |lambda_2|) a step, one of means by max(r1, |lambda_2|), late and where that belongs to one real eigenvalue.
- y_k = limit/eta at eta/2^k is smooth in eta: (y_0 - 6 y_1 + 8 y_2)/3 = lim y + O(eta^3) (Richardson).
Derived here.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.td_moments import (
    Coupling,
    Radii,
    advance,
    mean_error,
    mean_square_error,
    radii,
    start,
    steady_state,
)

MOST_LIFTED = 500  # S (d+1)^2, above which no fixed point or spectral radius is computed and nothing claimed of them
LATE = 40.0  # time constants after which the largest factor has outlived the others
SETTLED = 2.5e-3  # by how much two orders of extrapolation may differ
TINY = 1e-300


@struct.dataclass
class Pair:
    """stationary: N from the stationary law rho; the run itself has exp(log_size) apart beyond it.

    logs, before: logarithms of E|e|^2 and of the sizes of the difference in second moments and means, now and before.
    """

    stationary: Array
    apart: Array
    log_size: Array
    logs: Array
    before: Array


def size(N: Array) -> Array:
    """Return the Frobenius norm, whose squares do not underflow."""
    largest = jnp.maximum(jnp.abs(N).max(), TINY)
    return largest * jnp.sqrt(jnp.sum((N / largest) ** 2))


def moments(pair: Pair) -> Array:
    """Return N of the run itself."""
    return pair.stationary + jnp.exp(pair.log_size) * pair.apart


def observed(stationary: Array, apart: Array, log_size: Array, before: Array | None) -> Pair:
    """Return the pair with its difference at size 1."""
    log_size = log_size + jnp.log(jnp.maximum(size(apart), TINY))
    apart = apart / jnp.maximum(size(apart), TINY)
    error = mean_square_error(stationary + jnp.exp(log_size) * apart)
    seen = jnp.stack([error, size(apart[:, :-1, :-1]), size(apart[:, :-1, -1])])
    logs = jnp.log(jnp.maximum(seen, TINY)) + log_size * jnp.array([0.0, 1.0, 1.0])
    return Pair(stationary, apart, log_size, logs, logs if before is None else before)


def begin(rho: Array, nu: Array, e: Array) -> Pair:
    """Return the pair of s_0 ~ nu and of s_0 ~ rho, both from omega_star + e."""
    stationary = start(rho, e)
    return observed(stationary, start(nu, e) - stationary, jnp.zeros(()), None)


def follow(c: Coupling, eta: Array, rho: Array, pair: Pair) -> Pair:
    """Return the pair after one step of size eta."""
    apart = advance(c, eta, pair.apart)
    # rounding adds mass, which would not decay
    apart = apart.at[:, -1, -1].add(-rho * apart[:, -1, -1].sum())
    return observed(advance(c, eta, pair.stationary), apart, pair.log_size, pair.logs)


@struct.dataclass
class Prediction:
    """What the recursion tends to: spectral radii, and E|e|^2 of the fixed point."""

    radii: Radii
    limit: Array


def predict(c: Coupling, eta: Array) -> Prediction:
    """Return the prediction at the constant step eta, NaN where the lifted matrix would be too large."""
    if c.f.size * c.f.shape[1] > MOST_LIFTED:
        nothing = jnp.full((), jnp.nan)
        return Prediction(Radii(nothing, nothing, nothing, jnp.zeros(3, bool)), nothing)
    return Prediction(radii(c, eta), mean_square_error(steady_state(c, eta)))


def extrapolate(c: Coupling, eta: Array) -> Array:
    """Return Richardson's extrapolations of limit/eta to eta = 0 from two steps and from three."""
    if c.f.size * c.f.shape[1] > MOST_LIFTED:
        return jnp.full(2, jnp.nan)
    y = jax.vmap(lambda eta: mean_square_error(steady_state(c, eta)) / eta)(eta / 2.0 ** jnp.arange(3))
    return jnp.stack([2 * y[2] - y[1], (y[0] - 6 * y[1] + 8 * y[2]) / 3])


def is_late(t: Array, factor: Array) -> Array:
    """Return whether factor^t has left 1 by LATE powers of e."""
    return t * jnp.abs(jnp.log(factor)) >= LATE


def limit_bound(t: Array, c: Any, hp: Any, predicted: Prediction) -> Array:
    """Return E|e|^2 of the fixed point, once the difference has died out."""
    r = predicted.radii.mean_square
    return jnp.where((r < 1) & is_late(t, r), predicted.limit, jnp.nan)


def growth_bound(t: Array, c: Any, hp: Any, predicted: Prediction) -> Array:
    """Return max(1, r2), late."""
    r2, r = predicted.radii.r2, predicted.radii.mean_square
    return jnp.where(is_late(t, jnp.where(r < 1, r, r2)), jnp.maximum(1.0, r2), jnp.nan)


def difference_bound(t: Array, c: Any, hp: Any, predicted: Prediction) -> Array:
    """Return max(r2, r1, |lambda_2|), late, for runs that start at a state."""
    r = predicted.radii.mean_square
    return jnp.where((hp.start >= 0) & predicted.radii.settled & is_late(t, r), r, jnp.nan)


def mean_difference_bound(t: Array, c: Any, hp: Any, predicted: Prediction) -> Array:
    """Return max(r1, |lambda_2|), late, for runs that start at a state."""
    r = predicted.radii.mean
    return jnp.where((hp.start >= 0) & predicted.radii.mean_settled & is_late(t, r), r, jnp.nan)


def slope_bound(slope: Array, extrapolated: Array) -> Array:
    """Return the slope where the extrapolation has settled to half the law's tolerance."""
    rough, fine = extrapolated
    return jnp.where(jnp.abs(rough - fine) <= SETTLED * jnp.abs(fine), slope, jnp.nan)


def drift(pair: Pair) -> Array:
    """Return the mean error E[omega_t] - omega_star (d,)."""
    return mean_error(moments(pair))
