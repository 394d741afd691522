"""Two random horizons, an unbiased policy gradient:  x+ = x + eta g,  g = Qhat grad log pi(a_T|s_T)/(1-gamma).

g = mean over B trajectories,  Qhat = sum_(i<=T') gamma^(i/2) (r_(T+i) - baseline),  P(T >= t) = gamma^t, P(T' >= i) =
gamma^(i/2).

T picks a state by its share (1-gamma) d of the discounted visits, and gamma^(i/2) P(T' >= i) = gamma^i makes Qhat
unbiased for Q(s_T, a_T); so E g = grad J by the policy gradient theorem. As Qhat <= R/(1 - sqrt gamma) in size with
R = R_c + |baseline - r_mid|, every run has |g| <= max|score| R/((1-gamma)(1 - sqrt gamma)). Trajectories end after
max_horizon steps: a reward at step k + i is met with weight gamma^(k+i), so E g = grad J_max_horizon, and settings
with gamma^max_horizon > 1e-9 are refused (`survival` = gamma lets the setting know). The second moment is one more
linear solve (`algorithms.estimator_moments`).
Source: Zhang, Koppel, Zhu & Basar (2020), arXiv:1906.08383; the bound and the second moment derived here.
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
    SCORE_MAX,
    SLOPE_SQ,
    after_a_step,
    is_whole,
    largest_reward,
    second_moment,
)
from algorithms.estimator_moments import random_horizon_moments
from algorithms.recursions import descend_by
from algorithms.score_estimators import State, descent, drawn, moved, prepare_capped, start, survives
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle, Rollout

SOURCE = Source(
    "Zhang, Koppel, Zhu & Basar",
    2020,
    "Global convergence of policy gradient methods to (almost) locally optimal policies",
    "arXiv:1906.08383, random-horizon policy gradient; constant derived here",
)


@struct.dataclass
class HParams:
    """eta: step size; survival: gamma, the only one that theorems admit; batch_size: a mask on max_batch trajectories.

    baseline: subtracted from every reward; max_horizon: the cap on T + T'.
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
    """Return -g: of each trajectory the pair (s_T, a_T), weighed by Qhat/(1-gamma)."""
    draw_key, length_key = jax.random.split(key)
    batch, share = drawn(problem, x, draw_key, hp)
    u = jax.random.uniform(length_key, (2, hp.max_batch))
    T = survives(u[0], hp.survival, hp.max_horizon).sum(0, dtype=jnp.int32) - 1
    T_later = survives(u[1], jnp.sqrt(hp.survival), hp.max_horizon).sum(0, dtype=jnp.int32) - 1
    i = jnp.arange(hp.max_horizon)[:, None] - T
    weight = jnp.where((i >= 0) & (i <= T_later), jnp.sqrt(hp.survival) ** jnp.maximum(i, 0), 0.0)
    Q = (weight * (batch.rewards - hp.baseline)).sum(0)
    chosen = jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, T[None], 0), batch)
    return descent(problem, x, Rollout(chosen.states, chosen.actions, chosen.rewards), share * Q / (1 - hp.survival))


def step(problem, state: State, key, hp):
    return moved(state, descend_by(state.x, hp.eta, estimate(problem, state.x, key, hp)))


def readout(state: State):
    return state.x


def calls(problem, hp):
    """Return the mean number of steps of the environment: B (1 + E T + E T')."""
    q, root = jnp.asarray(hp.survival, float), jnp.sqrt(hp.survival)
    return hp.batch_size * (1 + q / (1 - q) + root / (1 - root))


def is_own(c, hp):
    """Return whether the lengths follow the problem's discount and the cap cuts off next to nothing."""
    return is_whole(c, hp) & (hp.survival == c.gamma)


def largest_square(t, c, hp, score_max):
    """Return (max|score| R/((1-gamma)(1-sqrt gamma)))^2."""
    return after_a_step(t, (score_max * largest_reward(c, hp) / ((1 - c.gamma) * (1 - jnp.sqrt(c.gamma)))) ** 2)


mean: AnyTheorem = Theorem(
    name="random_horizon_mean",
    statement="E[<g, grad J(x)> | x] = |grad J(x)|^2",
    source=SOURCE,
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ALONG_GRADIENT,
    given=(SLOPE_SQ,),
    condition="gamma^max_horizon <= 1e-9",
    admits=is_own,
    bound=lambda t, c, hp, slope_sq: after_a_step(t, slope_sq),
    control=Control(
        why="lengths drawn with a smaller discount factor than the return's",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="max_horizon=60,baseline=r_mid",
        misstate={"gamma": 0.5},
        steps=1,
        seeds=4000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

square: AnyTheorem = Theorem(
    name="random_horizon_second_moment",
    statement="E[|g|^2 | x] = M/B + (1 - 1/B) |grad J(x)|^2, M = sum d pi |score|^2 E Qhat^2/(1-gamma) by one solve",
    source=Source("derived here", 2026, "exact second moments of a score estimator", "algorithms/estimator_moments.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="gamma^max_horizon <= 1e-9",
    admits=is_own,
    bound=second_moment(lambda process, hp: random_horizon_moments(process, hp.baseline)),
    control=Control(
        why="roulette, as unbiased, has less noise",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="max_horizon=100,baseline=r_mid",
        algorithm="roulette_policy_gradient",
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

bounded: AnyTheorem = Theorem(
    name="random_horizon_bounded",
    statement="|g|^2 <= (max|score| R / ((1-gamma) (1-sqrt gamma)))^2",
    source=SOURCE,
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(SCORE_MAX,),
    condition="gamma^max_horizon <= 1e-9",
    admits=is_own,
    bound=largest_square,
    control=Control(
        why="rewards said to spread a twentieth as much as they do",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="max_horizon=100,baseline=r_mid,batch_size=1,max_batch=1",
        misstate={"R_c": 0.05},
        steps=1,
        seeds=200,
    ),
)

algorithm = Algorithm(
    name="random_horizon_policy_gradient",
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
    theorems=(mean, square, bounded),
)
