"""Noisy Rewind-to-Delete:  from x_{T-K}, K times u+ = u - eta grad f_{D'}(u) + sqrt(2 eta) sigma N(0, I).

Learning takes the same noisy steps on D, so that nothing is added when the model is published. The run of
`algorithms.noisy_descent` on the whole of D, whose (1)-(4) are meant below, that turns to D' = D without the m
forgotten records after T - K steps, d = 2 eta G m/n. Derived here; rewinding is due to Mu & Klabjan (2024),
arXiv:2409.09778. No ball, no convergence and no convexity is needed: c may be 1 + eta L.

By (2) K steps of unlearning make u and v mu_K-GDP with z = d S(c, T-K): K = 0 certifies nothing, K = T is exact
retraining. For c > 1 and many steps learned z explodes; counting the noise of learning by (3) never costs more than
the composition of all T - K steps, mu <= sqrt(T-K) d/s, whatever K is.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from algorithms import noisy_descent as noisy
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import choose
from algorithms.metric import VALUE
from algorithms.recursions import log_geometric_sum
from algorithms.sensitivity import attains_declared, disturbance, is_noise_whole, is_step
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source("derived here", 2026, "Rewinding between noisy steps", "algorithms/noisy_descent.py, (1)-(4)")


def prepare(hp: noisy.HParams) -> noisy.HParams:
    """Return `hp`; raise `InvalidSetting` also for K > T: nothing to rewind to."""
    refuse_unless(np.asarray(hp.K) <= np.asarray(hp.T), f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return noisy.prepare(hp)


def learned_distance(c: Constants, hp: Any, lip: Array, learned: Array) -> Array:
    """Return z = d S(c, l) after l steps of learning."""
    return disturbance(c, hp) * jnp.exp(log_geometric_sum(noisy.log_growth(lip), learned))


def certified(problem: Problem, hp: Any) -> Array:
    """Return z at the rewind point; NaN where no G is proven."""
    if Regularity.DELETABLE not in problem.family.regularity:
        return jnp.full((), jnp.nan)
    return learned_distance(problem.constants, hp, noisy.lipschitz(problem, hp), hp.T - hp.K)


def init(problem, x0, key, hp):
    return noisy.begin(problem, x0, hp, hp.T - hp.K, hp.T, certified(problem, hp))


def step(problem, state, key, hp):
    retained = problem.retained()
    gradient = choose(state.t < state.switch, problem, retained).grad(state.x)
    added = disturbance(problem.constants, hp) if Regularity.DELETABLE in problem.family.regularity else jnp.nan
    return noisy.advance(state, gradient, retained.grad(state.retrained), key, added)


def steps_on(t: Array, hp: Any) -> tuple[Array, Array]:
    """Return how many of the first t steps were on D, l = min(t, T - K), and on D', k = min(t, T) - l."""
    learned = jnp.minimum(t, hp.T - hp.K)
    return learned, jnp.minimum(t, hp.T) - learned


def distance_bound(t: Array, c: Constants, hp: Any, lip: Array) -> Array:
    """Return c^k d S(c, l) after t steps."""
    learned, unlearned = steps_on(t, hp)
    return learned_distance(c, hp, lip, learned) * jnp.exp(unlearned * noisy.log_growth(lip))


def all_noise_bound(t: Array, c: Constants, hp: Any, lip: Array) -> Array:
    """Return mu of (3) after t steps."""
    return noisy.gdp_of_all_noise(disturbance(c, hp), lip, noisy.step_noise(hp), *steps_on(t, hp))


def is_attained(c: Constants, hp: Any) -> Array:
    """Return whether the class' c is the instance's own and the noise is as declared."""
    return attains_declared(c, hp) & (hp.noise_scale == 1)


def is_attained_by_all(c: Constants, hp: Any) -> Array:
    """Return whether (3) is attained too: where nothing expands."""
    return is_attained(c, hp) & (c.spread >= 0)


HALF_THE_NOISE = Control(
    why="half the noise on the instance that attains the distance",
    problem="tight_deletion[curvature=-1.0]",
    setting="eta=0.05,noise_scale=0.5",
    steps=20,
)

distance = Theorem(
    name="noisy_rewind_to_delete_distance",
    statement="|u_t - v_t| <= (2 eta G m/n) c^k S(c, l), l = min(t, T-K) steps learned, k unlearned; shared noise",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=noisy.COUPLED_DISTANCE,
    given=(noisy.LIPSCHITZ,),
    condition="eta > 0; c = 1 - eta mu for eta <= 2/(L + mu), 1 for eta <= 2/L, else 1 + eta L, by the records' class",
    admits=is_step,
    bound=distance_bound,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"G": 0.1},
        steps=20,
    ),
)

distance_attained = Theorem(
    name="noisy_rewind_to_delete_distance_attained",
    statement="|u_t - v_t| = (2 eta G m/n) c^k S(c, l) where the gradient gap is 2Gm/n and f'' the same everywhere",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.COUPLED_DISTANCE,
    given=(noisy.LIPSCHITZ,),
    condition="eta f'' < 1, eta <= 2/L where f'' >= 0",
    admits=attains_declared,
    bound=distance_bound,
    control=Control(
        why="a step beyond 2/L: nothing contracts as 1 + eta L says that it expands",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=2.5,T=10,K=2",
        steps=10,
    ),
    kind=Kind.EXACT,
)

gaussian = Theorem(
    name="noisy_rewind_to_delete_gaussian",
    statement="given what learning drew, u and v are Gaussian, mu_k apart after k steps of unlearning: GDP attained",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.GAUSSIAN_PARAMETER,
    given=(noisy.LIPSCHITZ, noisy.CERTIFIED_RADIUS),
    condition="eta f'' < 1, eta <= 2/L where f'' >= 0, noise_scale = 1; claimed while k > 0",
    admits=is_attained,
    bound=lambda t, c, hp, lip, z: noisy.gdp_of_unlearning(z, lip, noisy.step_noise(hp), steps_on(t, hp)[1]),
    control=HALF_THE_NOISE,
    kind=Kind.EXACT,
)

all_noise = Theorem(
    name="noisy_rewind_to_delete_all_noise",
    statement="u and v are Gaussian, (d c^k S(c, l)/s)/sqrt(S(c^2, l + k)) apart, l steps learned: GDP attained",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.ALL_NOISE_PARAMETER,
    given=(noisy.LIPSCHITZ,),
    condition="eta f'' < 1, eta <= 2/L, f'' >= 0, noise_scale = 1; claimed from t = 1 on",
    admits=is_attained_by_all,
    bound=all_noise_bound,
    control=replace(HALF_THE_NOISE, problem="tight_deletion[curvature=1.0]"),
    kind=Kind.EXACT,
)

all_noise_nonconvex = Theorem(
    name="noisy_rewind_to_delete_all_noise_nonconvex",
    statement="c > 1: mu-GDP, mu^2 = [(l - j) d^2 + (d c^k S(c, j))^2/S(c^2, j + k)]/s^2 <= l d^2/s^2, j of (3)",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=noisy.ALL_NOISE_PARAMETER,
    given=(noisy.LIPSCHITZ,),
    condition="eta > 0, f'' < 0, noise_scale >= 1; claimed from t = 1 on",
    admits=lambda c, hp: is_step(c, hp) & (c.spread < 0) & is_noise_whole(c, hp),
    bound=all_noise_bound,
    control=HALF_THE_NOISE,
)

certificate = Theorem(
    name="noisy_rewind_to_delete_certificate",
    statement="u and v are (epsilon(mu_k, delta), delta)-indistinguishable after k steps of unlearning",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=noisy.EPSILON_SPENT,
    given=(noisy.LIPSCHITZ, noisy.CERTIFIED_RADIUS),
    condition="eta > 0, K > 0, noise_scale >= 1; claimed while k > 0",
    admits=noisy.is_certifying,
    bound=lambda t, c, hp, lip, z: noisy.gaussian_epsilon(
        noisy.gdp_of_unlearning(z, lip, noisy.step_noise(hp), steps_on(t, hp)[1]), jnp.asarray(hp.delta, float)
    ),
    control=HALF_THE_NOISE,
    certifies="deletion of m records, n -> n - m",
)

algorithm = Algorithm(
    name="noisy_rewind_to_delete",
    source=SOURCE,
    hparams=noisy.HParams,
    init=init,
    step=step,
    readout=noisy.readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(noisy.COUPLED_DISTANCE, noisy.SIGMA, VALUE),
    theorems=(distance, distance_attained, gaussian, all_noise, all_noise_nonconvex, certificate),
)
