"""Minimisers to machine precision, for constants (`f_star`, `x_star`) that are computed for the very instance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax


def newton(value: Callable[[Array], Array], x0: Array, steps: int = 40, polish: int = 0) -> Array:
    """Return the minimiser of a strictly convex `value` on vectors by damped Newton steps from `x0`.

    The step length is the largest of 1, 1/2, ..., 2^-9 that does not increase the value; where none does (rounding)
    the point stays. Then come `polish` undamped steps, which rounding of the value cannot refuse.
    """
    grad, hessian = jax.grad(value), jax.jacfwd(jax.grad(value))
    lengths = jnp.append(0.5 ** jnp.arange(10), 0.0)

    def step(t: int, x: Array) -> Array:
        direction = jnp.linalg.solve(hessian(x), grad(x))
        trials = x - lengths[:, None] * direction
        acceptable = (jax.vmap(value)(trials) <= value(x)) | (t >= steps)
        return trials[jnp.argmax(acceptable)]

    return lax.fori_loop(0, steps + polish, step, x0)
