"""Chain of LoRA (COLA): K steps of LoRA from (B, A) = (0, A_new), then W0 <- W0 + B A, and again.

LoRA: B+ = B - eta G A^T, A+ = A - eta B^T G, G = grad f(W0 + B A). A_new is Gaussian with standard deviation sigma_A;
the first of them may be sigma_A times the first r rows of the identity (`start` axis), and a `fixed` redraw begins
every block at the first.
K = inf never merges: plain LoRA.
Source: Malinovsky et al. (2024), arXiv:2410.08305, section 3; Xia, Qin & Hazan (2024), arXiv:2401.04151. Derived here:
(C1) in the first block rank W <= r where W_0 = 0: LoRA never falls below the infimum over matrices of that rank.
(C2) G_0 A_new^T = 0 at B = 0 moves neither factor; with a fixed redraw that is so in every block: nothing ever moves,
     however large G. RAC-LoRA, whose sketch is fresh, converges in expectation.
(C3) is seen, not proven: f is not smooth in (B, A), and a step that no RAC-LoRA could climb with, eta = 1/L, diverges
     as soon as a re-drawn A is large enough.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.metric import SUBOPTIMALITY, Metric, initial
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Key

STARTS, REDRAWS = ("gaussian", "axis"), ("random", "fixed")
SOURCE = Source(
    "Xia, Qin & Hazan", 2024, "Chain of LoRA: efficient fine-tuning via residual learning", "arXiv:2401.04151"
)


@struct.dataclass
class HParams:
    """eta: step size; K: steps a block, inf for LoRA; sigma_A: size of A_new; rank: r; start, redraw: see above."""

    eta: Array | float | str = "1/(10*L)"
    K: Array | float | str = 10.0
    sigma_A: Array | float | str = 1.0
    rank: int = struct.field(pytree_node=False, default=1)
    start: str = struct.field(pytree_node=False, default="gaussian")
    redraw: str = struct.field(pytree_node=False, default="random")


@struct.dataclass
class State:
    """W0 (m, n) merged so far; B (m, r), A (r, n); age: steps of this block; A_first (r, n): the first A_new."""

    W0: Array
    B: Array
    A: Array
    age: Array
    A_first: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` unless eta, sigma_A > 0, K, rank >= 1, and start and redraw are known."""
    refuse_unless_positive(hp.eta)
    refuse_unless_positive(hp.sigma_A, "sigma_A")
    refuse_unless(np.asarray(hp.K, float) >= 1, f"K = {hp.K}: a block has at least one step")
    refuse_unless(hp.rank >= 1, f"rank = {hp.rank}: adapters have at least rank 1")
    refuse_unless(hp.start in STARTS, f"start = {hp.start!r}: must be one of {', '.join(STARTS)}")
    refuse_unless(hp.redraw in REDRAWS, f"redraw = {hp.redraw!r}: must be one of {', '.join(REDRAWS)}")
    return hp


def gaussian(key: Key, n: int, hp: Any) -> Array:
    """Return a Gaussian A_new (r, n)."""
    return hp.sigma_A * jax.random.normal(key, (hp.rank, n))


def init(problem, x0, key, hp):
    refuse_unless(hp.rank <= min(x0.shape), f"rank = {hp.rank}: adapters have rank 1 to {min(x0.shape)}")
    n = x0.shape[1]
    A = hp.sigma_A * jnp.eye(hp.rank, n) if hp.start == "axis" else gaussian(key, n, hp)
    return State(x0, jnp.zeros((x0.shape[0], hp.rank)), A, jnp.zeros(()), A)


def step(problem, state, key, hp):
    state = next_block(state, key, hp)
    G = problem.grad(readout(state))
    B, A = state.B - hp.eta * G @ state.A.T, state.A - hp.eta * state.B.T @ G
    return replace(state, B=B, A=A, age=state.age + 1)


def next_block(state: State, key: Key, hp: Any) -> State:
    """Return the state merged and begun anew if its block is over."""
    over = state.age >= hp.K
    A_new = state.A_first if hp.redraw == "fixed" else gaussian(key, state.A.shape[1], hp)
    merged = replace(state, W0=readout(state), B=jnp.zeros_like(state.B), A=A_new, age=jnp.zeros(()))
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), merged, state)


def readout(state):
    return state.W0 + state.B @ state.A


def inverse_gap(problem, W: Array, state: State) -> Array:
    """Return 1/(f(W) - f_star), 0 once the run has diverged."""
    gap = problem.value(W) - problem.constants.f_star
    return jnp.where(jnp.isfinite(gap), 1 / gap, 0.0)


INVERSE_GAP = Metric("inverse_suboptimality", inverse_gap)
SEEN = Metric("seen_gradient_sq", lambda problem, W, state: jnp.sum((problem.grad(W) @ state.A_first.T) ** 2))


def is_exposed(t: Array, c: Constants, hp: Any, inverse: Array) -> Array:
    """Return 1/(f(W_0) - f_star) from step 500 on."""
    return jnp.where(t >= 500, inverse, jnp.nan)


rank_floor: AnyTheorem = Theorem(
    name="chain_of_lora_rank_floor",
    statement="1/(f(W_t) - f_star) <= 1/(f_1 - f_star), t <= K, f_1 = inf of f over matrices of rank 1",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/chain_of_lora.py, (C1)"),
    assumes=Regularity.LOWER_BOUNDED | Regularity.MATRIX | Regularity.RANK_ONE_FLOOR,
    metric=INVERSE_GAP,
    given=(),
    condition="rank 1, W_0 = 0",
    admits=lambda c, hp: (hp.rank == 1) & (c.f_star_rank_1 > c.f_star),
    bound=lambda t, c, hp: jnp.where(t <= hp.K, 1 / (c.f_star_rank_1 - c.f_star), jnp.nan),
    control=Control(
        why="adapters of rank 2 reach what none of rank 1 does",
        problem="weighted_quadratic",
        setting="rank=2,K=inf",
        steps=2000,
    ),
)

stall: AnyTheorem = Theorem(
    name="chain_of_lora_stall",
    statement="G_0 A_new^T = 0: f(W_t) = f(W_0) for all t",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/chain_of_lora.py, (C2)"),
    assumes=Regularity.LOWER_BOUNDED | Regularity.MATRIX,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY), initial(SEEN)),
    condition="a fixed redraw, or a single block; claimed where G_0 A_new^T = 0",
    admits=lambda c, hp: (hp.redraw == "fixed") | jnp.isinf(hp.K),
    bound=lambda t, c, hp, gap, seen: jnp.where(seen == 0, gap, jnp.nan),
    kind=Kind.EXACT,
    control=Control(
        why="a fresh A sees what the first does not",
        problem="weighted_quadratic[m=2,n=2,target=last_entry]",
        setting="start=axis",
        steps=50,
    ),
)

diverges: AnyTheorem = Theorem(
    name="chain_of_lora_diverges",
    statement="3 x 3 quadratic, H_11 = 10, b = 1, eta = 1/L, A_new of size 1 re-drawn every 10 steps: after 500 steps "
    "the loss is above its start",
    source=Source("observed here", 2026, SOURCE.title, "algorithms/low_rank/chain_of_lora.py, (C3)"),
    assumes=Regularity.LOWER_BOUNDED | Regularity.MATRIX | Regularity.RANK_ONE_FLOOR,
    metric=INVERSE_GAP,
    given=(initial(INVERSE_GAP),),
    condition="3 x 3, L = 10, eta = 1/L, sigma_A >= 1, K <= 10, a random redraw",
    admits=lambda c, hp: (
        (jnp.abs(hp.eta * c.L - 1) <= 1e-12)
        & (c.L == 10)
        & (c.rows * c.columns == 9)
        & (hp.sigma_A >= 1)
        & (hp.K <= 10)
        & (hp.redraw == "random")
    ),
    bound=is_exposed,
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    control=Control(
        why="a tenth of that step converges",
        problem="weighted_quadratic",
        setting="eta=1/(10*L)",
        steps=1000,
        seeds=16,
    ),
)


algorithm = Algorithm(
    name="chain_of_lora",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.MATRIX,
    prepare=prepare,
    metrics=(SUBOPTIMALITY,),
    theorems=(rank_floor, stall, diverges),
)
