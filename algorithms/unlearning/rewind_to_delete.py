"""Rewind-to-Delete (R2D):  from x_{T-K}, K times u+ = u - eta grad f_{D'}(u),  published u_T + sigma N(0, I).

Source: Mu & Klabjan (2024), arXiv:2409.09778. The run of `algorithms.deletion` that learns for T - K steps and
then turns to D': what learning would have done after step T - K is thrown away. After t steps, l = min(t, T-K) of
them on D and k = t - l <= K on D', (3) of `algorithms.sensitivity` gives |u_t - v_t| <= g^k a S(g, l); t = T is the
theorem. The nonconvex bound is never above the published form (`source_sensitivity`). sigma is calibrated to the
tightest of the classes that the records are declared to be in and the step size admits. Sequential requests always
rewind to the same x_{T-K}: the bound is that of all m records requested so far.

In one dimension with f'' constant and a gradient gap of 2Gm/n throughout, u - v obeys e+ = (1 - eta f'') e + a while
learning, then e+ = (1 - eta f'') e: for eta f'' < 1 the bounds are equalities, with the g of each class, and the
published pair spends exactly delta. Since k joint steps are one g^k-Lipschitz map, |u_t - v_t| <= g^k |u_{T-K} -
v_{T-K}| whatever learning has done. The risk on D' is that of `algorithms.deletion_risk`, the scores of audits are
those of `algorithms.audit`.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.audit import RETRAINED_LOSS, RETRAINED_PROJECTION, UNLEARNED_LOSS, UNLEARNED_PROJECTION
from algorithms.deletion import (
    DISTANCE_ROUNDING,
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    SIGMA,
    TURN_DISTANCE,
    HParams,
    begin,
    readout,
    step,
)
from algorithms.deletion import prepare as prepare_deletion
from algorithms.deletion_risk import NOISE_SQ, PUBLISHED_RISK, RISK, is_descent, published_risk_bound, risk_bound
from algorithms.metric import VALUE, initial
from algorithms.sensitivity import (
    attained_sensitivity,
    attains_declared,
    convex_sensitivity,
    is_attained,
    is_convex_step,
    is_noise_whole,
    is_step,
    is_strongly_convex_step,
    log_contraction,
    nonconvex_sensitivity,
    strongly_convex_sensitivity,
    tightest_sensitivity,
)
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle

SOURCE = Source(
    "Mu & Klabjan",
    2024,
    "Rewind-to-Delete: certified machine unlearning for nonconvex functions",
    "arXiv:2409.09778",
)
LEMMAS = Source("derived here", 2026, SOURCE.title, "algorithms/sensitivity.py, (1)-(3)")
RISKS = Source("derived here", 2026, SOURCE.title, "algorithms/deletion_risk.py")
HERE = Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/rewind_to_delete.py")
UNDERNOISED = Control(
    why="half the noise on the instance that attains the sensitivity",
    problem="tight_deletion[curvature=1.0]",
    setting="eta=0.05,T=20,K=5,epsilon=1,delta=0.01,noise_scale=0.5",
    steps=20,
    seeds=20000,
)
RESOLVED = 1e-9  # rounding per distance up to which the spent delta is exact to 1e-6


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` also for K > T: nothing to rewind to."""
    hp = prepare_deletion(hp)
    refuse_unless(hp.K <= hp.T, f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return hp


def steps_on(t: Array, hp: Any) -> tuple[Array, Array]:
    """Return how many of the first t steps were on D, l = min(t, T - K), and on D', k = min(t, T) - l."""
    learned = jnp.minimum(t, hp.T - hp.K)
    return learned, jnp.minimum(t, hp.T) - learned


def is_noise_exact(c: Constants, hp: Any) -> Array:
    """Return whether sigma belongs to a sensitivity that is attained and is not 0."""
    return attains_declared(c, hp) & (hp.noise_scale == 1) & (hp.K < hp.T)


def is_auditable(c: Constants, hp: Any) -> Array:
    """Return whether the certificate holds and there is noise: with K = T the two are equal but for rounding."""
    return is_step(c, hp) & is_noise_whole(c, hp) & (hp.K < hp.T)


def published(t: Array, hp: Any, bound: Array) -> Array:
    """Return the bound from t = T on, NaN before."""
    return jnp.where(t >= hp.T, bound, jnp.nan)


def init(problem, x0, key, hp):
    sensitivity = tightest_sensitivity(problem, hp, hp.T - hp.K, hp.K)
    return begin(problem, x0, key, hp, hp.T - hp.K, hp.T, lambda _: sensitivity)


def ten_times_steeper(curvature: float, setting: str = "eta=0.05", seeds: int = 4) -> Control:
    """Return the control in which records have ten times the gradients that are declared."""
    problem = f"tight_deletion[curvature={curvature}]"
    return Control("record gradients ten times as large as declared", problem, setting, "", {"G": 0.1}, seeds=seeds)


strongly_convex = Theorem(
    name="rewind_to_delete_strongly_convex",
    statement="|u_t - v_t| <= (2Gm/(n mu)) (g^k - g^t), g = 1 - eta mu, k = max(t - (T-K), 0), t <= T",
    source=LEMMAS,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/(L + mu), L and mu of every record",
    admits=is_strongly_convex_step,
    bound=lambda t, c, hp: strongly_convex_sensitivity(c, hp, *steps_on(t, hp)),
    control=ten_times_steeper(1.0),
)

convex = Theorem(
    name="rewind_to_delete_convex",
    statement="|u_t - v_t| <= 2 eta G m min(t, T-K)/n, t <= T",
    source=LEMMAS,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/L, L of every record",
    admits=is_convex_step,
    bound=lambda t, c, hp: convex_sensitivity(c, hp, steps_on(t, hp)[0]),
    control=ten_times_steeper(0.0),
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
    bound=lambda t, c, hp: published(t, hp, hp.delta),
    control=Control(
        why="half the noise on the instance that attains the sensitivity",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,noise_scale=0.5",
    ),
    certifies="deletion of m records, n -> n - m",
)


attained = Theorem(
    name="rewind_to_delete_attained",
    statement="|u_t - v_t| = (2 eta Gm/n) g^k (1 + g + ... + g^(l-1)), g = 1 - eta f'', l = min(t, T-K), k = t - l",
    source=HERE,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=SENSITIVITY,
    given=(),
    condition="eta > 0, eta f'' < 1; f'' of any sign",
    admits=is_attained,
    bound=lambda t, c, hp: attained_sensitivity(c, hp, *steps_on(t, hp)),
    kind=Kind.EXACT,
    control=ten_times_steeper(-1.0),
)

contraction = Theorem(
    name="rewind_to_delete_contraction",
    statement="|u_t - v_t| <= g^k |u_{T-K} - v_{T-K}|, g = 1 - eta mu, k = t - (T-K) <= K: at least as fast as g^k",
    source=LEMMAS,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(TURN_DISTANCE,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed after t = T - K",
    admits=is_strongly_convex_step,
    bound=lambda t, c, hp, turn: jnp.where(
        t > hp.T - hp.K, jnp.exp(steps_on(t, hp)[1] * log_contraction(c, hp)) * turn, jnp.nan
    ),
    control=Control(
        why="records half as convex as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"mu_min": 2.0},
    ),
)

noise_exact = Theorem(
    name="rewind_to_delete_noise_exact",
    statement="published u_T and v_T spend all of delta: exact delta(epsilon) = delta, no noise to spare",
    source=Source("Balle & Wang", 2018, "Improving the Gaussian mechanism", "arXiv:1805.06530, Theorem 8"),
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=PRIVACY_SPENT,
    given=(DISTANCE_ROUNDING,),
    condition="noise_scale = 1, K < T, eta f'' < 1, eta <= 2/L unless f'' < 0; from t = T on, |u_T - v_T| resolved",
    admits=is_noise_exact,
    bound=lambda t, c, hp, rounding: jnp.where((t >= hp.T) & (rounding <= RESOLVED), hp.delta, jnp.nan),
    kind=Kind.EXACT,
    tolerance=1e-6,
    control=Control(
        why="the classic formula sqrt(2 log(1.25/delta))/epsilon at epsilon = 10: 0.969 of the noise needed",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,epsilon=10,delta=1e-5,noise_scale=0.969",
    ),
)

risk = Theorem(
    name="rewind_to_delete_risk",
    statement="f_{D'}(u_t) - min <= g^t (f_{D'}(x_0) - min) + g^k (1 - g^l) 2 (Gm/n)^2/mu, g = 1 - eta mu, k = t - l",
    source=RISKS,
    assumes=Regularity.RETAINS_PL,
    metric=RISK,
    given=(initial(RISK),),
    condition="0 < eta <= 1/L, L of every record, G on the learning path, mu the PL constant of f_{D'}",
    admits=is_descent,
    bound=lambda t, c, hp, start: risk_bound(c, hp, *steps_on(t, hp), start),
    control=ten_times_steeper(1.0, "eta=0.05,T=200,K=0"),
)

published_risk = replace(
    risk,
    name="rewind_to_delete_published_risk",
    statement="E f_{D'}(u_T + sigma N) - min <= the bound on f_{D'}(u_T) - min, plus L sigma^2 d/2, d parameters",
    source=RISKS,
    metric=PUBLISHED_RISK,
    given=(initial(RISK), NOISE_SQ),
    condition=risk.condition + "; claimed from t = T on",
    bound=lambda t, c, hp, start, noise: published(t, hp, published_risk_bound(c, hp, *steps_on(t, hp), start, noise)),
    holds=Holds.IN_EXPECTATION,
    fewest_seeds=10,
    control=ten_times_steeper(1.0, "eta=0.05,T=200,K=0", seeds=64),
)

audit = Theorem(
    name="rewind_to_delete_audit",
    statement="projections of published u_T and v_T tell them apart by no more than (epsilon, delta)",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=UNLEARNED_PROJECTION,
    against=RETRAINED_PROJECTION,
    given=(),
    condition="eta > 0, noise_scale >= 1, K < T; claimed from t = T on",
    admits=is_auditable,
    bound=lambda t, c, hp: published(t, hp, hp.epsilon),
    holds=Holds.AUDITED,
    fewest_seeds=1000,
    control=UNDERNOISED,
)

black_box_audit = replace(
    audit,
    name="rewind_to_delete_black_box_audit",
    statement="losses of published u_T and v_T, on D' less on Z, tell them apart by no more than (epsilon, delta)",
    source=SOURCE,
    metric=UNLEARNED_LOSS,
    against=RETRAINED_LOSS,
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
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, SIGMA, VALUE),
    theorems=(strongly_convex, convex, nonconvex, certificate, attained, contraction, noise_exact, risk,
              published_risk, audit, black_box_audit),
)  # fmt: skip
