"""Full-batch unlearning: one run of t = 0, 1, ... steps learns on D, then turns to D' = D without Z.

  u+ = u - eta grad f_D(u) while t < switch, then u - eta grad f_{D'}(u) until the end: the model,
  v+ = v - eta grad f_{D'}(v) while t < T: retraining beside it; published is u + sigma N(0, I), u is secret.

The methods differ only in (switch, end). After its end a model stands still, so settings with different T and K
share one run, which must be as long as the longest end.

                        switch   end
  Rewind-to-Delete      T - K    T      (its unlearning starts from x_{T-K})
  Descent-to-Delete     T        T + K  (from x_T)
  retraining            0        T      (from x_0)

Sensitivities |u - v| (derived here; a = 2 eta G m/n, S(g, k) = 1 + g + ... + g^(k-1)):
(1) |grad f_D - grad f_{D'}| = (m/n) |grad f_Z - grad f_{D'}| <= 2 G m/n, the regulariser cancels.
(2) One step on f_{D'} is g-Lipschitz: g = 1 + eta L; g = 1 if convex and eta <= 2/L; g = 1 - eta mu if
    mu-strongly convex and eta <= 2/(L+mu). Only f_{D'} need be in the class.
(3) So l steps on D against l steps on D' end at most a S(g, l) apart, k joint steps on D' multiply by g^k.
The noise is calibrated to a bound on |u - v|, never to the distance itself.

A step is counted as one gradient, whole or on D': deleting costs the steps after the switch, K or T. The
retraining beside it is measurement and is not counted.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import refuse_unless
from algorithms.gaussian_mechanism import indistinguishability, noise_multiplier
from algorithms.metric import Metric
from algorithms.recursions import descend_by, log_geometric_sum
from problems.problem import Constants, Problem

MARGIN = 1 + 1e-12  # a step size of exactly 2/L, after rounding


@struct.dataclass
class HParams:
    """eta: step size; K: unlearning steps; T: learning steps; (epsilon, delta): what is to be certified.

    `noise_scale` multiplies the noise (below 1 it certifies nothing); `noise_multiplier` is sigma for
    sensitivity 1, filled by `prepare`.
    """

    eta: Array | float | str = "1/L_max"
    K: Array | float | str = 20
    T: Array | float | str = 100
    epsilon: Array | float = 1.0
    delta: Array | float = 1e-5
    noise_scale: Array | float = 1.0
    noise_multiplier: Array | float = float("nan")


@struct.dataclass
class State:
    """x: the model u; retrained: v; t: steps done; u learns before `switch`, unlearns before `end`, then stands.

    noise: standard normal, drawn once; start_gradient: |grad f_{D'}(x_0)|, known to whoever holds D'.
    """

    x: Any
    retrained: Any
    t: Array
    switch: Array
    end: Array
    noise: Any
    sigma: Array
    epsilon: Array
    start_gradient: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` outside the ranges the messages name."""
    K, T, eta, epsilon, delta = (np.asarray(v, float) for v in (hp.K, hp.T, hp.eta, hp.epsilon, hp.delta))
    refuse_unless((eta > 0) & np.isfinite(eta), f"eta = {hp.eta}: a step size must be positive and finite")
    refuse_unless((T >= 0) & (np.floor(T) == T), f"T = {hp.T}: learning steps must be a whole number >= 0")
    refuse_unless((K >= 0) & (np.floor(K) == K), f"K = {hp.K}: unlearning steps must be a whole number >= 0")
    refuse_unless((epsilon > 0) & np.isfinite(epsilon), f"epsilon = {hp.epsilon}: must be positive and finite")
    refuse_unless((delta > 0) & (delta < 1), f"delta = {hp.delta}: must lie in (0, 1)")
    refuse_unless(np.asarray(hp.noise_scale) >= 0, f"noise_scale = {hp.noise_scale}: must be >= 0")
    return replace(hp, noise_multiplier=noise_multiplier(epsilon, delta))


def start_gradient(problem: Problem, x0: Any) -> Array:
    """Return |grad f_{D'}(x_0)|."""
    return optax.tree.norm(problem.retained().grad(x0))


def count(steps: Any) -> Array:
    """Return a number of steps as a 32-bit integer."""
    return jnp.asarray(steps, jnp.int32)


def choose(condition: Array, full: Problem, retained: Problem) -> Problem:
    """Return `full` where the condition holds, else `retained`: the same records, so that one gradient suffices.

    What the two share (all but a vector of weights, where deletion is a zero weight) is passed on, not selected.
    """
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(condition, a, b), full, retained)


def step(problem, state, key, hp):
    retained = problem.retained()
    learned_from = choose(state.t < state.switch, problem, retained)
    eta = jnp.where(state.t < state.end, hp.eta, 0.0)
    retraining_eta = jnp.where(state.t < hp.T, hp.eta, 0.0)
    return replace(
        state,
        x=descend_by(state.x, eta, learned_from.grad(state.x)),
        retrained=descend_by(state.retrained, retraining_eta, retained.grad(state.retrained)),
        t=state.t + 1,
    )


def readout(state):
    return optax.tree.add_scale(state.x, state.sigma, state.noise)


def disturbance(c: Constants, hp: Any) -> Array:
    """Return a = 2 eta G m/n: what one step on D instead of D' adds to the distance."""
    return 2 * hp.eta * c.G * c.forgotten / c.n


def log_contraction(c: Constants, hp: Any) -> Array:
    """Return log(1 - eta mu), kept finite where eta mu = 1 (an upper bound there)."""
    return jnp.log1p(-jnp.minimum(hp.eta * c.mu_min, 1 - jnp.finfo(float).eps))


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


def distance(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v|, before noise."""
    return optax.tree.norm(optax.tree.sub(state.x, state.retrained))


def magnitude(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v|."""
    return optax.tree.norm(state.x) + optax.tree.norm(state.retrained)


def extent(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v| + |grad f_{D'}(x_0)|/L_max: also from x_0 = 0, the size of the points to come."""
    return magnitude(problem, x, state) + state.start_gradient / problem.constants.L_max


def privacy_spent(problem: Problem, x: Any, state: State) -> Array:
    """Return the published pair's exact delta; only distance above rounding, 100 eps (|u|+|v|), counts."""
    rounding = 100 * jnp.finfo(float).eps * magnitude(problem, x, state)
    resolved = jnp.maximum(distance(problem, x, state) - rounding, 0.0)
    s = jnp.where(state.sigma > 0, resolved / jnp.where(state.sigma > 0, state.sigma, 1.0), jnp.inf)
    return indistinguishability(state.epsilon, jnp.where(resolved > 0, s, 0.0))


SENSITIVITY = Metric("sensitivity", distance, scale=extent)
PRIVACY_SPENT = Metric("privacy_spent", privacy_spent)
PUBLISHED_DISTANCE = Metric(
    "published_distance",
    lambda problem, x, state: optax.tree.norm(optax.tree.sub(x, state.retrained)),
    scale=extent,
)
START_GRADIENT = Metric("start_gradient", lambda problem, x, state: state.start_gradient)
