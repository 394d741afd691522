"""Stochastic D2D:  from x_T, K times u+ = P(u - eta grad f_B(u)), B from D', published u_{T+K} + sigma N(0, I).

Source: Neel, Roth & Sharifi-Malvajerdi (2021), arXiv:2007.02923; with minibatches Mu & Klabjan (2025),
arXiv:2511.15983. P projects on the ball |x| <= R, R = radius. The run of `algorithms.stochastic_deletion` in which u
learns for T steps and then turns to D'. u takes K steps more than retraining, so v begins K steps late: after t steps
of the run v has made t - K, and both end at T + K. From T on they share minibatch and step size: u's k-th step of
unlearning is v's step T - K + k (its step sizes are those of the last K steps of learning over again).

Strongly convex, g_s = 1 - eta_s mu, s the steps of v. When v begins, u is somewhere in the ball: e_0 <= 2R. From there
  e_{s+1} <= min(2R, g_s e_s + (2 G/b) eta_s j_s) while u is on D (s < T - K, K <= T), g_s e_s afterwards,
so |u_{T+K} - v_T| <= 2R g^K surely, in the mean even <= 2R g^T + g^K a S(g, T-K) with a = 2 eta G m/n: a long T
forgets where u was when v began. Where decay < 1, u and v take steps of different sizes while u is on D; then only the
ball bounds e_{T-K}. Without strong convexity or a ball nothing decreases in K: D2D is then fine-tuning, published
without noise. That it fails there shows only in a ball that stays inactive: a small one, which the iterates press
against, contracts by itself, and |u - v| shrinks on convex losses too.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.deletion import PRIVACY_SPENT, PUBLISHED_DISTANCE, SENSITIVITY, readout
from algorithms.metric import VALUE
from algorithms.sensitivity import is_strongly_convex_step
from algorithms.stochastic_deletion import (
    HParams,
    begin,
    calls,
    coupled_step,
    is_certifying,
    is_coupled,
    noise,
    prepare,
)
from algorithms.stochastic_sensitivity import Course, distance, expected, surely
from algorithms.theorem import Control, Holds, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source("Mu & Klabjan", 2025, "Descend or rewind? Stochastic gradient descent unlearning", "arXiv:2511.15983")
DERIVED = Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/stochastic_descent_to_delete.py")


def course(t: Array, c: Constants, hp: Any) -> Course:
    """Return v's steps so far, clip(t - K, 0, T), of which max(T - K, 0) beside a u that learns.

    Where the step sizes differ meanwhile, those are left out: `start` bounds the distance after them just as well.
    """
    beside = jnp.maximum(hp.T - hp.K, 0)
    first = jnp.where(hp.decay == 1, 0, beside)
    return Course(jnp.clip(t - hp.K, 0, hp.T), beside, -c.mu_min, first, jnp.asarray(2 * hp.radius, float))


def is_bounded(c: Constants, hp: Any) -> Array:
    """Return whether steps contract and a ball bounds what they begin with."""
    return is_coupled(c, hp) & is_strongly_convex_step(c, hp) & (hp.radius < jnp.inf)


def declared_noise(problem: Problem, hp: Any) -> Array:
    """Return sigma where a bound is proven, else 0: no noise can be justified."""
    if Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY not in problem.family.regularity:
        return jnp.zeros(())
    c = problem.constants
    return jnp.where(is_bounded(c, hp), noise(distance(course(hp.T + hp.K, c, hp), c, hp), hp), 0.0)


def init(problem, x0, key, hp):
    return begin(problem, x0, key, hp, hp.T, hp.T + hp.K, lambda: declared_noise(problem, hp))


def step(problem, state, key, hp):
    return coupled_step(problem, state, key, hp, delay=hp.K)


def from_turn(t: Array, hp: Any, bound: Array) -> Array:
    """Return the bound from t = T on, NaN before."""
    return jnp.where(t >= hp.T, bound, jnp.nan)


CONDITION = "0 < eta <= 2/(L + mu), L and mu of every record; R = radius < inf; b <= n - m; claimed from t = T on"

every_run = Theorem(
    name="stochastic_descent_to_delete_strongly_convex",
    statement="|u_{T+k} - v_{T-K+k}| <= e_{T-K} prod_{i < k} g_{T-K+i} <= 2R g^k surely, g = 1 - eta mu, "
    "e_{s+1} = min(2R, g_s e_s + 2 eta_s G min(1, m/b)), e_0 = 2R",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition=CONDITION,
    admits=is_bounded,
    bound=lambda t, c, hp: from_turn(t, hp, surely(course(t, c, hp), c, hp)),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,radius=2,batch_size=0,T=200",
        misstate={"G": 0.1},
        steps=220,
    ),
)

mean = Theorem(
    name="stochastic_descent_to_delete_mean",
    statement="E |u_{T+k} - v_{T-K+k}| <= e_{T-K} prod_{i < k} g_{T-K+i}, g_s = 1 - eta_s mu, "
    "e_{s+1} = min(2R, g_s e_s + 2 eta_s G m/n), e_0 = 2R",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition=CONDITION,
    admits=is_bounded,
    bound=lambda t, c, hp: from_turn(t, hp, expected(course(t, c, hp), c, hp)),
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,batch_size=8,radius=2,T=200",
        misstate={"G": 0.1},
        steps=220,
        seeds=16,
    ),
)

certificate = Theorem(
    name="stochastic_descent_to_delete_certificate",
    statement="published u_{T+K}, v_T are (epsilon, delta)-indistinguishable: E delta(epsilon, |u - v|/sigma) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=PRIVACY_SPENT,
    given=(),
    condition="0 < eta <= 2/(L + mu), radius < inf, noise_scale >= 1, b <= n - m, mechanism other than "
    "mean_plugged_in; claimed from t = T + K on",
    admits=lambda c, hp: is_bounded(c, hp) & is_certifying(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.T + hp.K, hp.delta, jnp.nan),
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="half the noise where learning long has left nothing but the disturbance of an instance that attains it",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,radius=2,batch_size=0,T=200,noise_scale=0.5",
        steps=220,
        seeds=16,
    ),
    certifies="deletion of m records, n -> n - m",
)

algorithm = Algorithm(
    name="stochastic_descent_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    calls=calls,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, VALUE),
    theorems=(every_run, mean, certificate),
)
