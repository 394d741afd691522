"""Descent-to-Delete (D2D):  u_0 = x_T,  K times u+ = u - eta grad f_{D'}(u),  published u_K + sigma N(0, I).

Source: Neel, Roth & Sharifi-Malvajerdi (2021), arXiv:2007.02923. Compared with v_T, retraining, which stays.
Nothing is proven outside strong convexity: there D2D is plain fine-tuning and publishes without noise.

Sensitivity (derived here from (1)-(3) of `algorithms.deletion`, g = 1 - eta mu):
|u_t - v_T| <= |u_t - v_{T+t}| + |v_{T+t} - v_T|. The first term is <= g^t a S(g, T) by (3). In the second,
every step of retraining is at most g times as long as the one before, the first eta |grad f_{D'}(x_0)|, so it
is <= g^T eta S(g, t) |grad f_{D'}(x_0)|. That norm belongs to D' alone, so both published points may scale
their noise with it. Never above the usual bound through the two minimisers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.deletion import (
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    START_GRADIENT,
    HParams,
    State,
    calls,
    is_noise_whole,
    is_strongly_convex_step,
    log_contraction,
    prepare,
    readout,
    start_gradient,
    step,
    strongly_convex_sensitivity,
)
from algorithms.recursions import descend, log_geometric_sum
from algorithms.theorem import Control, Source, Theorem
from problems.problem import Constants, Oracle, Problem, Regularity

SOURCE = Source(
    "Neel, Roth & Sharifi-Malvajerdi",
    2021,
    "Descent-to-Delete: gradient-based methods for machine unlearning",
    "arXiv:2007.02923",
)


def sensitivity(t: Array, c: Constants, hp: Any, start_gradient: Array) -> Array:
    """Return g^t a S(g, T) + g^T eta S(g, t) |grad f_{D'}(x_0)|, with t cut at K."""
    unlearned = jnp.minimum(t, hp.K)
    log_g = log_contraction(c, hp)
    unfinished = hp.eta * start_gradient * jnp.exp(hp.T * log_g + log_geometric_sum(log_g, unlearned))
    return strongly_convex_sensitivity(c, hp, hp.T, unlearned) + unfinished


def declared_sensitivity(problem: Problem, hp: Any, start_gradient: Array) -> Array:
    """Return the bound on |u_K - v_T| where one is proven, else 0: no noise can be justified."""
    if Regularity.RETAINS_STRONG_CONVEXITY not in problem.family.regularity:
        return jnp.zeros_like(start_gradient)
    c = problem.constants
    return jnp.where(is_strongly_convex_step(c, hp), sensitivity(hp.K, c, hp, start_gradient), 0.0)


def init(problem, x0, key, hp):
    learned = jnp.asarray(hp.T, int)
    gradient = start_gradient(problem, x0)
    return State(
        x=descend(problem, x0, hp.eta, learned),
        retrained=descend(problem.retained(), x0, hp.eta, learned),
        remaining=jnp.asarray(hp.K, int),
        retraining_remaining=jnp.zeros((), int),
        noise=optax.tree.random_like(key, x0, jax.random.normal),
        sigma=hp.noise_scale * hp.noise_multiplier * declared_sensitivity(problem, hp, gradient),
        epsilon=jnp.asarray(hp.epsilon, float),
        start_gradient=gradient,
    )


strongly_convex = Theorem(
    name="descent_to_delete_strongly_convex",
    statement="|u_t - v_T| <= (2Gm/(n mu)) g^t (1-g^T) + (|grad f_{D'}(x_0)|/mu) g^T (1-g^t), g = 1 - eta mu",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/descent_to_delete.py"),
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(START_GRADIENT,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record",
    admits=is_strongly_convex_step,
    bound=sensitivity,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"G": 0.1},
    ),
)

certificate = Theorem(
    name="descent_to_delete_certificate",
    statement="published u_K and v_T are (epsilon, delta)-indistinguishable: exact delta(epsilon) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=PRIVACY_SPENT,
    given=(),
    condition="0 < eta <= 2/(L + mu), noise_scale >= 1; claimed from t = K on",
    admits=lambda c, hp: is_strongly_convex_step(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.K, hp.delta, jnp.nan),
    control=Control(
        why="half the noise on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,noise_scale=0.5",
    ),
)

algorithm = Algorithm(
    name="descent_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    requires=Regularity.DELETABLE,
    calls=calls,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE),
    theorems=(strongly_convex, certificate),
)
