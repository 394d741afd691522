"""Exact policy gradient on softmax logits:  x+ = x + eta grad J(x),  J = -f.

T10 (a posteriori): grad J is C-dominated, |grad J| >= C(x) (J* - J) with C = `policy.mismatch`, so that with
the ascent lemma the gap delta obeys delta_(k+1) <= delta_k - (eta/2) C_min^2 delta_k^2, hence 1/delta_t >=
1/delta_0 + eta C_min^2 t/2.

Sharp constant: near a unique optimal policy y_a = pi(a|s) |A(s, a)|, a != a*, obeys y_a' = -eta d(s) y_a (y_a
+ sum_b y_b), attracted to y = 1/(eta d(s) A t); J* - J = sum_s d*(s) sum_a y_a then is S (A-1)/(A eta t),
whatever the rewards, the dynamics and the start. The imbalance of the y_a decays as t^(-1/A) and enters
squared: few actions show the law early.
Sources: Mei, Xiao, Szepesvari & Schuurmans (2020), Lemma 8 and Theorem 4; constants derived here.
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, Metric, best, initial
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Regularity

ONSET = 1000.0  # eta t gap / S from which the sharp law speaks, see `sharp_bound`


@struct.dataclass
class HParams:
    """eta: step size."""

    eta: Array | float | str = "1/L"


@struct.dataclass
class State:
    x: Array


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    return State(descend_by(state.x, hp.eta, problem.grad(state.x)))


def readout(state):
    return state.x


def mismatch(problem, x, state):
    """Return C(x)."""
    assert problem.policy.mismatch is not None
    return problem.policy.mismatch(problem.data, x)


MISMATCH = Metric("mismatch", mismatch)


def stable(c, hp):
    """Return whether 0 < eta <= 1/L."""
    return (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L)


def is_sharp(c, hp):
    """Return whether optimal actions are unique and a step moves a logit by O(1) at most."""
    moderate = hp.eta * c.R_c <= (1 + 1e-12) * 2 * c.states * (1 - c.gamma)
    return (hp.eta > 0) & moderate & (c.gap >= 1e-9)


def sharp_bound(t, c, hp):
    """Return S (A-1)/(A eta t) once eta t gap >= 1000 S: then pi(a|s) ~ 1/(eta d(s) A t gap) is small."""
    spoken = hp.eta * t * c.gap >= ONSET * c.states
    return jnp.where(spoken, c.states * (c.actions - 1) / (c.actions * hp.eta * t), jnp.nan)


ascent = Theorem(
    name="policy_gradient_ascent",
    statement="min_(k<=t) |grad J(x_k)|^2 <= 2 (J* - J(x_0)) / (eta t)",
    source=Source("Nesterov", 2018, "Lectures on Convex Optimization", "inequality (1.2.22), with the L derived here"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=stable,
    bound=lambda t, c, hp, gap: 2 * gap / (hp.eta * t),
    control=Control(
        why="an optimum misstated down to just above the saddle leaves no room to climb",
        problem="delay_saddle[start=0.5]",
        setting="eta=1/L",
        misstate={"f_star": 0.52},
    ),
)

global_rate = Theorem(
    name="softmax_policy_gradient_global",
    statement="J* - J(x_t) <= 1 / (1/(J* - J(x_0)) + eta C_min^2 t/2),  C_min = min_(k<=t) C(x_k)",
    source=Source(
        "Mei, Xiao, Szepesvari & Schuurmans",
        2020,
        "On the global convergence rates of softmax policy gradient methods",
        "Lemma 8 and Theorem 4, constant derived here",
    ),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.TABULAR_MDP,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY), best(MISMATCH)),
    condition="0 < eta <= 1/L",
    admits=stable,
    bound=lambda t, c, hp, gap, C_min: 1 / (1 / gap + hp.eta * C_min**2 * t / 2),
    control=Control(
        why="no policy earns half as much again as the best",
        problem="bandit[A=5,spread=0.0]",
        setting="eta=1/L",
        misstate={"f_star": 1.5},
    ),
)

sharp = Theorem(
    name="softmax_policy_gradient_sharp_constant",
    statement="t eta (J* - J(x_t)) -> S (A-1)/A",
    source=Source("derived here", 2026, "the sharp constant of softmax policy gradient", "module docstring"),
    assumes=Regularity.SOFTMAX_POLICY | Regularity.LOWER_BOUNDED | Regularity.TABULAR_MDP,
    metric=SUBOPTIMALITY,
    given=(),
    condition="gap >= 1e-9, 0 < eta <= 2 S (1-gamma)/R_c; speaks once eta t gap >= 1000 S",
    admits=is_sharp,
    bound=sharp_bound,
    control=Control(
        why="an action more than there is promises another constant",
        problem="garnet[S=5,A=2,gamma=0.8]",
        setting="eta=50/L",
        misstate={"actions": 1.5},
        steps=20000,
    ),
    kind=Kind.ASYMPTOTIC,
    tolerance=0.01,
)

algorithm = Algorithm(
    name="softmax_policy_gradient",
    source=Source(
        "Sutton, McAllester, Singh & Mansour",
        2000,
        "Policy gradient methods for reinforcement learning with function approximation",
        "Theorem 1",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.SOFTMAX_POLICY,
    theorems=(ascent, global_rate, sharp),
)
