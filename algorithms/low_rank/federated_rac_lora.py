"""Fed-RAC-LoRA:  W_i <- W_i - (gamma/K) H grad f_i(W_i), K times on every client i, then W+ = mean_i W_i.

The server draws one sketch a round and sends it to all clients: they train the other factor alone, so that averaging
the factors is averaging the weights. Clients hold equal parts of the records, in their order.
Source: Malinovsky et al. (2024), arXiv:2410.08305, whose constants are not used: derived here, the lemma of
`algorithms.sketches` with f_i for the inner functions. The means of equal parts vary at most as much as the records:
zeta^2 <= sigma^2. One local step (K = 1) makes the round a step of RAC-LoRA, q = 0 and no noise is left.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from algorithms import sketches
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import SUBOPTIMALITY, initial
from algorithms.sketches import GRADIENT_SUM, SOURCE
from algorithms.theorem import AnyTheorem, Control, Holds, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle


@struct.dataclass
class HParams(sketches.HParams):
    """gamma: length of a round; clients: how many; K: local steps; the others are those of `algorithms.sketches`."""

    gamma: Array | float | str = "1/(2*L_max)"
    clients: int = struct.field(pytree_node=False, default=4)
    K: int = struct.field(pytree_node=False, default=5)


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` without a client or a local step, or as `sketches.prepare`."""
    refuse_unless(hp.clients >= 1, f"clients = {hp.clients}: at least one")
    refuse_unless(hp.K >= 1, f"K = {hp.K}: at least one local step")
    return sketches.prepare(hp)


def init(problem, x0, key, hp):
    equal = problem.records % hp.clients == 0
    refuse_unless(equal, f"clients = {hp.clients}: equal parts of {problem.records} records need a divisor of them")
    return sketches.start(x0, key, hp)


def step(problem, state, key, hp):
    Q = sketches.draw(state, key, hp)

    def local(records: Array) -> Array:
        own = problem.rows(records)
        move = lambda _, W: W - hp.gamma / hp.K * sketches.project(Q, own.grad(W), hp.side)  # noqa: E731
        return lax.fori_loop(0, hp.K, move, state.W)

    parts = jnp.arange(problem.records).reshape(hp.clients, -1)
    return replace(state, W=jnp.mean(jax.vmap(local)(parts), axis=0))


def calls(problem, hp):
    return float(hp.K)


def bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return [2 D/(lambda gamma) + (t + 1) q sigma^2]/(1 - q)."""
    return sketches.outer_bound(t, c, hp, gap, sketches.drift(c.L_max, hp.gamma, hp.K, 1 / 3), c.sigma_sq)


rounds: AnyTheorem = Theorem(
    name="federated_rac_lora_rounds",
    statement="sum_(s<t) E |G_s|^2 <= (2 (f(W_0) - f_star)/(lambda gamma) + t q sigma^2)/(1 - q), "
    "q = (1 - 1/K) (L gamma)^2 e^(2 L gamma)/3",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/sketches.py, local steps of clients"),
    assumes=Regularity.SMOOTH
    | Regularity.LOWER_BOUNDED
    | Regularity.MATRIX
    | Regularity.BOUNDED_VARIANCE
    | Regularity.FINITE_SUM,
    metric=GRADIENT_SUM,
    given=(initial(SUBOPTIMALITY),),
    condition="0 < gamma <= 1/(2 L), L that of every record, a fresh sketch every round",
    admits=lambda c, hp: sketches.is_short(2 * hp.gamma, c.L_max) & sketches.is_drawn(hp),
    bound=bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="a sketch drawn once leaves most of the gradient alone: E[H] is singular",
        problem="cosine[rank=0,N=16,noise=0.3]",
        setting="sketch=fixed,gamma=0.25",
        steps=1000,
        seeds=16,
    ),
)

algorithm = Algorithm(
    name="federated_rac_lora",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=sketches.readout,
    needs=Oracle.ROWS,
    requires=Regularity.MATRIX,
    calls=calls,
    prepare=prepare,
    theorems=(rounds,),
)
