"""Noise that hides a random distance X = |u - v|:  sigma such that E delta(epsilon, X/sigma) <= delta.

Let (u, v) be coupled. Conditioned on both, u + sigma N and v + sigma N are two Gaussians, so that for every event O
P[u + sigma N in O] - e^epsilon P[v + sigma N in O] <= E delta(epsilon, X/sigma), and so with the sides swapped:
the displayed condition suffices. What is known of X decides how it is met, mult(delta) = sigma for X = 1:

  worst_case  X <= D surely: sigma = mult(delta) D.
  chernoff    P[X > D_p] <= p: at most 1 is lost beyond D_p, so sigma = mult((delta - p)/(1 - p)) D_p, 0 < p < delta,
              where D_p is Chernoff's; never above worst_case, which is p = 0.
  markov      the same with D_p = E X/p.
  mean        delta(epsilon, s) <= c_eps s, c_eps = max_s delta(epsilon, s)/s: sigma = c_eps E X/delta. The best that
              the mean alone gives: a law on two points attains it.
  mean_plugged_in   sigma = mult(delta) E X certifies nothing: few large X cost more than many small ones save.

Every p in (0, delta) is valid; unless one is given, sigma is the least over p = delta times a few shares.
Source: derived here; the name is of Mu & Klabjan (2025), Descend or rewind?, arXiv:2511.15983 (first version).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from algorithms.algorithm import refuse_unless
from algorithms.gaussian_mechanism import SAFETY, indistinguishability

SHARES = (0.02, 0.08, 0.25, 0.5)  # p/delta for Chernoff's tail: the best loses under 1 % of sigma to that of all p
MARKOV_SHARES = (0.7, 0.85, 0.9, 0.95, 0.97)  # the same for Markov's
POINTS, ROUNDS, NARROWED = 9, 3, 4.0  # Chernoff's minimum: grids of s, each so much narrower than the last
LOG_S = (-8.0, 5.0)  # of s for a largest jump of 1; any s > 0 gives a valid bound
HALVINGS = 64


@dataclass(frozen=True)
class Distance:
    """What is known of X = |u - v|: E X <= mean, X <= worst surely, P[X > tail(p)] <= p."""

    mean: Array
    worst: Array
    tail: Callable[[Array], Array]


@lru_cache(maxsize=1024)
def _c_epsilon(epsilon: float) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import log_ndtr

    def log_slope(log_s: Any) -> Any:
        s = np.exp(log_s)
        first, second = log_ndtr(s / 2 - epsilon / s), epsilon + log_ndtr(-s / 2 - epsilon / s)
        return first + np.log(-np.expm1(np.minimum(second - first, -1e-300))) - log_s

    grid = np.linspace(-8, 8, 1601)
    at = int(np.argmax(log_slope(grid)))
    bracket = (grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)])
    best = minimize_scalar(lambda log_s: -log_slope(log_s), bounds=bracket, method="bounded")
    return float(np.exp(-best.fun)) * (1 + SAFETY)


def c_epsilon(epsilon: np.ndarray | float) -> np.ndarray:
    """Return c_eps = max_{s>0} delta(epsilon, s)/s, on the host; 1/sqrt(2 pi) in the limit epsilon -> 0."""
    return np.vectorize(_c_epsilon, otypes=[float])(epsilon)


def left_for_noise(delta: Any, p: Any) -> Any:
    """Return (delta - p)/(1 - p): what the noise may spend when a tail of probability p is given up.

    Raises:
        InvalidSetting: p >= delta, which leaves nothing, or p < 0.
    """
    refuse_unless(np.asarray(p) >= 0, f"p = {p}: the probability of a tail must be >= 0")
    refuse_unless(np.asarray(p) < delta, f"p = {p} with delta = {delta}: p >= delta leaves the noise nothing to spend")
    return (delta - p) / (1 - p)


def chernoff_radius(cumulant: Callable[[Array], Array], p: Array) -> Array:
    """Return D_p = min_{s>0} (log E e^{s X} + log(1/p))/s on ever finer grids: P[X > D_p] <= p for each s already.

    `cumulant(s)` (k,) -> (k,) bounds log E e^{s X} from above for an X that is a sum of jumps of size at most 1.
    """

    def refine(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centre, width, radius = carry
        log_s = centre + width * jnp.linspace(-1, 1, POINTS)
        values = (cumulant(jnp.exp(log_s)) - jnp.log(p)) * jnp.exp(-log_s)
        return log_s[jnp.argmin(values)], width / NARROWED, jnp.minimum(radius, jnp.min(values))

    middle, width = sum(LOG_S) / 2, (LOG_S[1] - LOG_S[0]) / 2
    start = (jnp.asarray(middle), jnp.asarray(width), jnp.asarray(jnp.inf))
    return jax.lax.fori_loop(0, ROUNDS, refine, start)[2]


def tolerated_distance(epsilon: Array, delta: Array) -> Array:
    """Return (just below) the largest s with delta(epsilon, s) <= delta, in a traced program: 1/mult(delta)."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        fits = indistinguishability(epsilon, jnp.exp(middle)) <= delta
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    ends = jnp.full_like(delta, -30.0, dtype=float), jnp.full_like(delta, 10.0, dtype=float)
    return jnp.exp(jax.lax.fori_loop(0, HALVINGS, halve, ends)[0]) / (1 + SAFETY)


def tail_noise(radius: Callable[[Array], Array], hp: Any, shares: tuple[float, ...]) -> Array:
    """Return min over p of mult((delta - p)/(1 - p)) radius(p): at the given p, or over shares of delta where p = 0."""

    def noise(tried: Array) -> Array:
        return radius(tried) / tolerated_distance(hp.epsilon, (hp.delta - tried) / (1 - tried))

    return jnp.min(jax.vmap(noise)(jnp.where(hp.p > 0, hp.p, jnp.asarray(shares) * hp.delta)))


def markov(distance: Distance, hp: Any) -> Array:
    return tail_noise(lambda p: distance.mean / p, hp, MARKOV_SHARES)


def chernoff(distance: Distance, hp: Any) -> Array:
    return jnp.minimum(tail_noise(distance.tail, hp, SHARES), worst_case(distance, hp))


def worst_case(distance: Distance, hp: Any) -> Array:
    return hp.noise_multiplier * distance.worst


def mean(distance: Distance, hp: Any) -> Array:
    return hp.c_epsilon * distance.mean / hp.delta


def mean_plugged_in(distance: Distance, hp: Any) -> Array:
    return hp.noise_multiplier * distance.mean


CERTIFYING = {"chernoff": chernoff, "mean": mean, "markov": markov, "worst_case": worst_case}
MECHANISMS = CERTIFYING | {"mean_plugged_in": mean_plugged_in}
