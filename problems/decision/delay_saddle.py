"""f(x) = -J(x),  J = (gamma c/2) (1 + tanh(x1/2) tanh(x2/2)): a strict saddle that a truncated return does
not see.

The process is that of `problems.aliased_choice`: a delayed cost cancels an immediate reward over an infinite horizon
only, J_H = 1{H >= 2} J + kappa p gamma^max(H, 2)/(1-gamma) with p = sigmoid(x1). At 0 grad J = 0 exactly, and the
truncated gradient is (kappa gamma^H/(4(1-gamma)), 0). f_star = -gamma c at infinity. Derived here."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems import aliased_choice
from problems.aliased_choice import ESCAPE_RADIUS, agreement, decision_process, log_policy, smoothness
from problems.constants import Constants, Regularity, require
from problems.decision_process import cut, trajectory
from problems.oracles import MDP, Policy, Rollout, Tabular
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    """The MDP (for trajectories), the rewards c and kappa (for the closed form) and the start along v."""

    mdp: MDP
    c: Array
    kappa: Array
    start: Array


def init(data: Data, key: Array) -> Array:
    return jnp.full((2,), data.start / 2**0.5)


def value(data: Data, x: Array) -> Array:
    gamma, H = data.mdp.gamma, data.mdp.horizon
    J = gamma * data.c * (0.5 + agreement(x))
    if H is None:
        return -J
    advance = data.kappa * jax.nn.sigmoid(x[0]) * gamma ** jnp.maximum(H, 2) / (1 - gamma)
    return -jnp.where(H >= 2, J, 0.0) - advance


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, mdp=cut(data.mdp, horizon))


def rollout(data: Data, x: Array, key: Array, length: int) -> Rollout:
    return trajectory(data.mdp, jnp.exp(log_policy(x)), key, length)


def log_prob(data: Data, x: Array, states: Array, actions: Array) -> Array:
    return log_policy(x)[states, actions]


def escape(data: Data, x: Array) -> Array:
    return (x[0] + x[1]) / 2**0.5


def outcomes(data: Data, length: int) -> Rollout:
    return aliased_choice.outcomes(data.mdp.r, length)


DELAY_SADDLE = Family(
    name="delay_saddle",
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
        tabular=Tabular(mdp=lambda data: data.mdp, log_policy=lambda data, x: log_policy(x)),
        escape=escape,
        outcomes=outcomes,
    ),
)


def make(
    key: Array, *, gamma: float = 0.9, c: float = 1.0, kappa: float = 0.05, start: float = 0.0
) -> Problem[Data, Array]:
    """Return the saddle with reward `c` for matching actions and delayed cost `kappa`; runs start at `start` v."""
    require(0 < gamma < 1, f"gamma = {gamma}: the saddle needs a discount factor in (0, 1)")
    require(c > 0, f"c = {c}: the reward for matching actions must be positive")
    require(kappa >= 0, f"kappa = {kappa}: a cost is not negative")
    mdp = decision_process(*(jnp.asarray(number, float) for number in (gamma, c, kappa)))
    L, rho = smoothness(mdp.gamma, jnp.asarray(c, float))
    constants = Constants(
        L=L,
        rho=rho,
        f_star=-mdp.gamma * c,
        gamma=mdp.gamma,
        R_c=(mdp.r.max() - mdp.r.min()) / 2,
        r_mid=(mdp.r.max() + mdp.r.min()) / 2,
        score_sq=jnp.asarray(0.25),  # p (1 - p): the score is (1{a = 1} - p) times a unit vector, or 0
        fisher=jnp.asarray(0.25),
        score_slope=jnp.asarray(0.25),
        curvature=mdp.gamma * c / 8,
        estimator_sq=(mdp.gamma * c / 2) ** 2,
        escape_radius=jnp.asarray(ESCAPE_RADIUS),
        delay_cost=jnp.asarray(kappa, float),
    )
    data = Data(mdp, jnp.asarray(c, float), jnp.asarray(kappa, float), jnp.asarray(start, float))
    return Problem(DELAY_SADDLE, data, constants)
