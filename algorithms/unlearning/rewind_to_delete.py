"""Rewind-to-Delete (R2D):  from x_{T-K}, K times u+ = u - eta grad f_{D'}(u),  published u_T + sigma N(0, I).

Source: Mu & Klabjan (2024), arXiv:2409.09778. The run of `algorithms.deletion` that learns for T - K steps and
then turns to D': what learning would have done after step T - K is thrown away. After t steps, l = min(t, T-K) of
them on D and k = t - l <= K on D', (3) of `algorithms.sensitivity` gives |u_t - v_t| <= g^k a S(g, l); t = T is the
theorem. The nonconvex bound is never above the published form (`source_sensitivity`). sigma is calibrated to the
tightest of the classes that the records are declared to be in and the step size admits. Sequential requests always
rewind to the same x_{T-K}: the bound is that of all m records requested so far.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import (
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    HParams,
    begin,
    readout,
    step,
)
from algorithms.deletion import prepare as prepare_deletion
from algorithms.metric import VALUE
from algorithms.sensitivity import (
    convex_sensitivity,
    disturbance,
    is_convex_step,
    is_noise_whole,
    is_step,
    is_strongly_convex_step,
    nonconvex_sensitivity,
    strongly_convex_sensitivity,
)
from algorithms.theorem import Control, Source, Theorem
from problems.problem import Constants, Oracle, Problem, Regularity

SOURCE = Source(
    "Mu & Klabjan",
    2024,
    "Rewind-to-Delete: certified machine unlearning for nonconvex functions",
    "arXiv:2409.09778",
)


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` also for K > T: nothing to rewind to."""
    hp = prepare_deletion(hp)
    refuse_unless(hp.K <= hp.T, f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return hp


def steps_on(t: Array, hp: Any) -> tuple[Array, Array]:
    """Return how many of the first t steps were on D, l = min(t, T - K), and on D', k = min(t, T) - l."""
    learned = jnp.minimum(t, hp.T - hp.K)
    return learned, jnp.minimum(t, hp.T) - learned


def declared_sensitivity(problem: Problem, hp: Any) -> Array:
    """Return the tightest bound on |u_T - v_T| that regularity and step size admit, 0 where none is proven."""
    c, regularity, learned = problem.constants, problem.family.regularity, hp.T - hp.K
    if Regularity.DELETABLE not in regularity:
        return jnp.zeros(())
    bound = nonconvex_sensitivity(c, hp, learned, hp.K)
    if Regularity.RETAINS_CONVEXITY in regularity:
        bound = jnp.where(is_convex_step(c, hp), convex_sensitivity(c, hp, learned), bound)
    if Regularity.RETAINS_STRONG_CONVEXITY in regularity:
        strong = strongly_convex_sensitivity(c, hp, learned, hp.K)
        bound = jnp.where(is_strongly_convex_step(c, hp), strong, bound)
    return bound


def source_sensitivity(c: Constants, hp: Any) -> Array:
    """Return the published nonconvex form (2Gm/(nL)) ((1 + eta L n/(n-m))^(T-K) - 1) (1 + eta L)^K."""
    inflated = hp.eta * c.L_max * c.n / (c.n - c.forgotten)
    growth = (hp.T - hp.K) * jnp.log1p(inflated)
    kept = hp.K * jnp.log1p(hp.eta * c.L_max)
    return disturbance(c, hp) / (hp.eta * c.L_max) * jnp.expm1(growth) * jnp.exp(kept)


def init(problem, x0, key, hp):
    return begin(problem, x0, key, hp, hp.T - hp.K, hp.T, lambda _: declared_sensitivity(problem, hp))


strongly_convex = Theorem(
    name="rewind_to_delete_strongly_convex",
    statement="|u_t - v_t| <= (2Gm/(n mu)) (g^k - g^t), g = 1 - eta mu, k = max(t - (T-K), 0), t <= T",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/sensitivity.py, (1)-(3)"),
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/(L + mu), L and mu of every record",
    admits=is_strongly_convex_step,
    bound=lambda t, c, hp: strongly_convex_sensitivity(c, hp, *steps_on(t, hp)),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"G": 0.1},
    ),
)

convex = Theorem(
    name="rewind_to_delete_convex",
    statement="|u_t - v_t| <= 2 eta G m min(t, T-K)/n, t <= T",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/sensitivity.py, (1)-(3)"),
    assumes=Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/L, L of every record",
    admits=is_convex_step,
    bound=lambda t, c, hp: convex_sensitivity(c, hp, steps_on(t, hp)[0]),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=0.0]",
        setting="eta=0.05",
        misstate={"G": 0.1},
    ),
)

nonconvex = Theorem(
    name="rewind_to_delete_nonconvex",
    statement="|u_t - v_t| <= (2Gm/(n L)) (g^t - g^k), g = 1 + eta L, k = max(t - (T-K), 0), t <= T",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/sensitivity.py, (1)-(3); sharper than the source's"),
    assumes=Regularity.DELETABLE,
    metric=SENSITIVITY,
    given=(),
    condition="eta > 0",
    admits=is_step,
    bound=lambda t, c, hp: nonconvex_sensitivity(c, hp, *steps_on(t, hp)),
    control=Control(
        why="no rewind on a nonconvex loss: descending from x_T never undoes what T steps on D have grown",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.05",
        algorithm="descent_to_delete",
    ),
)

certificate = Theorem(
    name="rewind_to_delete_certificate",
    statement="published u_T and v_T are (epsilon, delta)-indistinguishable: exact delta(epsilon) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=PRIVACY_SPENT,
    given=(),
    condition="eta > 0, noise_scale >= 1; claimed from t = T on",
    admits=lambda c, hp: is_step(c, hp) & is_noise_whole(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.T, hp.delta, jnp.nan),
    control=Control(
        why="half the noise on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,noise_scale=0.5",
    ),
    certifies="deletion of m records, n -> n - m",
)

algorithm = Algorithm(
    name="rewind_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, VALUE),
    theorems=(strongly_convex, convex, nonconvex, certificate),
)
