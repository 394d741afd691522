"""REINFORCE on trajectories cut after H steps:  x+ = x + eta g,  g = (sum of all scores) (return - baseline's).

g = mean over B trajectories of sum_(k<H) grad log pi(a_k|s_k) sum_(t<H) gamma^t (r_t - baseline).

A score has mean 0 given what came before it, so rewards earlier than the score add noise only: E g = grad J_H, as for
GPOMDP, at a second moment that grows with H. The exact one is that of `algorithms.estimator_moments`.
Source: Williams (1992), Simple statistical gradient-following algorithms; the second moment derived here.
"""

from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.estimator_laws import (
    ALONG_CUT_GRADIENT,
    CUT_SLOPE_SQ,
    ESTIMATE_SQ,
    PROCESS,
    after_a_step,
    is_drawn,
    second_moment,
)
from algorithms.estimator_moments import reinforce_moments
from algorithms.recursions import descend_by
from algorithms.score_estimators import (
    State,
    batch_of,
    before_horizon,
    descent,
    discounted,
    moved,
    prepare,
    start,
    steps_of_the_environment,
)
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle

SOURCE = Source("Williams", 1992, "Simple statistical gradient-following algorithms", "Machine Learning 8, REINFORCE")


@struct.dataclass
class HParams:
    """eta: step size; horizon, batch_size: masks on max_horizon steps of max_batch trajectories.

    baseline: subtracted from every reward; draws: `trajectories`, or `counts` of listed outcomes (max_batch unused).
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
    rewards = discounted(batch.rewards, problem.constants.gamma, hp)
    return descent(problem, x, batch, share * before_horizon(hp) * rewards.sum(0))


def step(problem, state: State, key, hp):
    return moved(state, descend_by(state.x, hp.eta, estimate(problem, state.x, key, hp)))


def readout(state: State):
    return state.x


mean: AnyTheorem = Theorem(
    name="reinforce_mean",
    statement="E[<g, grad J_H(x)> | x] = |grad J_H(x)|^2",
    source=SOURCE,
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ALONG_CUT_GRADIENT,
    given=(CUT_SLOPE_SQ,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=lambda t, c, hp, slope_sq: after_a_step(t, slope_sq),
    control=Control(
        why="rewards weighed by a smaller discount factor than the return's",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=10,max_horizon=10,baseline=r_mid",
        misstate={"gamma": 0.5},
        steps=1,
        seeds=4000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

square: AnyTheorem = Theorem(
    name="reinforce_second_moment",
    statement="E[|g|^2 | x] = M/B + (1 - 1/B) |grad J_H(x)|^2, M by the recursion of nine moments",
    source=Source("derived here", 2026, "exact second moments of a score estimator", "algorithms/estimator_moments.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=second_moment(lambda process, hp: reinforce_moments(process, hp.baseline, hp.horizon, hp.max_horizon)),
    control=Control(
        why="GPOMDP leaves out the rewards before a score and with them part of the noise",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=10,max_horizon=10,baseline=r_mid",
        algorithm="truncated_policy_gradient",
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

algorithm = Algorithm(
    name="reinforce_policy_gradient",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE,
    requires=Regularity.DISCOUNTED_RETURN,
    calls=steps_of_the_environment,
    prepare=prepare,
    metrics=(ESTIMATE_SQ,),
    theorems=(mean, square),
)
