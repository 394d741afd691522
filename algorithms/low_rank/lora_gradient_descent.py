"""Gradient descent on LoRA adapters:  B+ = B - eta G A^T,  A+ = A - eta B^T G,  G = grad ell(W0 + B A).

With |V|^2 = |B|^2 + |A|^2, N^2 = |grad J|^2, J(V) = ell(W0 + B A), eta is c/(L |V|^2 + |G|) (`selfnorm`), the same
with an L found on the way (`selfnorm_bt`), min(1/(4 sqrt2 L (|V|^2 + |G|)), 1) for L >= 1 (`mk_theory`),
min(alpha/(|V|^2 + |G|), 1) (`adapt`), min(alpha/(|V|^2 + sqrt J), 1) (`adapt2`), min(alpha/sqrt N, 1) (`norm`) or
`const`: `algorithms.adapter_rules`. Source: Mu & Klabjan (2025), arXiv:2512.18248, for the last five, and O(1/log T)
for `mk_theory`. Derived here, and sharper: O(1/sqrt T), for it, both `selfnorm` and `adapt` with alpha max(1, L) <= 1,
attained on `worst_horizon`: (L1) to (A3) of `algorithms.adapter_steps`.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms import adapter_rules, adapter_steps
from algorithms.adapter_rules import RULES, Sizes, admits
from algorithms.adapter_steps import ADAPTER_NORM_SQ, DISSIPATED, L_HAT, STEP_SUM, WEIGHT_GAP, Balance, largest
from algorithms.algorithm import Algorithm
from algorithms.balance import batch_calls, minibatch
from algorithms.metric import GRADIENT_NORM_SQ, best, initial
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle

SOURCE = Source("Mu & Klabjan", 2025, "On the convergence rate of LoRA gradient descent", "arXiv:2512.18248")
DERIVED = Source("derived here", 2026, "Steps on low-rank adapters", "algorithms/adapter_steps.py")
TINY_L = "matrix_factorization[m=1,n=1,rank=1,rank_star=1,L={},scale=1e6,init=constant,start=14.6357]"


@struct.dataclass
class HParams:
    """rule: name of the step size; c (both `selfnorm`), L0 (`selfnorm_bt`: its first L), alpha (`adapt`, `adapt2`,
    `norm`), eta (`const`): its number; norms: the pair that |V| and |G| are of, `frobenius`, `spectral_gradient` or
    `spectral_weights`; across: of several adapters all `together` or the `largest`; batch_size: 0, the whole objective.
    """

    rule: str = struct.field(pytree_node=False, default="selfnorm")
    c: Array | float | str = 0.5
    eta: Array | float | str = 0.01
    alpha: Array | float | str = 1.0
    L0: Array | float | str = 1.0
    norms: str = struct.field(pytree_node=False, default="frobenius")
    across: str = struct.field(pytree_node=False, default="together")
    batch_size: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class State:
    """step_sum: S_t; dissipated: sum_{s<t} eta_s N_s^2; L_hat: the L of `selfnorm_bt`; level: |J(V_0)|.

    previous: |G| one step ago.
    """

    x: Any
    step_sum: Array
    dissipated: Array
    L_hat: Array
    level: Array
    previous: Array
    balance: Balance


def init(problem, x0, key, hp):
    adapter_rules.refuse_on(problem, hp)
    x0, zero = adapter_rules.sound(problem, x0), jnp.zeros(())
    level = jnp.abs(problem.value(x0))
    return State(x0, zero, zero, jnp.asarray(hp.L0, float), level, jnp.asarray(jnp.inf), adapter_steps.balance_at(x0))


def step(problem, state, key, hp):
    rule, batch, x = RULES[hp.rule], minibatch(problem, key, hp.batch_size), state.x
    G = batch.weight_grad(x)
    gradient = batch.pull_back(x, G)
    sizes = Sizes(*adapter_rules.norms_of(x, G, hp), optax.tree.norm(gradient, squared=True), batch.value(x))
    L, L_hat = problem.constants.L_weight, state.L_hat
    if rule.searches:
        L = L_hat = adapter_rules.found_L(batch, x, gradient, sizes, L_hat, state.level, hp)
    eta = rule.step_size(sizes, L, hp)
    return replace(
        state,
        x=descend_by(x, eta, gradient),
        step_sum=state.step_sum + eta,
        dissipated=state.dissipated + eta * sizes.n_sq,
        L_hat=L_hat,
        previous=sizes.g,
        balance=adapter_steps.rebalanced(state.balance, eta, gradient),
    )


def readout(state):
    return state.x


CONDITION = "full batch; selfnorm, selfnorm_bt: 0 < c <= 1; mk_theory: L >= 1; adapt: alpha max(1, L) <= 1"
descent = Theorem(
    name="lora_gradient_descent_descent",
    statement="sum_(s<t) eta_s |grad J(V_s)|^2 <= (J(V_0) - J(V_t))/kappa(c)",
    source=DERIVED,
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=DISSIPATED,
    given=(initial(WEIGHT_GAP), WEIGHT_GAP),
    condition=CONDITION,
    admits=admits,
    bound=adapter_rules.descent_bound,
    control=Control(
        why="the step of arXiv:2512.18248 for L < 1 scales wrongly: one step multiplies this loss by 70",
        problem=TINY_L.format(4.204e-4),
        setting="rule=mk_theory",
    ),
)

path = Theorem(
    name="lora_gradient_descent_path",
    statement="min_(s<=t) |grad J(V_s)|^2 <= (J(V_0) - inf ell)/(kappa(c) sum_(s<t) eta_s)",
    source=DERIVED,
    assumes=Regularity.BOUNDED_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), STEP_SUM),
    condition=CONDITION,
    admits=admits,
    bound=adapter_rules.path_bound,
    control=Control(
        why="smoothness understated ten times: steps beyond 2/L never settle",
        problem="matrix_factorization",
        setting="c=1.0",
        misstate={"L_weight": 0.1},
        steps=1000,
    ),
)

SLOW = Control(
    why="a constant step that is too small stays where it is, whatever the bound says",
    problem="escape_family[p=2.0]",
    setting="rule=const,eta=1e-6",
    steps=1000,
)
rate = Theorem(
    name="lora_gradient_descent_rate",
    statement="min_(s<=t) |grad J(V_s)|^2 <= D (a + sqrt(a^2 + 2 b c t))/(2 kappa c t), D = J(V_0) - inf ell",
    source=DERIVED,
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), initial(ADAPTER_NORM_SQ)),
    condition=CONDITION,
    admits=admits,
    bound=adapter_rules.rate_bound,
    control=SLOW,
)

bounded_rate = Theorem(
    name="lora_gradient_descent_bounded_rate",
    statement="min_(s<=t) |grad J(V_s)|^2 <= D (L R^2 + sqrt(2 L D))/(kappa c t), R = max_(s<=t) |V_s|",
    source=DERIVED,
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(WEIGHT_GAP), largest(ADAPTER_NORM_SQ)),
    condition=CONDITION,
    admits=admits,
    bound=adapter_rules.bounded_bound,
    control=SLOW,
)

smoothness_found: AnyTheorem = Theorem(
    name="lora_gradient_descent_smoothness",
    statement="the smoothness that the search finds is Lhat_t <= max(2 L, L0)",
    source=DERIVED,
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=L_HAT,
    given=(),
    condition="full batch; selfnorm_bt",
    admits=lambda c, hp: jnp.asarray(RULES[hp.rule].searches & (hp.batch_size == 0)),
    bound=lambda t, c, hp: jnp.maximum(2 * c.L_weight, hp.L0),
    control=Control(
        why="smoothness understated a hundred times: the search does not believe it",
        problem="matrix_factorization",
        setting="rule=selfnorm_bt,c=1.0,L0=0.01",
        misstate={"L_weight": 0.01},
    ),
)

escape: AnyTheorem = Theorem(
    name="lora_gradient_descent_escape",
    statement="|grad J(V_t)|^2 ~ 4p^2 4^p (2^(p+1) p q k t)^(-(4p+2)/q), q = 2p+2+j, where eta ~ k |V|^-j: "
    "t^(-(2p+1)/(p+2)) for selfnorm, mk_theory, adapt; t^(-(2p+1)/(p+1)) for const",
    source=DERIVED,
    assumes=Regularity.ESCAPES,
    metric=GRADIENT_NORM_SQ,
    given=(),
    condition="full batch; selfnorm, mk_theory, adapt, const",
    admits=lambda c, hp: jnp.isfinite(RULES[hp.rule].far(c, hp)[0]) & (hp.batch_size == 0),
    bound=adapter_rules.escape_law,
    kind=Kind.ASYMPTOTIC,
    tolerance=0.02,
    control=Control(
        why="the law of another power: p overstated by a tenth",
        problem="escape_family[p=1.0]",
        misstate={"power": 1.1},
        steps=10000,
        seeds=1,
    ),
)

slope = Theorem(
    name="lora_gradient_descent_slope",
    statement="on the straight slope |grad J(V_t)|^2 = D^(3/2) sqrt(L/(3 c T)) for all t < T",
    source=DERIVED,
    assumes=Regularity.STRAIGHT_SLOPE,
    metric=GRADIENT_NORM_SQ,
    given=(),
    condition="full batch; selfnorm with the c that the slope is made for",
    admits=adapter_rules.is_made_for,
    bound=adapter_rules.slope_law,
    kind=Kind.EXACT,
    control=Control("longer steps leave the slope early", "worst_horizon", "c=0.7", steps=999, seeds=1),
)

tight = Theorem(
    name="lora_gradient_descent_tight",
    statement="the rate r(t) is attained: 1/min_(s<T) |grad J(V_s)|^2 <= sqrt 3/(kappa(c)^(3/2) r(T - 1))",
    source=DERIVED,
    assumes=Regularity.STRAIGHT_SLOPE,
    metric=adapter_rules.INVERSE_GRADIENT,
    given=rate.given,
    condition="full batch; selfnorm with the c that the slope is made for",
    admits=adapter_rules.is_made_for,
    bound=adapter_rules.inverse_rate,
    control=Control("a tenth of the way the bound is far above the slope", "worst_horizon", "c=0.5",
                    misstate={"horizon": 0.1}, steps=99, seeds=1),
)  # fmt: skip

balance: AnyTheorem = Theorem(
    name="lora_gradient_descent_balance",
    statement="(|B|^2 - |A|^2)/2 changes by exactly sum_(s<t) eta_s^2 (|g_B|^2 - |g_A|^2)/2",
    source=DERIVED,
    assumes=Regularity.BOUNDED_IN_WEIGHT,
    metric=adapter_steps.BALANCE_CHANGE,
    given=(adapter_steps.BALANCE_MOVED,),
    condition="every rule, also on minibatches",
    admits=lambda c, hp: jnp.asarray(True),
    bound=lambda t, c, hp, moved: moved,
    kind=Kind.EXACT,
    slack=1e-10,
    control=Control("Adam's steps are no gradient steps", "matrix_factorization", algorithm="lora_optax"),
)

local: AnyTheorem = Theorem(
    name="lora_gradient_descent_local_rate",
    statement="const: |W+ - M|/|W - M| = max(1 - eta min(s_r(B)^2, s_r(A)^2), eta (s_1(B)^2 + s_1(A)^2) - 1) near M",
    source=DERIVED,
    assumes=Regularity.TARGET | Regularity.EXACT_RANK,
    metric=adapter_steps.CONTRACTION,
    given=(WEIGHT_GAP, adapter_steps.SLOWEST, adapter_steps.FASTEST),
    condition="full batch; const; frobenius; rank M = r < min(m, n), 1e-11 sigma_1 <= |W - M| <= 1e-5 sigma_r",
    admits=lambda c, hp: jnp.asarray((hp.rule == "const") & (hp.batch_size == 0) & (hp.norms == "frobenius")),
    bound=adapter_steps.local_rate,
    kind=Kind.ASYMPTOTIC,
    slack=1e-3,
    control=Control(
        why="other steps than those of size eta",
        problem="matrix_factorization[init=spectral,start=0.1,kappa=3]",
        setting="rule=selfnorm,c=0.5,eta=0.01",
        steps=400,
    ),
)

unsafe: AnyTheorem = Theorem(
    name="lora_gradient_descent_unsafe",
    statement="observed on (L/2) (B A - 1e6)^2, L = 4.2e-4, B = A = 14.6: a step of mk_theory multiplies it by 69.7",
    source=Source("observed here", 2026, SOURCE.title, "the step of arXiv:2512.18248 for L < 1"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=adapter_rules.INVERSE_GAP,
    given=(initial(WEIGHT_GAP),),
    condition="full batch; mk_theory with L < 1e-3",
    admits=lambda c, hp: jnp.asarray((hp.rule == "mk_theory") & (hp.batch_size == 0) & (c.L_weight < 1e-3)),
    bound=lambda t, c, hp, gap: jnp.where(t == 1, 1 / (69.7 * gap), jnp.nan),
    kind=Kind.FINDING,
    control=Control("for L = 1 the same step descends", TINY_L.format(1.0), "rule=mk_theory", steps=10, seeds=1),
)

algorithm = Algorithm(
    name="lora_gradient_descent",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.BOUNDED_IN_WEIGHT,
    calls=lambda problem, hp: batch_calls(problem, hp.batch_size),
    prepare=adapter_rules.prepare,
    metrics=(WEIGHT_GAP, ADAPTER_NORM_SQ, L_HAT),
    theorems=(descent, path, rate, bounded_rate, smoothness_found, escape, slope, tight, balance, local, unsafe),
)
