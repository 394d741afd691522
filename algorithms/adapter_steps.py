"""What a step of size eta on adapters promises: (L2), the path bound (A1) and the rate (A2), with their metrics.

J(V) = ell(B A), V = (B, A), |V|^2 = |B|^2 + |A|^2, G = grad ell, N = |grad J|, Delta = J(V_0) - inf ell, L smooth ell.

(L1) B+A+ - BA = d1 + d2, d1 = -eta (B g_A + g_B A), d2 = eta^2 g_B g_A; <G, d1> = -eta N^2,
     <G, d2> <= eta^2 |G| N^2/2, |d1| <= eta |V| N, |d2| <= eta^2 N^2/2; ell(W+d) <= ell + <G, d> + (L/2)|d|^2.
(L2) With p = eta |G|, q = eta L |V|^2 and p + q <= c, eta N <= p |V|, so J(V+) <= J - kappa(c) eta N^2 where
     kappa(c) = min_p [1 - p/2 - ((c - p)/2) (1 + p/2)^2].
(A1) Summed: min_{s<t} N_s^2 <= Delta/(kappa S_t), S_t = sum_{s<t} eta_s.
(A2) |V_t|^2 <= 2 |V_0|^2 + 2 S_t Delta/kappa and |G_t|^2 <= 2 L Delta, so (a + b S_t) eta_t >= c with
     a = 2 L |V_0|^2 + sqrt(2 L Delta), b = 2 L Delta/kappa; summed, a S + b S^2/2 >= c t. Hence min N^2 = O(1/sqrt t).
Derived here; the norms may be (|V|_F, |G|_F), (|V|_F, |G|_2) or (sqrt(|B|_2^2 + |A|_2^2), |G|_F), over several adapted
matrices the largest of each or those of all together.
"""

import jax.numpy as jnp
import optax
from jax import Array

from algorithms.metric import Metric


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


def selfnorm_a(L: Array, v_sq: Array, gap: Array) -> Array:
    """Return a of (A2) for eta = c/(L |V|^2 + |G|)."""
    return 2 * L * v_sq + jnp.sqrt(2 * L * gap)


WEIGHT_GAP = Metric("weight_gap", lambda problem, x, state: problem.value(x) - problem.constants.ell_star)
ADAPTER_NORM_SQ = Metric("adapter_norm_sq", lambda problem, x, state: optax.tree.norm(x, squared=True))
STEP_SUM = Metric("step_sum", lambda problem, x, state: state.step_sum)
DISSIPATED = Metric(
    "dissipated", lambda problem, x, state: state.dissipated, scale=lambda problem, x, state: problem.value(x)
)
