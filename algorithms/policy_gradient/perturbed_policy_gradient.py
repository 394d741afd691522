"""Perturbed GPOMDP: isotropic noise where the estimator has none:  x+ = x + eta (g + s_iso xi),  xi ~ N(0, I).

g is the mean over B trajectories cut after H steps, E g = grad J_H. Along the escape direction v of a saddle the noise
has s^2 = E(v.g)^2/B + s_iso^2, never 0: the saddle is left after the steps of `algorithms.noisy_escape` even where
every score vanishes and correlated negative curvature fails.
Sources: Jin, Netrapalli, Ge, Kakade & Jordan (2021), perturbed stochastic gradient descent; the law derived here.
"""

import jax
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.estimator_laws import ESTIMATE_SQ
from algorithms.metric import initial
from algorithms.noisy_escape import is_small_noise, median_near
from algorithms.recursions import descend_by
from algorithms.score_estimators import State, gpomdp, moved, start, steps_of_the_environment
from algorithms.score_estimators import prepare as prepare_draws
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE
from problems.constants import Regularity
from problems.oracles import Oracle


@struct.dataclass
class HParams:
    """eta: step size; horizon, batch_size: masks on max_horizon steps of max_batch trajectories.

    s_iso: standard deviation of the isotropic noise in each coordinate; baseline: subtracted from every reward;
    draws: `trajectories`, or `counts` of listed outcomes (max_batch unused).
    """

    eta: Array | float | str = "1/L"
    horizon: Array | int = 20
    baseline: Array | float | str = 0.0
    batch_size: Array | int = 8
    s_iso: Array | float = 0.01
    draws: str = struct.field(pytree_node=False, default="trajectories")
    max_batch: int = struct.field(pytree_node=False, default=8)
    max_horizon: int = struct.field(pytree_node=False, default=50)


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` also for s_iso < 0."""
    refuse_unless(hp.s_iso >= 0, f"s_iso = {hp.s_iso}: a standard deviation is not negative")
    return prepare_draws(hp)


def init(problem, x0, key, hp):
    return start(x0, hp, hp.horizon)


def step(problem, state: State, key, hp):
    draw_key, noise_key = jax.random.split(key)
    noise = optax.tree.random_like(noise_key, state.x, jax.random.normal)
    direction = optax.tree.add_scale(gpomdp(problem, state.x, draw_key, hp), -hp.s_iso, noise)
    return moved(state, descend_by(state.x, hp.eta, direction))


def readout(state: State):
    return state.x


def noise_sq(c, hp):
    """Return s^2 along the escape direction at the saddle."""
    return c.estimator_sq / hp.batch_size + hp.s_iso**2


escape = Theorem(
    name="perturbation_escapes_saddle",
    statement="median steps to |v.x| = delta: log(delta/(0.674 s sqrt(eta/(2lam+eta lam^2))))/log(1+eta lam), "
    "s^2 = E(v.g)^2/B + s_iso^2",
    source=Source("derived here", 2026, "linearised escape under noise", "algorithms/truncation.py"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(initial(ESCAPE_DISTANCE),),
    condition="x_0 = 0, kappa = baseline = 0, s > 0, H >= 2 (or gamma = 0), eta lam <= 0.05, "
    "3 s sqrt(eta/(2 lam)) <= delta",
    admits=lambda c, hp: is_small_noise(c, hp, noise_sq(c, hp)),
    bound=lambda t, c, hp, z_0: median_near(t, c, hp, noise_sq(c, hp), z_0),
    control=Control(
        why="half the curvature would take twice as long",
        problem="bilinear_logit",
        setting="eta=0.2,horizon=1,max_horizon=1,s_iso=1e-2",
        misstate={"curvature": 0.5},
        steps=300,
        seeds=64,
    ),
    holds=Holds.IN_MEDIAN,
    kind=Kind.EXACT,
    tolerance=0.05,
)

algorithm = Algorithm(
    name="perturbed_policy_gradient",
    source=Source(
        "Jin, Netrapalli, Ge, Kakade & Jordan",
        2021,
        "On nonconvex optimization for machine learning",
        "J. ACM 68, perturbed SGD",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE,
    requires=Regularity.DISCOUNTED_RETURN,
    calls=steps_of_the_environment,
    prepare=prepare,
    metrics=(ESTIMATE_SQ,),
    theorems=(escape,),
)
