"""Double-loop actor-critic:  x+ = x + eta g(Phi omega),  omega = N steps of TD(0) on the chain of the policy at x.

The critic starts anew (or where it was, `warm_start`) in `first_state` and follows the chain that restarts from mu with
probability `restart`: at 1-gamma its stationary law is the normalised occupancy dt = (1-gamma) d. Steps are
critic_step/(1 + t/critic_decay) = b/(l+t). The expected actor (batch_size 0) is exact given omega,
    g = sum_(s,a) d p delta score;   else g = mean over the batch of delta score/(1-gamma), s drawn from dt itself,
which is unbiased for the former. The state holds the critic of its own x, so a metric reads the bias of the next step.

Bound, ascent and second moments are proven in `algorithms.critic_bias`. Escape: at a strict saddle a tabular critic
started anew has E b = 0 along v by the symmetry of the choices and E (v.b)^2 = v^T E b b^T v = s^2 exactly, independent
from step to step; `algorithms.truncation` turns s into the median of the steps. The critic's noise elsewhere within
delta and the factor by which N steps from 0 shrink the values are second order.
Sources: Konda & Tsitsiklis (2000); Mu & Klabjan (2024), arXiv:2311.02546; statements and constants derived here.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.critic_bias import (
    CRITIC_BIAS_SQ,
    CRITIC_ERROR_SQ,
    CRITIC_REACH_SQ,
    FROZEN_START,
    SADDLE,
    expected_gradient,
    sampled_gradient,
    trained_moment,
    watched,
)
from algorithms.linear_critic import prepare_critic, random_features, train
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, initial, running_sum
from algorithms.noisy_escape import noise_scale
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from algorithms.truncation import ESCAPE_DISTANCE, MEDIAN_OF_ABS_NORMAL, STEPS_NEAR_SADDLE, is_stable, steps_to_escape
from problems.constants import Regularity
from problems.oracles import Oracle

DERIVED = Source("derived here", 2026, "the bias of a linear critic", "algorithms/critic_bias.py")


@struct.dataclass
class HParams:
    """eta: step of the actor; inner_steps: N; critic_step, critic_decay: of TD(0); restart 0: the policy's own chain.

    rank: number of random features, 0 one a state; batch_size: transitions the actor samples, 0 its expectation.
    """

    eta: Array | float | str = "1/L"
    inner_steps: Array | int = 100
    critic_step: Array | float | str = 0.5
    critic_decay: Array | float | str = float("inf")
    restart: Array | float | str = "1-gamma"
    warm_start: Array | int = 0
    first_state: Array | int = 0
    rank: int = struct.field(pytree_node=False, default=0)
    feature_seed: int = struct.field(pytree_node=False, default=0)
    batch_size: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class State:
    """omega (k,) are the weights that N inner steps at x ended with; Phi (S, k) and restart do not change."""

    x: Any
    omega: Array
    Phi: Array
    restart: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` also for eta <= 0, inner_steps < 1, batch_size < 0, warm_start not 0 or 1."""
    refuse_unless_positive(hp.eta)
    N, warm = np.asarray(hp.inner_steps, float), np.asarray(hp.warm_start, float)
    refuse_unless((N >= 1) & (np.floor(N) == N), f"inner_steps = {hp.inner_steps}: a whole number of at least 1")
    refuse_unless((warm == 0) | (warm == 1), f"warm_start = {hp.warm_start}: 0 or 1")
    refuse_unless(hp.batch_size >= 0, f"batch_size = {hp.batch_size}: transitions, or 0 for the expectation")
    return prepare_critic(hp)


def features(problem, hp):
    """Return Phi, one table that all lanes share."""
    return random_features(problem.mdp.mu.size, hp.rank, hp.feature_seed)


def init(problem, x0, key, hp):
    Phi = features(problem, hp)
    state = State(x0, jnp.zeros(Phi.shape[1]), Phi, jnp.asarray(hp.restart, float))
    return replace(state, omega=train(watched(problem, x0, state), state.omega, key, hp))


def step(problem, state, key, hp):
    actor_key, critic_key = jax.random.split(key)
    v = state.Phi @ state.omega
    if hp.batch_size:
        g = sampled_gradient(problem, state.x, v, actor_key, hp.batch_size)
    else:
        g = expected_gradient(problem, state.x, v)
    x = descend_by(state.x, hp.eta, optax.tree.scale(-1.0, g))
    fresh = jnp.where(hp.warm_start, state.omega, 0.0)
    evaluation = replace(watched(problem, x, state), Phi=features(problem, hp), restart=hp.restart)
    return replace(state, x=x, omega=train(evaluation, fresh, critic_key, hp))


def readout(state):
    return state.x


def calls(problem, hp):
    """Return N + batch_size: here a call is one step of the environment."""
    return hp.inner_steps + hp.batch_size


def bias_bound(t, c, hp, reach_sq):
    """Return gamma/(1-gamma)^2 lambda_max max dt/rho |e - c|_rho^2."""
    return c.gamma / (1 - c.gamma) ** 2 * reach_sq


def ascent_bound(t, c, hp, gap, error_sq):
    """Return 2 gap/eta + sum beta^2."""
    return 2 * gap / hp.eta + c.gamma * c.fisher / (1 - c.gamma) ** 2 * error_sq


def moment_bound(t, c, hp, at):
    """Return E|b|^2 of the critic that is trained at the start; NaN after it, or where seeds start elsewhere."""
    policy, away = at
    predicted = lax.cond(t == 0, lambda: jnp.trace(trained_moment(policy, c.gamma, hp)), lambda: jnp.nan)
    return jnp.where(away == 0, predicted, jnp.nan)


def escape_bound(t, c, hp, at, z_0, normal):
    """Return min(t + 1, steps until |normal| times the spread of the amplitude has grown to delta)."""
    policy, v = at
    spread = noise_scale(c, hp, v @ trained_moment(policy, c.gamma, hp) @ v)
    k = steps_to_escape(c, hp.eta, c.escape_radius / (normal * spread))
    return jnp.where((z_0 == 0) & (3 * spread <= c.escape_radius), jnp.minimum(t + 1, k), jnp.nan)


def is_restarted(c, hp: Any):
    """Return whether restart is a probability."""
    return hp.restart >= 0


def is_exact_ascent(c, hp: Any):
    """Return whether the actor is exact, the critic's chain is the restart chain and eta <= 1/L."""
    return is_stable(c, hp) & (hp.batch_size == 0) & (jnp.abs(hp.restart - (1 - c.gamma)) <= 1e-12)


def is_unbiased_escape(c, hp):
    """Return whether a tabular critic started anew is the only noise, and steps are small."""
    alone = (hp.batch_size == 0) & (hp.rank == 0) & (hp.warm_start == 0) & (c.delay_cost == 0)
    return alone & (hp.restart > 0) & (hp.eta * c.curvature <= 0.1)


bias_law: AnyTheorem = Theorem(
    name="critic_bias_bound",
    statement="|b|^2 <= gamma/(1-gamma)^2 lambda_max(Fisher) max_s dt/rho |e - c|_rho^2, e = Phi omega - V, any c",
    source=DERIVED,
    assumes=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    metric=CRITIC_BIAS_SQ,
    given=(CRITIC_REACH_SQ,),
    condition="whatever the weights; rho the stationary law of the critic's chain, dt itself at restart = 1-gamma",
    admits=is_restarted,
    bound=bias_bound,
    control=Control(
        why="a smaller discount factor promises that errors of later states weigh less than they do",
        problem="garnet",
        setting="inner_steps=100,critic_step=0.5,restart=0.1",
        misstate={"gamma": 0.5},
        steps=50,
    ),
)

ascent: AnyTheorem = Theorem(
    name="actor_critic_ascent",
    statement="sum_(k<=t) |grad J(x_k)|^2 <= 2 (J* - J(x_0))/eta + sum_(k<=t) gamma lamF/(1-gamma)^2 "
    "(2 |omega_k - omega_star|^2 + 2 e_app^2/(1-gamma))",
    source=DERIVED,
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    metric=running_sum(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY), running_sum(CRITIC_ERROR_SQ)),
    condition="expected actor, restart = 1-gamma, 0 < eta <= 1/L",
    admits=is_exact_ascent,
    bound=ascent_bound,
    control=Control(
        why="believed to have no bias, a critic of one step would not stay away from the optimum",
        problem="delay_saddle[kappa=0.0,start=2.0]",
        setting="inner_steps=1,critic_step=0.01",
        misstate={"fisher": 1e-4},
        steps=500,
    ),
)

moments: AnyTheorem = Theorem(
    name="actor_critic_bias_moment",
    statement="E|b|^2 after N inner steps at x_0 is the quadratic form of TD(0)'s exact moments",
    source=DERIVED,
    assumes=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    metric=CRITIC_BIAS_SQ,
    given=(FROZEN_START,),
    condition="a start that all seeds share; speaks of the critic trained there, at step 0",
    admits=is_restarted,
    bound=moment_bound,
    control=Control(
        why="a critic believed to discount by half the factor would end elsewhere",
        problem="garnet[spread=0.0]",
        setting="inner_steps=100,restart=0.1",
        misstate={"gamma": 0.5},
        steps=0,
        seeds=64,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
)

LATE_QUANTILE = 0.0627067779432  # P(|Z| < it) = 0.05 for a normal Z


ESCAPE_CONTROL = Control(
    why="at half the curvature leaving takes twice as long",
    problem="delay_saddle[kappa=0.0]",
    setting="eta=0.5,inner_steps=160,critic_step=1.0,critic_decay=40",
    misstate={"curvature": 0.5},
    steps=150,
    seeds=64,
)

escape: AnyTheorem = Theorem(
    name="actor_critic_escapes_saddle",
    statement="median steps to |v.x| = delta: log(delta/(0.674 s sqrt(eta/(2lam+eta lam^2))))/log(1+eta lam); "
    "s^2 = E (v.b)^2 after N inner steps: log 2/log(1+eta lam) more per factor 4 of N",
    source=Source("derived here", 2026, "linearised escape under critic noise", "algorithms/critic_bias.py"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(SADDLE, initial(ESCAPE_DISTANCE)),
    condition="x_0 = kappa = 0, expected actor, tabular critic started anew, eta lam <= 0.1, "
    "3 s sqrt(eta/(2 lam)) <= delta",
    admits=is_unbiased_escape,
    bound=lambda t, c, hp, at, z_0: escape_bound(t, c, hp, at, z_0, MEDIAN_OF_ABS_NORMAL),
    control=ESCAPE_CONTROL,
    holds=Holds.IN_MEDIAN,
    kind=Kind.EXACT,
    tolerance=0.05,
)

all_escape: AnyTheorem = Theorem(
    name="actor_critic_leaves_saddle",
    statement="with probability 0.9 the steps to |v.x| = delta exceed the median's law by at most 2.38/log(1+eta lam)",
    source=Source("derived here", 2026, "linearised escape under critic noise", "algorithms/critic_bias.py"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(SADDLE, initial(ESCAPE_DISTANCE)),
    condition="as for the median; the amplitude, a sum over about 1/(2 eta lam) steps, is normal to within 0.05",
    admits=is_unbiased_escape,
    bound=lambda t, c, hp, at, z_0: escape_bound(t, c, hp, at, z_0, LATE_QUANTILE),
    control=Control(
        why="at six times the curvature all would have left long before",
        problem="delay_saddle[kappa=0.0]",
        setting="eta=0.5,inner_steps=160,critic_step=1.0,critic_decay=40",
        misstate={"curvature": 6.0},
        steps=60,
        seeds=64,
    ),
    holds=Holds.WITH_PROBABILITY,
    probability=0.9,
)

algorithm = Algorithm(
    name="actor_critic",
    source=Source("Konda & Tsitsiklis", 2000, "Actor-critic algorithms", "NIPS 12, a double loop with TD(0)"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TABLE,
    requires=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    calls=calls,
    prepare=prepare,
    metrics=(CRITIC_BIAS_SQ,),
    theorems=(bias_law, ascent, moments, escape, all_escape),
)
