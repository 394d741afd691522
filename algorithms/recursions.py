"""Scalar recursions and the descent step that several methods and bounds share."""

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array


def descend_by(x: Any, eta: Array, direction: Any) -> Any:
    """Return x - eta * direction, leaf by leaf."""
    return optax.tree.add_scale(x, -eta, direction)


def projected(x: Any, radius: Array) -> Any:
    """Return the nearest point of the ball |x| <= radius; `x` itself, bit by bit, inside it."""
    return optax.tree.scale(jnp.minimum(1.0, radius / optax.tree.norm(x)), x)


def contraction(eta: Array, mu: Array, L: Array) -> Array:
    """Return max(|1 - eta mu|, |1 - eta L|), the contraction of a gradient step on a mu-strongly convex L-smooth f."""
    return jnp.maximum(jnp.abs(1 - eta * mu), jnp.abs(1 - eta * L))


def log_geometric_sum(log_g: Array, t: Array) -> Array:
    """Return log((g^t - 1)/(g - 1)) = log(1 + g + ... + g^(t-1)) from log g; -inf at t = 0, log t at g = 1.

    For g > 1 the direct form overflows at t log g ~ 710, for g < 1 it cancels.
    """
    t = jnp.asarray(t, dtype=jnp.result_type(log_g, float))
    at_one = jnp.abs(log_g) < 1e-300
    safe = jnp.where(at_one, 1.0, log_g)
    growing = t * safe + jnp.log(-jnp.expm1(-t * safe)) - jnp.log(jnp.expm1(safe))
    decaying = jnp.log(-jnp.expm1(t * safe)) - jnp.log(-jnp.expm1(safe))
    return jnp.where(at_one, jnp.log(t), jnp.where(safe > 0, growing, decaying))
