"""Russian roulette, an unbiased GPOMDP:  x+ = x + eta g,  E g = grad J, from trajectories of random length.

g = mean over B trajectories of sum_(t<=T) (gamma/q)^t (r_t - baseline) sum_(k<=t) grad log pi(a_k|s_k), P(T >= t) =
q^t.

The step t is reached with probability q^t, so the weight (gamma/q)^t restores gamma^t: no truncation, whatever q. At q
= gamma, the default, rewards are not discounted and the process restarts with probability 1 - gamma a step. A state of
a program has a shape, so T is cut at max_horizon steps: E g = grad J_max_horizon, and settings with q^max_horizon >
1e-9 are refused, as theorems refuse gamma^max_horizon > 1e-9. The second moment is that of
`algorithms.estimator_moments`. Derived here; the restart is that of Baxter & Bartlett (2001).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.estimator_laws import (
    ALONG_GRADIENT,
    ESTIMATE_SQ,
    PROCESS,
    SLOPE_SQ,
    after_a_step,
    is_whole,
    second_moment,
)
from algorithms.estimator_moments import random_horizon_moments, roulette_moments
from algorithms.recursions import descend_by
from algorithms.score_estimators import State, descent, drawn, moved, prepare_capped, start, survives, to_go
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle

SOURCE = Source("derived here", 2026, "policy gradient of random length", "module docstring")


@struct.dataclass
class HParams:
    """eta: step size; survival: probability q of going on; batch_size: a mask on max_batch trajectories.

    baseline: subtracted from every reward; max_horizon: the cap on T.
    """

    eta: Array | float | str = "1/L"
    survival: Array | float | str = "gamma"
    baseline: Array | float | str = 0.0
    batch_size: Array | int = 8
    max_batch: int = struct.field(pytree_node=False, default=8)
    max_horizon: int = struct.field(pytree_node=False, default=200)


def init(problem, x0, key, hp):
    return start(x0, hp, hp.max_horizon)


def estimate(problem, x, key, hp):
    """Return -g."""
    draw_key, length_key = jax.random.split(key)
    batch, share = drawn(problem, x, draw_key, hp)
    alive = survives(jax.random.uniform(length_key, (hp.max_batch,)), hp.survival, hp.max_horizon)
    ratio = jnp.where(hp.survival > 0, problem.constants.gamma / hp.survival, 0.0)
    weight = ratio ** jnp.arange(hp.max_horizon)[:, None] * (batch.rewards - hp.baseline)
    return descent(problem, x, batch, share * to_go(jnp.where(alive, weight, 0.0)))


def step(problem, state: State, key, hp):
    return moved(state, descend_by(state.x, hp.eta, estimate(problem, state.x, key, hp)))


def readout(state: State):
    return state.x


def calls(problem, hp):
    """Return the mean number of steps of the environment: B (1 - q^max_horizon)/(1 - q)."""
    reached = jnp.asarray(hp.survival, float) ** jnp.arange(hp.max_horizon)
    return hp.batch_size * reached.sum()


def dearer_bound(t, c, hp, process):
    """Return E|g|^2 of the random-horizon estimator for the same batch size."""
    return second_moment(lambda process, hp: random_horizon_moments(process, hp.baseline))(t, c, hp, process)


mean: AnyTheorem = Theorem(
    name="roulette_mean",
    statement="E[<g, grad J(x)> | x] = |grad J(x)|^2",
    source=SOURCE,
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ALONG_GRADIENT,
    given=(SLOPE_SQ,),
    condition="0 <= q <= 1, gamma^max_horizon <= 1e-9",
    admits=is_whole,
    bound=lambda t, c, hp, slope_sq: after_a_step(t, slope_sq),
    control=Control(
        why="cut after two steps, the estimate misses most of the return",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=2,max_horizon=2,baseline=r_mid",
        algorithm="truncated_policy_gradient",
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

square: AnyTheorem = Theorem(
    name="roulette_second_moment",
    statement="E[|g|^2 | x] = M/B + (1 - 1/B) |grad J(x)|^2, M by the recursion of six moments that survive with q",
    source=Source("derived here", 2026, "exact second moments of a score estimator", "algorithms/estimator_moments.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="0 <= q <= 1, gamma^max_horizon <= 1e-9",
    admits=is_whole,
    bound=second_moment(lambda process, hp: roulette_moments(process, hp.baseline, hp.survival, hp.max_horizon)),
    control=Control(
        why="lengths drawn with a larger discount factor than the return's",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="max_horizon=200,baseline=r_mid",
        misstate={"gamma": 1.1},
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

cheaper: AnyTheorem = Theorem(
    name="roulette_below_random_horizon",
    statement="E[|g|^2 | x] <= that of the random-horizon estimator at the same x, B and baseline, on garnets",
    source=Source("derived here", 2026, "observed on garnets", "module docstring"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="q = gamma >= 0.8, gamma^max_horizon <= 1e-9, baseline = r_mid",
    admits=lambda c, hp: (
        is_whole(c, hp) & (hp.survival == c.gamma) & (c.gamma >= 0.8 - 1e-6) & (hp.baseline == c.r_mid)
    ),
    bound=dearer_bound,
    control=Control(
        why="lengths drawn with a larger discount factor than the return's add noise",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="max_horizon=200,baseline=r_mid",
        misstate={"gamma": 1.125},
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.FINDING,
    fewest_seeds=1000,
)

algorithm = Algorithm(
    name="roulette_policy_gradient",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE,
    requires=Regularity.DISCOUNTED_RETURN,
    calls=calls,
    prepare=prepare_capped,
    metrics=(ESTIMATE_SQ,),
    theorems=(mean, square, cheaper),
)
