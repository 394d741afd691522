"""Stochastic R2D:  from x_{T-K}, K times u+ = P(u - eta_t grad f_B(u)), B from D', published u_T + sigma N(0, I).

Source: Mu & Klabjan (2025), arXiv:2511.15983: Rewind-to-Delete with minibatches, projected on a ball where `radius`
is finite. The run of `algorithms.stochastic_deletion` that learns for T - K steps and then turns to D'. Its distance
to retraining obeys the recursion of `algorithms.stochastic_sensitivity` with l = min(t, T-K) disturbed steps, so

  E |u_t - v_t| <= e_t,  e_{s+1} = min(2 radius, g_s e_s + 2 eta_s G m/n [s < l]):

the bound of the full batch, for which it holds surely. Every record must be in the class, since each minibatch is
then a g_s-Lipschitz map. What is random is the number of forgotten records a step meets; the noise is calibrated to
its tail, to its mean or to its worst case (`algorithms.relaxed_mechanism`), for the tightest class that the records
are declared to be in and the largest step size admits.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import PRIVACY_SPENT, PUBLISHED_DISTANCE, SENSITIVITY, readout
from algorithms.metric import VALUE
from algorithms.sensitivity import growth_rate, is_convex_step, is_step, is_strongly_convex_step
from algorithms.stochastic_deletion import HParams, begin, calls, coupled_step, is_certifying, is_coupled, noise
from algorithms.stochastic_deletion import prepare as prepare_deletion
from algorithms.stochastic_sensitivity import Course, distance, expected, surely, tail
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import UNSTATED, Constants, Regularity
from problems.oracles import Oracle

P = 0.05  # of the tail theorems
SOURCE = Source("Mu & Klabjan", 2025, "Descend or rewind? Stochastic gradient descent unlearning", "arXiv:2511.15983")
DERIVED = Source("derived here", 2026, SOURCE.title, "algorithms/stochastic_sensitivity.py")


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise; raise `InvalidSetting` also for K > T: nothing to rewind to."""
    hp = prepare_deletion(hp)
    refuse_unless(hp.K <= hp.T, f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return hp


def course(t: Array, hp: Any, rate: Array | float) -> Course:
    """Return the first min(t, T) steps, of which min(t, T - K) are on D."""
    return Course(jnp.minimum(t, hp.T), jnp.minimum(t, hp.T - hp.K), jnp.asarray(rate, float))


def init(problem, x0, key, hp):
    def sigma():
        if Regularity.DELETABLE not in problem.family.regularity:
            return jnp.zeros(())
        return noise(distance(course(hp.T, hp, growth_rate(problem, hp)), problem.constants, hp), hp)

    return begin(problem, x0, key, hp, hp.T - hp.K, hp.T, sigma)


def step(problem, state, key, hp):
    return coupled_step(problem, state, key, hp)


def convex_rate(c: Constants) -> Array | float:
    """Return -mu where every record is mu-strongly convex, else 0."""
    return 0.0 if c.mu_min is UNSTATED else -c.mu_min


def is_contracting(c: Constants, hp: Any) -> Array:
    """Return whether a step on a minibatch is (1 - eta mu)-Lipschitz, mu = 0 where every record is just convex."""
    return is_coupled(c, hp) & (is_convex_step(c, hp) if c.mu_min is UNSTATED else is_strongly_convex_step(c, hp))


def is_attained(c: Constants, hp: Any) -> Array:
    """Return whether steps on the tight instance never change the sign of u - v, and no ball stops them."""
    return is_coupled(c, hp) & (hp.eta > 0) & (hp.eta * c.spread <= 1) & (hp.radius == jnp.inf)


def is_law(c: Constants, hp: Any) -> Array:
    """Return whether nothing is random besides, on the tight instance."""
    return is_attained(c, hp) & (hp.batch_size == 0)


WRONG_G = Control(
    why="record gradients ten times as large as declared",
    problem="tight_deletion[curvature=1.0]",
    setting="eta=0.05,batch_size=8",
    misstate={"G": 0.1},
    seeds=16,
)

strongly_convex = Theorem(
    name="stochastic_rewind_to_delete_strongly_convex",
    statement="E |u_t - v_t| <= e_t, e_{s+1} = min(2R, (1 - eta_s mu) e_s + 2 eta_s G m/n [s < T-K]), t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; b <= n - m",
    admits=lambda c, hp: is_coupled(c, hp) & is_strongly_convex_step(c, hp),
    bound=lambda t, c, hp: expected(course(t, hp, -c.mu_min), c, hp),
    holds=Holds.IN_EXPECTATION,
    control=WRONG_G,
)

convex = Theorem(
    name="stochastic_rewind_to_delete_convex",
    statement="E |u_t - v_t| <= min(2R, 2 (G m/n) sum_{s < min(t, T-K)} eta_s), t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/L, L of every record; b <= n - m",
    admits=lambda c, hp: is_coupled(c, hp) & is_convex_step(c, hp),
    bound=lambda t, c, hp: expected(course(t, hp, 0.0), c, hp),
    holds=Holds.IN_EXPECTATION,
    control=WRONG_G,
)

nonconvex = Theorem(
    name="stochastic_rewind_to_delete_nonconvex",
    statement="E |u_t - v_t| <= e_t, e_{s+1} = min(2R, (1 + eta_s L) e_s + 2 eta_s G m/n [s < T-K]), t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE,
    metric=SENSITIVITY,
    given=(),
    condition="eta > 0; b <= n - m",
    admits=lambda c, hp: is_coupled(c, hp) & is_step(c, hp),
    bound=lambda t, c, hp: expected(course(t, hp, c.L_max), c, hp),
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="no rewind on a nonconvex loss: descending from x_T never undoes what T steps on D have grown",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.05,batch_size=8",
        algorithm="stochastic_descent_to_delete",
        seeds=16,
    ),
)

tail_convex = Theorem(
    name="stochastic_rewind_to_delete_tail",
    statement="P[|u_t - v_t| > D_p] <= p = 0.05, D_p of Chernoff for a_s = (2 G/b) eta_s prod_{r > s} (1 - eta_r mu)",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/(L + mu), L and mu >= 0 of every record; b <= n - m",
    admits=is_contracting,
    bound=lambda t, c, hp: tail(course(t, hp, convex_rate(c)), c, hp, P),
    holds=Holds.WITH_PROBABILITY,
    probability=1 - P,
    control=WRONG_G,
)

tail_nonconvex = Theorem(
    name="stochastic_rewind_to_delete_nonconvex_tail",
    statement="P[|u_t - v_t| > D_p] <= p = 0.05, D_p of Chernoff for a_s = (2 G/b) eta_s prod_{r > s} (1 + eta_r L)",
    source=DERIVED,
    assumes=Regularity.DELETABLE,
    metric=SENSITIVITY,
    given=(),
    condition="eta > 0; b <= n - m",
    admits=lambda c, hp: is_coupled(c, hp) & is_step(c, hp),
    bound=lambda t, c, hp: tail(course(t, hp, c.L_max), c, hp, P),
    holds=Holds.WITH_PROBABILITY,
    probability=1 - P,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.05,batch_size=8",
        misstate={"G": 0.1},
        seeds=16,
    ),
)

worst_case = Theorem(
    name="stochastic_rewind_to_delete_worst_case",
    statement="|u_t - v_t| <= e_t, e_{s+1} = min(2R, (1 - eta_s mu) e_s + 2 eta_s G min(1, m/b) [s < T-K]), t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY,
    metric=SENSITIVITY,
    given=(),
    condition="0 < eta <= 2/(L + mu), L and mu >= 0 of every record; b <= n - m; 1 for min(1, m/b) with replacement, "
    "m/n for it on the whole of D",
    admits=is_contracting,
    bound=lambda t, c, hp: surely(course(t, hp, convex_rate(c)), c, hp),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,batch_size=150",
        misstate={"G": 0.1},
    ),
)

schedule = Theorem(
    name="stochastic_rewind_to_delete_schedule",
    statement="|u_t - v_t| = e_t, e_{s+1} = (1 - eta_s spread) e_s + 2 eta_s G m/n [s < T-K], full batch, t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=SENSITIVITY,
    given=(),
    condition="batch_size = 0, eta > 0, eta spread <= 1, no projection",
    admits=is_law,
    bound=lambda t, c, hp: expected(course(t, hp, -c.spread), c, hp),
    kind=Kind.EXACT,
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,decay=0.97,batch_size=0",
        misstate={"G": 0.1},
    ),
)

attained = Theorem(
    name="stochastic_rewind_to_delete_mean",
    statement="E |u_t - v_t| = e_t, e_{s+1} = (1 - eta_s spread) e_s + 2 eta_s G m/n [s < T-K], t <= T",
    source=DERIVED,
    assumes=Regularity.DELETABLE | Regularity.ATTAINS_DELETION,
    metric=SENSITIVITY,
    given=(),
    condition="eta > 0, eta spread <= 1, no projection; b <= n - m",
    admits=is_attained,
    bound=lambda t, c, hp: expected(course(t, hp, -c.spread), c, hp),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    control=WRONG_G,
)

certificate = Theorem(
    name="stochastic_rewind_to_delete_certificate",
    statement="published u_T and v_T are (epsilon, delta)-indistinguishable: E delta(epsilon, |u - v|/sigma) <= delta",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=PRIVACY_SPENT,
    given=(),
    condition="eta > 0, noise_scale >= 1, b <= n - m, mechanism other than mean_plugged_in; claimed from t = T on",
    admits=lambda c, hp: is_step(c, hp) & is_certifying(c, hp),
    bound=lambda t, c, hp: jnp.where(t >= hp.T, hp.delta, jnp.nan),
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="noise for the mean distance, half a forgotten record a run: the runs that meet one are laid bare",
        problem="tight_deletion[curvature=0.0]",
        setting="eta=0.05,batch_size=1,T=10,K=0,mechanism=mean_plugged_in",
        steps=10,
        seeds=100,
    ),
    certifies="deletion of m records, n -> n - m",
)

algorithm = Algorithm(
    name="stochastic_rewind_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    calls=calls,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, VALUE),
    theorems=(
        strongly_convex,
        convex,
        nonconvex,
        tail_convex,
        tail_nonconvex,
        worst_case,
        schedule,
        attained,
        certificate,
    ),
)
