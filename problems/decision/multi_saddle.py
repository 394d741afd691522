"""f(x) = -(gamma/(2n)) sum_i c_i (1 + tanh(x_i1/2) tanh(x_i2/2)): a strict saddle of index n.

The start is uniform over n independent copies of the process of `problems.aliased_choice` without delayed cost, with
rewards c_i = c decay^i: the copies do not interact, each adds the unstable direction v_i with lam_i = gamma c_i/(8n).
The escape is measured along the steepest, v_0: a trajectory meets its copy with probability 1/n, so E(v_0.g)^2 =
gamma^2 c^2/(4n). L and rho are those of the steepest copy, over n. f_star at infinity. Derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems import aliased_choice
from problems.aliased_choice import ESCAPE_RADIUS, agreement, decision_process, smoothness
from problems.constants import Constants, Regularity, require
from problems.decision_process import cut, trajectory
from problems.oracles import MDP, Policy, Rollout, Tabular
from problems.problem import Family, Problem

STATES = 5  # of a copy


@struct.dataclass
class Data:
    """The MDP of all copies, their rewards c (n,) and the start along v_0."""

    mdp: MDP
    c: Array
    start: Array


def init(data: Data, key: Array) -> Array:
    return jnp.zeros((data.c.size, 2)).at[0].set(data.start / 2**0.5)


def value(data: Data, x: Array) -> Array:
    J = data.mdp.gamma * jnp.mean(data.c * (0.5 + agreement(x)))
    return -J if data.mdp.horizon is None else -jnp.where(data.mdp.horizon >= 2, J, 0.0)


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, mdp=cut(data.mdp, horizon))


def log_policy(data: Data, x: Array) -> Array:
    return jax.vmap(aliased_choice.log_policy)(x).reshape(-1, 2)


def rollout(data: Data, x: Array, key: Array, length: int) -> Rollout:
    return trajectory(data.mdp, jnp.exp(log_policy(data, x)), key, length)


def log_prob(data: Data, x: Array, states: Array, actions: Array) -> Array:
    return log_policy(data, x)[states, actions]


def escape(data: Data, x: Array) -> Array:
    return (x[0, 0] + x[0, 1]) / 2**0.5


def outcomes(data: Data, length: int) -> Rollout:
    n = data.c.size
    of_copies = [aliased_choice.outcomes(r, length) for r in jnp.split(data.mdp.r, n)]
    states = jnp.concatenate([STATES * i + one.states for i, one in enumerate(of_copies)], 1)
    actions, rewards = (
        jnp.concatenate([getattr(one, name) for one in of_copies], 1) for name in ("actions", "rewards")
    )
    return Rollout(states, actions, rewards)


MULTI_SADDLE = Family(
    name="multi_saddle",
    regularity=Regularity.SMOOTH
    | Regularity.HESSIAN_LIPSCHITZ
    | Regularity.LOWER_BOUNDED
    | Regularity.DISCOUNTED_RETURN
    | Regularity.SOFTMAX_POLICY
    | Regularity.STRICT_SADDLE,
    init=init,
    value=value,
    policy=Policy(
        truncate=truncate,
        rollout=rollout,
        log_prob=log_prob,
        tabular=Tabular(mdp=lambda data: data.mdp, log_policy=log_policy),
        escape=escape,
        outcomes=outcomes,
    ),
)


def make(
    key: Array, *, n: int = 3, c: float = 1.0, decay: float = 0.5, gamma: float = 0.9, start: float = 0.0
) -> Problem[Data, Array]:
    """Return `n` saddles with rewards c decay^i, steepest first; runs start at `start` v_0."""
    require(n >= 1, f"n = {n}: at least one saddle")
    require(0 < gamma < 1, f"gamma = {gamma}: the saddle needs a discount factor in (0, 1)")
    require(c > 0, f"c = {c}: the reward for matching actions must be positive")
    require(0 < decay <= 1, f"decay = {decay}: a factor in (0, 1], so that the first saddle is the steepest")
    discount, rewards = jnp.asarray(gamma, float), c * jnp.asarray(decay, float) ** jnp.arange(n)
    copies = jax.vmap(lambda c: decision_process(discount, c, jnp.zeros(())))(rewards)
    P = jnp.einsum("ij,isat->isajt", jnp.eye(n), copies.P).reshape(STATES * n, 2, STATES * n)
    mdp = MDP(P=P, r=copies.r.reshape(-1, 2), mu=copies.mu.reshape(-1) / n, gamma=discount)
    L, rho = smoothness(discount, jnp.asarray(c / n, float))
    constants = Constants(
        L=L,
        rho=rho,
        f_star=-discount * rewards.mean(),
        gamma=discount,
        R_c=jnp.asarray(c / 2, float),
        r_mid=jnp.asarray(c / 2, float),
        score_sq=jnp.asarray(0.25),
        fisher=jnp.asarray(0.25),
        score_slope=jnp.asarray(0.25),
        curvature=discount * c / (8 * n),
        estimator_sq=(discount * c / 2) ** 2 / n,
        escape_radius=jnp.asarray(ESCAPE_RADIUS),
        delay_cost=jnp.zeros(()),
    )
    return Problem(MULTI_SADDLE, Data(mdp, rewards, jnp.asarray(start, float)), constants)
