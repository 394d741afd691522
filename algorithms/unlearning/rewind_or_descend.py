"""Rewind or descend?  K steps on D' from x_{T-K} give u, K steps on D' from x_T give d: which is nearer to v_T?

Source: Mu & Klabjan (2025), arXiv:2511.15983. The request comes after T steps of learning from x_0, u and d answer it
side by side, without noise; w = x_T is what was published before, v_T is retraining.

  t < T:            d+ = d - eta grad f_D(d),     v+ = v - eta grad f_{D'}(v);  u follows d until t = T - K and waits
  T <= t < T + K:   d+ = d - eta grad f_{D'}(d),  u+ = u - eta grad f_{D'}(u);  w = d at t = T

Strongly convex, g = 1 - eta mu, S(g, k) = 1 + g + ... + g^(k-1). The two bounds on the distance to v_T
(`rewind_to_delete`, `descent_to_delete`) are g^K a S(g, T-K) and g^K a S(g, T) + g^T eta S(g, K) |grad f_{D'}(x_0)|.
As S(g, T) = S(g, T-K) + g^(T-K) S(g, K), the second exceeds the first by g^T S(g, K) (a + eta |grad f_{D'}(x_0)|) >= 0:
rewinding never has the larger bound. The points themselves are close once T is long: u and d are K steps of one
g-Lipschitz map from x_{T-K} and from x_T, and the steps between these two are at most g^t eta |grad f_D(x_0)| long,
t = T-K, ..., T-1, so |u - d| <= g^T eta S(g, K) |grad f_D(x_0)|, attained in one dimension.

What is said of nonconvex and convex losses is observed, not proven; each statement names on what. A step is counted
as one gradient: that of the model which learns, or is rewound.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import START_GRADIENT, choose, extent
from algorithms.metric import VALUE, Metric
from algorithms.recursions import descend_by, log_geometric_sum
from algorithms.sensitivity import MARGIN, is_strongly_convex_step, log_contraction
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from algorithms.tuning import forgotten_gap, forgotten_value, keep_unless, prepare_steps
from problems.constants import UNSTATED, Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

SOURCE = Source("Mu & Klabjan", 2025, "Descend or rewind? Stochastic gradient descent unlearning", "arXiv:2511.15983")


@struct.dataclass
class HParams:
    """eta: step size; K: unlearning steps; T: learning steps."""

    eta: Array | float | str = "1/L_max"
    K: Array | float | str = 20
    T: Array | float | str = 100


@struct.dataclass
class State:
    """x: u; descended: d; original: w from t = T on; retrained: v; t: steps done; start_gradient: |grad f_D(x_0)|."""

    x: Any
    descended: Any
    original: Any
    retrained: Any
    t: Array
    start_gradient: Array


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for K > T, a step size that is not positive, counts that are not counts."""
    hp = prepare_steps(hp)
    refuse_unless(hp.K <= hp.T, f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return hp


def init(problem, x0, key, hp):
    return State(x0, x0, x0, x0, jnp.zeros((), jnp.int32), optax.tree.norm(problem.grad(x0)))


def step(problem, state, key, hp):
    t, retained = state.t, problem.retained()
    learning, unlearning = t < hp.T, (t >= hp.T) & (t < hp.T + hp.K)
    eta = jnp.where(learning | unlearning, hp.eta, 0.0)
    descended = descend_by(state.descended, eta, choose(learning, problem, retained).grad(state.descended))
    other = keep_unless(learning, state.x, state.retrained)  # v first, then u: one gradient serves both
    moved = descend_by(other, eta, retained.grad(other))
    return replace(
        state,
        x=keep_unless(t < hp.T - hp.K, keep_unless(unlearning, state.x, moved), descended),
        descended=descended,
        original=keep_unless(learning, state.original, descended),
        retrained=keep_unless(learning, state.retrained, moved),
        t=t + 1,
    )


def readout(state):
    return state.x


def apart(name: str, first: str, second: str) -> Metric:
    """Return the metric |first - second| of two fields of the state."""

    def measure(problem: Problem, x: Any, state: State) -> Array:
        return optax.tree.norm(optax.tree.sub(getattr(state, first), getattr(state, second)))

    return Metric(name, measure, scale=extent)


def gap(name: str, field: str) -> Metric:
    """Return the metric |f_Z(field) - f_Z(v)|."""

    def measure(problem: Problem, x: Any, state: State) -> Array:
        return forgotten_gap(problem, getattr(state, field), state.retrained)

    return Metric(name, measure, scale=forgotten_value)


REWOUND = apart("rewound_distance", "x", "retrained")
DESCENDED = apart("descended_distance", "descended", "retrained")
ORIGINAL = apart("original_distance", "original", "retrained")
BETWEEN = apart("rewound_to_descended", "x", "descended")
REWOUND_GAP = gap("rewound_forgotten_gap", "x")
DESCENDED_GAP = gap("descended_forgotten_gap", "descended")
ORIGINAL_GAP = gap("original_forgotten_gap", "original")


def unfinished_steps(c: Constants, hp: Any) -> Array:
    """Return g^T eta S(g, K), g = 1 - eta mu."""
    log_g = log_contraction(c, hp)
    return hp.eta * jnp.exp(hp.T * log_g + log_geometric_sum(log_g, hp.K))


def arc(hp: Any) -> Array:
    """Return sqrt(1 - (K/T)^2): 1 at K = 0, 0 at K = T."""
    share = hp.K / jnp.maximum(hp.T, 1)
    return jnp.sqrt(jnp.maximum(1 - share**2, 0.0))


def at_the_end(t: Array, hp: Any, bound: Array) -> Array:
    """Return `bound` once both have unlearned, t >= T + K, and NaN before."""
    return jnp.where(t >= hp.T + hp.K, bound, jnp.nan)


def is_ordinary(c: Constants, hp: Any) -> Array:
    """Return whether K >= 1, on a problem of d >= 2 that neither attains the bounds nor has two basins."""
    d = 2 if c.dimension is UNSTATED else c.dimension
    return (hp.K >= 1) & (d >= 2) & (c.spread is UNSTATED and c.basins is UNSTATED)


def is_unfinished(c: Constants, hp: Any) -> Array:
    """Return whether eta L T <= 5 d, L = 1 where it is not stated, and no record is strongly convex.

    Records of norm 1 in d directions leave a curvature of about L/d in each, so that learning takes d/(eta L) steps.
    """
    if c.mu_min is not UNSTATED or c.dimension is UNSTATED:
        return jnp.asarray(False)
    L = 1.0 if c.L_max is UNSTATED else c.L_max
    return (hp.eta * L * hp.T <= 5 * c.dimension) & is_ordinary(c, hp)


def is_late_rewind(c: Constants, hp: Any) -> Array:
    """Return whether at least 5/(eta L) steps choose a basin before x_{T-K} and deletion hardly moves its minimum."""
    chosen = (hp.K <= 0.9 * hp.T) & (hp.eta * c.L_max <= MARGIN) & (hp.eta * c.L_max * hp.T >= 50 / MARGIN)
    return chosen & (c.G * c.forgotten / (c.n * c.L_max) <= c.basins / 40)


approaches: AnyTheorem = Theorem(
    name="rewinding_approaches_retraining",
    statement="the median of |u - v_T| / |w - v_T| is <= sqrt(1 - (K/T)^2); observed on losses bounded below",
    source=SOURCE,
    assumes=Regularity.NONE,
    metric=REWOUND,
    given=(ORIGINAL,),
    condition="K >= 1, d >= 2; neither instances that attain the bounds nor two basins; claimed from t = T + K on",
    admits=is_ordinary,
    bound=lambda t, c, hp, original: at_the_end(t, hp, arc(hp) * original),
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    control=Control(
        why="a concave loss without a lower bound multiplies what was learned before the rewind point ever on",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.1,T=100,K=70",
        seeds=16,
    ),
)

stays_away: AnyTheorem = Theorem(
    name="descending_does_not_approach",
    statement="the median of |w - v_T| / |d - v_T| is <= 1, K >= 0.9 T: descending from x_T moves away from v_T; "
    "observed while learning is unfinished",
    source=SOURCE,
    assumes=Regularity.NONE,
    metric=ORIGINAL,
    given=(DESCENDED,),
    condition="K >= 0.9 T, d >= 2, eta L T <= 5 d (L = 1 where it is not stated), records not strongly convex; neither "
    "instances that attain the bounds nor two basins; claimed from t = T + K on",
    admits=lambda c, hp: is_unfinished(c, hp) & (hp.K >= 0.9 * hp.T),
    bound=lambda t, c, hp, descended: at_the_end(t, hp, descended),
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    control=Control(
        why="a strongly convex loss learned to the end: descending does approach retraining",
        problem="logistic_regression[n=60,d=5,l2=0.03]",
        setting="T=50,K=50",
        seeds=16,
    ),
)

no_farther: AnyTheorem = Theorem(
    name="rewinding_ends_no_farther_than_descending",
    statement="the median of |u - v_T| / |d - v_T| is <= 1.1, for equal K and T; observed, convex or not",
    source=SOURCE,
    assumes=Regularity.NONE,
    metric=REWOUND,
    given=(DESCENDED,),
    condition="K >= 1, d >= 2; neither instances that attain the bounds nor two basins; claimed from t = T + K on",
    admits=is_ordinary,
    bound=lambda t, c, hp, descended: at_the_end(t, hp, 1.1 * descended),
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    control=Control(
        why="in one dimension, from beyond both minimisers, descending crosses v_T on its way",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.02,T=100,K=25",
        seeds=16,
    ),
)

close: AnyTheorem = Theorem(
    name="rewinding_is_as_close_in_strongly_convex",
    statement="|u - d| <= g^T (1 - g^K) |grad f_D(x_0)| / mu, g = 1 - eta mu: the same model once learning is finished",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/unlearning/rewind_or_descend.py"),
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=BETWEEN,
    given=(START_GRADIENT,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record; claimed from t = T + K on",
    admits=is_strongly_convex_step,
    bound=lambda t, c, hp, start_gradient: at_the_end(t, hp, unfinished_steps(c, hp) * start_gradient),
    control=Control(
        why="mu declared twice as large as it is",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"mu_min": 2.0},
    ),
)

forgets: AnyTheorem = Theorem(
    name="rewinding_forgets_like_retraining",
    statement="the median of |f_Z(u) - f_Z(v_T)| / |f_Z(w) - f_Z(v_T)| is <= sqrt(1 - (K/T)^2); observed on losses "
    "bounded below",
    source=SOURCE,
    assumes=Regularity.NONE,
    metric=REWOUND_GAP,
    given=(ORIGINAL_GAP,),
    condition="K >= 1, d >= 2; neither instances that attain the bounds nor two basins; claimed from t = T + K on",
    admits=is_ordinary,
    bound=lambda t, c, hp, original: at_the_end(t, hp, arc(hp) * original),
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    control=Control(
        why="a concave loss without a lower bound multiplies what was learned before the rewind point ever on",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta=0.1,T=100,K=70",
        seeds=16,
    ),
)

basin: AnyTheorem = Theorem(
    name="basin_chosen_before_rewinding",
    statement="|u - v_T| = basins within 5 %, K <= 0.9 T: rewinding does not leave the basin that was chosen before",
    source=Source("derived here", 2026, SOURCE.title, "problems/nonconvex/double_well.py"),
    assumes=Regularity.DELETABLE | Regularity.TWO_BASINS,
    metric=REWOUND,
    given=(),
    condition="K <= 0.9 T, eta <= 1/L, eta L T >= 50, G m/(n L) <= basins/40 (deletion hardly moves a minimum); "
    "claimed from t = T + K on",
    admits=is_late_rewind,
    bound=lambda t, c, hp: at_the_end(t, hp, c.basins),
    kind=Kind.EXACT,
    tolerance=0.05,
    control=Control(
        why="rewinding to the start, before any basin is chosen",
        problem="double_well",
        setting="eta=0.5,T=100,K=100",
    ),
)

algorithm = Algorithm(
    name="rewind_or_descend",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(REWOUND, DESCENDED, ORIGINAL, BETWEEN, REWOUND_GAP, DESCENDED_GAP, ORIGINAL_GAP, VALUE),
    theorems=(approaches, stays_away, no_farther, close, forgets, basin),
)
