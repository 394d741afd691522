"""The price of publishing with Gaussian noise:  delta(eps, s) = Phi(s/2 - eps/s) - e^eps Phi(-s/2 - eps/s).

Here s = |u - v|/sigma and u + sigma N, v + sigma N are the two published points; delta(eps, s) is the
smallest delta for which they are (eps, delta)-indistinguishable.
Source: Balle & Wang (2018), arXiv:1805.06530, Theorem 8.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr

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
