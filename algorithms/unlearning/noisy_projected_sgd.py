"""Noisy projected SGD unlearning (PNSGD):  x+ = P_R(x - eta grad f_B(x) + sqrt(2 eta) sigma N(0, I)), cyclic batches B.

T epochs learn D, K epochs go on with D', in which m records are replaced by others (n stays): the run of
`algorithms.noisy_descent`, whose (1)-(4) are meant below. The records are drawn once into n/b batches, the same for
both data; batch_size = 0 is the full batch, Langevin unlearning. Gradients are not clipped: G is a declared bound, and
clipping keeps a step Lipschitz for linear models alone.
Sources: Chien, Wang, Chen & Li (2024), arXiv:2403.17105 (PNSGD) and arXiv:2401.10371 (Langevin), one record replaced.
They compare with retraining for T epochs, at a price for T < inf; here retraining takes all T + K.

Derived here. A step on batch j disturbs by d_j = 2 eta G h_j/b with h_j of its b records replaced, so that (1) counts
the h_j of the drawn order. Whatever the order and the records, after T epochs
  z <= (2 eta G/b) S(c^(n/b), T) W,  W = sum_i h_i c^i  (c <= 1: as late as can be, from the last batch backwards) or
                                     W = sum_i h_i c^(n/b - 1 - i)  (c > 1: from the first on),
with m = b + ... + b + r records filling the batches. For m = 1: (2 eta G/b)(1 - c^(Tn/b))/(1 - c^(n/b)), as published.
Privacy follows from (2): after k steps of unlearning u and v are mu_k-GDP. Full batch, (3) is sharper.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms import noisy_descent as noisy
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import VALUE, Metric
from algorithms.recursions import log_geometric_sum
from algorithms.sensitivity import attains_declared, disturbance, is_noise_whole, is_step, is_strongly_convex_step
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source(
    "Chien, Wang, Chen & Li",
    2024,
    "Certified machine unlearning via noisy stochastic gradient descent",
    "arXiv:2403.17105",
)
DERIVED = Source("derived here", 2026, SOURCE.title, "algorithms/noisy_descent.py, (1)-(4)")
FLOOR_REACHED = 0.01  # how far above its floor mu_k may be where the floor is asked for


@struct.dataclass
class HParams(noisy.HParams):
    """K, T: epochs of n/b steps; radius: R, inf for none; alpha: Renyi order of the published bound; batch_size: b."""

    radius: Array | float | str = float("inf")
    alpha: Array | float = 10.0
    batch_size: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class BatchedState(noisy.State):
    """order: the records of each batch, (n/b, b), or none for the full batch; alpha: the Renyi order."""

    order: Array | None
    alpha: Array


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` also for radius <= 0, alpha <= 1 and a negative batch_size."""
    refuse_unless(np.asarray(hp.radius) > 0, f"radius = {hp.radius}: a ball has a positive radius, or inf for none")
    refuse_unless(np.asarray(hp.alpha) > 1, f"alpha = {hp.alpha}: a Renyi order must be greater than 1")
    refuse_unless(hp.batch_size >= 0, f"batch_size = {hp.batch_size}: must be positive, or 0 for the full batch")
    return noisy.prepare(hp)


def batches(problem: Problem, hp: Any) -> int:
    """Return n/b; raise `InvalidSetting` where b does not divide n."""
    n, b = problem.records, hp.batch_size or problem.records
    refuse_unless(n % b == 0, f"batch_size = {b}: must divide the n = {n} records of {problem.family.name}")
    return n // b


def disturbances(problem: Problem, hp: Any, order: Array | None) -> Array:
    """Return d_j of each batch, (n/b,); NaN where no G is proven."""
    known = problem.constants
    if Regularity.DELETABLE not in problem.family.regularity:
        return jnp.full(batches(problem, hp), jnp.nan)
    if order is None:
        return disturbance(known, hp)[None]
    hits = jnp.sum(order >= known.n - known.forgotten, axis=1)
    return 2 * hp.eta * known.G * hits / order.shape[1]


def worst_radius(problem: Problem, hp: Any) -> Array:
    """Return the largest z after T epochs over all orders and all choices of m records; NaN where no G is proven."""
    known, count = problem.constants, batches(problem, hp)
    if Regularity.DELETABLE not in problem.family.regularity:
        return jnp.full((), jnp.nan)
    b, log_c = problem.records // count, noisy.log_growth(noisy.lipschitz(problem, hp))
    filled, rest = jnp.floor_divide(known.forgotten, b), jnp.mod(known.forgotten, b)
    each = -jnp.abs(log_c)
    weights = b * jnp.exp(log_geometric_sum(each, filled)) + rest * jnp.exp(filled * each)
    first = jnp.where(log_c > 0, (count - 1) * log_c, 0.0)
    z = 2 * hp.eta * known.G / b * weights * jnp.exp(first + log_geometric_sum(count * log_c, hp.T))
    return jnp.minimum(z, 2 * hp.radius)


def init(problem, x0, key, hp):
    count = batches(problem, hp)
    order = None if count == 1 else jax.random.permutation(key, problem.records).reshape(count, -1)
    switch, end = hp.T * count, (hp.T + hp.K) * count
    state = noisy.begin(problem, x0, hp, switch, end, worst_radius(problem, hp), hp.radius)
    return BatchedState(**vars(state), order=order, alpha=jnp.asarray(hp.alpha, float))


def step(problem, state, key, hp):
    j = state.t % batches(problem, hp)
    replaced = problem.substituted()
    whole = state.order is None
    of_d, of_replaced = (part if whole else part.rows(state.order[j]) for part in (problem, replaced))
    learns = state.t < state.switch
    gradient = optax.tree.where(learns, of_d.grad(state.x), of_replaced.grad(state.x))
    added = disturbances(problem, hp, state.order)[j]
    return noisy.advance(state, gradient, of_replaced.grad(state.retrained), key, added)


def steps_on(t: Array, c: Constants, hp: Any) -> tuple[Array, Array]:
    """Return how many of the first t steps learned, l, and how many unlearned, k."""
    epoch = c.n / hp.batch_size if hp.batch_size else 1.0
    return jnp.minimum(t, hp.T * epoch), jnp.clip(t - hp.T * epoch, 0, hp.K * epoch)


def is_attained(c: Constants, hp: Any) -> Array:
    """Return whether the class' c is the instance's own, no ball is in the way and the noise is as declared."""
    return attains_declared(c, hp) & jnp.isinf(hp.radius) & (hp.noise_scale == 1)


def is_whole(c: Constants, hp: Any) -> Array:
    """Return whether the law of all noise is attained: on the full batch, where nothing expands."""
    return is_attained(c, hp) & (c.spread >= 0) & (hp.batch_size == 0)


def is_long(c: Constants, hp: Any) -> Array:
    """Return whether mu_k ends within 1% of its floor, sqrt(1 - c^(-2k)) >= 1/(1 + 1%), on an expansive instance."""
    steps = steps_on(jnp.asarray(jnp.inf), c, hp)[1]
    return (c.spread < 0) & (-jnp.expm1(-2 * steps * jnp.log1p(-hp.eta * c.spread)) >= (1 + FLOOR_REACHED) ** -2)


def parameter(z: Array, t: Array, c: Constants, hp: Any, lip: Array) -> Array:
    """Return mu_k after t steps, z apart when learning ended."""
    return noisy.gdp_of_unlearning(z, lip, noisy.step_noise(hp), steps_on(t, c, hp)[1])


def at_turn(z: Array, t: Array, c: Constants, hp: Any, lip: Array) -> Array:
    """Return what z was when learning ended, of the z = c^k z of now."""
    return z * jnp.exp(-steps_on(t, c, hp)[1] * noisy.log_growth(lip))


def floor_at_end(t: Array, c: Constants, hp: Any, lip: Array, z: Array) -> Array:
    """Return the limit of mu_k once learning and unlearning have ended, NaN before."""
    ended = (steps_on(t, c, hp)[1] > 0) & (steps_on(t + 1, c, hp)[1] == steps_on(t, c, hp)[1])
    return jnp.where(ended, noisy.gdp_floor(at_turn(z, t, c, hp, lip), lip, noisy.step_noise(hp)), jnp.nan)


def renyi_divergence(problem: Problem, x: Any, state: BatchedState) -> Array:
    """Return the Renyi divergence of order alpha between Gaussians that far apart: alpha mu^2/2."""
    return state.alpha * noisy.gaussian_parameter(problem, x, state) ** 2 / 2


RENYI_DIVERGENCE = Metric("renyi_divergence", renyi_divergence, scale=noisy.in_noise)
HALF_THE_NOISE = Control(
    why="half the noise on the instance that attains the distance",
    problem="tight_deletion[curvature=1.0]",
    setting="eta=0.05,noise_scale=0.5",
    steps=25,
)

distance = Theorem(
    name="noisy_projected_sgd_distance",
    statement="|u_t - v_t| <= z_t, z+ = min(c z + 2 eta G h/b, 2R) while learning, then min(c z, 2R); shared noise",
    source=DERIVED,
    assumes=Regularity.DELETABLE,
    metric=noisy.COUPLED_DISTANCE,
    given=(noisy.RADIUS,),
    condition="eta > 0; c = 1 - eta mu for eta <= 2/(L + mu), 1 for eta <= 2/L, else 1 + eta L, by the records' class",
    admits=is_step,
    bound=lambda t, c, hp, z: z,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,batch_size=20,K=2,T=5",
        misstate={"G": 0.1},
        steps=70,
    ),
)

distance_attained = Theorem(
    name="noisy_projected_sgd_distance_attained",
    statement="|u_t - v_t| = z_t where the gradient gap is 2 G h/b and f'' the same everywhere",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.COUPLED_DISTANCE,
    given=(noisy.RADIUS,),
    condition="eta f'' < 1, eta <= 2/L where f'' >= 0, R = inf, noise_scale = 1",
    admits=is_attained,
    bound=lambda t, c, hp, z: z,
    control=Control(
        why="a ball that both runs keep running into",
        problem="tight_deletion[curvature=0.0]",
        setting="eta=0.05,T=60,radius=0.1,sigma=0.01",
        steps=65,
    ),
    kind=Kind.EXACT,
)

gaussian = Theorem(
    name="noisy_projected_sgd_gaussian",
    statement="given what learning drew, u and v are Gaussian after k steps of unlearning, mu_k apart: GDP attained",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.GAUSSIAN_PARAMETER,
    given=(noisy.LIPSCHITZ, noisy.RADIUS),
    condition="eta f'' < 1, eta <= 2/L where f'' >= 0, R = inf, noise_scale = 1; claimed while k > 0",
    admits=is_attained,
    bound=lambda t, c, hp, lip, z: parameter(at_turn(z, t, c, hp, lip), t, c, hp, lip),
    control=HALF_THE_NOISE,
    kind=Kind.EXACT,
)

floor = Theorem(
    name="noisy_projected_sgd_floor",
    statement="c > 1: however long unlearning goes on, mu_k falls to (z/s) sqrt(c^2 - 1) and no further",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.GAUSSIAN_PARAMETER,
    given=(noisy.LIPSCHITZ, noisy.RADIUS),
    condition="eta > 0, f'' < 0, R = inf, noise_scale = 1, mu_K within 1% of its limit; claimed at the end",
    admits=lambda c, hp: is_attained(c, hp) & is_long(c, hp),
    bound=floor_at_end,
    control=Control(
        "half the noise", "tight_deletion[curvature=-1.0]", "eta=0.05,K=150,T=10,noise_scale=0.5", steps=160
    ),
    kind=Kind.ASYMPTOTIC,
    tolerance=FLOOR_REACHED,
)

all_noise = Theorem(
    name="noisy_projected_sgd_all_noise",
    statement="full batch: u and v are Gaussian, (d c^k S(c, l)/s)/sqrt(S(c^2, l + k)) apart: GDP attained",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.ALL_NOISE_PARAMETER,
    given=(noisy.LIPSCHITZ,),
    condition="batch_size = 0, eta f'' < 1, eta <= 2/L, f'' >= 0, R = inf, noise_scale = 1; claimed from t = 1 on",
    admits=is_whole,
    bound=lambda t, c, hp, lip: noisy.gdp_of_all_noise(
        disturbance(c, hp), lip, noisy.step_noise(hp), *steps_on(t, c, hp)
    ),
    control=HALF_THE_NOISE,
    kind=Kind.EXACT,
)

renyi = Theorem(
    name="noisy_projected_sgd_renyi",
    statement="D_alpha <= alpha z^2 (c^2 - 1)/(2 eta sigma^2 (1 - c^(-2k))), z at the end of learning, c = 1 - eta mu",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=RENYI_DIVERGENCE,
    given=(noisy.LIPSCHITZ, noisy.CERTIFIED_RADIUS),
    condition="0 < eta <= 2/(L + mu), L and mu of every record, noise_scale >= 1; claimed while k > 0",
    admits=lambda c, hp: is_strongly_convex_step(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp, lip, z: hp.alpha * parameter(z, t, c, hp, lip) ** 2,
    control=HALF_THE_NOISE,
)

certificate = Theorem(
    name="noisy_projected_sgd_certificate",
    statement="u and v are (epsilon, delta)-indistinguishable, mu_k-GDP with the worst z: exact epsilon at delta",
    source=DERIVED,
    assumes=Regularity.DELETABLE,
    metric=noisy.EPSILON_SPENT,
    given=(noisy.LIPSCHITZ, noisy.CERTIFIED_RADIUS),
    condition="eta > 0, K > 0, noise_scale >= 1; claimed while k > 0",
    admits=noisy.is_certifying,
    bound=lambda t, c, hp, lip, z: noisy.gaussian_epsilon(parameter(z, t, c, hp, lip), jnp.asarray(hp.delta, float)),
    control=HALF_THE_NOISE,
    certifies="replacement of m records, n fixed",
)

algorithm = Algorithm(
    name="noisy_projected_sgd",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=noisy.readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN | Oracle.SUBSTITUTE,
    calls=lambda problem, hp: 1 / batches(problem, hp),
    prepare=prepare,
    metrics=(noisy.COUPLED_DISTANCE, noisy.SIGMA, VALUE),
    theorems=(distance, distance_attained, gaussian, floor, all_noise, renyi, certificate),
)
