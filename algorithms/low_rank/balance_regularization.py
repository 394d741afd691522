"""nBAR and oBAR:  B+ = (1 + s c) B - eta g_B,  A+ = (1 - s c) A - eta g_A,  c = a eta, one sign s an adapter and step.

`nbar` moves the scale to the factor with the larger gradient, s = 1 if |g_B| >= |g_A| else -1; `obar` takes it from the
larger factor, s = -1 if |B| >= |A| else 1. The gradient is taken at V, once a step, on a minibatch of `batch_size`
records (0: the whole objective); a shrinks by the factor `decay` every step.
Source: Li, Zhang & He (2024), arXiv:2410.14802, Algorithm 2. Derived here, for any loss: since
<B, g_B> = <A, g_A> = <G, B A>, one step makes calB = (|B|^2 - |A|^2)/2 exactly
  calB+ = (1 + c^2) calB + s c |V|^2 - 2 s c eta <G, B A> + (eta^2/2) (|g_B|^2 - |g_A|^2).
oBAR: |V|^2 >= 2 |calB|, so |(1 + c^2) calB + s c |V|^2| lies below (1 - c)^2 |calB|, or below c |V|^2 where the sign
turns: hence u_t. nBAR while |g_B| >= |g_A|: the first two terms are at least (1 + c)^2 calB.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.adapter_steps import ADAPTER_NORM_SQ, WEIGHT_GAP
from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.balance import IMBALANCE, balance, batch_calls, each_adapter, minibatch, refuse_batch_size, total
from algorithms.metric import Metric, initial
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.adapter import Adapter
from problems.constants import Constants, Regularity
from problems.oracles import Oracle

TITLE = "Implicit regularization of sharpness-aware minimization for scale-invariant problems"


@struct.dataclass
class HParams:
    """rule: nbar or obar; eta: step size; a: strength; decay: its factor a step; batch_size: 0, the whole objective."""

    rule: str = struct.field(pytree_node=False, default="obar")
    eta: Array | float | str = 1e-3
    a: Array | float | str = 0.1
    decay: Array | float | str = 1.0
    batch_size: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class State:
    """a: its present strength; u: one an adapter, what oBAR promises of |calB|."""

    x: Any
    a: Array
    u: Any


RULES: dict[str, Callable[[Adapter, Adapter], Array]] = {  # the sign s, of an adapter and its gradient
    "nbar": lambda adapter, gradient: jnp.where(balance(gradient) >= 0, 1.0, -1.0),
    "obar": lambda adapter, gradient: jnp.where(balance(adapter) >= 0, -1.0, 1.0),
}


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for an unknown rule, eta <= 0, a eta not in (0, 1), decay not in (0, 1]."""
    refuse_unless(hp.rule in RULES, f"rule = {hp.rule!r}: must be one of {', '.join(RULES)}")
    refuse_unless_positive(hp.eta)
    a, eta, decay = (np.asarray(value, float) for value in (hp.a, hp.eta, hp.decay))
    refuse_unless((a > 0) & (a * eta < 1), f"a = {hp.a}, eta = {hp.eta}: a eta must lie in (0, 1)")
    refuse_unless((decay > 0) & (decay <= 1), f"decay = {hp.decay}: must lie in (0, 1]")
    refuse_batch_size(hp.batch_size)
    return hp


def init(problem, x0, key, hp):
    refuse_batch_size(hp.batch_size, problem)
    return State(x0, hp.a, each_adapter(lambda adapter: jnp.abs(balance(adapter)), x0))


def step(problem, state, key, hp):
    g = minibatch(problem, key, hp.batch_size).grad(state.x)
    c = state.a * hp.eta

    def moved(adapter: Adapter, gradient: Adapter) -> Adapter:
        s = RULES[hp.rule](adapter, gradient)
        return Adapter((1 + s * c) * adapter.B - hp.eta * gradient.B, (1 - s * c) * adapter.A - hp.eta * gradient.A)

    def promised(adapter: Adapter, gradient: Adapter, u: Array) -> Array:
        along = jnp.abs(jnp.vdot(adapter.B, gradient.B))
        floor = c * optax.tree.norm(adapter, squared=True)
        return jnp.maximum((1 - c) ** 2 * u, floor) + 2 * c * hp.eta * along + hp.eta**2 * jnp.abs(balance(gradient))

    u = each_adapter(promised, state.x, g, state.u)
    return State(each_adapter(moved, state.x, g), state.a * hp.decay, u)


def readout(state):
    return state.x


def calls(problem, hp):
    return batch_calls(problem, hp.batch_size)


def growth_bound(t: Array, c: Constants, hp: Any, imbalance: Array, norm_sq: Array) -> Array:
    """Return 1/(.5 (1 + c)^(2t) of the start), NaN once that exceeds 1/(eta L) or if the start is nearly balanced."""
    promised = 0.5 * imbalance * (1 + hp.a * hp.eta) ** (2 * t)
    claimed = (imbalance >= 0.75 * norm_sq) & (hp.eta * c.L_weight * promised <= 1)
    return jnp.where(claimed, 1 / promised, jnp.nan)


PROMISED = Metric("promised_imbalance", lambda problem, x, state: 2 * total(state.u))
INVERSE = Metric("inverse_imbalance", lambda problem, x, state: 1 / IMBALANCE.measure(problem, x, state))

obar: AnyTheorem = Theorem(
    name="balance_regularization_obar",
    statement="| |B_t|^2 - |A_t|^2 | <= 2 u_t, u+ = max((1-c)^2 u, c |V|^2) + 2 c eta |<G, B A>| + "
    "(eta^2/2) | |g_B|^2 - |g_A|^2 |, u_0 = |calB_0|, c = a eta",
    source=Source("derived here", 2026, TITLE, "from the exact step of oBAR, arXiv:2410.14802, Algorithm 2"),
    assumes=Regularity.BOUNDED_IN_WEIGHT,
    metric=IMBALANCE,
    given=(PROMISED,),
    condition="rule = obar",
    admits=lambda c, hp: jnp.asarray(hp.rule == "obar"),
    bound=lambda t, c, hp, promised: promised,
    control=Control(
        why="once x y^T fits, the gradient of the larger factor is the larger one: nBAR lets it grow",
        problem="noisy_target[alpha=0.0,x_norm=3.0,y_norm=0.3]",
        setting="rule=nbar,a=0.1,eta=1e-3",
        steps=3000,
        seeds=1,
    ),
)

nbar: AnyTheorem = Theorem(
    name="balance_regularization_nbar",
    statement="1/| |B_t|^2 - |A_t|^2 | <= 2/((1+c)^(2t) | |B_0|^2 - |A_0|^2 |) until steps get long: nBAR unbalances; "
    "observed on 3 x 3 targets without noise, from | |B_0|^2 - |A_0|^2 | >= .75 |V_0|^2",
    source=Source("derived here", 2026, TITLE, "against arXiv:2410.14802, Section 5: without noise"),
    assumes=Regularity.NOISY_TARGET,
    metric=INVERSE,
    given=(initial(IMBALANCE), initial(ADAPTER_NORM_SQ)),
    condition="rule = nbar, decay = 1, no noise (noise_sq = 0), a weight of more than one row",
    admits=lambda c, hp: (hp.rule == "nbar") & (hp.decay == 1) & (c.noise_sq == 0) & (c.rows > 1),
    bound=growth_bound,
    kind=Kind.FINDING,
    control=Control(
        why="with noise both gradients are as large as the other factor, and nBAR balances",
        problem="noisy_target[alpha=0.5,x_norm=3.0,y_norm=0.3]",
        setting="rule=nbar,a=0.1,eta=1e-3,batch_size=1",
        steps=3000,
    ),
)

algorithm = Algorithm(
    name="balance_regularization",
    source=Source("Li, Zhang & He", 2024, TITLE, "arXiv:2410.14802, Algorithm 2"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.BOUNDED_IN_WEIGHT,
    calls=calls,
    prepare=prepare,
    metrics=(IMBALANCE, WEIGHT_GAP, ADAPTER_NORM_SQ),
    theorems=(obar, nbar),
)
