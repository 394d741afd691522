"""The critic of a fixed policy without sampling:  N+ = one step of the exact second moments of TD(0).

Where actor-critic draws one chain, this follows the mean and second moment over all chains (`algorithms.td_moments`),
so that E|b|^2 of the actor's bias b = g(Phi omega) - grad J is one number a step, free of noise. The step sizes are
critic_step/(1 + t/critic_decay) = b/(l+t); proofs of the statements are in `algorithms.critic_decay`.
Sources: Tsitsiklis & Van Roy (1997); Hu & Syed (2019), arXiv:1906.06781; limits derived here.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.critic_bias import Frozen, bias_moment, excess_moment, floor_bias, frozen
from algorithms.critic_decay import Decay, decay
from algorithms.linear_critic import inner_step, random_features
from algorithms.linear_critic import prepare_critic as prepare
from algorithms.metric import Metric
from algorithms.td_moments import Coupling, advance, coupling, mean_error, second_moment, start
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Evaluation, Oracle
from problems.policy_evaluation import fixed_point

DERIVED = Source("derived here", 2026, "decay of the critic's bias", "algorithms/critic_decay.py")


@struct.dataclass
class HParams:
    """critic_step, critic_decay, restart, first_state, rank and feature_seed are those of actor_critic."""

    critic_step: Array | float | str = 1.0
    critic_decay: Array | float | str = 200.0
    restart: Array | float | str = "1-gamma"
    first_state: Array | int = 0
    rank: int = struct.field(pytree_node=False, default=0)
    feature_seed: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class Watched:
    """The policy at the point and what the critic sees of it."""

    policy: Frozen
    evaluation: Evaluation


@struct.dataclass
class State:
    """x never moves; N (S, k+1, k+1) are the moments after t steps, W (d, k) and b_star (d,) make them the bias's."""

    x: Any
    N: Array
    t: Array
    W: Array
    b_star: Array
    coupling: Coupling
    watched: Watched


def init(problem, x0, key, hp):
    policy, Phi = frozen(problem, x0), random_features(problem.mdp.mu.size, hp.rank, hp.feature_seed)
    evaluation = policy.watched(Phi, hp.restart)
    omega_star = fixed_point(evaluation)
    nu = jnp.where(jnp.arange(len(Phi)) == hp.first_state, 1.0, 0.0)
    return State(
        x=x0,
        N=start(nu, -omega_star),
        t=jnp.zeros(()),
        W=policy.B @ Phi,
        b_star=floor_bias(policy, evaluation),
        coupling=coupling(evaluation, omega_star),
        watched=Watched(policy, evaluation),
    )


def step(problem, state, key, hp):
    return replace(state, N=advance(state.coupling, inner_step(state.t, hp), state.N), t=state.t + 1)


def readout(state):
    return state.x


def mean_bias_sq(problem, x, state):
    """Return E|b|^2."""
    return jnp.trace(bias_moment(state.W, state.b_star, mean_error(state.N), second_moment(state.N)))


def bias_excess(problem, x, state):
    """Return |E|b|^2 - |b_star|^2|, without the cancellation of a difference."""
    return jnp.abs(jnp.trace(excess_moment(state.W, state.b_star, mean_error(state.N), second_moment(state.N))))


MEAN_BIAS_SQ = Metric("mean_bias_sq", mean_bias_sq)
BIAS_FLOOR = Metric("bias_floor", lambda problem, x, state: jnp.sum(state.b_star**2))
BIAS_EXCESS = Metric("bias_excess", bias_excess)
WATCHED = Metric("watched", lambda problem, x, state: state.watched)


def stated(c, at: Watched) -> Decay:
    """Return what the decay is computed from, with the discount factor that the problem states."""
    return decay(at.policy, replace(at.evaluation, mdp=replace(at.evaluation.mdp, gamma=c.gamma)))


def excess_bound(t, c, hp, at: Watched):
    """Return |constant|/(l + t), NaN where the constant is not known to exist."""
    return jnp.abs(stated(c, at).constant(hp.critic_step * hp.critic_decay)) / (hp.critic_decay + t)


def floor_bound(t, c, hp, at: Watched):
    """Return the floor once the law of the excess has fallen below 2% of it."""
    floor = jnp.sum(stated(c, at).b_star ** 2)
    return jnp.where(excess_bound(t, c, hp, at) <= 0.02 * floor, floor, jnp.nan)


def is_decaying(c, hp):
    """Return whether the steps decay and the chain restarts."""
    return jnp.isfinite(hp.critic_decay) & (hp.restart > 0)


excess: Theorem[HParams] = Theorem(
    name="critic_bias_decay",
    statement="steps b/(l+t): (l+t) (E|b_t|^2 - |b_star|^2) -> b (2 b_star.W nu + tr W X W^T): a power -1 of t",
    source=DERIVED,
    assumes=Regularity.DISCOUNTED_RETURN,
    metric=BIAS_EXCESS,
    given=(WATCHED,),
    condition="finite l, restart > 0, b lambda_min(sym A) >= 3, drift and noise cancel to no less than 1/4",
    admits=is_decaying,
    bound=excess_bound,
    kind=Kind.ASYMPTOTIC,
    tolerance=0.03,
    control=Control(
        why="a critic believed to discount by half the factor would decay by another constant",
        problem="garnet[S=5,gamma=0.8,spread=0.0,instances=each]",
        setting="restart=0.2,rank=2",
        misstate={"gamma": 0.5},
        steps=10000,
        seeds=8,
    ),
)

floor: Theorem[HParams] = Theorem(
    name="critic_bias_floor",
    statement="E|b_t|^2 -> |b_star|^2, the bias of TD(0)'s fixed point: the features' misfit is what more steps leave",
    source=DERIVED,
    assumes=Regularity.DISCOUNTED_RETURN,
    metric=MEAN_BIAS_SQ,
    given=(WATCHED,),
    condition="the law of the excess is below 2% of the floor; tested at the last checkpoint",
    admits=is_decaying,
    bound=floor_bound,
    kind=Kind.ASYMPTOTIC,
    tolerance=0.03,
    control=Control(
        why="a critic believed to discount by half the factor would end elsewhere",
        problem="garnet[S=5,gamma=0.8,spread=0.0,instances=each]",
        setting="restart=0.2,rank=2",
        misstate={"gamma": 0.5},
        steps=10000,
        seeds=8,
    ),
)

algorithm = Algorithm(
    name="critic_moments",
    source=Source(
        "Hu & Syed",
        2019,
        "Characterizing the exact behaviors of temporal difference learning algorithms",
        "arXiv:1906.06781",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TABLE,
    requires=Regularity.DISCOUNTED_RETURN,
    prepare=prepare,
    metrics=(MEAN_BIAS_SQ, BIAS_FLOOR, BIAS_EXCESS),
    theorems=(excess, floor),
)
