"""The five states behind the strict saddles: two choices whose reward is in their agreement.

States s0, x0, x1, y0, y1. In s0 action a leads to x_a, which leads to the absorbing y_a. Rewards: r(s0, 1) =
kappa gamma^2/(1-gamma), r(x_a, b) = c 1{a = b}, r(y1, .) = -kappa: the delayed cost cancels the immediate reward over
an infinite horizon only. Action 1 has logit x1 in s0 and x2 in both x0 and x1, action 0 has logit 0 (a strict saddle
needs such aliasing: with one logit per state, stationary means optimal). With a(x) = tanh(x/2)
    J = (gamma c/2) (1 + a(x1) a(x2)).

At 0: grad J = 0 exactly, Hess J = (gamma c/8) [[0, 1], [1, 0]], so lam = gamma c/8 along v = (1, 1)/sqrt 2. GPOMDP
from one trajectory of H >= 2 steps at 0, kappa = 0: v.g = +-gamma c/sqrt 2 if the two actions agree, else 0.
L = gamma c/8: with u = a(x1)/2, w = a(x2)/2 and u' = 1/4 - u^2, a row of Hess J sums in absolute value to
2 gamma c u' (2|u w| + 1/4 - w^2) <= 2 gamma c (1/4 - u^2)(1/4 + u^2) <= gamma c/8.
rho: 0 < a' <= 1/2, |a''| <= 1/(3 sqrt 3) and |a'''| <= 1/4, so the third derivative of a(x1) a(x2) along a direction
(C, S) is at most (C^3 + S^3)/4 + C S (C + S)/(2 sqrt 3), largest at C = S: rho = (gamma c/2)(sqrt 2/8 + sqrt 6/12), an
upper bound. Derived here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from problems.oracles import MDP, Rollout

ESCAPE_RADIUS = 0.5
LOGIT = np.array(
    [0, 1, 1, 2, 2], np.int32
)  # which coordinate of (x1, x2, 0) is the logit of action 1 in s0, x0, x1, y0, y1
SUCCESSOR = np.array([[1, 2], [3, 3], [4, 4], [3, 3], [4, 4]], np.int32)


def decision_process(gamma: Array, c: Array, kappa: Array) -> MDP:
    """Return the five states with their transitions and rewards."""
    zero = jnp.zeros_like(c)
    r = jnp.stack([zero, kappa * gamma**2 / (1 - gamma), c, zero, zero, c, zero, zero, -kappa, -kappa]).reshape(5, 2)
    return MDP(P=jax.nn.one_hot(SUCCESSOR, 5), r=r, mu=jnp.eye(5)[0], gamma=gamma)


def log_policy(x: Array) -> Array:
    """Return log pi(a|s) of the aliased policy, as a table (5, 2)."""
    logits = jnp.append(x, 0.0)[LOGIT]
    return jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], -1)


def agreement(x: Array) -> Array:
    """Return a(x1) a(x2)/2 = P(the choices agree) - 1/2."""
    # sigmoid(x) - 1/2 = tanh(x/2)/2, but the left side has no digits below 1e-16
    return jnp.tanh(x[..., 0] / 2) * jnp.tanh(x[..., 1] / 2) / 2


def smoothness(gamma: Array, c: Array) -> tuple[Array, Array]:
    """Return L and rho."""
    return gamma * c / 8, gamma * c / 2 * (2**0.5 / 8 + 6**0.5 / 12)


def outcomes(r: Array, length: int) -> Rollout:
    """Return the four trajectories that differ in score or reward, (length, 4); r is (5, 2)."""
    first, second = jnp.divmod(jnp.arange(4), 2)
    states = jnp.stack([jnp.zeros_like(first), 1 + first, *(3 + first for _ in range(length))])[:length]
    actions = jnp.stack([first, second, *(jnp.zeros_like(first) for _ in range(length))])[:length]
    return Rollout(states, actions, r[states, actions])
