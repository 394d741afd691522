"""Gradient descent on LoRA adapters:  B+ = B - eta G A^T,  A+ = A - eta B^T G,  G = grad ell(W0 + B A).

Step sizes: `selfnorm` eta = c/(L |V|^2 + |G|), 0 < c <= 1; `mk_theory` eta = min(c/(L (|V|^2 + |G|)), 1) with
c = 1/(4 sqrt2), needs L >= 1; `const`. Here |V|^2 = |B|^2 + |A|^2, N^2 = |grad J|^2, J(V) = ell(W0 + B A).
Source: Mu & Klabjan (2025), arXiv:2512.18248: O(1/log T) for `mk_theory`. Derived
here, and sharper: O(1/sqrt T) for both, (L1), (L2), (A1), (A2) of `algorithms.adapter_steps`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms import adapter_steps
from algorithms.adapter_steps import ADAPTER_NORM_SQ, DISSIPATED, STEP_SUM, WEIGHT_GAP, kappa
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import GRADIENT_NORM_SQ, best, initial
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Source, Theorem
from problems.problem import Constants, Oracle, Regularity

MK_C = 1 / (4 * 2**0.5)
SOURCE = Source("Mu & Klabjan", 2025, "On the convergence rate of LoRA gradient descent", "arXiv:2512.18248")


@struct.dataclass
class HParams:
    """rule: name of the step size; c: its factor (`selfnorm`); eta: the step size itself (`const`)."""

    rule: str = struct.field(pytree_node=False, default="selfnorm")
    c: Array | float | str = 0.5
    eta: Array | float | str = 0.01


@struct.dataclass
class State:
    """step_sum: S_t; dissipated: sum_{s<t} eta_s N_s^2."""

    x: Any
    step_sum: Array
    dissipated: Array


@dataclass(frozen=True)
class Rule:
    """A step size, and what (L2) needs of it: its c, when p + q <= c holds, and a of (A2)."""

    step_size: Callable[[Array, Array, Array, Any], Array]  # of |V|^2, |G|, L, hp
    c: Callable[[Any], Array | float]
    admits: Callable[[Constants, Any], Array]
    a: Callable[[Array, Array, Array], Array]  # of L, |V_0|^2, Delta


SELFNORM = Rule(
    step_size=lambda v_sq, g, L, hp: hp.c / (L * v_sq + g),
    c=lambda hp: hp.c,
    admits=lambda c, hp: (hp.c > 0) & (hp.c <= 1),
    a=adapter_steps.selfnorm_a,
)
MK_THEORY = Rule(
    step_size=lambda v_sq, g, L, hp: jnp.minimum(MK_C / (L * (v_sq + g)), 1.0),
    c=lambda hp: MK_C,
    admits=lambda c, hp: c.L_weight >= 1,
    a=lambda L, v_sq, gap: 2 * L * v_sq + L * jnp.sqrt(2 * L * gap) + MK_C,
)
# a constant step promises nothing: it is drawn against what `selfnorm` promises, and never judged
CONST = replace(SELFNORM, step_size=lambda v_sq, g, L, hp: hp.eta, admits=lambda c, hp: jnp.zeros((), bool))
RULES = {"selfnorm": SELFNORM, "mk_theory": MK_THEORY, "const": CONST}


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for an unknown rule, c outside (0, 1] or eta <= 0."""
    refuse_unless(hp.rule in RULES, f"rule = {hp.rule!r}: must be one of {', '.join(RULES)}")
    c, eta = np.asarray(hp.c, float), np.asarray(hp.eta, float)
    refuse_unless((c > 0) & (c <= 1), f"c = {hp.c}: must lie in (0, 1]")
    refuse_unless((eta > 0) & np.isfinite(eta), f"eta = {hp.eta}: a step size must be positive and finite")
    return hp


def init(problem, x0, key, hp):
    return State(x0, jnp.zeros(()), jnp.zeros(()))


def step(problem, state, key, hp):
    G = problem.weight_grad(state.x)
    gradient = problem.pull_back(state.x, G)
    v_sq, g = optax.tree.norm(state.x, squared=True), optax.tree.norm(G)
    eta = RULES[hp.rule].step_size(v_sq, g, problem.constants.L_weight, hp)
    dissipation = eta * optax.tree.norm(gradient, squared=True)
    return State(descend_by(state.x, eta, gradient), state.step_sum + eta, state.dissipated + dissipation)


def readout(state):
    return state.x


def admits(c: Constants, hp: Any) -> Array:
    """Return whether the rule keeps p + q <= c of (L2)."""
    return RULES[hp.rule].admits(c, hp)


def path_bound(t: Array, c: Constants, hp: Any, gap: Array, step_sum: Array) -> Array:
    """Return Delta/(kappa S_t)."""
    return adapter_steps.path_bound(RULES[hp.rule].c(hp), gap, step_sum)


def rate_bound(t: Array, c: Constants, hp: Any, gap: Array, v_sq: Array) -> Array:
    """Return Delta (a + sqrt(a^2 + 2 b c t))/(2 kappa c t)."""
    rule = RULES[hp.rule]
    return adapter_steps.rate_bound(t, rule.c(hp), c.L_weight, rule.a(c.L_weight, v_sq, gap), gap)


def descent_bound(t: Array, c: Constants, hp: Any, start_gap: Array, gap: Array) -> Array:
    """Return (J(V_0) - J(V_t))/kappa."""
    return (start_gap - gap) / kappa(RULES[hp.rule].c(hp))


CONDITION = "selfnorm: 0 < c <= 1; mk_theory: L >= 1"
descent = Theorem(
    name="lora_gradient_descent_descent",
    statement="sum_(s<t) eta_s |grad J(V_s)|^2 <= (J(V_0) - J(V_t))/kappa(c)",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/adapter_steps.py, (L2)"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=DISSIPATED,
    given=(initial(WEIGHT_GAP), WEIGHT_GAP),
    condition=CONDITION,
    admits=admits,
    bound=descent_bound,
    control=Control(
        why="the step of arXiv:2512.18248 for L < 1 scales wrongly: one step multiplies this loss by 70",
        problem="matrix_factorization[m=1,n=1,rank=1,rank_star=1,L=4.204e-4,scale=1e6,init=constant,start=14.6357]",
        setting="rule=mk_theory",
    ),
)

path = Theorem(
    name="lora_gradient_descent_path",
    statement="min_(s<=t) |grad J(V_s)|^2 <= (J(V_0) - inf ell)/(kappa(c) sum_(s<t) eta_s)",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/adapter_steps.py, (A1)"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), STEP_SUM),
    condition=CONDITION,
    admits=admits,
    bound=path_bound,
    control=Control(
        why="smoothness understated ten times: steps beyond 2/L never settle",
        problem="matrix_factorization",
        setting="c=1.0",
        misstate={"L_weight": 0.1},
        steps=1000,
    ),
)

rate = Theorem(
    name="lora_gradient_descent_rate",
    statement="min_(s<=t) |grad J(V_s)|^2 <= D (a + sqrt(a^2 + 2 b c t))/(2 kappa c t), D = J(V_0) - inf ell",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/adapter_steps.py, (A2)"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), initial(ADAPTER_NORM_SQ)),
    condition=CONDITION,
    admits=admits,
    bound=rate_bound,
    control=Control(
        why="a constant step that is too small stays where it is, whatever the bound says",
        problem="escape_family[p=2.0]",
        setting="rule=const,eta=1e-6",
        steps=1000,
    ),
)

algorithm = Algorithm(
    name="lora_gradient_descent",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.SMOOTH_IN_WEIGHT,
    prepare=prepare,
    metrics=(WEIGHT_GAP, ADAPTER_NORM_SQ),
    theorems=(descent, path, rate),
)
