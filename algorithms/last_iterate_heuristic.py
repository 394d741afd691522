"""The heuristic epsilon of DP-SGD's last iterate:  P = Binomial(T, q) + N(0, sigma^2 T)  against  Q = N(0, sigma^2 T).

A record of clipped gradient 1 enters each of T Poisson samples with probability q, each sum gets noise N(0, sigma^2).
Were the losses linear, the last iterate would tell no more than P against Q, so that
  delta(eps) = max{H(P, Q), H(Q, P)},  H(P, Q) = sup_S P(S) - e^eps Q(S),
is *exact* there. Elsewhere it is a heuristic, no certificate: losses exist on which more leaks (same source).

Evaluated exactly (derived here): the log-likelihood ratio
  l(x) = log p/q(x) = logsumexp_k( log Bin(k; T, q) + k x/(sigma^2 T) - k^2/(2 sigma^2 T) )
increases in x from T log(1 - q) to infinity, so both suprema are threshold tests: S = {l > eps}, {l < -eps}, and
H(Q, P) = 0 where T log(1 - q) >= -eps. P and Q being what an observer of all T steps may sum up, delta(eps) is
never above that of composing the T steps; at q = 1 the two agree, as T Gaussians are one.
Source: Steinke et al. (2024), The last iterate advantage, arXiv:2410.06186.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

ROUNDING = 1e-12  # relative: where the search for a threshold or an epsilon stops


def root(function: Callable[[float], float], low: float, high: float, size: float) -> float:
    """Return where an increasing or decreasing function is 0, by Brent's method, to `size` times rounding."""
    from scipy.optimize import brentq

    found: Any = brentq(function, low, high, xtol=ROUNDING * size)
    return float(found)


def log_binomial(T: int, q: float) -> np.ndarray:
    """Return log Bin(k; T, q) for k = 0..T, (T + 1,)."""
    from scipy.stats import binom

    return binom.logpmf(np.arange(T + 1), T, q)


def log_ratio(x: float, log_weight: np.ndarray, sigma: float) -> float:
    """Return l(x) = log p/q(x)."""
    k, T = np.arange(len(log_weight)), len(log_weight) - 1
    return float(np.logaddexp.reduce(log_weight + (k * x - k**2 / 2) / (sigma**2 * T)))


def threshold(level: float, log_weight: np.ndarray, sigma: float) -> float:
    """Return the x at which l(x) = level > T log(1 - q)."""
    T = len(log_weight) - 1
    scale = sigma * math.sqrt(T)
    low, high = -scale, T + scale
    while log_ratio(low, log_weight, sigma) > level:
        low *= 2
    while log_ratio(high, log_weight, sigma) < level:
        high *= 2
    return root(lambda x: log_ratio(x, log_weight, sigma) - level, low, high, scale)


def difference(log_a: float, log_b: float) -> float:
    """Return e^a - e^b, at least 0."""
    return -math.exp(log_a) * math.expm1(log_b - log_a) if log_b < log_a else 0.0


def divergences(epsilon: float, T: int, q: float, sigma: float) -> tuple[float, float]:
    """Return H(P, Q) and H(Q, P) at e^epsilon, from log_ndtr mixtures."""
    from scipy.special import log_ndtr

    log_weight, scale, k = log_binomial(T, q), sigma * math.sqrt(T), np.arange(T + 1)
    x = threshold(epsilon, log_weight, sigma)
    log_p, log_q = np.logaddexp.reduce(log_weight + log_ndtr((k - x) / scale)), log_ndtr(-x / scale)
    added = difference(float(log_p), epsilon + float(log_q))
    if q < 1 and T * math.log1p(-q) >= -epsilon * (1 + ROUNDING):
        return added, 0.0
    x = threshold(-epsilon, log_weight, sigma)
    log_p, log_q = np.logaddexp.reduce(log_weight + log_ndtr((x - k) / scale)), log_ndtr(x / scale)
    return added, difference(float(log_q), epsilon + float(log_p))


@lru_cache(maxsize=4096)
def heuristic_epsilon(delta: float, T: int, q: float, sigma: float) -> float:
    """Return the smallest epsilon >= 0 with delta(epsilon) <= delta, for 0 < q <= 1, sigma > 0 and T >= 1."""

    def excess(epsilon: float) -> float:
        return math.log(max(*divergences(epsilon, T, q, sigma), 1e-300) / delta)

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return root(excess, 0.0, high, 1.0)


@lru_cache(maxsize=4096)
def composition_epsilon(delta: float, T: int, q: float, sigma: float) -> float:
    """Return the epsilon of composing the T steps, each seen: privacy loss distributions, rounded to the safe side.

    One record is added or removed, as in Poisson sampling. The losses of a step, at most about 8/sigma + 1/(2 sigma^2),
    stand on a grid of some ten thousand values.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    interval = max(1e-4, (8 / sigma + 1 / (2 * sigma**2)) / 10_000)
    one_step = pld.from_gaussian_mechanism(sigma, sampling_prob=q, value_discretization_interval=interval)
    return float(one_step.self_compose(T).get_epsilon_for_delta(delta))
