"""Stochastic gradient descent:  x+ = x - eta_t g_t, g_t the mean gradient of b records drawn with replacement.

eta_t = eta before the step `decay_from`, (2t + 1) / ((t + 1)^2 mu) from it on.

Expected smoothness. D_i = grad f_i(x) - grad f_i(x*) of convex L_max-smooth records has E |D_i|^2 <= 2 L_max (f - f*)
and |E D_i|^2 = |grad f|^2 <= 2 L (f - f*); the mean of b independent draws has the second moment
E |D_i|^2/b + (1 - 1/b) |E D_i|^2, so that
  E |g(x) - g(x*)|^2 <= 2 ell (f(x) - f*),  ell = L_max/b + (1 - 1/b) L,  E |g(x*)|^2 = sigma^2 = sigma_star_sq/b.
Recursion (Gower et al., proof of Theorem 3.1), r_t = E |x_t - x*|^2 and eta_t <= 1/(2 ell):
  r_(t+1) <= (1 - eta_t mu) r_t + 2 eta_t^2 sigma^2.
Decaying steps. Let k = decay_from. 1 - eta_t mu = t^2/(t + 1)^2, so (t + 1)^2 r_(t+1) <= t^2 r_t + 8 sigma^2/mu^2 and
  t^2 r_t <= k^2 r_k + 8 sigma^2 (t - k)/mu^2,  t >= k,  r_k bounded by Theorem 3.1.
This is Theorem 3.2 before its last estimates. At eta = 1/(2 ell) and k = 4 ceil(ell/mu) it is at most the
published 8 sigma^2/(mu^2 t) + 16 ceil(ell/mu)^2 r_0/(e^2 t^2); it holds for all k >= 4 ell/mu, eta <= 1/(2 ell).
Source: Gower, Loizou, Qian, Sailanbayev, Shulgin & Richtarik (2019), SGD: general analysis and improved rates.
"""

import math
from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import DISTANCE_SQ, initial
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Holds, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle


@struct.dataclass
class HParams:
    """eta: step size until `decay_from`; mu: the strong convexity that decaying steps are told; batch_size: b."""

    eta: Array | float | str = "1/(2*L_max)"
    decay_from: Array | float | str = math.inf
    mu: Array | float | str = 0.0
    batch_size: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class State:
    x: Any
    t: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for batch_size < 1."""
    refuse_unless(hp.batch_size >= 1, f"batch_size = {hp.batch_size}: a minibatch holds at least one record")
    return hp


def init(problem, x0, key, hp):
    return State(x0, jnp.zeros_like(hp.eta))


def step(problem, state, key, hp):
    decayed = (2 * state.t + 1) / ((state.t + 1) ** 2 * hp.mu)
    eta = jnp.where(state.t < hp.decay_from, hp.eta, decayed)
    return State(descend_by(state.x, eta, problem.sample(key, hp.batch_size).grad(state.x)), state.t + 1)


def readout(state):
    return state.x


def calls(problem, hp):
    return hp.batch_size / problem.constants.n


def expected_smoothness(c: Any, hp: HParams) -> Array:
    """Return ell = L_max/b + (1 - 1/b) L."""
    return c.L_max / hp.batch_size + (1 - 1 / hp.batch_size) * c.L


def constant_bound(t: Array, c: Any, hp: Any, distance_sq: Array) -> Array:
    """Return (1 - eta mu)^t |x_0 - x*|^2 + 2 eta sigma^2 / mu."""
    return (1 - hp.eta * c.mu) ** t * distance_sq + 2 * hp.eta * c.sigma_star_sq / (hp.batch_size * c.mu)


def decaying_bound(t: Array, c: Any, hp: Any, distance_sq: Array) -> Array:
    """Return (k^2 r_k + 8 sigma^2 (t - k) / mu^2) / t^2 for t >= k = decay_from, NaN before."""
    k = jnp.ceil(hp.decay_from)
    noise = 8 * c.sigma_star_sq / (hp.batch_size * c.mu**2)
    return jnp.where(t >= k, (k**2 * constant_bound(k, c, hp, distance_sq) + noise * (t - k)) / t**2, jnp.nan)


def is_small_step(c: Any, hp: Any) -> Array:
    """Return whether 0 < eta <= 1/(2 ell)."""
    return (hp.eta > 0) & (2 * expected_smoothness(c, hp) * hp.eta <= 1 + 1e-12)


ASSUMED = Regularity.SMOOTH | Regularity.STRONGLY_CONVEX | Regularity.FINITE_SUM | Regularity.RETAINS_CONVEXITY

constant: AnyTheorem = Theorem(
    name="stochastic_gradient_descent_constant",
    statement="E |x_t - x*|^2 <= (1 - eta mu)^t |x_0 - x*|^2 + 2 eta sigma^2 / mu",
    source=Source("Gower et al.", 2019, "SGD: general analysis and improved rates", "arXiv:1901.09401, Theorem 3.1"),
    assumes=ASSUMED,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ),),
    condition="0 < eta <= 1/(2 ell), ell = L_max/b + (1 - 1/b) L; claimed up to decay_from",
    admits=is_small_step,
    bound=lambda t, c, hp, distance_sq: jnp.where(t <= hp.decay_from, constant_bound(t, c, hp, distance_sq), jnp.nan),
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="mu overstated twenty times promises a rate the flattest direction cannot have",
        problem="least_squares",
        setting="eta=1/(2*L_max)",
        misstate={"mu": 20.0},
        steps=1000,
        seeds=16,
    ),
)

decaying: AnyTheorem = Theorem(
    name="stochastic_gradient_descent_decaying",
    statement="E |x_t - x*|^2 <= (k^2 ((1 - eta mu)^k |x_0 - x*|^2 + 2 eta sigma^2/mu) + 8 sigma^2 (t - k)/mu^2)/t^2, "
    "t >= k = decay_from",
    source=Source(
        "Gower et al.",
        2019,
        "SGD: general analysis and improved rates",
        "arXiv:1901.09401, Theorem 3.2 for any k, before its last estimates",
    ),
    assumes=ASSUMED,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ),),
    condition="0 < eta <= 1/(2 ell), 4 ell/mu <= decay_from < inf, told mu = mu",
    admits=lambda c, hp: (
        is_small_step(c, hp)
        & (hp.decay_from * c.mu >= (1 - 1e-12) * 4 * expected_smoothness(c, hp))
        & (hp.decay_from < jnp.inf)
        & (jnp.abs(hp.mu / c.mu - 1) <= 1e-12)
    ),
    bound=decaying_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="mu overstated twenty times decays the steps too fast to forget the start",
        problem="least_squares",
        setting="eta=1/(2*L_max),mu=mu,decay_from=4*ceil(L_max/mu)",
        misstate={"mu": 20.0},
        steps=1000,
        seeds=16,
    ),
)

algorithm = Algorithm(
    name="stochastic_gradient_descent",
    source=Source("Robbins & Monro", 1951, "A stochastic approximation method", "Ann. Math. Statist. 22(3)"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.SAMPLE,
    calls=calls,
    prepare=prepare,
    theorems=(constant, decaying),
)
