"""Scores by which an audit tells unlearned from retrained models:  <x - x_0, h>  and  f_{D'}(x) - f_Z(x).

Published are u + sigma N and v + sigma N', the two with noises of their own; h is the unit vector along
grad f_{D'}(x_0) - grad f_D(x_0), the way that a first step on D instead of D' moves the model. A score is a function of
the published point and of what data and start fix before any noise, so it tells no more than the point does: what
(epsilon, delta) allows the points it allows the scores. Both are larger where Z was learned.

- projection (white box): N(<u - x_0, h>, sigma^2) against N(<v - x_0, h>, sigma^2). In one dimension, as on any other
  problem where u - v lies along h, it is the best score there is.
- loss (black box): how much better a model is on Z than on D'.

Read from a state with `x`, `retrained`, `start`, `sigma` and `retrained_noise`, as that of `algorithms.deletion`.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from algorithms.metric import Metric
from problems.problem import Problem


def published_retrained(state: Any) -> Any:
    """Return the retrained model as it is published, v + sigma N'."""
    return optax.tree.add_scale(state.retrained, state.sigma, state.retrained_noise)


def disturbed_direction(problem: Problem, start: Any) -> Any:
    """Return h, the unit vector along grad f_{D'}(x_0) - grad f_D(x_0); 0 where the gradients are equal."""
    moved = optax.tree.sub(problem.retained().grad(start), problem.grad(start))
    length = optax.tree.norm(moved)
    return optax.tree.scale(jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1.0), 0.0), moved)


def projection(problem: Problem, x: Any, state: Any) -> Array:
    """Return <x - x_0, h>."""
    return jnp.asarray(optax.tree.vdot(optax.tree.sub(x, state.start), disturbed_direction(problem, state.start)))


def advantage(problem: Problem, x: Any) -> Array:
    """Return f_{D'}(x) - f_Z(x): how much better x is on the forgotten records; a regulariser cancels."""
    return problem.retained().value(x) - problem.forgotten().value(x)


UNLEARNED_PROJECTION = Metric("unlearned_projection", projection)
RETRAINED_PROJECTION = Metric(
    "retrained_projection", lambda problem, x, state: projection(problem, published_retrained(state), state)
)
UNLEARNED_LOSS = Metric("unlearned_loss", lambda problem, x, state: advantage(problem, x))
RETRAINED_LOSS = Metric("retrained_loss", lambda problem, x, state: advantage(problem, published_retrained(state)))
