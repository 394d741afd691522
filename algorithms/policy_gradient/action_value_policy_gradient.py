"""The policy gradient theorem, sampled with exact action values:  x+ = x + eta g,  g = sum_k gamma^k score_k Q_k.

g = mean over B trajectories of sum_(k<H) gamma^k grad log pi(a_k|s_k) (Q(s_k, a_k) - baseline/(1-gamma)).

Q is that of the whole return, so what the horizon cuts off is the visits after it: with d_H = (P_pi^T)^H d, d the
occupancy, grad J - E g = gamma^H sum_s d_H(s) sum_a pi(a|s) Q(s, a) score(s, a), and as |sum_a pi Q u.score| <=
std_a Q(s, .) sqrt(lamF) for |u| = 1 and d_H sums to 1/(1-gamma)
    |grad J - E g| <= gamma^H sqrt(lamF) max_s std_a Q(s, .)/(1-gamma):
no factor that grows with H. Source: Sutton, McAllester, Singh & Mansour (2000), Theorem 1; bias derived here.
"""

import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.estimator_laws import ESTIMATE_SQ, PROCESS, is_drawn, second_moment
from algorithms.estimator_moments import pgt_moments, scored, shifted
from algorithms.metric import Metric
from algorithms.recursions import descend_by
from algorithms.score_estimators import (
    State,
    batch_of,
    before_horizon,
    descent,
    moved,
    prepare,
    start,
    steps_of_the_environment,
)
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.decision_process import action_values, chain, occupancy, power
from problems.oracles import Oracle

SOURCE = Source(
    "Sutton, McAllester, Singh & Mansour",
    2000,
    "Policy gradient methods for reinforcement learning with function approximation",
    "Theorem 1",
)


@struct.dataclass
class HParams:
    """eta: step size; horizon, batch_size: masks on max_horizon steps of max_batch trajectories.

    baseline: subtracted from every reward that Q sums; draws: `trajectories`, or `counts` of listed outcomes.
    """

    eta: Array | float | str = "1/L"
    horizon: Array | int = 20
    baseline: Array | float | str = 0.0
    batch_size: Array | int = 8
    draws: str = struct.field(pytree_node=False, default="trajectories")
    max_batch: int = struct.field(pytree_node=False, default=8)
    max_horizon: int = struct.field(pytree_node=False, default=50)


def init(problem, x0, key, hp):
    return start(x0, hp, hp.horizon)


def estimate(problem, x, key, hp):
    """Return -g."""
    batch, share = batch_of(problem, x, key, hp)
    Q = action_values(shifted(problem.mdp, hp.baseline), jnp.exp(problem.log_policy(x)))
    discount = before_horizon(hp) * problem.constants.gamma ** jnp.arange(hp.max_horizon)[:, None]
    return descent(problem, x, batch, share * discount * Q[batch.states, batch.actions])


def step(problem, state: State, key, hp):
    return moved(state, descend_by(state.x, hp.eta, estimate(problem, state.x, key, hp)))


def readout(state: State):
    return state.x


def visits_cut_off(problem, x, state: State):
    """Return |grad J - E g| at the point: gamma^H |sum_s d_H(s) sum_a pi Q score|."""
    mdp, p, c = scored(problem, x)
    later = power(chain(mdp, p), state.horizon).T @ occupancy(mdp, p)
    beyond = jnp.einsum("s,sa,sa,sad->d", later, p, action_values(mdp, p), c)
    return mdp.gamma**state.horizon * optax.tree.norm(beyond)


def deviation(problem, x, state: State):
    """Return max_s std_a Q(s, .) at the point."""
    mdp, p, _ = scored(problem, x)
    Q = action_values(mdp, p)
    centred = Q - (p * Q).sum(-1, keepdims=True)
    return jnp.sqrt((p * centred**2).sum(-1)).max()


VISITS_CUT_OFF = Metric("visits_cut_off", visits_cut_off)
DEVIATION = Metric("action_value_deviation", deviation)

bias = Theorem(
    name="action_value_policy_gradient_bias",
    statement="|grad J - E g| <= gamma^H sqrt(lamF) max_s std_a Q(s, .) / (1-gamma)",
    source=Source("derived here", 2026, "what the horizon cuts off is visits", "module docstring"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=VISITS_CUT_OFF,
    given=(DEVIATION,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=lambda t, c, hp, std: c.gamma**hp.horizon * jnp.sqrt(c.fisher) * std / (1 - c.gamma),
    control=Control(
        why="a smaller discount factor promises that the visits cut off weigh less than they do",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=20,max_horizon=20",
        misstate={"gamma": 0.8},
        steps=1,
    ),
)

square: AnyTheorem = Theorem(
    name="action_value_policy_gradient_second_moment",
    statement="E[|g|^2 | x] = M/B + (1 - 1/B) |E g|^2, M and E g by the recursion of the estimate's moments",
    source=Source("derived here", 2026, "exact second moments of a score estimator", "algorithms/estimator_moments.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=second_moment(lambda process, hp: pgt_moments(process, hp.baseline, hp.horizon, hp.max_horizon)),
    control=Control(
        why="REINFORCE multiplies every score by a drawn return instead of reading its expectation",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=100,max_horizon=100,baseline=r_mid",
        algorithm="reinforce_policy_gradient",
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

algorithm = Algorithm(
    name="action_value_policy_gradient",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE | Oracle.TABLE,
    requires=Regularity.DISCOUNTED_RETURN,
    calls=steps_of_the_environment,
    prepare=prepare,
    metrics=(ESTIMATE_SQ, VISITS_CUT_OFF),
    theorems=(bias, square),
)
