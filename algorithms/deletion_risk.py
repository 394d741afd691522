"""The empirical risk of an unlearned model:  f_{D'}(u) - min f_{D'}, where f_{D'} is mu-PL and eta <= 1/L.

Derived here. A step on f_D is a step on f_{D'} with the error e = grad f_D - grad f_{D'}, |e| <= d = 2Gm/n by (1) of
`algorithms.sensitivity`, and with eta <= 1/L (L of every record, hence of f_{D'})
  f(x - eta (g + e)) <= f - eta <g, g + e> + (eta/2) |g + e|^2 = f - (eta/2) |g|^2 + (eta/2) |e|^2,  g = grad f_{D'}(x).
With |g|^2 >= 2 mu (f - min f) the risk r obeys r+ <= (1 - eta mu) r + (eta/2) |e|^2: after l steps on D and k on D',
  r <= (1 - eta mu)^(l+k) r_0 + (1 - eta mu)^k (1 - (1 - eta mu)^l) d^2/(2 mu).
G need bound the record gradients only where learning goes, which is where f_D is at most f_D(x_0).
Publishing u + sigma N adds at most L sigma^2 d/2 in the mean, d parameters, as the linear term has mean 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from algorithms.metric import Metric
from algorithms.sensitivity import MARGIN, disturbance
from problems.constants import Constants
from problems.problem import Problem


def retained_risk(problem: Problem, x: Any) -> Array:
    """Return f_{D'}(x) - min f_{D'}."""
    return problem.retained().value(x) - problem.constants.f_star_retained


def size_of_risk(problem: Problem, x: Any, state: Any) -> Array:
    """Return max(|f_{D'}(x)|, |min f_{D'}|), the numbers whose difference is the risk."""
    return jnp.maximum(jnp.abs(problem.retained().value(x)), jnp.abs(problem.constants.f_star_retained))


def noise_sq(problem: Problem, x: Any, state: Any) -> Array:
    """Return sigma^2 d, the mean of |sigma N|^2."""
    return state.sigma**2 * sum(leaf.size for leaf in jax.tree.leaves(x))


RISK = Metric(
    "risk",
    lambda problem, x, state: retained_risk(problem, state.x),
    scale=lambda problem, x, state: size_of_risk(problem, state.x, state),
)
PUBLISHED_RISK = Metric("published_risk", lambda problem, x, state: retained_risk(problem, x), scale=size_of_risk)
NOISE_SQ = Metric("noise_sq", noise_sq)


def is_descent(c: Constants, hp: Any) -> Array:
    """Return whether 0 < eta <= 1/L: a gradient step descends."""
    return (hp.eta > 0) & (hp.eta * c.L_max <= MARGIN)


def risk_bound(c: Constants, hp: Any, learned: Array, unlearned: Array, start: Array) -> Array:
    """Return the bound after `learned` steps on D and `unlearned` on D', from the risk `start` of x_0."""
    log_g = jnp.log1p(-jnp.minimum(hp.eta * c.mu_pl_retained, 1 - jnp.finfo(jnp.zeros(()).dtype).eps))
    gap = disturbance(c, hp) / hp.eta
    biased = -jnp.expm1(learned * log_g) * gap**2 / (2 * c.mu_pl_retained)
    return jnp.exp((learned + unlearned) * log_g) * start + jnp.exp(unlearned * log_g) * biased


def published_risk_bound(c: Constants, hp: Any, learned: Array, unlearned: Array, start: Array, noise: Array) -> Array:
    """Return the bound on the mean risk of the published model; `noise` is sigma^2 d."""
    return risk_bound(c, hp, learned, unlearned, start) + c.L_max * noise / 2
