"""GPOMDP, the policy gradient from trajectories cut after H steps:  x+ = x + eta g,  E g = grad J_H.

g = mean over B trajectories of sum_(k<H) grad log pi(a_k|s_k) G_k,  G_k = sum_(k<=t<H) gamma^t (r_t - baseline).

E g = grad J_H for every constant baseline, so the only bias is the truncation. By Cauchy-Schwarz over t a
trajectory has E|g|^2 <= (sum gamma^t)(sum gamma^t R^2 G2 (t+1)) = G2 R^2/(1-gamma)^3 with R = R_c + |baseline
- r_mid| >= |r - baseline|; B trajectories have a B-th of it and (1 - 1/B) |grad J_H|^2. The exact second moment is
that of `algorithms.estimator_moments`. Where every score vanishes at the saddle, g = 0 whatever is drawn: nothing
moves. Proofs of the other statements are in `algorithms.truncation` and `algorithms.noisy_escape`.

Second order, observed: from the saddle of two logits the escape takes O(log(1/eps)) steps at B = 0.05/eps^2 and the
ascent to infinity, |grad J| ~ sqrt(2)/(eta t), the rest; so N = C/(eta eps) steps of 0.05/eps^2 trajectories.
Sources: Baxter & Bartlett (2001); Mu & Klabjan (2024), arXiv:2311.02546; constants and laws derived here.
"""

import jax.numpy as jnp
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
    largest_reward,
    second_moment,
)
from algorithms.estimator_moments import gpomdp_moments
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, initial, running_sum
from algorithms.noisy_escape import is_small_noise, median_near
from algorithms.recursions import descend_by
from algorithms.score_estimators import gpomdp, moved, prepare, start, steps_of_the_environment
from algorithms.second_order import STEPS_SHORT_OF_SECOND_ORDER
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE, biased_ascent_bound, is_stable
from problems.constants import Regularity
from problems.oracles import Oracle

C = 6.0  # of the observed number of steps to a second-order point
TRAJECTORIES = 0.05  # B eps^2


@struct.dataclass
class HParams:
    """eta: step size; horizon, batch_size: masks on max_horizon steps of max_batch trajectories.

    baseline: subtracted from every reward; draws: `trajectories`, or `counts` of listed outcomes, the same law at any
    batch size (max_batch unused); accuracy: eps of second-order points, read by measurements only.
    """

    eta: Array | float | str = "1/L"
    horizon: Array | int = 20
    baseline: Array | float | str = 0.0
    batch_size: Array | int = 8
    accuracy: Array | float = 0.02
    draws: str = struct.field(pytree_node=False, default="trajectories")
    max_batch: int = struct.field(pytree_node=False, default=8)
    max_horizon: int = struct.field(pytree_node=False, default=50)


def init(problem, x0, key, hp):
    return start(x0, hp, hp.horizon, hp.accuracy)


def step(problem, state, key, hp):
    return moved(state, descend_by(state.x, hp.eta, gpomdp(problem, state.x, key, hp)))


def readout(state):
    return state.x


def variance(c, hp):
    """Return sig2 = G2 R^2/((1-gamma)^3 B), R = R_c + |baseline - r_mid|."""
    return c.score_sq * largest_reward(c, hp) ** 2 / ((1 - c.gamma) ** 3 * hp.batch_size)


def square_bound(t, c, hp, slope_sq):
    """Return G2 R^2/((1-gamma)^3 B) + (1 - 1/B) |grad J_H|^2."""
    return after_a_step(t, variance(c, hp) + (1 - 1 / hp.batch_size) * slope_sq)


def noise_sq(c, hp):
    """Return s^2 = E(v.g)^2 of B trajectories at the saddle."""
    return c.estimator_sq / hp.batch_size


def is_noiseless(c, hp):
    """Return whether nothing drawn at the saddle moves the point."""
    return (c.estimator_sq == 0) & (c.delay_cost == 0) & jnp.asarray(hp.eta > 0)


def is_one_saddle(c, hp):
    """Return whether the setting is the one that the second-order finding is observed on."""
    rate, single = hp.eta * c.curvature, jnp.abs(c.estimator_sq - 16 * c.curvature**2) <= 1e-9
    batch = hp.batch_size >= TRAJECTORIES / hp.accuracy**2 * (1 - 1e-9)
    saddle = (c.delay_cost == 0) & single & (hp.accuracy < c.curvature**2 / c.rho)
    return saddle & batch & (rate >= 0.1) & (rate <= 0.2) & (hp.horizon >= 2) & (hp.baseline == 0)


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
        setting="eta=0.1/L,horizon=5,max_horizon=5,baseline=r_mid,batch_size=64,draws=counts",
        misstate={"R_c": 0.001},
        seeds=256,
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
    condition="x_0 = 0, kappa = baseline = 0, s > 0, H >= 2, eta lam <= 0.05, 3 s sqrt(eta/(2 lam)) <= delta",
    admits=lambda c, hp: is_small_noise(c, hp, noise_sq(c, hp)),
    bound=lambda t, c, hp, z_0: median_near(t, c, hp, noise_sq(c, hp), z_0),
    control=Control(
        why="a noise ten times weaker takes longer to leave",
        problem="delay_saddle[kappa=0.0]",
        setting="eta=0.2,horizon=2,max_horizon=2,batch_size=10,draws=counts",
        misstate={"estimator_sq": 0.01},
        steps=300,
        seeds=64,
    ),
    holds=Holds.IN_MEDIAN,
    kind=Kind.EXACT,
    tolerance=0.05,
)

stays = Theorem(
    name="gpomdp_stays_without_noise",
    statement="x_t = x_0 for every t: all of x_0, ..., x_t are near the saddle",
    source=Source("derived here", 2026, "the score vanishes at the saddle", "module docstring"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(initial(ESCAPE_DISTANCE),),
    condition="x_0 = 0, kappa = 0, no noise at the saddle (estimator_sq = 0)",
    admits=is_noiseless,
    bound=lambda t, c, hp, z_0: jnp.where(z_0 == 0, t + 1.0, jnp.nan),
    control=Control(
        why="a saddle whose noise is denied is left all the same",
        problem="delay_saddle[kappa=0.0]",
        setting="eta=0.2,horizon=2,max_horizon=2,batch_size=10,draws=counts",
        misstate={"estimator_sq": 0.0},
        steps=300,
        seeds=64,
    ),
    kind=Kind.EXACT,
)

mean: AnyTheorem = Theorem(
    name="gpomdp_mean",
    statement="E[<g, grad J_H(x)> | x] = |grad J_H(x)|^2",
    source=Source("Baxter & Bartlett", 2001, "Infinite-horizon policy-gradient estimation", "JAIR 15, GPOMDP"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ALONG_CUT_GRADIENT,
    given=(CUT_SLOPE_SQ,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=lambda t, c, hp, slope_sq: after_a_step(t, slope_sq),
    control=Control(
        why="rewards weighed by a smaller discount factor than the return's",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=30,max_horizon=30,baseline=r_mid",
        misstate={"gamma": 0.6},
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

square: AnyTheorem = Theorem(
    name="gpomdp_second_moment",
    statement="E[|g|^2 | x] = M/B + (1 - 1/B) |grad J_H(x)|^2, M by the recursion of six moments",
    source=Source("derived here", 2026, "exact second moments of a score estimator", "algorithms/estimator_moments.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(PROCESS,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=second_moment(lambda process, hp: gpomdp_moments(process, hp.baseline, hp.horizon, hp.max_horizon)),
    control=Control(
        why="rewards weighed by a smaller discount factor than the return's",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=30,max_horizon=30,baseline=r_mid",
        misstate={"gamma": 0.9},
        steps=1,
        seeds=1000,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
)

square_below: AnyTheorem = Theorem(
    name="gpomdp_second_moment_bound",
    statement="E[|g|^2 | x] <= G2 R^2/((1-gamma)^3 B) + (1 - 1/B) |grad J_H(x)|^2",
    source=Source("derived here", 2026, "Cauchy-Schwarz over the steps", "module docstring"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=ESTIMATE_SQ,
    given=(CUT_SLOPE_SQ,),
    condition="H >= 1, B >= 1",
    admits=is_drawn,
    bound=square_bound,
    control=Control(
        why="rewards said to spread a tenth as much as they do",
        problem="garnet[S=4,A=2,gamma=0.8]",
        setting="horizon=30,max_horizon=30,baseline=r_mid,batch_size=1,max_batch=1",
        misstate={"R_c": 0.1},
        steps=1,
        seeds=200,
    ),
    holds=Holds.IN_EXPECTATION,
)

second_order = Theorem(
    name="gpomdp_second_order",
    statement="of x_0, ..., x_t at most 6/(eta eps) are no (eps, sqrt(rho eps))-second-order points, on delay_saddle "
    "from the saddle: 0.3 eps^-3/eta trajectories, where O(eps^-4.5) are proven for unbiased gradients",
    source=Source("derived here", 2026, "observed; the proven rate is that of Yang, Zheng & Pan", "arXiv:2012.01491"),
    assumes=Regularity.STRICT_SADDLE | Regularity.HESSIAN_LIPSCHITZ | Regularity.SOFTMAX_POLICY,
    metric=STEPS_SHORT_OF_SECOND_ORDER,
    given=(),
    condition="one saddle of two logits, kappa = baseline = 0, B >= 0.05/eps^2, eps < lam^2/rho, 0.1 <= eta lam <= 0.2",
    admits=is_one_saddle,
    bound=lambda t, c, hp: C / (hp.eta * hp.accuracy) + 0 * t,
    control=Control(
        why="trajectories of one step earn nothing, so that the saddle is never left",
        problem="delay_saddle[kappa=0.0]",
        setting="eta=1.0,horizon=1,max_horizon=2,draws=counts,accuracy=0.04,batch_size=32",
        steps=300,
    ),
    kind=Kind.FINDING,
)

algorithm = Algorithm(
    name="truncated_policy_gradient",
    source=Source("Baxter & Bartlett", 2001, "Infinite-horizon policy-gradient estimation", "JAIR 15, GPOMDP"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.ROLLOUT | Oracle.TRUNCATE,
    requires=Regularity.DISCOUNTED_RETURN,
    calls=steps_of_the_environment,
    prepare=prepare,
    metrics=(ESTIMATE_SQ,),
    theorems=(biased_ascent, escape, stays, mean, square, square_below, second_order),
)
