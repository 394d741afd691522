"""LOZO:  W+ = W - (eta/r) N V^T,  N+ = beta N + (1 - beta) c U,  c = (f(W + e U V^T) - f(W - e U V^T))/(2e).

U (m x r) is standard normal, fresh every step; V (n x r) is drawn anew every nu steps: `stiefel`, sqrt n times a
uniform orthonormal frame, or `gaussian`. beta = 0 is LOZO, beta > 0 LOZO-M: when V is drawn anew, N V_old^T is
projected on it, N <- N V_old^T V/n. As e -> 0 the estimate H = c U V^T/r is unbiased, E|H|^2 = q |G|^2 with
q = n (m + 2/r) (stiefel) or (m (n r^2 + 2 r) + 2 r (n + r + 1))/r^2 (gaussian): rank buys memory, not variance.
Source: Chen et al. (2024), arXiv:2410.07698, with the 1/r that its code leaves to the rate. Derived here, beta = 0:
(Z) In a block phi(X) = f(W + X V^T) is L n-smooth, p = m r; a step is (E2) of `algorithms.zeroth_order_estimator` with
    h = eta/r, d = p. By Minkowski grad phi moves by at most L n h sqrt(2 (s + p + 1) S) within s steps of the block,
    S = sum E |grad phi|^2 over it, so S >= nu |grad phi_0|^2/(1 + sqrt w)^2, w = (nu-1) (nu + 2p + 2)/(nu + p + 1)^2
    < 1 for h <= 1/(L n (p + 1 + nu)). At a block's start E |G V|^2 = r |G|^2.
(Q) On f = (L/2) |W - M|^2 the share y = |G V|^2/(n |G|^2) of f lies in V's range, E y = r/n and
    E y^2 <= r (r+2)/(n (n+2)). After (E3), with d = p and the step h L n, a block of a steps turns f into
    (1 - y (1 - P)) f with E P = g^a and E P^2 the a-th power of the mean square: E f = (1 - (r/n) (1 - g^a)) f.
    With nu = 1, and any frame, E f = (1 - 2 eta L + (eta L)^2 q)^t f, at best (1 - 1/q)^t: never faster than
    `zeroth_order`, (1 - 1/(m n + 2))^t.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, VALUE, Metric, initial, running_sum
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from algorithms.zeroth_order_estimator import (
    central_difference,
    difference_error,
    mean_factor,
    mean_square_factor,
    refuse_settings,
    while_telling,
)
from problems.constants import Constants, Regularity
from problems.oracles import Key

SOURCE = Source("Chen et al.", 2024, "Enhancing zeroth-order fine-tuning with low-rank structures", "arXiv:2410.07698")
FRAMES = ("stiefel", "gaussian")


@struct.dataclass
class HParams:
    """eta: step size; e: half the distance of the two values; nu: steps between draws of V; beta: momentum."""

    eta: Array | float | str = "1/(L*columns*(rows+1+nu))"
    e: Array | float | str = 1e-5
    nu: Array | int | str = 1
    beta: Array | float | str = 0.0
    rank: int = struct.field(pytree_node=False, default=2)
    frame: str = struct.field(pytree_node=False, default="stiefel")


@struct.dataclass
class State:
    """V (n, r) and momentum N (m, r); age: steps since V was due, 0 at a block's start."""

    W: Array
    V: Array
    N: Array
    age: Array


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for eta <= 0, e < 1e-8, nu < 1, beta outside [0, 1), rank < 1 or frame."""
    refuse_settings(hp)
    nu, beta = np.asarray(hp.nu, float), np.asarray(hp.beta, float)
    refuse_unless((nu >= 1) & (np.floor(nu) == nu), f"nu = {hp.nu}: V lives for a whole number of steps >= 1")
    refuse_unless((beta >= 0) & (beta < 1), f"beta = {hp.beta}: must lie in [0, 1)")
    refuse_unless(hp.rank >= 1, f"rank = {hp.rank}: must be at least 1")
    refuse_unless(hp.frame in FRAMES, f"frame = {hp.frame!r}: must be one of {', '.join(FRAMES)}")
    return hp


def init(problem, x0, key, hp):
    m, n = x0.shape
    fits = hp.frame == "gaussian" or hp.rank <= n
    refuse_unless(fits, f"rank = {hp.rank}: a stiefel frame of {problem.family.name} has at most {n} columns")
    return State(x0, jnp.zeros((n, hp.rank)), jnp.zeros((m, hp.rank)), jnp.zeros((), int))


def draw(key: Key, n: int, r: int, frame: str) -> Array:
    """Return V (n, r) with E[V V^T] = r I, and V^T V = n I if it is a stiefel frame."""
    normals = jax.random.normal(key, (n, r))
    if frame == "gaussian":
        return normals
    Q, R = jnp.linalg.qr(normals)
    return n**0.5 * Q * jnp.sign(jnp.diagonal(R))  # with this sign Q is uniform


def step(problem, state, key, hp):
    u_key, v_key = jax.random.split(key)
    n, r = state.V.shape
    anew = draw(v_key, n, r, hp.frame)
    due = state.age == 0
    V = jnp.where(due, anew, state.V)
    N = jnp.where(due, state.N @ (state.V.T @ anew) / n, state.N)
    U = jax.random.normal(u_key, state.N.shape)
    c = central_difference(problem, state.W, U @ V.T, hp.e)
    N = hp.beta * N + (1 - hp.beta) * c * U
    return State(state.W - hp.eta / r * N @ V.T, V, N, (state.age + 1) % hp.nu)


def readout(state):
    return state.W


def calls(problem, hp):
    return 2 / 3  # two values, where a gradient costs about three


def second_moment(c: Constants, hp: Any) -> Array:
    """Return q = E|H|^2/|G|^2."""
    m, n, r = c.rows, c.columns, hp.rank
    if hp.frame == "stiefel":
        return n * (m + 2 / r)
    return (m * (n * r**2 + 2 * r) + 2 * r * (n + r + 1)) / r**2


def stationary_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return (Z) for the blocks that have begun."""
    p, blocks = c.rows * hp.rank, jnp.floor(t / hp.nu) + 1
    w = (hp.nu - 1) * (hp.nu + 2 * p + 2) / (hp.nu + p + 1) ** 2
    b = difference_error(c.L * c.columns, hp.e, p)
    return (1 + jnp.sqrt(w)) ** 2 * (jnp.sqrt(2 * gap / (hp.eta * hp.nu)) + 6 * b * jnp.sqrt(blocks / hp.rank)) ** 2


def block_moments(steps: Array, c: Constants, hp: Any) -> tuple[Array, Array]:
    """Return mean and (a bound on the) mean square of what a block of so many steps multiplies f by, (Q)."""
    n, r, d, h = c.columns, hp.rank, c.rows * hp.rank, hp.eta / hp.rank * c.L * c.columns
    g, square = mean_factor(h, d) ** steps, mean_square_factor(h, d) ** steps
    mean = 1 - r / n * (1 - g)
    return mean, 2 * mean - 1 + r * (r + 2) / (n * (n + 2)) * (1 - 2 * g + square)


def isotropic_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return (Q): whole blocks, then the steps since the last draw; the first step alone with gaussian frames."""
    if hp.frame == "gaussian":
        first = 1 - 2 * hp.eta * c.L + (hp.eta * c.L) ** 2 * second_moment(c, hp)
        return gap * jnp.where(t <= 1, first**t, jnp.nan)
    blocks = jnp.floor(t / hp.nu)
    (whole, whole_sq), (part, part_sq) = (block_moments(steps, c, hp) for steps in (hp.nu, t - blocks * hp.nu))
    return gap * while_telling(whole**blocks * part, whole_sq**blocks * part_sq)


def is_small_step(c: Constants, hp: Any) -> Array:
    """Return whether eta <= r/(L n (m r + 1 + nu)), with a fresh V of orthonormal columns and no momentum."""
    fits = hp.eta * c.L * c.columns * (c.rows * hp.rank + 1 + hp.nu) <= hp.rank * (1 + 1e-12)
    return fits & (hp.beta == 0) & (hp.frame == "stiefel")


BLOCK_GRADIENT = Metric(
    "block_gradient_norm_sq",
    lambda problem, x, state: jnp.where(state.age == 0, GRADIENT_NORM_SQ.measure(problem, x, state), 0.0),
)

stationary: AnyTheorem = Theorem(
    name="lozo_stationary",
    statement="sum_(k nu<=t) E |G(W_(k nu))|^2 <= (1 + sqrt w)^2 (sqrt(2 (f(W_0) - inf f)/(eta nu)) + 6 b sqrt(K/r))^2 "
    "over the K blocks begun, w = (nu-1)(nu+2mr+2)/(nu+mr+1)^2, b = (L n e/2) sqrt(mr (mr+2) (mr+4))",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/lozo.py, (Z)"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.MATRIX,
    metric=running_sum(BLOCK_GRADIENT),
    given=(initial(SUBOPTIMALITY),),
    condition="eta <= r/(L n (m r + 1 + nu)), stiefel, beta = 0",
    admits=is_small_step,
    bound=stationary_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="L understated a hundred times: steps forty times beyond the last stable one diverge",
        problem="matrix_factorization[m=4,n=4,rank=0]",
        setting="eta=1/(L*columns*(rows+2)),rank=1",
        misstate={"L": 0.01},
        steps=100,
        seeds=10,
    ),
)

isotropic: AnyTheorem = Theorem(
    name="lozo_isotropic",
    statement="E f(W_t) = R(nu)^(t//nu) R(t%nu) f(W_0) on f = (L/2) |W - M|^2, R(a) = 1 - (r/n)(1 - g^a), "
    "g = 1 - 2 h + h^2 (m r + 2), h = eta L n/r: R(1) = 1 - 2 eta L + (eta L)^2 q, q = E|H|^2/|G|^2",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/low_rank/lozo.py, (Q)"),
    assumes=Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX | Regularity.SMOOTH | Regularity.MATRIX,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="mu = L, beta = 0, while E f^2 <= 6 (E f)^2; the first step alone with gaussian frames",
    admits=lambda c, hp: (c.mu == c.L) & (hp.beta == 0),
    bound=isotropic_bound,
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
    control=Control(
        why="momentum carries each estimate on for ten steps",
        problem="matrix_factorization[m=4,n=4,rank=0]",
        setting="beta=0.9,nu=5",
        steps=20,
        seeds=1000,
    ),
)

algorithm = Algorithm(
    name="lozo",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.MATRIX,
    calls=calls,
    prepare=prepare,
    metrics=(VALUE,),
    theorems=(stationary, isotropic),
)
