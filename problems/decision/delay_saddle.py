"""f(x) = -J(x),  J = (gamma c/2) (1 + tanh(x1/2) tanh(x2/2)): a strict saddle that a truncated return does
not see.

States s0, x0, x1, y0, y1. In s0 action a leads to x_a, which leads to the absorbing y_a. Rewards: r(s0, 1) =
kappa gamma^2/(1-gamma), r(x_a, b) = c 1{a = b}, r(y1, .) = -kappa: the delayed cost cancels the immediate
reward over an infinite horizon only, J_H = 1{H >= 2} J + kappa p gamma^max(H, 2)/(1-gamma) with p =
sigmoid(x1). Action 1 has logit x1 in s0 and x2 in both x0 and x1 (a strict saddle needs such aliasing: with
one logit per state, stationary means optimal).

At 0: grad J = 0 exactly, Hess J = (gamma c/8) [[0, 1], [1, 0]], so lam = gamma c/8 along v = (1, 1)/sqrt 2;
the truncated gradient there is (kappa gamma^H/(4(1-gamma)), 0). L = gamma c/8: with u = tanh(x1/2)/2, w =
tanh(x2/2)/2 and u' = 1/4 - u^2, a row of Hess J sums in absolute value to 2 gamma c u' (2|u w| + 1/4 - w^2)
<= 2 gamma c (1/4 - u^2)(1/4 + u^2) <= gamma c/8. f_star = -gamma c at infinity. GPOMDP from one trajectory of
H >= 2 steps at 0, kappa = 0: v.g = +-gamma c/sqrt 2 if the two actions agree, else 0. Derived here."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.problem import Constants, Family, Policy, Problem, Regularity, Rollout, require
from problems.tabular import MDP, cut, trajectory

LOGIT = jnp.array([0, 1, 1, 2, 2])  # which coordinate of (x1, x2, 0) is the logit of action 1 in s0, x0, x1, y0, y1
ESCAPE_RADIUS = 0.5


@struct.dataclass
class Data:
    """The MDP (for trajectories), the rewards c and kappa (for the closed form) and the start along v."""

    mdp: MDP
    c: Array
    kappa: Array
    start: Array


def log_policy(x: Array) -> Array:
    """Return log pi(a|s) of the aliased policy, as a table (5, 2)."""
    logits = jnp.append(x, 0.0)[LOGIT]
    return jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], -1)


def init(data: Data, key: Array) -> Array:
    return jnp.full((2,), data.start / 2**0.5)


def value(data: Data, x: Array) -> Array:
    gamma, H = data.mdp.gamma, data.mdp.horizon
    # sigmoid(x) - 1/2 = tanh(x/2)/2, but the left side has no digits below 1e-16
    J = gamma * data.c / 2 * (1 + jnp.tanh(x[0] / 2) * jnp.tanh(x[1] / 2))
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


DELAY_SADDLE = Family(
    name="delay_saddle",
    regularity=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY | Regularity.STRICT_SADDLE,
    init=init,
    value=value,
    policy=Policy(truncate=truncate, rollout=rollout, log_prob=log_prob, escape=escape),
)


def decision_process(gamma: float, c: float, kappa: float) -> MDP:
    """Return the five states s0, x0, x1, y0, y1 with their transitions and rewards."""
    successor = jnp.array([[1, 2], [3, 3], [4, 4], [3, 3], [4, 4]])
    advance = kappa * gamma**2 / (1 - gamma)
    r = jnp.array([[0.0, advance], [c, 0.0], [0.0, c], [0.0, 0.0], [-kappa, -kappa]])
    return MDP(P=jax.nn.one_hot(successor, 5), r=r, mu=jnp.eye(5)[0], gamma=jnp.asarray(gamma, float))


def make(
    key: Array, *, gamma: float = 0.9, c: float = 1.0, kappa: float = 0.05, start: float = 0.0
) -> Problem[Data, Array]:
    """Return the saddle with reward `c` for matching actions and delayed cost `kappa`; runs start at `start` v."""
    require(0 < gamma < 1, f"gamma = {gamma}: the saddle needs a discount factor in (0, 1)")
    require(c > 0, f"c = {c}: the reward for matching actions must be positive")
    require(kappa >= 0, f"kappa = {kappa}: a cost is not negative")
    mdp = decision_process(gamma, c, kappa)
    constants = Constants(
        L=mdp.gamma * c / 8,
        f_star=-mdp.gamma * c,
        gamma=mdp.gamma,
        R_c=(mdp.r.max() - mdp.r.min()) / 2,
        r_mid=(mdp.r.max() + mdp.r.min()) / 2,
        score_sq=jnp.asarray(0.25),  # p (1 - p): the score is (1{a = 1} - p) times a unit vector, or 0
        fisher=jnp.asarray(0.25),
        curvature=mdp.gamma * c / 8,
        estimator_sq=(mdp.gamma * c / 2) ** 2,
        escape_radius=jnp.asarray(ESCAPE_RADIUS),
        delay_cost=jnp.asarray(kappa, float),
    )
    data = Data(mdp, jnp.asarray(c, float), jnp.asarray(kappa, float), jnp.asarray(start, float))
    return Problem(DELAY_SADDLE, data, constants)
