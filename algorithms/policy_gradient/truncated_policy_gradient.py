"""GPOMDP, the policy gradient from trajectories cut after H steps:  x+ = x + eta g,  E g = grad J_H.

g = mean over B trajectories of sum_(k<H) grad log pi(a_k|s_k) G_k,  G_k = sum_(k<=t<H) gamma^t (r_t - baseline).

E g = grad J_H for every constant baseline, so the only bias is the truncation. By Cauchy-Schwarz over t a
trajectory has E|g|^2 <= (sum gamma^t)(sum gamma^t R^2 G2 (t+1)) = G2 R^2/(1-gamma)^3 with R = R_c + |baseline
- r_mid| >= |r - baseline|. Proofs of the statements are in `algorithms.truncation`.
Sources: Baxter & Bartlett (2001); Mu & Klabjan (2024), arXiv:2311.02546; constants and laws derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, initial, running_sum
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from algorithms.truncation import (
    ESCAPE_DISTANCE,
    MEDIAN_OF_ABS_NORMAL,
    STEPS_NEAR_SADDLE,
    TRUNCATION_BIAS,
    biased_ascent_bound,
    is_stable,
    steps_to_escape,
)
from algorithms.truncation import prepare as prepare_horizon
from problems.constants import Regularity
from problems.oracles import Oracle


@struct.dataclass
class HParams:
    """eta: step size; horizon: a mask on max_horizon drawn steps; baseline: subtracted from every reward."""

    eta: Array | float | str = "1/L"
    horizon: Array | int = 20
    baseline: Array | float | str = 0.0
    batch_size: int = struct.field(pytree_node=False, default=8)
    max_horizon: int = struct.field(pytree_node=False, default=50)


@struct.dataclass
class State:
    """The horizon is read by measurements only."""

    x: Array
    horizon: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` also for batch_size < 1 and horizon > max_horizon."""
    refuse_unless(hp.batch_size >= 1, f"batch_size = {hp.batch_size}: a step needs at least one trajectory")
    message = f"horizon = {hp.horizon} with max_horizon = {hp.max_horizon}: trajectories are too short, raise it"
    refuse_unless(hp.horizon <= hp.max_horizon, message)
    return prepare_horizon(hp)


def init(problem, x0, key, hp):
    return State(x0, jnp.asarray(hp.horizon))


def to_go(rewards, gamma, hp):
    """Return G_k along the first axis: the discounted rewards from k up to the horizon."""
    t = jnp.arange(hp.max_horizon)[:, None]
    discount = jnp.where(t < hp.horizon, gamma**t, 0.0)
    return lax.cumsum(discount * (rewards - hp.baseline), axis=0, reverse=True)


def estimate(problem, x, key, hp):
    """Return -g, as the gradient of a surrogate with trajectories drawn at x and then held fixed."""
    policy, data = problem.policy, problem.data
    keys = jax.random.split(key, hp.batch_size)
    batch = jax.vmap(lambda key: policy.rollout(data, x, key, hp.max_horizon), out_axes=1)(keys)
    weights = to_go(batch.rewards, problem.constants.gamma, hp) / hp.batch_size

    def surrogate(x):
        return -jnp.sum(weights * policy.log_prob(data, x, batch.states, batch.actions))

    return jax.grad(surrogate)(x)


def step(problem, state, key, hp):
    return replace(state, x=descend_by(state.x, hp.eta, estimate(problem, state.x, key, hp)))


def readout(state):
    return state.x


def calls(problem, hp):
    """Return batch_size * horizon: here a call is one step of the environment."""
    return hp.batch_size * hp.horizon


def variance(c, hp):
    """Return sig2 = G2 R^2/((1-gamma)^3 B), R = R_c + |baseline - r_mid|."""
    R = c.R_c + jnp.abs(hp.baseline - c.r_mid)
    return c.score_sq * R**2 / ((1 - c.gamma) ** 3 * hp.batch_size)


def noise_scale(c, hp):
    """Return s sqrt(eta/(2 lam + eta lam^2)): the spread of the amplitude with which the saddle is left."""
    rate = hp.eta * c.curvature
    return jnp.sqrt(c.estimator_sq / hp.batch_size) * hp.eta / jnp.sqrt(rate * (2 + rate))


def escape_bound(t, c, hp, z_0):
    """Return min(t + 1, k_esc), the median number of near points among x_0, ..., x_t; NaN where z_0 != 0."""
    k = steps_to_escape(c, hp.eta, c.escape_radius / (MEDIAN_OF_ABS_NORMAL * noise_scale(c, hp)))
    return jnp.where(z_0 == 0, jnp.minimum(t + 1, k), jnp.nan)


def is_small_noise(c, hp):
    """Return whether noise alone moves the point, and three times its scale is inside the escape radius."""
    unbiased = (c.delay_cost == 0) & (hp.baseline == 0) & (hp.horizon >= 2)
    return unbiased & (hp.eta * c.curvature <= 0.05) & (3 * noise_scale(c, hp) <= c.escape_radius)


biased_ascent = Theorem(
    name="gpomdp_biased_ascent",
    statement="sum_(k<=t) E|grad J(x_k)|^2 <= 2 (J* - J(x_0))/eta + (t+1) (beta^2 + L eta sig2)",
    source=Source("derived here", 2026, "ascent lemma with bounded bias and variance", "algorithms/truncation.py"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY,
    metric=running_sum(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=is_stable,
    bound=lambda t, c, hp, gap: biased_ascent_bound(t, c, hp, gap, variance(c, hp)),
    control=Control(
        why="without its bias the method would not leave the neighbourhood of an optimum",
        problem="delay_saddle[kappa=1.0,start=-5.0]",
        setting="eta=0.1/L,horizon=5,max_horizon=5,baseline=r_mid,batch_size=64",
        misstate={"R_c": 0.001},
        seeds=32,
    ),
    holds=Holds.IN_EXPECTATION,
)

escape = Theorem(
    name="gpomdp_noise_escapes_saddle",
    statement="median steps to |v.x| = delta: log(delta/(0.674 s sqrt(eta/(2lam+eta lam^2))))/log(1+eta lam)",
    source=Source("derived here", 2026, "linearised escape under noise", "algorithms/truncation.py"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(initial(ESCAPE_DISTANCE),),
    condition="x_0 = 0, kappa = baseline = 0, H >= 2, eta lam <= 0.05, 3 s sqrt(eta/(2 lam)) <= delta",
    admits=is_small_noise,
    bound=escape_bound,
    control=Control(
        why="a noise ten times weaker takes longer to leave",
        problem="delay_saddle[kappa=0.0]",
        setting="eta=0.2,horizon=2,max_horizon=2,batch_size=10",
        misstate={"estimator_sq": 0.01},
        steps=300,
        seeds=64,
    ),
    holds=Holds.IN_MEDIAN,
    kind=Kind.EXACT,
    tolerance=0.05,
)

algorithm = Algorithm(
    name="truncated_policy_gradient",
    source=Source("Baxter & Bartlett", 2001, "Infinite-horizon policy-gradient estimation", "JAIR 15, GPOMDP"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE,
    requires=Regularity.SOFTMAX_POLICY,
    calls=calls,
    prepare=prepare,
    metrics=(TRUNCATION_BIAS,),
    theorems=(biased_ascent, escape),
)
