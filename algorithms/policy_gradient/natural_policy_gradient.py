"""Exact natural policy gradient on softmax logits:  x+ = x + (eta/(1-gamma)) A(x),  pi+ ~ pi exp(eta A/(1-gamma)).

A(s, a) = Q - V is the advantage: the inverse Fisher matrix takes the occupancy out of the gradient.
Global rate. log pi+ = log pi + eta A/(1-gamma) - log Z_s with log Z_s >= 0. By the performance difference V* - V_k =
E_d* sum_a pi* A_k/(1-gamma) (d* normalised) = E_d* [KL(pi*|pi_k) - KL(pi*|pi_(k+1)) + log Z]/eta, and by that lemma
from the start d*, E_d* log Z/eta is at most the increase of V over 1-gamma. Both telescope, V is monotone and lies in
an interval of length 2 R_c/(1-gamma):
    J* - J_t <= (E_d* KL(pi*|pi_0)/eta + 2 R_c/(1-gamma)^2)/(t+1).
Sharp rate. Near the optimum A is that of pi*, so that pi(a|s) falls by exp(eta A*(s, a)/(1-gamma)) a step and
    -log((J* - J_(t+1))/(J* - J_t)) -> (eta/(1-gamma)) min_(s, a != a*) |A*(s, a)|,
whatever the dynamics. The gap is measured as sum_s d(s) sum_a pi(a|s) (V* - Q*)(s, a), positive terms alone: it keeps
its digits down to 1e-300.
Sources: Kakade (2001); Agarwal, Kakade, Lee & Mahajan (2021), Theorem 16, with KL and ranges of the instance; the sharp
rate derived here.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless_positive
from algorithms.metric import Metric, initial
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Regularity
from problems.decision_process import action_values, advantages, occupancy
from problems.oracles import Oracle

ONSET = 400.0  # eta t gap/(1-gamma) from which the sharp law speaks: other actions have then died out


@struct.dataclass
class HParams:
    """eta: step size."""

    eta: Array | float | str = 1.0


@struct.dataclass
class State:
    """`loss` is V* - Q* (S, A) and `before` the previous point, both read by measurements only."""

    x: Array
    before: Array
    loss: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` unless eta > 0."""
    refuse_unless_positive(hp.eta)
    return hp


def init(problem, x0, key, hp):
    a_star, _ = problem.optimum
    Q = action_values(problem.mdp, jax.nn.one_hot(a_star, x0.shape[-1]))
    return State(x0, x0, Q.max(-1, keepdims=True) - Q)


def step(problem, state, key, hp):
    advantage = advantages(problem.mdp, jnp.exp(problem.log_policy(state.x)))
    return State(state.x + hp.eta / (1 - problem.mdp.gamma) * advantage, state.x, state.loss)


def readout(state):
    return state.x


def gap(problem, x, loss):
    """Return J* - J = sum_s d(s) sum_a pi(a|s) (V* - Q*)(s, a)."""
    p = jnp.exp(problem.log_policy(x))
    return occupancy(problem.mdp, p) @ (p * loss).sum(-1)


def log_decrease(problem, x, state):
    """Return log of the gap at the previous point over the gap."""
    return jnp.log(gap(problem, state.before, state.loss) / gap(problem, x, state.loss))


def divergence(problem, x, state):
    """Return E_d* KL(pi*|pi) = -sum_s (1-gamma) d*(s) log pi(a*(s)|s)."""
    a_star, d_star = problem.optimum
    log_p = jnp.take_along_axis(problem.log_policy(x), a_star[:, None], -1)[:, 0]
    return -(1 - problem.mdp.gamma) * d_star @ log_p


OPTIMALITY_GAP = Metric("optimality_gap", lambda problem, x, state: gap(problem, x, state.loss))
LOG_DECREASE = Metric("log_decrease", log_decrease)
DIVERGENCE = Metric("divergence", divergence)


def is_positive(c, hp: Any):
    """Return whether eta > 0."""
    return hp.eta > 0


def is_unique(c, hp: Any):
    """Return whether eta > 0, optimal actions are unique, and every state may come first."""
    return (hp.eta > 0) & (c.gap >= 1e-9) & (c.start_min > 0)


def global_bound(t, c, hp: Any, divergence):
    """Return (E_d* KL(pi*|pi_0)/eta + 2 R_c/(1-gamma)^2)/(t+1)."""
    return (divergence / hp.eta + 2 * c.R_c / (1 - c.gamma) ** 2) / (t + 1)


def sharp_law(t, c, hp: Any):
    """Return (eta/(1-gamma)) gap once eta t gap/(1-gamma) >= 400."""
    factor = hp.eta * c.gap / (1 - c.gamma)
    return jnp.where(factor * t >= ONSET, factor, jnp.nan)


global_rate = Theorem(
    name="natural_policy_gradient_global",
    statement="J* - J_t <= (E_d* KL(pi*|pi_0)/eta + 2 R_c/(1-gamma)^2) / (t+1)",
    source=Source(
        "Agarwal, Kakade, Lee & Mahajan",
        2021,
        "On the theory of policy gradient methods: optimality, approximation, and distribution shift",
        "Theorem 16, with the divergence and the range of the instance",
    ),
    assumes=Regularity.TABULAR_MDP,
    metric=OPTIMALITY_GAP,
    given=(initial(DIVERGENCE),),
    condition="eta > 0",
    admits=is_positive,
    bound=global_bound,
    control=Control(
        why="rewards said to differ a thousand times less leave no gap to close",
        problem="garnet",
        setting="eta=100.0",
        misstate={"R_c": 0.001},
    ),
)

sharp = Theorem(
    name="natural_policy_gradient_sharp_rate",
    statement="-log((J* - J_(t+1))/(J* - J_t)) -> (eta/(1-gamma)) min_(s, a != a*) |A*(s, a)|",
    source=Source("derived here", 2026, "the sharp rate of natural policy gradient", "module docstring"),
    assumes=Regularity.TABULAR_MDP,
    metric=LOG_DECREASE,
    given=(),
    condition="gap >= 1e-9, mu > 0, eta > 0; speaks once eta t gap/(1-gamma) >= 400",
    admits=is_unique,
    bound=sharp_law,
    control=Control(
        why="a wider lead of the best actions promises a faster rate",
        problem="garnet",
        setting="eta=0.5*(1-gamma)/gap",
        misstate={"gap": 1.05},
        steps=1000,
    ),
    kind=Kind.ASYMPTOTIC,
    tolerance=0.005,
)

algorithm = Algorithm(
    name="natural_policy_gradient",
    source=Source("Kakade", 2001, "A natural policy gradient", "equation (3)"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TABLE,
    requires=Regularity.TABULAR_MDP,
    prepare=prepare,
    metrics=(OPTIMALITY_GAP,),
    theorems=(global_rate, sharp),
)
