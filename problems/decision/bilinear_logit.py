"""f(x) = -sigmoid(x1 x2): a bandit whose saddle no score-function estimator can see.

Two arms with rewards 0 and 1, no future, the second arm's logit is x1 x2. At 0 grad J = 0 and Hess J = (1/4) [[0, 1],
[1, 0]], so lam = 1/4 along v = (1, 1)/sqrt 2; but the score (a - p) (x2, x1) vanishes there whatever is drawn: the
estimator has no noise along v (no correlated negative curvature), estimator_sq = 0. J is not smooth on all of R^2.
Source: Daneshmand, Kohler, Lucchi & Hofmann (2018), the condition that fails; instance derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity
from problems.decision_process import cut, trajectory
from problems.oracles import MDP, Policy, Rollout, Tabular
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """The bandit and the start along v."""

    mdp: MDP
    start: Array


def init(data: Data, key: Array) -> Array:
    return jnp.full((2,), data.start / 2**0.5)


def value(data: Data, x: Array) -> Array:
    return -jax.nn.sigmoid(x[0] * x[1])  # gamma = 0: every horizon is the whole return


def log_policy(data: Data, x: Array) -> Array:
    logit = x[0] * x[1]
    return jnp.stack([jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)])[None]


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, mdp=cut(data.mdp, horizon))


def rollout(data: Data, x: Array, key: Array, length: int) -> Rollout:
    return trajectory(data.mdp, jnp.exp(log_policy(data, x)), key, length)


def log_prob(data: Data, x: Array, states: Array, actions: Array) -> Array:
    return log_policy(data, x)[states, actions]


def escape(data: Data, x: Array) -> Array:
    return (x[0] + x[1]) / 2**0.5


BILINEAR_LOGIT = Family(
    name="bilinear_logit",
    regularity=Regularity.LOWER_BOUNDED | Regularity.DISCOUNTED_RETURN | Regularity.STRICT_SADDLE,
    init=init,
    value=value,
    policy=Policy(
        truncate=truncate,
        rollout=rollout,
        log_prob=log_prob,
        tabular=Tabular(mdp=lambda data: data.mdp, log_policy=log_policy),
        escape=escape,
    ),
)


def make(key: Array, *, start: float = 0.0) -> Problem[Data, Array]:
    """Return the bandit; runs start at `start` v."""
    mdp = MDP(P=jnp.ones((1, 2, 1)), r=jnp.array([[0.0, 1.0]]), mu=jnp.ones(1), gamma=jnp.zeros(()))
    constants = Constants(
        f_star=-jnp.ones(()),
        gamma=mdp.gamma,
        curvature=jnp.asarray(0.25),
        estimator_sq=jnp.zeros(()),
        escape_radius=jnp.asarray(0.5),
        delay_cost=jnp.zeros(()),
    )
    return Problem(BILINEAR_LOGIT, Data(mdp, jnp.asarray(start, float)), constants)
