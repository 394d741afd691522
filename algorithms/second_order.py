"""How far a point is from a second-order stationary one:  max(|grad f|, lambda_min(Hess f)_-^2 / rho).

The least eps for which |grad f(x)| <= eps and lambda_min(Hess f(x)) >= -sqrt(rho eps): x is then an (eps, sqrt(rho
eps))-second-order stationary point, rho the Lipschitz constant of Hess f. For a return f = -J the curvature is that of
J: lambda_max(Hess J) = -lambda_min(Hess f). The Hessian is that of the value by autodiff, d x d, its eigenvalues by a
symmetric solver: meant for checkpoints, or for every step where d is two.
Source: Nesterov & Polyak (2006), Cubic regularization of Newton method, section 3; Jin et al. (2021).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from algorithms.metric import Metric, running_sum
from problems.problem import Problem


def gradient_norm(problem: Problem, x: Any) -> Array:
    """Return |grad f(x)|."""
    return optax.tree.norm(problem.grad(x))


def top_curvature(problem: Problem, x: Any) -> Array:
    """Return -lambda_min(Hess f(x)), which is lambda_max(Hess J) for f = -J."""
    flat, unravel = ravel_pytree(x)
    return -jnp.linalg.eigvalsh(jax.hessian(lambda flat: problem.value(unravel(flat)))(flat))[0]


def second_order_gap(problem: Problem, x: Any) -> Array:
    """Return the least eps for which x is an (eps, sqrt(rho eps))-second-order stationary point."""
    curvature = jnp.maximum(top_curvature(problem, x), 0.0)
    return jnp.maximum(gradient_norm(problem, x), curvature**2 / problem.constants.rho)


def at_horizon(problem: Problem, state: Any) -> Problem:
    """Return the problem of the return cut after the state's horizon."""
    return problem.truncated(state.horizon)


SECOND_ORDER = Metric("second_order", lambda problem, x, state: second_order_gap(problem, x))

GRADIENT_NORM_AT_HORIZON = Metric(
    "gradient_norm_at_horizon", lambda problem, x, state: gradient_norm(at_horizon(problem, state), x)
)

TOP_CURVATURE_AT_HORIZON = Metric(
    "top_curvature_at_horizon", lambda problem, x, state: top_curvature(at_horizon(problem, state), x)
)

SECOND_ORDER_AT_HORIZON = Metric(
    "second_order_at_horizon", lambda problem, x, state: second_order_gap(at_horizon(problem, state), x)
)


def is_short(problem: Problem, x: Any, state: Any) -> Array:
    """Return 1 where x is no (eps, sqrt(rho eps))-second-order point, eps being the state's accuracy, else 0."""
    return jnp.where(second_order_gap(problem, x) > state.accuracy, 1.0, 0.0)


STEPS_SHORT_OF_SECOND_ORDER = running_sum(Metric("short_of_second_order", is_short))
