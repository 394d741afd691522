"""Rewind-to-target:  Rewind-to-Delete with K(tau), the fewest steps that leave a share tau of the sensitivity.

Delta(K) = g^K a S(g, T-K) is the sensitivity of `rewind_to_delete` after rewinding K steps, Delta(0) that of publishing
the learned model with noise alone; K(tau) = min {K : Delta(K) <= tau Delta(0)}, found by bisection from the constants
(`algorithms.sensitivity`). The noise is that of tau Delta(0): a budget is chosen, the steps follow.

Price (derived here): (g^T - g^K) <= tau (g^T - 1) has the solution
  K(tau) = ceil( log(tau + (1 - tau) g^T) / log g ),  and ceil( (1 - tau) T ) for g = 1.
Strongly convex, g = 1 - eta mu, this is at most ceil(log(1/tau) / -log g) however long learning took. Nonconvex, g =
1 + eta L, nearly all of T has to be repeated once eta L T is large: for tau = 10 % it is 93 % of T at eta L T = 1
and 99.5 % at 20.
Source: the trade-off of Mu & Klabjan (2024), arXiv:2409.09778, with the sensitivities derived here.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from algorithms import deletion
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import (
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    SIGMA,
    begin,
    prepare_learning,
    readout,
    step,
)
from algorithms.metric import VALUE, Metric
from algorithms.sensitivity import (
    attains_declared,
    is_noise_whole,
    is_step,
    is_strongly_convex_step,
    log_contraction,
    rewinding_steps,
    tightest_sensitivity,
)
from algorithms.theorem import Control, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source(
    "Mu & Klabjan",
    2024,
    "Rewind-to-Delete: certified machine unlearning for nonconvex functions",
    "arXiv:2409.09778",
)
HERE = Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/rewind_to_target.py")


@struct.dataclass
class HParams:
    """tau: the share of the sensitivity to leave; the others as in `algorithms.deletion`.

    `skipped` is how many of the K(tau) steps are left out (any above 0 voids the certificate).
    """

    eta: Array | float | str = "1/L_max"
    tau: Array | float | str = 0.1
    T: Array | float | str = 100
    epsilon: Array | float = 1.0
    delta: Array | float = 1e-5
    noise_scale: Array | float = 1.0
    skipped: Array | float = 0
    noise_multiplier: Array | float = float("nan")


@struct.dataclass
class State(deletion.State):
    """target: tau Delta(0)."""

    target: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` also for tau outside [0, 1] and skipped < 0."""
    tau, skipped = np.asarray(hp.tau, float), np.asarray(hp.skipped, float)
    refuse_unless((tau >= 0) & (tau <= 1), f"tau = {hp.tau}: a share lies in [0, 1]")
    refuse_unless((skipped >= 0) & (np.floor(skipped) == skipped), f"skipped = {hp.skipped}: a whole number >= 0")
    return prepare_learning(hp)


def steps_to_target(problem: Problem, hp: Any) -> tuple[Array, Array]:
    """Return K(tau) and tau Delta(0)."""

    def sensitivity(learned: Array, unlearned: Array) -> Array:
        return tightest_sensitivity(problem, hp, learned, unlearned)

    target = hp.tau * sensitivity(hp.T, jnp.zeros(()))
    return rewinding_steps(sensitivity, hp.T, target), target


def init(problem, x0, key, hp):
    steps, target = steps_to_target(problem, hp)
    rewound = jnp.maximum(steps - hp.skipped, 0.0)
    state = begin(problem, x0, key, hp, hp.T - rewound, hp.T, lambda _: target)
    return State(**vars(state), target=target)


def closed_form(hp: Any, log_g: Array) -> Array:
    """Return K(tau) for the factor g of a step, from log g."""
    at_one = jnp.abs(log_g) < 1e-300
    safe = jnp.where(at_one, 1.0, log_g)
    log_left = jnp.logaddexp(jnp.log(hp.tau), jnp.log1p(-hp.tau) + hp.T * safe)
    return jnp.ceil(jnp.where(at_one, (1 - hp.tau) * hp.T, log_left / safe))


def attained_steps(t: Array, c: Constants, hp: Any) -> Array:
    """Return K(tau) where a step multiplies distances by 1 - eta f''."""
    return closed_form(hp, jnp.log1p(-hp.eta * c.spread))


def steps_whatever_T(t: Array, c: Constants, hp: Any) -> Array:
    """Return ceil(log(1/tau)/-log(1 - eta mu))."""
    return jnp.ceil(jnp.log(hp.tau) / log_contraction(c, hp))


def is_rewound(c: Constants, hp: Any) -> Array:
    """Return whether eta > 0 and all of the K(tau) steps are taken."""
    return is_step(c, hp) & (hp.skipped <= 0)


def is_target(c: Constants, hp: Any) -> Array:
    """Return whether tau > 0: for tau = 0 all of T is repeated."""
    return jnp.asarray(hp.tau > 0)


TARGET = Metric("target", lambda problem, x, state: state.target)
REWINDING_STEPS = Metric("rewinding_steps", lambda problem, x, state: (state.end - state.switch).astype(float))

reached = Theorem(
    name="rewind_to_target_reached",
    statement="|u_T - v_T| <= tau Delta(0) after rewinding K(tau) steps",
    source=HERE,
    assumes=Regularity.DELETABLE,
    metric=SENSITIVITY,
    given=(TARGET,),
    condition="eta > 0, no step skipped; claimed from t = T on",
    admits=is_rewound,
    bound=lambda t, c, hp, target: jnp.where(t >= hp.T, target, jnp.nan),
    control=Control(
        why="one step fewer than K(tau) on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.05,skipped=1",
    ),
)

steps_exact = Theorem(
    name="rewind_to_target_steps",
    statement="K(tau) = ceil(log(tau + (1 - tau) g^T)/log g), g = 1 - eta f''; ceil((1 - tau) T) for g = 1",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=REWINDING_STEPS,
    given=(),
    condition="0 < tau <= 1, no step skipped, eta f'' < 1, eta <= 2/L unless f'' < 0",
    admits=lambda c, hp: attains_declared(c, hp) & is_rewound(c, hp) & is_target(c, hp),
    bound=attained_steps,
    kind=Kind.EXACT,
    slack=1.0,
    control=Control(
        why="records half as smooth as declared: the steps counted are those of a steeper growth",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.01,tau=0.5",
        misstate={"L_max": 2.0},
    ),
)

steps_bounded = Theorem(
    name="rewind_to_target_steps_strongly_convex",
    statement="K(tau) <= ceil(log(1/tau)/-log(1 - eta mu)), whatever T is",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=REWINDING_STEPS,
    given=(),
    condition="tau > 0, 0 < eta <= 2/(L + mu), L and mu of every record",
    admits=lambda c, hp: is_strongly_convex_step(c, hp) & is_target(c, hp),
    bound=steps_whatever_T,
    control=Control(
        why="a step size that only the convex bound covers: all but a share tau of T is repeated",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=1.5,tau=0.1",
    ),
)

certificate = Theorem(
    name="rewind_to_target_certificate",
    statement="published u_T and v_T are (epsilon, delta)-indistinguishable with the noise of tau Delta(0)",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=PRIVACY_SPENT,
    given=(),
    condition="eta > 0, noise_scale >= 1, no step skipped; claimed from t = T on",
    admits=lambda c, hp: is_rewound(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.T, hp.delta, jnp.nan),
    control=Control(
        why="one step fewer than K(tau) on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.05,skipped=1",
    ),
    certifies="deletion of m records, n -> n - m",
)

algorithm = Algorithm(
    name="rewind_to_target",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    requires=Regularity.DELETABLE,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, REWINDING_STEPS, SIGMA, VALUE),
    theorems=(reached, steps_exact, steps_bounded, certificate),
)
