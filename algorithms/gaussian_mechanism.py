"""The price of publishing with Gaussian noise:  delta(eps, s) = Phi(s/2 - eps/s) - e^eps Phi(-s/2 - eps/s).

Here s = |u - v|/sigma and u + sigma N, v + sigma N are the two published points; delta(eps, s) is the
smallest delta for which they are (eps, delta)-indistinguishable.
Source: Balle & Wang (2018), arXiv:1805.06530, Theorem 8.
"""

import math
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr

from algorithms.algorithm import refuse_unless

SAFETY = 1e-10  # relative; the root search stops at 1e-11, and its error must fall on the private side


def indistinguishability(epsilon: Array, s: Array) -> Array:
    """Return delta(epsilon, s) for s = distance/sigma in [0, inf], evaluated in log space."""
    finite = jnp.where((s > 0) & (s < jnp.inf), s, 1.0)
    log_first = log_ndtr(finite / 2 - epsilon / finite)
    log_second = epsilon + log_ndtr(-finite / 2 - epsilon / finite)
    inside = jnp.exp(log_first) * -jnp.expm1(jnp.minimum(log_second - log_first, 0.0))
    return jnp.where(s <= 0, 0.0, jnp.where(s < jnp.inf, inside, 1.0))


@lru_cache(maxsize=4096)
def _noise_multiplier(epsilon: float, delta: float) -> float:
    from dp_accounting import gaussian_mechanism

    return gaussian_mechanism.get_sigma_gaussian(epsilon, delta) * (1 + SAFETY)


def noise_multiplier(epsilon: np.ndarray | float, delta: np.ndarray | float) -> np.ndarray:
    """Return the sigma that makes points at distance 1 (epsilon, delta)-indistinguishable, on the host."""
    return np.vectorize(_noise_multiplier, otypes=[float])(epsilon, delta)


def check_target(epsilon: float, delta: float) -> None:
    """Raise `InvalidSetting` unless epsilon is positive and finite and delta lies in (0, 1)."""
    refuse_unless(epsilon > 0 and math.isfinite(epsilon), f"epsilon = {epsilon}: must be positive and finite")
    refuse_unless(0 < delta < 1, f"delta = {delta}: must lie in (0, 1)")


def analytic_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Return the exact Gaussian noise for a sensitivity (Balle & Wang 2018, Theorem 8), any epsilon > 0."""
    check_target(epsilon, delta)
    return sensitivity * float(noise_multiplier(epsilon, delta)) if sensitivity else 0.0


def classic_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Return Delta sqrt(2 ln(1.25/delta))/epsilon (Dwork & Roth 2014, Theorem 3.22), valid for epsilon < 1 only.

    Raises:
        InvalidSetting: epsilon >= 1; from some epsilon between 5 and 10 on the formula adds too little noise.
    """
    check_target(epsilon, delta)
    refuse_unless(
        epsilon < 1, f"epsilon = {epsilon}: the classic formula is proven for epsilon < 1; take analytic_sigma"
    )
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def zcdp_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Return Delta/(sqrt2 (sqrt(ln(1/delta) + epsilon) - sqrt(ln(1/delta)))) (Bun & Steinke 2016), any epsilon > 0."""
    check_target(epsilon, delta)
    log = math.log(1 / delta)
    return sensitivity / (math.sqrt(2) * (math.sqrt(log + epsilon) - math.sqrt(log)))
