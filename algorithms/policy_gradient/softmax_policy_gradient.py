"""Exact policy gradient on softmax logits:  x+ = x + eta grad J(x),  J = -f.

T10 (a posteriori): grad J is C-dominated, |grad J| >= C(x) (J* - J) with C = `policy.mismatch`, so that with
the ascent lemma the gap delta obeys delta_(k+1) <= delta_k - (eta/2) C_min^2 delta_k^2, hence 1/delta_t >=
1/delta_0 + eta C_min^2 t/2.

Sharp constant: near a unique optimal policy y_a = pi(a|s) |A(s, a)|, a != a*, obeys y_a' = -eta d(s) y_a (y_a
+ sum_b y_b), attracted to y = 1/(eta d(s) A t); J* - J = sum_s d*(s) sum_a y_a then is S (A-1)/(A eta t),
whatever the rewards, the dynamics and the start. The imbalance of the y_a decays as t^(-1/A) and enters
squared: few actions show the law early.

Bandit (gamma = 0): where a* is a most likely arm at the start, pi(a*) never falls, whatever eta: x_a* rises by pi(a*)
times the largest advantage there is, every other logit by less. So C = pi_0(a*), known before the run.

Saddle: from z_0 = v.x_0 the unstable coordinate grows by 1 + eta lam a step; from z_0 = 0 the exact gradient never
leaves. Curvature beyond second order delays it by delta^2/(12 eta lam) steps, which the condition keeps below one half.
Sources: Mei, Xiao, Szepesvari & Schuurmans (2020), Lemma 8 and Theorem 4; constants derived here.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, Metric, best, initial, running_sum
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Kind, Source, Theorem
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE, is_linear, is_stable, near_points
from problems.constants import Regularity
from problems.decision_process import occupancy
from problems.oracles import Oracle

ONSET = 1000.0  # least eta t gap / S from which the sharp law speaks, see `sharp_bound`


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


def least_confidence(problem, x):
    """Return min_s pi(a*(s)|s)."""
    a_star, _ = problem.optimum
    return jnp.exp(jnp.take_along_axis(problem.log_policy(x), a_star[:, None], -1)).min()


def mismatch(problem, x, state):
    """Return C = min_s pi(a*(s)|s)/(sqrt(S) max_s d*(s)/d(s))."""
    _, d_star = problem.optimum
    d = occupancy(problem.mdp, jnp.exp(problem.log_policy(x)))
    return least_confidence(problem, x) / (d.size**0.5 * jnp.max(d_star / d))


MISMATCH = Metric("mismatch", mismatch)
STEPS_ASTRAY = running_sum(
    Metric("astray", lambda problem, x, state: jnp.where(least_confidence(problem, x) < 0.5, 1.0, 0.0))
)


def is_sharp(c, hp):
    """Return whether optimal actions are unique and a step moves a logit by O(1) at most."""
    moderate = hp.eta * c.R_c <= (1 + 1e-12) * 2 * c.states * (1 - c.gamma)
    return (hp.eta > 0) & moderate & (c.gap >= 1e-9) & (c.start_min > 0)


def sharp_bound(t, c, hp, astray):
    """Return S (A-1)/(A eta t) once eta t gap/S >= max(1000, 10^A).

    Then pi(a|s) ~ 1/(eta d(s) A t gap) is small, and so is the squared imbalance, t^(-2/A).

    Time counts from where a* leads: of t steps at most t/500 may have gone astray.
    """
    spoken = (hp.eta * t * c.gap >= jnp.maximum(ONSET, 10.0**c.actions) * c.states) & (500 * astray <= t)
    return jnp.where(spoken, c.states * (c.actions - 1) / (c.actions * hp.eta * t), jnp.nan)


def confidence(problem, x, state):
    """Return pi(a*) of the best arm where it is a most likely one, else NaN."""
    best_arm, most_likely = least_confidence(problem, x), jnp.exp(problem.log_policy(x)).max()
    return jnp.where(best_arm >= most_likely, best_arm, jnp.nan)


CONFIDENCE = Metric("confidence", confidence)


def is_bandit(c, hp):
    """Return whether there is one state without a future and 0 < eta <= 1/L."""
    return is_stable(c, hp) & (c.states == 1) & (c.gamma == 0)


def is_linear_escape(c, hp: Any):
    """Return whether the linearised escape is accurate to a step."""
    return is_linear(c, hp.eta)


def escape_law(t, c, hp: Any, z_0):
    """Return the number of near points among x_0, ..., x_t without a bias."""
    return near_points(t, c, hp.eta, 0.0, z_0)


ascent = Theorem(
    name="policy_gradient_ascent",
    statement="min_(k<=t) |grad J(x_k)|^2 <= 2 (J* - J(x_0)) / (eta t)",
    source=Source("Nesterov", 2018, "Lectures on Convex Optimization", "inequality (1.2.22), with the L derived here"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=is_stable,
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
    condition="mu > 0, 0 < eta <= 1/L",
    admits=lambda c, hp: is_stable(c, hp) & (c.start_min > 0),
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
    given=(STEPS_ASTRAY,),
    condition="gap >= 1e-9, mu > 0, 0 < eta <= 2 S (1-gamma)/R_c; "
    "speaks once eta t gap/S >= max(1000, 10^A) and all but t/500 steps had pi(a*|s) >= 1/2 in every state",
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

bandit_rate = Theorem(
    name="softmax_policy_gradient_bandit",
    statement="J* - J(x_t) <= 1 / (1/(J* - J(x_0)) + eta pi_0(a*)^2 t/2)",
    source=Source(
        "Mei, Xiao, Szepesvari & Schuurmans",
        2020,
        "On the global convergence rates of softmax policy gradient methods",
        "Theorem 2, constant derived here",
    ),
    assumes=Regularity.SMOOTH | Regularity.TABULAR_MDP,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY), initial(CONFIDENCE)),
    condition="one state, gamma = 0, 0 < eta <= 1/L; speaks where a* is a most likely arm at the start",
    admits=is_bandit,
    bound=lambda t, c, hp, gap, p: 1 / (1 / gap + hp.eta * p**2 * t / 2),
    control=Control(
        why="no policy earns half as much again as the best",
        problem="bandit[A=5,spread=0.0]",
        setting="eta=1/L",
        misstate={"f_star": 1.5},
    ),
)

escape = Theorem(
    name="policy_gradient_escapes_saddle",
    statement="v.x reaches delta after log(delta/v.x_0)/log(1 + eta lam) steps, from the saddle itself never",
    source=Source("derived here", 2026, "linearised escape", "module docstring"),
    assumes=Regularity.STRICT_SADDLE | Regularity.SOFTMAX_POLICY,
    metric=STEPS_NEAR_SADDLE,
    given=(initial(ESCAPE_DISTANCE),),
    condition="v.x_0 >= 0, delta^2/6 <= eta lam <= 1",
    admits=is_linear_escape,
    bound=escape_law,
    control=Control(
        why="a saddle half as steep takes twice as long to leave",
        problem="delay_saddle[start=1e-4]",
        setting="eta=1.0",
        misstate={"curvature": 0.5},
    ),
    kind=Kind.EXACT,
    slack=1.0,
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
    needs=Oracle.GRADIENT | Oracle.TABLE,
    requires=Regularity.SOFTMAX_POLICY,
    theorems=(ascent, global_rate, sharp, bandit_rate, escape),
)
