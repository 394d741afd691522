"""RefLoRA: refactor (B, A) <- (B P, P^{-1} A), then  B+ = B - eta G A^T,  A+ = A - eta B^T G,  G = grad ell(B A).

`full`: P P^T is the geometric mean of (B^T B)^{-1} and A A^T, which balances, B^T B = A A^T. `simple` (RefLoRA-S):
P = sqrt(|A|/|B|) I. Published points are refactored ones. The refactoring needs full rank: a start with B = 0 (LoRA's
own) has none and its lane is NaN; choose another start, or let the first `warm_up` steps be plain ones.
Source: Zhang, Li & Giannakis (2025), arXiv:2505.18877, which proves no rate. Derived here, W = B A = U Sigma V^T:
(P1) B P P^T B^T = |W^T| = U Sigma U^T and A^T (P P^T)^{-1} A = |W| = V Sigma V^T, so `full` is a map of W alone,
     W+ = W - eta (G |W| + |W^T| G) + eta^2 G W^T G: no imbalance of the start is seen.
(P2) Balanced factors are the shortest of all factors of W, |B|^2 + |A|^2 = 2 |W|_*; `simple` has 2 |B| |A|.
(P3) No refactoring changes the loss or makes |V| longer, so (L2), (A1) and (A2) of `algorithms.adapter_steps` hold
     for eta = c/(L |V|^2 + |G|) with |V|^2 = |B|^2 + |A|^2 after the refactoring.
(P4) ell = |W - M|^2/2, W = M + E: E+ = E - eta (E |M| + |M^T| E), which multiplies the part of E between the i-th and
     j-th singular directions by 1 - eta (sigma_i + sigma_j), 0 beyond the rank: stable for eta < 1/sigma_1, and the
     error contracts at 1 - eta sigma_r if eta (2 sigma_1 + sigma_r) <= 2.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms import adapter_steps
from algorithms.adapter_steps import ADAPTER_NORM_SQ, CONTRACTION, DISSIPATED, STEP_SUM, WEIGHT_GAP, kappa, residual
from algorithms.algorithm import Algorithm, refuse_step_count, refuse_unless, refuse_unless_positive
from algorithms.metric import GRADIENT_NORM_SQ, Metric, best, initial
from algorithms.principal_axes import principal_axes
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.adapter import Adapter, is_adapter
from problems.constants import Constants, Regularity
from problems.oracles import Oracle

SOURCE = Source(
    "Zhang, Li & Giannakis",
    2025,
    "RefLoRA: Refactored Low-Rank Adaptation for Efficient Fine-Tuning of Large Models",
    "arXiv:2505.18877",
)
LARGEST_CONDITION = 1e12


@struct.dataclass
class HParams:
    """refactor: full or simple; rule: selfnorm, eta = c/(L |V|^2 + |G|), or const; warm_up: plain steps at first."""

    refactor: str = struct.field(pytree_node=False, default="full")
    rule: str = struct.field(pytree_node=False, default="selfnorm")
    c: Array | float | str = 0.5
    eta: Array | float | str = 0.1
    warm_up: Array | int | str = 0


@struct.dataclass
class State:
    """step_sum: S_t; dissipated: sum_{s<t} eta_s N_s^2; step_size, previous: eta and |G|_F of the last step."""

    x: Any
    t: Array
    step_sum: Array
    dissipated: Array
    step_size: Array
    previous: Array


def balanced(x: Adapter) -> Adapter:
    """Return the factors U Sigma^(1/2) and Sigma^(1/2) V^T of B A; NaN beyond the condition number 1e12."""
    BV, d, Vt = principal_axes(x.B)
    axes, sigma, Pt = principal_axes(x.A.T @ Vt.T * d)  # B A = (B V/d) P axes^T
    root = jnp.sqrt(jnp.where(jnp.min(sigma) * LARGEST_CONDITION > jnp.max(sigma), sigma, jnp.nan))
    return Adapter(BV / d @ Pt.T * root, (axes / root).T)


def rescaled(x: Adapter) -> Adapter:
    """Return factors of equal Frobenius norm."""
    p = jnp.sqrt(jnp.linalg.norm(x.A) / jnp.linalg.norm(x.B))
    return Adapter(x.B * p, x.A / p)


REFACTOR = {"full": balanced, "simple": rescaled}
RULES = ("selfnorm", "const")


def refactored(x: Any, t: Array, hp: HParams) -> Any:
    """Return `x` refactored, or as it is during the warm-up."""
    other = jax.tree.map(REFACTOR[hp.refactor], x, is_leaf=is_adapter)
    return jax.tree.map(lambda plain, new: jnp.where(t < jnp.asarray(hp.warm_up), plain, new), x, other)


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for an unknown refactor or rule, c outside (0, 1], eta <= 0, warm_up < 0."""
    refuse_unless(hp.refactor in REFACTOR, f"refactor = {hp.refactor!r}: must be one of {', '.join(REFACTOR)}")
    refuse_unless(hp.rule in RULES, f"rule = {hp.rule!r}: must be one of {', '.join(RULES)}")
    refuse_unless_positive(hp.c, "c")
    refuse_unless(np.asarray(hp.c, float) <= 1, f"c = {hp.c}: must lie in (0, 1]")
    refuse_unless_positive(hp.eta)
    refuse_step_count(hp.warm_up, "warm_up", "plain")
    return hp


def init(problem, x0, key, hp):
    zero = jnp.zeros(())
    return State(refactored(x0, zero, hp), zero, zero, zero, zero, jnp.asarray(jnp.inf))


def step(problem, state, key, hp):
    G = problem.weight_grad(state.x)
    gradient = problem.pull_back(state.x, G)
    v_sq, g = optax.tree.norm(state.x, squared=True), optax.tree.norm(G)
    eta = hp.c / (problem.constants.L_weight * v_sq + g) if hp.rule == "selfnorm" else jnp.asarray(hp.eta)
    dissipation = eta * optax.tree.norm(gradient, squared=True)
    t = state.t + 1
    x = refactored(descend_by(state.x, eta, gradient), t, hp)
    return State(x, t, state.step_sum + eta, state.dissipated + dissipation, eta, g)


def readout(state):
    return state.x


def gram_gap(problem, x, state):
    """Return |B^T B - A A^T|_F, over all adapters together."""
    return optax.tree.norm(jax.tree.map(lambda a: a.B.T @ a.B - a.A @ a.A.T, x, is_leaf=is_adapter))


GRAM_GAP = Metric("gram_gap", gram_gap)
STEP_SIZE = Metric("step_size", lambda problem, x, state: state.step_size)
RESIDUAL = Metric("residual", residual)


def descent_bound(t: Array, c: Constants, hp: Any, start_gap: Array, gap: Array) -> Array:
    """Return (J(V_0) - J(V_t))/kappa."""
    return (start_gap - gap) / kappa(hp.c)


def rate_bound(t: Array, c: Constants, hp: Any, gap: Array, v_sq: Array) -> Array:
    """Return (A2) from V_0 after its refactoring."""
    return adapter_steps.rate_bound(t, hp.c, c.L_weight, adapter_steps.selfnorm_a(c.L_weight, v_sq, gap), gap)


def local_bound(t: Array, c: Constants, hp: Any, error: Array, eta: Array) -> Array:
    """Return 1 - eta sigma_r where 1e-11 sigma_1 <= |W - M|_F <= 1e-5 sigma_r and the slowest part is the largest."""
    near = (error <= 1e-5 * c.sigma_r) & (error >= 1e-11 * c.sigma_1) & (eta * (2 * c.sigma_1 + c.sigma_r) <= 2)
    return jnp.where(near, 1 - eta * c.sigma_r, jnp.nan)


def certified(c: Constants, hp: Any) -> Array:
    """Return whether the step is one that (L2) speaks of."""
    return jnp.asarray(hp.rule == "selfnorm") & (hp.c > 0) & (hp.c <= 1)


balance: AnyTheorem = Theorem(
    name="reflora_balanced",
    statement="refactor = full: |B^T B - A A^T|_F <= 1e-12 (|B|^2 + |A|^2), balanced up to rounding, from any start",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/reflora.py, (P2)"),
    assumes=Regularity.BOUNDED_IN_WEIGHT,
    metric=GRAM_GAP,
    given=(ADAPTER_NORM_SQ,),
    condition="refactor = full, from the end of the warm-up on",
    admits=lambda c, hp: jnp.asarray(hp.refactor == "full"),
    bound=lambda t, c, hp, v_sq: jnp.where(t >= hp.warm_up, 1e-12 * v_sq, jnp.nan),
    control=Control(
        why="factors of equal norm are not balanced direction by direction",
        problem="matrix_factorization[init=gaussian]",
        setting="refactor=simple",
        steps=50,
    ),
)

descent: AnyTheorem = Theorem(
    name="reflora_descent",
    statement="sum_(s<t) eta_s |grad J(V_s)|^2 <= (J(V_0) - J(V_t))/kappa(c)",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/adapter_steps.py, (L2); reflora.py, (P3)"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=DISSIPATED,
    given=(initial(WEIGHT_GAP), WEIGHT_GAP),
    condition="rule = selfnorm, 0 < c <= 1",
    admits=certified,
    bound=descent_bound,
    control=Control(
        why="a constant step that is too large climbs",
        problem="cosine",
        setting="rule=const,eta=1.0,warm_up=1",
        steps=50,
    ),
)

rate: AnyTheorem = Theorem(
    name="reflora_rate",
    statement="min_(s<=t) |grad J(V_s)|^2 <= D (a + sqrt(a^2 + 2 b c t))/(2 kappa c t), a of V_0 refactored",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/adapter_steps.py, (A2); reflora.py, (P3)"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), initial(ADAPTER_NORM_SQ)),
    condition="rule = selfnorm, 0 < c <= 1",
    admits=certified,
    bound=rate_bound,
    control=Control(
        why="a constant step that is too small stays where it is, whatever the bound says",
        problem="matrix_factorization[init=gaussian]",
        setting="rule=const,eta=1e-6",
        steps=1000,
    ),
)

local: AnyTheorem = Theorem(
    name="reflora_local_rate",
    statement="refactor = full: |W+ - M|_F / |W - M|_F = 1 - eta sigma_r near M, from any start",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/reflora.py, (P4)"),
    assumes=Regularity.TARGET | Regularity.EXACT_RANK,
    metric=CONTRACTION,
    given=(RESIDUAL, STEP_SIZE),
    condition="rank M = r < min(m, n), eta (2 sigma_1 + sigma_r) <= 2, 1e-11 sigma_1 <= |W - M|_F <= 1e-5 sigma_r",
    admits=lambda c, hp: jnp.asarray(hp.refactor == "full"),
    bound=local_bound,
    kind=Kind.ASYMPTOTIC,
    slack=1e-3,
    control=Control(
        why="a plain step contracts at 1 - eta min(sigma_r(B)^2, sigma_r(A)^2), which balanced norms do not raise",
        problem="matrix_factorization[init=spectral,start=0.1,kappa=3]",
        setting="refactor=simple,rule=const,eta=0.4",
        steps=120,
    ),
)

algorithm = Algorithm(
    name="reflora",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.SMOOTH_IN_WEIGHT,
    prepare=prepare,
    metrics=(WEIGHT_GAP, ADAPTER_NORM_SQ, STEP_SUM),
    theorems=(balance, descent, rate, local),
)
