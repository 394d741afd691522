"""How far apart deletion can leave two runs: the sensitivities |u - v| that certificates rest on, in log space.

Derived here; a = 2 eta G m/n is the disturbance of one step, S(g, k) = 1 + g + ... + g^(k-1):
(1) |grad f_D - grad f_{D'}| = (m/n) |grad f_Z - grad f_{D'}| <= 2 G m/n, the regulariser cancels.
(2) One step on f_{D'} is g-Lipschitz: g = 1 + eta L; g = 1 if convex and eta <= 2/L; g = 1 - eta mu if
    mu-strongly convex and eta <= 2/(L+mu). Only f_{D'} need be in the class.
(3) So l steps on D against l steps on D' end at most a S(g, l) apart, k joint steps on D' multiply by g^k.
The same holds where the m forgotten records are replaced by others instead of deleted: then too the gradient of the
mean moves by at most 2 G m/n. `c` are the constants, `hp` any record of hyper-parameters with a step size `eta`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from algorithms.recursions import log_geometric_sum
from problems.constants import Constants, Regularity
from problems.problem import Problem

MARGIN = 1 + 1e-12  # a step size of exactly 2/L, after rounding
MOST_HALVINGS = 32  # of an interval of steps: counts are 32-bit


def disturbance(c: Constants, hp: Any) -> Array:
    """Return a = 2 eta G m/n: what one step on D instead of D' adds to the distance."""
    return 2 * hp.eta * c.G * c.forgotten / c.n


def log_contraction(c: Constants, hp: Any) -> Array:
    """Return log(1 - eta mu), kept finite where eta mu = 1 (an upper bound there)."""
    return jnp.log1p(-jnp.minimum(hp.eta * c.mu_min, 1 - jnp.finfo(jnp.zeros(()).dtype).eps))


def is_step(c: Constants, hp: Any) -> Array:
    """Return whether eta > 0."""
    return hp.eta > 0


def is_noise_whole(c: Constants, hp: Any) -> Array:
    """Return whether the noise is not scaled down."""
    return hp.noise_scale >= 1


def is_strongly_convex_step(c: Constants, hp: Any) -> Array:
    """Return whether 0 < eta <= 2/(L + mu): a step contracts by 1 - eta mu."""
    return (hp.eta > 0) & (hp.eta * (c.L_max + c.mu_min) <= 2 * MARGIN)


def is_convex_step(c: Constants, hp: Any) -> Array:
    """Return whether 0 < eta <= 2/L: a step does not expand."""
    return (hp.eta > 0) & (hp.eta * c.L_max <= 2 * MARGIN)


def growth_rate(problem: Problem, hp: Any) -> Array:
    """Return the least r that regularity and step size admit: a step multiplies distances by at most 1 + eta r.

    r = -mu, 0 or L by the class of every record; NaN where none is proven.
    """
    c, regularity = problem.constants, problem.family.regularity
    if Regularity.DELETABLE not in regularity:
        return jnp.full((), jnp.nan)
    r = c.L_max
    if Regularity.RETAINS_CONVEXITY in regularity:
        r = jnp.where(is_convex_step(c, hp), 0.0, r)
    if Regularity.RETAINS_STRONG_CONVEXITY in regularity:
        r = jnp.where(is_strongly_convex_step(c, hp), -c.mu_min, r)
    return r


def strongly_convex_sensitivity(c: Constants, hp: Any, learned: Array, unlearned: Array) -> Array:
    """Return g^unlearned a S(g, learned) with g = 1 - eta mu."""
    log_g = log_contraction(c, hp)
    return disturbance(c, hp) * jnp.exp(unlearned * log_g + log_geometric_sum(log_g, learned))


def convex_sensitivity(c: Constants, hp: Any, learned: Array) -> Array:
    """Return a * learned."""
    return disturbance(c, hp) * learned


def nonconvex_sensitivity(c: Constants, hp: Any, learned: Array, unlearned: Array) -> Array:
    """Return g^unlearned a S(g, learned) with g = 1 + eta L."""
    log_g = jnp.log1p(hp.eta * c.L_max)
    log_bound = jnp.log(disturbance(c, hp)) + unlearned * log_g + log_geometric_sum(log_g, learned)
    return jnp.exp(log_bound)


def source_sensitivity(c: Constants, hp: Any) -> Array:
    """Return Mu & Klabjan's nonconvex form (2Gm/(nL)) ((1 + eta L n/(n-m))^(T-K) - 1) (1 + eta L)^K, never smaller."""
    inflated = hp.eta * c.L_max * c.n / (c.n - c.forgotten)
    growth = (hp.T - hp.K) * jnp.log1p(inflated)
    kept = hp.K * jnp.log1p(hp.eta * c.L_max)
    return disturbance(c, hp) / (hp.eta * c.L_max) * jnp.expm1(growth) * jnp.exp(kept)


def tightest_sensitivity(problem: Problem, hp: Any, learned: Array, unlearned: Array) -> Array:
    """Return the least of the bounds that the records' regularity and the step size admit, 0 where none is proven."""
    c, regularity = problem.constants, problem.family.regularity
    if Regularity.DELETABLE not in regularity:
        return jnp.zeros(())
    bound = nonconvex_sensitivity(c, hp, learned, unlearned)
    if Regularity.RETAINS_CONVEXITY in regularity:
        bound = jnp.where(is_convex_step(c, hp), convex_sensitivity(c, hp, learned), bound)
    if Regularity.RETAINS_STRONG_CONVEXITY in regularity:
        strong = strongly_convex_sensitivity(c, hp, learned, unlearned)
        bound = jnp.where(is_strongly_convex_step(c, hp), strong, bound)
    return bound


def attained_sensitivity(c: Constants, hp: Any, learned: Array, unlearned: Array) -> Array:
    """Return g^unlearned a S(g, learned) with g = 1 - eta f'', where f'' is `spread` everywhere; eta f'' < 1."""
    log_g = jnp.log1p(-hp.eta * c.spread)
    return disturbance(c, hp) * jnp.exp(unlearned * log_g + log_geometric_sum(log_g, learned))


def is_attained(c: Constants, hp: Any) -> Array:
    """Return whether eta > 0 and eta f'' < 1: a step multiplies distances by 1 - eta f'' > 0."""
    return (hp.eta > 0) & (hp.eta * c.spread < 1)


def attains_declared(c: Constants, hp: Any) -> Array:
    """Return whether, deletion being attained, `tightest_sensitivity` is too: eta <= 2/L unless f'' < 0."""
    return is_attained(c, hp) & ((c.spread < 0) | is_convex_step(c, hp))


def rewinding_steps(sensitivity: Callable[[Array, Array], Array], T: Array, target: Array) -> Array:
    """Return K(target): the least K in 0..T with sensitivity(T - K, K) <= target, by bisection; T where none is.

    `sensitivity(learned, unlearned)` falls in K and is 0 at K = T; where it overflows it is above any target.
    """

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        too_few, enough = bracket
        middle = jnp.maximum(jnp.floor((too_few + enough) / 2), 0.0)
        bound = sensitivity(T - middle, middle)
        reached = (bound <= target) & jnp.isfinite(bound)
        return jnp.where(reached, too_few, middle), jnp.where(reached, middle, enough)

    T = jnp.asarray(T, float)
    return lax.fori_loop(0, MOST_HALVINGS, halve, (-jnp.ones_like(T), T))[1]
