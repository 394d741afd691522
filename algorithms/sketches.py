"""Projected steps  W+ = W - gamma H G  with a random H of rank r, and what they promise: the words of RAC-LoRA.

H = Q Q^T (left), G Q Q^T in its place (right): Q is an orthonormal frame of the range of a Gaussian sketch B_S (m x r),
B_S (B_S^T B_S)^+ B_S^T = Q Q^T. Training the other factor from 0 by the minimiser of its quadratic majorant, or merging
after every step, gives this very step, and alpha/r cancels. E[H] = lambda I, lambda = r/m (left) or r/n (right).

One outer step of K inner ones with the same H, each of gamma/K, along gradients g_k of L-smooth f_k with mean f (a pass
over batches; local steps of clients, averaged): W+ = W - gamma d, d = mean H g_k(W_k), a_k = |H g_k(W)|, x = L gamma.
  |W_k - W| <= e^x (gamma/K) sum_(j<k) a_j, so |d - H G|^2 <= q mean a_j^2, mean a_j^2 = |H G|^2 + mean |H (g_j - G)|^2,
  q = x^2 e^(2x) (1 - 1/K) share; sum_(k<K) k/K^2 <= (1 - 1/K)/2 gives share = 1/2 for a pass over batches,
  sum_(k<K) k^2/K^3 <= (1 - 1/K)/3 gives share = 1/3 for clients, each of which repeats its own f_k.
<G, d> = <H G, d>, hence f(W+) <= f(W) - (gamma/2)(|H G|^2 - |d - H G|^2) for gamma <= 1/L; in expectation
  sum_(s<t) E|G_s|^2 <= [2 D/(lambda gamma) + t q zeta^2]/(1 - q), D = f(W_0) - f_star, zeta^2 >= mean |g_k - G|^2.
Source: Malinovsky et al. (2024), arXiv:2410.08305, for the method; this lemma is derived here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from algorithms.algorithm import refuse_unless, refuse_unless_positive
from algorithms.metric import GRADIENT_NORM_SQ, running_sum
from algorithms.theorem import Source
from problems.constants import Constants
from problems.oracles import Key

SIDES, SKETCHES = ("left", "right"), ("gaussian", "fixed")
GRADIENT_SUM = running_sum(GRADIENT_NORM_SQ)
SOURCE = Source(
    "Malinovsky et al.",
    2024,
    "Randomized asymmetric chain of LoRA: the first meaningful theoretical framework for low-rank adaptation",
    "arXiv:2410.08305",
)


@struct.dataclass
class HParams:
    """gamma: length of an outer step; rank: r; side: which factor is sketched; sketch: `fixed` draws H only once."""

    gamma: Array | float | str = "1/L"
    rank: int = struct.field(pytree_node=False, default=1)
    side: str = struct.field(pytree_node=False, default="left")
    sketch: str = struct.field(pytree_node=False, default="gaussian")


@struct.dataclass
class State:
    """W (m, n), and the key of a sketch that is drawn only once."""

    W: Array
    key: Key


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for gamma <= 0, rank < 1, or a side or sketch that is not known."""
    refuse_unless_positive(hp.gamma, "gamma")
    refuse_unless(hp.rank >= 1, f"rank = {hp.rank}: a sketch has at least one column")
    refuse_unless(hp.side in SIDES, f"side = {hp.side!r}: must be one of {', '.join(SIDES)}")
    refuse_unless(hp.sketch in SKETCHES, f"sketch = {hp.sketch!r}: must be one of {', '.join(SKETCHES)}")
    return hp


def start(W: Array, key: Key, hp: Any) -> State:
    """Return the state at W; raise `InvalidSetting` where the sketched side of W is shorter than the rank."""
    length = W.shape[SIDES.index(hp.side)]
    refuse_unless(hp.rank <= length, f"rank = {hp.rank}: a {hp.side} sketch of {length} has rank 1 to {length}")
    return State(W, key)


def readout(state: State) -> Array:
    """Return W."""
    return state.W


def orthonormal(key: Key, length: int, rank: int) -> Array:
    """Return an orthonormal basis (length, rank) of a random subspace, every direction alike."""
    return basis(jax.random.normal(key, (length, rank)))


def basis(S: Array) -> Array:
    """Return the orthonormal basis of the columns of S by Gram-Schmidt, each column projected twice."""

    def column(j: Array, Q: Array) -> Array:
        v = S[:, j] - Q @ (Q.T @ S[:, j])
        v = v - Q @ (Q.T @ v)
        return Q.at[:, j].set(v / jnp.linalg.norm(v))

    return lax.fori_loop(0, S.shape[1], column, jnp.zeros_like(S))


def draw(state: State, key: Key, hp: Any) -> Array:
    """Return the frame Q of this outer step."""
    return orthonormal(state.key if hp.sketch == "fixed" else key, state.W.shape[SIDES.index(hp.side)], hp.rank)


def project(Q: Array, G: Array, side: str) -> Array:
    """Return H G (left) or G H (right), H = Q Q^T."""
    return Q @ (Q.T @ G) if side == "left" else (G @ Q) @ Q.T


def seen(c: Constants, hp: Any) -> Array:
    """Return lambda, E[H] = lambda I: the share of a gradient's square that a step sees on average."""
    return hp.rank / (c.rows if hp.side == "left" else c.columns)


def is_short(gamma: Array, L: Array) -> Array:
    """Return whether 0 < gamma <= 1/L."""
    return (gamma > 0) & (gamma * L <= 1 + 1e-12)


def is_isotropic(c: Constants) -> Array:
    """Return whether a quadratic is (L/2)|W - M|^2 + f_star."""
    return c.mu == c.L


def is_drawn(hp: Any) -> Any:
    """Return whether E[H] = lambda I: every outer step draws its own sketch."""
    return np.asarray(hp.sketch == "gaussian")


def drift(L: Array | float, gamma: Array | float, K: Array | float, share: float) -> Array:
    """Return q."""
    x = jnp.asarray(L * gamma)
    return x**2 * jnp.exp(2 * x) * (1 - 1 / K) * share


def outer_bound(t: Array, c: Constants, hp: Any, gap: Array, q: Array, zeta_sq: Array) -> Array:
    """Return the bound of sum_(s<=t) E|G_s|^2."""
    return (2 * gap / (seen(c, hp) * hp.gamma) + (t + 1) * q * zeta_sq) / (1 - q)
