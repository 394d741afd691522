"""Descent-to-Delete (D2D):  from x_T, K times u+ = u - eta grad f_{D'}(u),  published u_{T+K} + sigma N(0, I).

Source: Neel, Roth & Sharifi-Malvajerdi (2021), arXiv:2007.02923. The run of `algorithms.deletion` that learns
for T steps and then turns to D'; retraining has T steps too and stays at v_T. Nothing is proven outside
strong convexity: there D2D is plain fine-tuning and publishes without noise.

Sensitivity (derived here from (1)-(3) of `algorithms.sensitivity`, g = 1 - eta mu), k = t - T steps after the turn:
|u_{T+k} - v_T| <= |u_{T+k} - v_{T+k}| + |v_{T+k} - v_T|, were retraining to go on. The first term is <= g^k a S(g, T)
by (3). In the second, every step of retraining is at most g times as long as the one before, the first
eta |grad f_{D'}(x_0)|, so it is <= g^T eta S(g, k) |grad f_{D'}(x_0)|. That norm belongs to D' alone, so both
published points may scale their noise with it. Never above the usual bound through the two minimisers.

What the request adds to |u_T - v_T| shrinks at least like g^k: |u_{T+k} - v_T| <= g^k |u_T - v_T| + eta S(g, k)
|grad f_{D'}(v_T)|, the second term being what retraining has left to do. Against the minimiser of f_{D'} nothing is
left to do: steps, hence gradients, shrink by g each, and |grad f_{D'}(u_T)| <= |grad f_D(u_T)| + 2Gm/n by (1), so
|u_{T+k} - argmin f_{D'}| <= |grad f_{D'}(u_{T+k})|/mu <= g^k (g^T |grad f_D(x_0)| + 2Gm/n)/mu.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.deletion import (
    LEARNING_GRADIENT,
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    RETRAINED_GRADIENT,
    SENSITIVITY,
    SIGMA,
    START_GRADIENT,
    TURN_DISTANCE,
    UNLEARNED_GRADIENT,
    HParams,
    begin,
    prepare,
    readout,
    step,
)
from algorithms.metric import VALUE
from algorithms.recursions import log_geometric_sum
from algorithms.sensitivity import (
    disturbance,
    is_noise_whole,
    is_strongly_convex_step,
    log_contraction,
    strongly_convex_sensitivity,
)
from algorithms.theorem import Control, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source(
    "Neel, Roth & Sharifi-Malvajerdi",
    2021,
    "Descent-to-Delete: gradient-based methods for machine unlearning",
    "arXiv:2007.02923",
)
HERE = Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/descent_to_delete.py")
TOO_CONVEX = Control(
    why="records half as convex as declared",
    problem="tight_deletion[curvature=1.0]",
    setting="eta=0.05",
    misstate={"mu_min": 2.0},
)


def sensitivity(k: Array, c: Constants, hp: Any, start_gradient: Array) -> Array:
    """Return g^k a S(g, T) + g^T eta S(g, k) |grad f_{D'}(x_0)|, after k <= K steps of unlearning."""
    log_g = log_contraction(c, hp)
    unfinished = hp.eta * start_gradient * jnp.exp(hp.T * log_g + log_geometric_sum(log_g, k))
    return strongly_convex_sensitivity(c, hp, hp.T, k) + unfinished


def unlearned_steps(t: Array, hp: Any) -> Array:
    """Return k = min(t - T, K), NaN before t = T."""
    return jnp.where(t >= hp.T, jnp.clip(t - hp.T, 0, hp.K), jnp.nan)


def bound(t: Array, c: Constants, hp: Any, start_gradient: Array) -> Array:
    """Return the sensitivity after t >= T steps of the run, NaN before."""
    return sensitivity(unlearned_steps(t, hp), c, hp, start_gradient)


def approach(t: Array, c: Constants, hp: Any, turn: Array, retrained_gradient: Array) -> Array:
    """Return g^k |u_T - v_T| + eta S(g, k) |grad f_{D'}(v_T)|; NaN up to t = T."""
    log_g, k = log_contraction(c, hp), unlearned_steps(t, hp)
    bound = jnp.exp(k * log_g) * turn + hp.eta * retrained_gradient * jnp.exp(log_geometric_sum(log_g, k))
    return jnp.where(k > 0, bound, jnp.nan)


def stationarity(t: Array, c: Constants, hp: Any, learning_gradient: Array) -> Array:
    """Return g^k (g^T |grad f_D(x_0)| + 2Gm/n), NaN before t = T."""
    log_g = log_contraction(c, hp)
    at_turn = jnp.exp(hp.T * log_g) * learning_gradient + disturbance(c, hp) / hp.eta
    return jnp.exp(unlearned_steps(t, hp) * log_g) * at_turn


def declared_sensitivity(problem: Problem, hp: Any, start_gradient: Array) -> Array:
    """Return the bound on |u_{T+K} - v_T| where one is proven, else 0: no noise can be justified."""
    if Regularity.RETAINS_STRONG_CONVEXITY not in problem.family.regularity:
        return jnp.zeros_like(start_gradient)
    c = problem.constants
    return jnp.where(is_strongly_convex_step(c, hp), sensitivity(hp.K, c, hp, start_gradient), 0.0)


def init(problem, x0, key, hp):
    return begin(problem, x0, key, hp, hp.T, hp.T + hp.K, lambda gradient: declared_sensitivity(problem, hp, gradient))


strongly_convex = Theorem(
    name="descent_to_delete_strongly_convex",
    statement="|u_{T+k} - v_T| <= (2Gm/(n mu)) g^k (1-g^T) + (|grad f_{D'}(x_0)|/mu) g^T (1-g^k), g = 1 - eta mu",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(START_GRADIENT,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed from t = T on",
    admits=is_strongly_convex_step,
    bound=bound,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"G": 0.1},
    ),
)

certificate = Theorem(
    name="descent_to_delete_certificate",
    statement="published u_{T+K} and v_T are (epsilon, delta)-indistinguishable: exact delta(epsilon) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=PRIVACY_SPENT,
    given=(),
    condition="0 < eta <= 2/(L + mu), noise_scale >= 1; claimed from t = T + K on",
    admits=lambda c, hp: is_strongly_convex_step(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.T + hp.K, hp.delta, jnp.nan),
    control=Control(
        why="half the noise on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,noise_scale=0.5",
    ),
    certifies="deletion of m records, n -> n - m",
)

contraction = Theorem(
    name="descent_to_delete_contraction",
    statement="|u_{T+k} - v_T| <= g^k |u_T - v_T| + eta (1 + g + ... + g^(k-1)) |grad f_{D'}(v_T)|, g = 1 - eta mu",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(TURN_DISTANCE, RETRAINED_GRADIENT),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed after t = T",
    admits=is_strongly_convex_step,
    bound=approach,
    control=TOO_CONVEX,
)

optimum = Theorem(
    name="descent_to_delete_optimum",
    statement="mu |u_{T+k} - argmin f_{D'}| <= |grad f_{D'}(u_{T+k})| <= g^k (g^T |grad f_D(x_0)| + 2Gm/n)",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=UNLEARNED_GRADIENT,
    given=(LEARNING_GRADIENT,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed from t = T on",
    admits=is_strongly_convex_step,
    bound=stationarity,
    control=TOO_CONVEX,
)

algorithm = Algorithm(
    name="descent_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, SIGMA, VALUE),
    theorems=(strongly_convex, certificate, contraction, optimum),
)
