"""FedHL:  W+ = W + sum_k p_k (W_k^end - T_{r_k}(W)): client k trains rank r_k from the truncation T_{r_k}(W).

T_r(W) = sum_(i<=r) sigma_i u_i v_i^T is the truncated SVD, split evenly: B = U sqrt(S), A = sqrt(S) V^T. From there a
client makes K steps of LoRA, B+ = B - eta G A^T, A+ = A - eta B^T G, on its own equal part of the records, in their
order (on the whole problem where there are no records). `aggregate` truncated is the baseline W+ = sum_k p_k W_k^end,
which forgets what truncation cut off. A singular value 0 gives factors 0, which stay 0: start from W_0 != 0.
Weights p_k: `uniform`, or `drift` p_k ~ 1/|W - T_{r_k}(W)|^2, capped where that is 0; `drift` is our choice.
Source: Peng et al. (2025), arXiv:2505.18494, of which this is our reading. Derived here for f_k = (L/2)|W - M|^2:
(F1) at W = M, G_k = L (T_{r_k}(M) - M) is orthogonal to both factors of every client: nobody moves, and M is a fixed
     point of FedHL, whatever the ranks.
(F2) the baseline moves to sum_k p_k T_{r_k}(M): |W_1 - M|^2 = sum_i (sigma_i(M) sum_(k: r_k < i) p_k)^2.
M is not the only fixed point: where all r_k < rank M, every W whose leading parts are those of M is one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.metric import Metric, initial
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.adapter import Adapter
from problems.constants import Regularity
from problems.oracles import Oracle
from problems.problem import Problem

AGGREGATES, WEIGHTS = ("full_rank", "truncated"), ("uniform", "drift")
SOURCE = Source(
    "Peng et al.", 2025, "FedHL: federated learning for heterogeneous low-rank adaptation", "arXiv:2505.18494"
)


@struct.dataclass
class HParams:
    """eta: local step size; ranks: r_k of every client, as 1-2-4; K: local steps; aggregate and weights: see above."""

    eta: Array | float | str = "1/(20*L)"
    ranks: str = struct.field(pytree_node=False, default="1-2")
    K: int = struct.field(pytree_node=False, default=5)
    aggregate: str = struct.field(pytree_node=False, default="full_rank")
    weights: str = struct.field(pytree_node=False, default="uniform")


@struct.dataclass
class State:
    """W (m, n); unheard (min(m, n),): sum_(k: r_k < i) p_k, the weight of the clients that cut direction i off."""

    W: Array
    unheard: Array


def ranks_of(hp: Any) -> tuple[int, ...]:
    """Return r_k of every client."""
    return tuple(int(rank) for rank in hp.ranks.split("-"))


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for eta <= 0, ranks that are no list of numbers >= 1, K < 1, or a choice
    of aggregate or weights that is not known.
    """
    refuse_unless_positive(hp.eta)
    listed = all(rank.isdigit() and int(rank) >= 1 for rank in hp.ranks.split("-"))
    refuse_unless(listed, f"ranks = {hp.ranks!r}: one whole number >= 1 a client, as 1-2-4")
    refuse_unless(hp.K >= 1, f"K = {hp.K}: at least one local step")
    refuse_unless(hp.aggregate in AGGREGATES, f"aggregate = {hp.aggregate!r}: must be one of {', '.join(AGGREGATES)}")
    refuse_unless(hp.weights in WEIGHTS, f"weights = {hp.weights!r}: must be one of {', '.join(WEIGHTS)}")
    return hp


def kept(hp: Any, shape: tuple[int, ...]) -> Array:
    """Return 1 where client k keeps direction i, (clients, min(m, n)), else 0."""
    return (jnp.arange(min(shape)) < jnp.asarray(ranks_of(hp))[:, None]).astype(float)


def weights_of(spectrum: Array, kept: Array, hp: Any) -> Array:
    """Return p_k, which sum to 1."""
    if hp.weights == "uniform":
        return jnp.full(len(kept), 1 / len(kept))
    cut = (1 - kept) @ spectrum**2
    inverse = 1 / jnp.maximum(cut, 1e-12 * jnp.sum(spectrum**2) + jnp.finfo(cut.dtype).tiny)
    return inverse / jnp.sum(inverse)


def init(problem, x0, key, hp):
    refuse_unless(
        max(ranks_of(hp)) <= min(x0.shape),
        f"ranks = {hp.ranks}: adapters of this problem have rank 1 to {min(x0.shape)}",
    )
    if Oracle.ROWS in problem.family.oracles:
        equal = problem.records % len(ranks_of(hp)) == 0
        refuse_unless(equal, f"ranks = {hp.ranks}: {problem.records} records in equal parts need a divisor of clients")
    p = weights_of(jnp.linalg.svd(x0, compute_uv=False), kept(hp, x0.shape), hp)
    return State(x0, p @ (1 - kept(hp, x0.shape)))


def step(problem, state, key, hp):
    U, spectrum, Vt = jnp.linalg.svd(state.W, full_matrices=False)
    keep = kept(hp, state.W.shape)
    p = weights_of(spectrum, keep, hp)

    def train(part: Array, keep: Array) -> tuple[Array, Array]:
        root = jnp.sqrt(spectrum * keep)
        begin = Adapter(U * root, root[:, None] * Vt)
        end = lax.fori_loop(0, hp.K, lambda _, x: lora(own_problem(problem, part), x, hp.eta), begin)
        return begin.B @ begin.A, end.B @ end.A

    begin, end = jax.vmap(train)(parts(problem, len(keep)), keep)
    moved = state.W + jnp.tensordot(p, end - begin, 1) if hp.aggregate == "full_rank" else jnp.tensordot(p, end, 1)
    return State(moved, p @ (1 - keep))


def lora(own: Problem, x: Adapter, eta: Array) -> Adapter:
    """Return the adapters after a step of LoRA."""
    G = own.grad(x.B @ x.A)
    return Adapter(x.B - eta * G @ x.A.T, x.A - eta * x.B.T @ G)


def parts(problem: Problem, clients: int) -> Array:
    """Return the records of every client, (clients, N/clients), empty rows where there are none."""
    N = problem.records if Oracle.ROWS in problem.family.oracles else 0
    return jnp.arange(N).reshape(clients, N // clients)


def own_problem(problem: Problem, part: Array) -> Problem:
    """Return the problem of a client's records, or the whole one."""
    return problem.rows(part) if len(part) else problem


def readout(state):
    return state.W


def calls(problem, hp):
    return float(hp.K if Oracle.ROWS in problem.family.oracles else hp.K * len(ranks_of(hp)))


def cut_off(problem, W: Array, state: State) -> Array:
    """Return |sum_k p_k T_{r_k}(W) - W|^2 = sum_i (sigma_i sum_(k: r_k < i) p_k)^2."""
    return jnp.sum((jnp.linalg.svd(W, compute_uv=False) * state.unheard) ** 2)


def size_of_gradient(problem, W: Array, state: State) -> Array:
    """Return |grad f(0)|, the size of the numbers that cancel in a gradient."""
    return optax.tree.norm(problem.grad(jnp.zeros_like(W)))


GRADIENT_NORM = Metric(
    "gradient_norm", lambda problem, W, state: optax.tree.norm(problem.grad(W)), scale=size_of_gradient
)
SIZE = Metric("gradient_size", size_of_gradient)
CUT_OFF = Metric("cut_off_sq", cut_off)
ISOTROPIC = Regularity.SMOOTH | Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX | Regularity.MATRIX


def at_minimiser(gradient: Array, size: Array, bound: Array) -> Array:
    """Return `bound` where the run starts at M, NaN elsewhere."""
    return jnp.where(gradient <= 1e-12 * size, bound, jnp.nan)


fixed_point: AnyTheorem = Theorem(
    name="fed_hl_fixed_point",
    statement="f_k = (L/2) |W - M|^2, W_0 = M: |G_t| <= 1e-10 |L M| for all t, M is a fixed point up to rounding",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/fed_hl.py, (F1)"),
    assumes=ISOTROPIC,
    metric=GRADIENT_NORM,
    given=(initial(GRADIENT_NORM), initial(SIZE)),
    condition="L = mu, aggregate = full_rank; claimed where W_0 = M",
    admits=lambda c, hp: (c.mu == c.L) & (hp.aggregate == "full_rank"),
    bound=lambda t, c, hp, gradient, size: at_minimiser(gradient, size, 1e-10 * size),
    control=Control(
        why="without the correction what truncation cuts off is lost",
        problem="weighted_quadratic[corner=1.0,m=6,n=6,target=random,rank_star=3,start=optimum]",
        setting="aggregate=truncated",
        steps=10,
    ),
)

jump: AnyTheorem = Theorem(
    name="fed_hl_baseline_jump",
    statement="truncated, f_k = (L/2) |W - M|^2, W_0 = M: |W_1 - M|^2 = sum_i (sigma_i(M) sum_(k: r_k < i) p_k)^2",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/fed_hl.py, (F2)"),
    assumes=ISOTROPIC,
    metric=GRADIENT_NORM,
    given=(initial(GRADIENT_NORM), initial(SIZE), initial(CUT_OFF)),
    condition="L = mu, aggregate = truncated; claimed of step 1 where W_0 = M, as |G_1| = L |W_1 - M|",
    admits=lambda c, hp: (c.mu == c.L) & (hp.aggregate == "truncated"),
    bound=lambda t, c, hp, gradient, size, cut: at_minimiser(
        gradient, size, jnp.where(t == 1, c.L * jnp.sqrt(cut), jnp.nan)
    ),
    kind=Kind.EXACT,
    control=Control(
        why="with the correction nothing jumps",
        problem="weighted_quadratic[corner=1.0,m=6,n=6,target=random,rank_star=3,start=optimum]",
        setting="aggregate=full_rank",
        steps=2,
    ),
)

algorithm = Algorithm(
    name="fed_hl",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.MATRIX,
    calls=calls,
    prepare=prepare,
    theorems=(fixed_point, jump),
)
