"""Descent-to-Delete, request by request:  after deletion i, K times u+ = u - eta grad f_{D_i}(u), |D_i| = n - i.

Source: Neel, Roth & Sharifi-Malvajerdi (2021), arXiv:2007.02923, Theorem 3.1. Learning has T steps on D; then the m
records to forget go one by one, K steps each, always from the unpublished iterate; published is u + sigma N(0, I). One
run compares the last model, on D_m = D', with retraining there: v, T steps from x_0, beside it (`algorithms.deletion`).

Derived here, g = 1 - eta mu and eta <= 2/(L + mu), for r_i = |grad f_{D_i}(u)| after request i: deleting one of
n - i + 1 records changes the gradient by at most 2G/(n - i + 1), each step multiplies its norm by at most g, so
  r_i <= g^K (r_{i-1} + 2G/(n - i + 1)),   r_0 <= g^T |grad f_D(x_0)|,   |u - argmin f_{D_i}| <= r_i/mu.
Both models are near the minimiser of f_{D'}: |u - v_T| <= (r_m + g^T |grad f_{D'}(x_0)|)/mu.

With at most half of the records ever deleted r_m <= g^(mK) r_0 + 4 G g^K/(n (1 - g^K)). As much again for the rest, the
first term and v_T, makes the published sensitivity 8 G g^K/(mu n (1 - g^K)); its noise is that of zero-concentrated
privacy, 1/(sqrt2 (sqrt(ln(1/delta) + epsilon) - sqrt(ln(1/delta)))) for sensitivity 1. That is the noise here, or more
where T is too short for the rest: |grad f_{D'}(x_0)|, which it takes, belongs to D' alone.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms import deletion
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import (
    LEARNING_GRADIENT,
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    SIGMA,
    START_GRADIENT,
    HParams,
    begin,
    count,
    extent,
    readout,
)
from algorithms.gaussian_mechanism import zcdp_sigma
from algorithms.metric import VALUE, Metric
from algorithms.recursions import descend_by
from algorithms.sensitivity import disturbance, is_noise_whole, is_strongly_convex_step, log_contraction
from algorithms.theorem import Control, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source(
    "Neel, Roth & Sharifi-Malvajerdi",
    2021,
    "Descent-to-Delete: gradient-based methods for machine unlearning",
    "arXiv:2007.02923, Theorem 3.1",
)
HERE = Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/sequential_descent_to_delete.py")
STEEPER = Control(
    why="record gradients ten times as large as declared",
    problem="tight_deletion[curvature=1.0]",
    setting="eta=0.05,K=3,T=400",
    misstate={"G": 0.1},
    steps=430,
)


@struct.dataclass
class State(deletion.State):
    """deleted: the number i of records deleted so far."""

    deleted: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with the noise of the published form; raise `InvalidSetting` also for K < 1 step a request."""
    hp = deletion.prepare(hp)
    refuse_unless(hp.K >= 1, f"K = {hp.K}: each request takes at least one step")
    published = np.vectorize(lambda epsilon, delta: zcdp_sigma(epsilon, delta, 1.0), otypes=[float])
    return replace(hp, noise_multiplier=published(hp.epsilon, hp.delta))


def requests(t: Array, c: Constants, hp: Any) -> Array:
    """Return how many records are deleted in the first t steps: m at most, a new one every K steps from T on."""
    return jnp.clip(jnp.ceil((t - hp.T) / hp.K), 0, c.forgotten)


def rest(c: Constants, hp: Any, start_gradient: Array) -> Array:
    """Return (g^(mK) r_0 + g^T |grad f_{D'}(x_0)|)/mu with r_0 <= g^T (|grad f_{D'}(x_0)| + 2Gm/n)."""
    log_g = log_contraction(c, hp)
    first = jnp.exp(c.forgotten * hp.K * log_g) * (start_gradient + disturbance(c, hp) / hp.eta)
    return jnp.exp(hp.T * log_g) * (first + start_gradient) / c.mu_min


def published_sensitivity(c: Constants, hp: Any) -> Array:
    """Return 8 G g^K/(mu n (1 - g^K))."""
    log_shrink = hp.K * log_contraction(c, hp)
    return 8 * c.G * jnp.exp(log_shrink) / (c.mu_min * c.n * -jnp.expm1(log_shrink))


def declared_sensitivity(problem: Problem, hp: Any, start_gradient: Array) -> Array:
    """Return the published sensitivity, or half of it and the rest if that is more; 0 where none is proven."""
    if Regularity.RETAINS_STRONG_CONVEXITY not in problem.family.regularity:
        return jnp.zeros_like(start_gradient)
    c = problem.constants
    published = published_sensitivity(c, hp)
    bound = jnp.maximum(published, published / 2 + rest(c, hp, start_gradient))
    return jnp.where(is_admitted(c, hp), bound, 0.0)


def published_noise_without_secret_state(c: Constants, hp: Any) -> Array:
    """Return the published sigma for unlearning from the *published* iterate; not derived here, and not used.

    8 G g^K/(mu n (1 - g^K) (sqrt(2 ln(2/delta) + 3 epsilon) - sqrt(2 ln(2/delta) + 2 epsilon))), for K + ceil(
    ln(ln(4 d i/delta))/ln(1/g)) steps at request i in d dimensions, and K at least ln(sqrt(2 d)/((1 - g) (sqrt(2
    ln(2/delta) + epsilon) - sqrt(2 ln(2/delta)))))/ln(1/g).
    """
    log = 2 * jnp.log(2 / hp.delta)
    return published_sensitivity(c, hp) / (jnp.sqrt(log + 3 * hp.epsilon) - jnp.sqrt(log + 2 * hp.epsilon))


def init(problem, x0, key, hp):
    end = hp.T + problem.constants.forgotten * hp.K
    state = begin(problem, x0, key, hp, hp.T, end, lambda gradient: declared_sensitivity(problem, hp, gradient))
    return State(**vars(state), deleted=count(0))


def step(problem, state, key, hp):
    deleted = count(requests(state.t + 1, problem.constants, hp))
    eta = jnp.where(state.t < state.end, hp.eta, 0.0)
    retraining_eta = jnp.where(state.t < hp.T, hp.eta, 0.0)
    return replace(
        state,
        x=descend_by(state.x, eta, problem.retained(deleted).grad(state.x)),
        retrained=descend_by(state.retrained, retraining_eta, problem.retained().grad(state.retrained)),
        t=state.t + 1,
        deleted=deleted,
    )


GRADIENT_LEFT = Metric(
    "gradient_left",
    lambda problem, x, state: optax.tree.norm(problem.retained(state.deleted).grad(state.x)),
    scale=lambda problem, x, state: extent(problem, x, state) * problem.constants.L_max,
)


def recursion(t: Array, c: Constants, hp: Any, learning_gradient: Array) -> Array:
    """Return the bound on r after t steps, k of them since request i: g^k (r_{i-1} + 2G/(n - i + 1)); NaN before T."""
    log_g, i = log_contraction(c, hp), requests(t, c, hp)
    k = jnp.clip(t - hp.T - (i - 1) * hp.K, 0, hp.K)

    def request(j: Array, r: Array, steps: Array) -> Array:
        return jnp.exp(steps * log_g) * (r + 2 * c.G / (c.n - j + 1))

    learned = jnp.exp(hp.T * log_g) * learning_gradient
    before = lax.fori_loop(1, count(i), lambda j, r: request(j, r, hp.K), learned)
    return jnp.where(t < hp.T, jnp.nan, jnp.where(i > 0, request(i, before, k), learned))


def distance_bound(t: Array, c: Constants, hp: Any, learning_gradient: Array, start_gradient: Array) -> Array:
    """Return (r_m + g^T |grad f_{D'}(x_0)|)/mu once all m requests are served, NaN before."""
    retrained = jnp.exp(hp.T * log_contraction(c, hp)) * start_gradient
    return jnp.where(is_served(t, c, hp), (recursion(t, c, hp, learning_gradient) + retrained) / c.mu_min, jnp.nan)


def is_served(t: Array, c: Constants, hp: Any) -> Array:
    """Return whether t >= T + mK."""
    return t >= hp.T + c.forgotten * hp.K


def is_admitted(c: Constants, hp: Any) -> Array:
    """Return whether 0 < eta <= 2/(L + mu) and at most half of the records are deleted."""
    return is_strongly_convex_step(c, hp) & (2 * c.forgotten <= c.n)


gradient_left = Theorem(
    name="sequential_descent_to_delete_recursion",
    statement="r_i = |grad f_{D_i}(u)| obeys r_i <= g^K (r_{i-1} + 2G/(n - i + 1)), r_0 <= g^T |grad f_D(x_0)|",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=GRADIENT_LEFT,
    given=(LEARNING_GRADIENT,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed from t = T on, also between requests",
    admits=is_strongly_convex_step,
    bound=recursion,
    control=STEEPER,
)

distance = Theorem(
    name="sequential_descent_to_delete_distance",
    statement="|u - v_T| <= (r_m + g^T |grad f_{D'}(x_0)|)/mu after m requests",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(LEARNING_GRADIENT, START_GRADIENT),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed from t = T + mK on",
    admits=is_strongly_convex_step,
    bound=distance_bound,
    control=STEEPER,
)

certificate = Theorem(
    name="sequential_descent_to_delete_certificate",
    statement="published u and v_T are (epsilon, delta)-indistinguishable: exact delta(epsilon) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=PRIVACY_SPENT,
    given=(),
    condition="0 < eta <= 2/(L + mu), noise_scale >= 1, m <= n/2; claimed from t = T + mK on",
    admits=lambda c, hp: is_admitted(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp: jnp.where(is_served(t, c, hp), hp.delta, jnp.nan),
    control=STEEPER,
    certifies="deletion of m records one by one, n -> n - m",
)

algorithm = Algorithm(
    name="sequential_descent_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    requires=Regularity.DELETABLE,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, SIGMA, VALUE),
    theorems=(gradient_left, distance, certificate),
)
