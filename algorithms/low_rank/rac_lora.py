"""RAC-LoRA:  W+ = W - gamma H G,  H = B_S (B_S^T B_S)^+ B_S^T of a fresh Gaussian sketch B_S (m x r) every step.

`side` right: W - gamma G H, H of size n. G is the whole gradient, or the mean of `batch_size` records: drawn with
replacement, or in a pass over a random permutation with the same H (`order` reshuffled), K = N/b steps of gamma/K.
H and the records are independent, H is a projector and E[H] = lambda I, lambda = r/m (r/n for a right sketch).
Source: Malinovsky et al. (2024), arXiv:2410.08305. With gamma <= 1/L and H G for the step,
(D)  f(W+) <= f - gamma (1 - L gamma/2)|H G|^2, whatever H.
(R1) E|H G|^2 = lambda |G|^2, summed: sum_(s<t) E|G_s|^2 <= 2 (f(W_0) - f_star)/(lambda gamma).
(R2) PL: |G|^2 >= 2 mu (f - f_star), so that E f - f_star shrinks by 1 - gamma mu lambda.
     On (L/2)|W - M|^2 the residual becomes (I - gamma L H) E: its square shrinks by exactly
     1 - (2 gamma L - (gamma L)^2) lambda in expectation, which at gamma = 1/L is the bound.
(R3) g = G + noise of variance sigma^2/b: E|H g|^2 = E|H G|^2 + lambda sigma^2/b, an L gamma sigma^2/b more a step.
(R4) a pass: the lemma of `algorithms.sketches`; batches drawn without replacement have the variance
     zeta^2 = sigma^2 (N - b)/(b (N - 1)).
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from algorithms import sketches
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import SUBOPTIMALITY, best, initial
from algorithms.sketches import GRADIENT_SUM, SOURCE
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Key, Oracle
from problems.problem import Problem

ORDERS = ("replacement", "reshuffled")


@struct.dataclass
class HParams(sketches.HParams):
    """batch_size: b, 0 for all records; order: how batches are drawn; the others are those of `algorithms.sketches`."""

    batch_size: int = struct.field(pytree_node=False, default=0)
    order: str = struct.field(pytree_node=False, default="replacement")


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for an unknown order, a batch_size < 0, or as `sketches.prepare`."""
    refuse_unless(hp.order in ORDERS, f"order = {hp.order!r}: must be one of {', '.join(ORDERS)}")
    least = int(hp.order == "reshuffled")
    refuse_unless(hp.batch_size >= least, f"batch_size = {hp.batch_size}: at least {least} with order {hp.order}")
    return sketches.prepare(hp)


def init(problem, x0, key, hp):
    if hp.batch_size:
        refuse_batches(problem, hp)
    return sketches.start(x0, key, hp)


def refuse_batches(problem: Problem, hp: Any) -> None:
    """Raise `InvalidSetting` where there are no records to draw, or no whole number of batches in a pass."""
    offered, b = problem.family.oracles, hp.batch_size
    refuse_unless(Oracle.SAMPLE | Oracle.ROWS in offered, f"batch_size = {b}: {problem.family.name} has no records")
    whole = hp.order == "replacement" or problem.records % b == 0
    refuse_unless(whole, f"batch_size = {b}: a pass over {problem.records} records needs a divisor of them")


def step(problem, state, key, hp):
    Q, batch_key = sketches.draw(state, key, hp), jax.random.fold_in(key, 1)
    if hp.order == "reshuffled":
        return replace(state, W=one_pass(problem, state.W, Q, batch_key, hp))
    batch = problem.sample(batch_key, hp.batch_size) if hp.batch_size else problem
    return replace(state, W=state.W - hp.gamma * sketches.project(Q, batch.grad(state.W), hp.side))


def one_pass(problem: Problem, W: Array, Q: Array, key: Key, hp: Any) -> Array:
    """Return W after K steps of gamma/K along all records in a random order, under one sketch."""
    K = problem.records // hp.batch_size
    batches = jax.random.permutation(key, problem.records).reshape(K, hp.batch_size)

    def descend(W: Array, index: Array) -> tuple[Array, None]:
        return W - hp.gamma / K * sketches.project(Q, problem.rows(index).grad(W), hp.side), None

    return lax.scan(descend, W, batches)[0]


def calls(problem, hp):
    return hp.batch_size / problem.constants.n if hp.batch_size and hp.order == "replacement" else 1.0


def admits_whole(c: Constants, hp: Any) -> Array:
    """Return whether every step takes the whole gradient, its own sketch and 0 < gamma <= 1/L."""
    return sketches.is_short(hp.gamma, c.L) & sketches.is_drawn(hp) & (hp.batch_size == 0)


def admits_batches(c: Constants, hp: Any) -> Array:
    """Return whether every step takes b > 0 records drawn with replacement, its own sketch and 0 < gamma <= 1/L."""
    drawn = hp.batch_size > 0 and hp.order == "replacement"
    return sketches.is_short(hp.gamma, c.L) & sketches.is_drawn(hp) & drawn


def admits_pass(c: Constants, hp: Any) -> Array:
    """Return whether every step is a pass under its own sketch and 0 < gamma <= 1/(2 L_max)."""
    return sketches.is_short(2 * hp.gamma, c.L_max) & sketches.is_drawn(hp) & (hp.order == "reshuffled")


def nonconvex_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return 2 D/(lambda gamma)."""
    return sketches.outer_bound(t, c, hp, gap, jnp.zeros(()), jnp.zeros(()))


def batches_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return 2 D/(lambda gamma) + (t + 1) L gamma sigma^2/b."""
    return nonconvex_bound(t, c, hp, gap) + (t + 1) * c.L * hp.gamma * c.sigma_sq / hp.batch_size


def pass_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return [2 D/(lambda gamma) + (t + 1) q zeta^2]/(1 - q)."""
    b = hp.batch_size
    zeta_sq = c.sigma_sq * (c.n - b) / (b * jnp.maximum(c.n - 1, 1))
    return sketches.outer_bound(t, c, hp, gap, sketches.drift(c.L_max, hp.gamma, c.n / b, 1 / 2), zeta_sq)


def isotropic_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return (1 - (2 gamma L - (gamma L)^2) lambda)^t D."""
    step = hp.gamma * c.L
    return (1 - (2 * step - step**2) * sketches.seen(c, hp)) ** t * gap


MATRIX = Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.MATRIX
WHOLE = "0 < gamma <= 1/L, the whole gradient, a fresh sketch every step"
FIXED = "a sketch drawn once leaves most of the gradient alone: E[H] is singular"

descent: AnyTheorem = Theorem(
    name="rac_lora_descent",
    statement="f(W_t) = min_(s<=t) f(W_s): no step increases the loss, whatever is sketched",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/rac_lora.py, (D)"),
    assumes=MATRIX,
    metric=SUBOPTIMALITY,
    given=(best(SUBOPTIMALITY),),
    condition="0 < gamma <= 2/L, the whole gradient",
    admits=lambda c, hp: sketches.is_short(hp.gamma / 2, c.L) & (hp.batch_size == 0),
    bound=lambda t, c, hp, lowest: lowest,
    control=Control(
        why="a step longer than 2/L climbs",
        problem="matrix_factorization[rank=0,m=6,n=6]",
        setting="gamma=3.0/L",
        steps=20,
    ),
)

nonconvex: AnyTheorem = Theorem(
    name="rac_lora_nonconvex",
    statement="sum_(s<=t) E |G_s|^2 <= 2 (f(W_0) - f_star)/(lambda gamma), lambda = r/m",
    source=Source("Malinovsky et al.", 2024, SOURCE.title, "arXiv:2410.08305, Theorem 5.3"),
    assumes=MATRIX,
    metric=GRADIENT_SUM,
    given=(initial(SUBOPTIMALITY),),
    condition=WHOLE,
    admits=admits_whole,
    bound=nonconvex_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(why=FIXED, problem="cosine[rank=0]", setting="sketch=fixed", seeds=16),
)

pl: AnyTheorem = Theorem(
    name="rac_lora_pl",
    statement="E f(W_t) - f_star <= (1 - gamma mu lambda)^t (f(W_0) - f_star), lambda = r/m",
    source=Source("Malinovsky et al.", 2024, SOURCE.title, "arXiv:2410.08305, Theorem 5.5"),
    assumes=MATRIX | Regularity.PL,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition=WHOLE,
    admits=admits_whole,
    bound=lambda t, c, hp, gap: (1 - hp.gamma * c.mu_pl * sketches.seen(c, hp)) ** t * gap,
    holds=Holds.IN_EXPECTATION,
    control=Control(why=FIXED, problem="weighted_quadratic", setting="sketch=fixed", seeds=16),
)

isotropic: AnyTheorem = Theorem(
    name="rac_lora_isotropic",
    statement="f = (L/2) |W - M|^2: E f(W_t) = (1 - (2 gamma L - (gamma L)^2) r/m)^t f(W_0), f_star = 0",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/rac_lora.py, (R2)"),
    assumes=MATRIX | Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="L = mu, 0 < gamma < 2/L, the whole gradient, a fresh sketch every step",
    admits=lambda c, hp: (hp.gamma * c.L < 2) & sketches.is_drawn(hp) & (hp.batch_size == 0) & sketches.is_isotropic(c),
    bound=isotropic_bound,
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    control=Control(
        why="a sketch drawn once projects the same residual twice",
        problem="matrix_factorization[rank=0,m=8,n=8]",
        setting="sketch=fixed",
        steps=12,
        seeds=32,
    ),
)

batches: AnyTheorem = Theorem(
    name="rac_lora_batches",
    statement="sum_(s<t) E |G_s|^2 <= 2 (f(W_0) - f_star)/(lambda gamma) + t L gamma sigma^2/b",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/rac_lora.py, (R3)"),
    assumes=MATRIX | Regularity.BOUNDED_VARIANCE,
    metric=GRADIENT_SUM,
    given=(initial(SUBOPTIMALITY),),
    condition="0 < gamma <= 1/L, b > 0 records drawn with replacement, a fresh sketch every step",
    admits=admits_batches,
    bound=batches_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="the variance of the records understated ten times",
        problem="cosine[rank=0,N=16,noise=1.0]",
        setting="batch_size=1",
        misstate={"sigma_sq": 0.1},
        steps=400,
        seeds=16,
    ),
)

reshuffled: AnyTheorem = Theorem(
    name="rac_lora_reshuffled",
    statement="sum_(s<t) E |G_s|^2 <= (2 (f(W_0) - f_star)/(lambda gamma) + t q zeta^2)/(1 - q), "
    "q = (1 - 1/K) (L gamma)^2 e^(2 L gamma)/2, zeta^2 = sigma^2 (N - b)/(b (N - 1))",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/sketches.py, a pass over batches"),
    assumes=MATRIX | Regularity.BOUNDED_VARIANCE | Regularity.FINITE_SUM,
    metric=GRADIENT_SUM,
    given=(initial(SUBOPTIMALITY),),
    condition="0 < gamma <= 1/(2 L), L that of every record, passes over all records, a fresh sketch every pass",
    admits=admits_pass,
    bound=pass_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why=FIXED,
        problem="cosine[rank=0,N=16,noise=0.3]",
        setting="order=reshuffled,batch_size=4,gamma=0.25,sketch=fixed",
        steps=1000,
        seeds=16,
    ),
)

algorithm = Algorithm(
    name="rac_lora",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=sketches.readout,
    requires=Regularity.MATRIX,
    calls=calls,
    prepare=prepare,
    metrics=(SUBOPTIMALITY,),
    theorems=(descent, nonconvex, pl, isotropic, batches, reshuffled),
)
