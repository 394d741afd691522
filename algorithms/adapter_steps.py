"""What a step of size eta on adapters promises: (L2), (A1), (A2), (A3), and the balance of its factors; with metrics.

J(V) = ell(B A), V = (B, A), |V|^2 = |B|^2 + |A|^2, G = grad ell, N = |grad J|, Delta = J(V_0) - inf ell, L smooth ell.

(L1) B+A+ - BA = d1 + d2, d1 = -eta (B g_A + g_B A), d2 = eta^2 g_B g_A; <G, d1> = -eta N^2,
     <G, d2> <= eta^2 |G| N^2/2, |d1| <= eta |V| N, |d2| <= eta^2 N^2/2; ell(W+d) <= ell + <G, d> + (L/2)|d|^2.
(L2) With p = eta |G|, q = eta L |V|^2 and p + q <= c, eta N <= p |V|, so J(V+) <= J - kappa(c) eta N^2 where
     kappa(c) = min_p [1 - p/2 - ((c - p)/2) (1 + p/2)^2].
(A1) Summed: min_{s<t} N_s^2 <= Delta/(kappa S_t), S_t = sum_{s<t} eta_s.
(A2) |V_t|^2 <= 2 |V_0|^2 + 2 S_t Delta/kappa and |G_t|^2 <= 2 L Delta, so (a + b S_t) eta_t >= c with
     a = 2 L |V_0|^2 + sqrt(2 L Delta), b = 2 L Delta/kappa; summed, a S + b S^2/2 >= c t. Hence min N^2 = O(1/sqrt t).
(A3) With R the largest |V| so far, S_t >= c t/(L R^2 + sqrt(2 L Delta)): O(1/t) while the adapters stay bounded.
Norms: (|V|_F, |G|_F), (|V|_F, |G|_2) or (sqrt(|B|_2^2 + |A|_2^2), |G|_F), since N <= |G| |V| in each. Over several
adapted matrices those of all together (block-diagonal B, A, G) or the largest of each: |d1|^2 = sum |d1_l|^2 <=
eta^2 max |V_l|^2 N^2 and |d2_l| <= eta^2 N_l^2/2 <= (p/2) |V| eta N_l, so that (L2) holds with the joint L as it is.
Derived here.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.balance import balance, each_adapter, total
from algorithms.metric import Metric
from algorithms.principal_axes import singular_values
from problems.constants import Constants


def kappa(c: Array | float) -> Array:
    """Return the coefficient of (L2), 0 <= c <= 1: a step lowers the loss by at least kappa(c) eta N^2."""
    u = ((c + 2) + jnp.sqrt((c + 2) ** 2 + 12)) / 6
    p = 2 * (u - 1)
    return 1 - p / 2 - (c - p) / 2 * u**2


def path_bound(c: Array | float, gap: Array, step_sum: Array) -> Array:
    """Return (A1), Delta/(kappa S_t)."""
    return gap / (kappa(c) * step_sum)


def rate_bound(t: Array, c: Array | float, L: Array, a: Array, gap: Array) -> Array:
    """Return (A2), Delta (a + sqrt(a^2 + 2 b c t))/(2 kappa c t), which tends to (Delta/kappa)^(3/2) sqrt(L/(c t))."""
    k, b = kappa(c), 2 * L * gap / kappa(c)
    return gap * (a + jnp.sqrt(a**2 + 2 * b * c * t)) / (2 * k * c * t)


def bounded_bound(t: Array, c: Array | float, a: Array, gap: Array) -> Array:
    """Return (A3), Delta a/(kappa c t), a = L R^2 + sqrt(2 L Delta)."""
    return gap * a / (kappa(c) * c * t)


def selfnorm_a(L: Array, v_sq: Array, gap: Array) -> Array:
    """Return a of (A2) for eta = c/(L |V|^2 + |G|)."""
    return 2 * L * v_sq + jnp.sqrt(2 * L * gap)


@struct.dataclass
class Balance:
    """calB = (|B|^2 - |A|^2)/2 at the start, and `moved`, by how much gradient steps have to change it.

    A step of any size changes B^T B - A A^T by eta^2 (g_B^T g_B - g_A g_A^T), for g_B^T B = A G^T B = A g_A^T; calB is
    half its trace.
    """

    start: Array
    moved: Array


def calB(x: Any) -> Array:
    """Return calB of a point, summed over its adapters; of a gradient likewise."""
    return total(each_adapter(balance, x))


def balance_at(x: Any) -> Balance:
    """Return the balance of a start."""
    return Balance(calB(x), jnp.zeros(()))


def rebalanced(before: Balance, eta: Array, gradient: Any) -> Balance:
    """Return the balance after a step of size eta along minus the gradient."""
    return replace(before, moved=before.moved + eta**2 * calB(gradient))


def largest(metric: Metric) -> Metric:
    """Return the largest value of the metric so far, over every step."""
    return replace(metric, name=f"largest_{metric.name}", fold=jnp.maximum)


def local_rate(t: Array, c: Constants, hp: Any, gap: Array, slowest: Array, fastest: Array) -> Array:
    """Return the contraction of |W - M| near M, NaN far from it or at rounding.

    At M, (dB, dA) -> B dA + dB A has the squared singular values lambda_i(B B^T) + lambda_j(A^T A), zeros among them
    where r < min(m, n), so that a step multiplies the residual's parts by 1 - eta times each.
    """
    near = (2 * gap <= (1e-5 * c.sigma_r) ** 2) & (2 * gap >= (1e-11 * c.sigma_1) ** 2)
    return jnp.where(near, jnp.maximum(1 - hp.eta * slowest, hp.eta * fastest - 1), jnp.nan)


def squares(x: Any) -> list[Array]:
    """Return the squared singular values of every factor."""
    return [singular_values(factor) ** 2 for factor in jax.tree.leaves(x)]


def residual(problem: Any, x: Any, state: Any) -> Array:
    """Return |G|_F, which is |B A - M|_F on a TARGET; states that measure a contraction keep it as `previous`."""
    return optax.tree.norm(problem.weight_grad(x))


WEIGHT_GAP = Metric("weight_gap", lambda problem, x, state: problem.value(x) - problem.constants.ell_star)
ADAPTER_NORM_SQ = Metric("adapter_norm_sq", lambda problem, x, state: optax.tree.norm(x, squared=True))
STEP_SUM = Metric("step_sum", lambda problem, x, state: state.step_sum)
DISSIPATED = Metric(
    "dissipated", lambda problem, x, state: state.dissipated, scale=lambda problem, x, state: problem.value(x)
)
L_HAT = Metric("L_hat", lambda problem, x, state: state.L_hat)
BALANCE_CHANGE = Metric(
    "balance_change",
    lambda problem, x, state: jnp.abs(calB(x) - state.balance.start),
    scale=lambda problem, x, state: optax.tree.norm(x, squared=True),
)
BALANCE_MOVED = Metric("balance_moved", lambda problem, x, state: jnp.abs(state.balance.moved))
CONTRACTION = Metric("contraction", lambda problem, x, state: residual(problem, x, state) / state.previous)
SLOWEST = Metric("slowest", lambda problem, x, state: jnp.min(jnp.stack([jnp.min(s) for s in squares(x)])))
FASTEST = Metric("fastest", lambda problem, x, state: jnp.sum(jnp.stack([jnp.max(s) for s in squares(x)])))
