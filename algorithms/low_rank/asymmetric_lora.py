"""Asymmetric LoRA:  B+ = B - (eta/|A|_2^2) G A^T,  W = W0 + B A, A (r x n) random and frozen, B from 0.

As a step on the weight, W+ = W - (eta/|A|_2^2) G A^T A. A is Gaussian, orthonormal (the same row space, in a random
basis of unit vectors), or `axis`, the first r rows of the identity.
Source: Malinovsky et al. (2024), arXiv:2410.08305. Derived here, eta <= 1/L, P the projector on the row space of A:
(A1) f(B A) is L |A|_2^2-smooth in B, so each step gains at least (eta/2) |G A^T|^2/|A|_2^2: only that part of G
     vanishes, min_(s<=t) |G_s A^T|^2/|A|_2^2 <= 2 (f(W_0) - f_star)/(eta (t + 1)).
(A2) f = (L/2)|W - M|^2: the part (W - M)(I - P) never moves. Where the rows of A are orthogonal of one length (also
     r = 1) the rest shrinks by 1 - eta L a step, f(W_t) = F + (1 - eta L)^(2 t) (f(W_0) - F), with the floor
     F = (L/2)|(W_0 - M)(I - P)|^2. Where A sees nothing of W_0 - M nothing ever moves, F = f(W_0).
(A3) A random row space of dimension r holds r/n of any square: E F = (1 - r/n) f(W_0).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms import sketches
from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.metric import SUBOPTIMALITY, Metric, best, initial
from algorithms.sketches import SOURCE
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity

FRAMES = ("gaussian", "orthonormal", "axis")


@struct.dataclass
class HParams:
    """eta: the step size in units of 1/|A|_2^2; rank: r; frame: how A is drawn."""

    eta: Array | float | str = "1/L"
    rank: int = struct.field(pytree_node=False, default=1)
    frame: str = struct.field(pytree_node=False, default="gaussian")


@struct.dataclass
class State:
    """W (m, n), and A (r, n) divided by |A|_2."""

    W: Array
    A: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for eta <= 0, rank < 1 or a frame that is not known."""
    refuse_unless_positive(hp.eta)
    refuse_unless(hp.rank >= 1, f"rank = {hp.rank}: A has at least one row")
    refuse_unless(hp.frame in FRAMES, f"frame = {hp.frame!r}: must be one of {', '.join(FRAMES)}")
    return hp


def init(problem, x0, key, hp):
    n = x0.shape[1]
    refuse_unless(hp.rank <= n, f"rank = {hp.rank}: A has at most {n} rows")
    if hp.frame == "axis":
        return State(x0, jnp.eye(hp.rank, n))
    if hp.frame == "orthonormal":
        return State(x0, sketches.orthonormal(key, n, hp.rank).T)
    A = jax.random.normal(key, (hp.rank, n))
    return State(x0, A / jnp.linalg.norm(A, 2))


def step(problem, state, key, hp):
    G = problem.grad(state.W)
    return State(state.W - hp.eta * (G @ state.A.T) @ state.A, state.A)


def readout(state):
    return state.W


def outside(problem, W: Array, state: State) -> Array:
    """Return |G|^2/(2 L) without its part in the row space of A: the floor F of an isotropic quadratic."""
    G, Q = problem.grad(W), sketches.basis(state.A.T)
    return jnp.sum((G - (G @ Q) @ Q.T) ** 2) / (2 * problem.constants.L)


PROJECTED = Metric(
    "projected_gradient_sq", lambda problem, W, state: jnp.sum((problem.grad(W) @ state.A.T) ** 2)
)  # |G A^T|^2/|A|_2^2
FLOOR = Metric("asymmetric_floor", outside)


def is_one_rate(c: Constants, hp: Any) -> Array:
    """Return whether f = (L/2)|W - M|^2 + f_star and the rows of A are orthogonal of one length."""
    return sketches.is_isotropic(c) & (hp.rank == 1 or hp.frame != "gaussian")


def settled(t: Array, c: Constants, hp: Any) -> Array:
    """Return (1 - eta L)^(2 t)."""
    return (1 - hp.eta * c.L) ** (2 * t)


SMOOTH = Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.MATRIX
QUADRATIC = SMOOTH | Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX

projected: AnyTheorem = Theorem(
    name="asymmetric_lora_projected",
    statement="min_(s<=t) |G_s A^T|^2/|A|_2^2 <= 2 (f(W_0) - f_star)/(eta (t + 1))",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/asymmetric_lora.py, (A1)"),
    assumes=SMOOTH,
    metric=best(PROJECTED),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=lambda c, hp: sketches.is_short(hp.eta, c.L),
    bound=lambda t, c, hp, gap: 2 * gap / (hp.eta * (t + 1)),
    control=Control(
        why="a step of 3/L diverges",
        problem="matrix_factorization[rank=0]",
        setting="eta=3/L",
    ),
)

floor: AnyTheorem = Theorem(
    name="asymmetric_lora_floor",
    statement="f = (L/2) |W - M|^2: f(W_t) = F + (1 - eta L)^(2 t) (f(W_0) - F), F = (L/2) |(W_0 - M)(I - P_A)|^2",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/asymmetric_lora.py, (A2)"),
    assumes=QUADRATIC,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY), initial(FLOOR)),
    condition="L = mu, 0 < eta < 2/L, orthogonal rows of one length",
    admits=lambda c, hp: (hp.eta * c.L < 2) & is_one_rate(c, hp),
    bound=lambda t, c, hp, gap, floor: floor + settled(t, c, hp) * (gap - floor),
    kind=Kind.EXACT,
    control=Control(
        why="rows of different lengths settle one after the other",
        problem="matrix_factorization[rank=0]",
        setting="rank=4",
        steps=10,
    ),
)

mean_floor: AnyTheorem = Theorem(
    name="asymmetric_lora_mean_floor",
    statement="f = (L/2) |W - M|^2: E f(W_t) = (1 - (r/n) (1 - (1 - eta L)^(2 t))) f(W_0)",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/asymmetric_lora.py, (A3)"),
    assumes=QUADRATIC,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="L = mu, 0 < eta < 2/L, a random frame, orthonormal or of one row",
    admits=lambda c, hp: (hp.eta * c.L < 2) & is_one_rate(c, hp) & (hp.frame != "axis"),
    bound=lambda t, c, hp, gap: gap * (1 - hp.rank / c.columns * (1 - settled(t, c, hp))),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    control=Control(
        why="half the columns overstate the share of the row space twice",
        problem="matrix_factorization[rank=0]",
        setting="rank=4,frame=orthonormal",
        misstate={"columns": 0.5},
        steps=3,
        seeds=32,
    ),
)

algorithm = Algorithm(
    name="asymmetric_lora",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.MATRIX,
    prepare=prepare,
    metrics=(SUBOPTIMALITY,),
    theorems=(projected, floor, mean_floor),
)
