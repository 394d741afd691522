"""Full-batch unlearning: one run of t = 0, 1, ... steps learns on D, then turns to D' = D without Z.

  u+ = u - eta grad f_D(u) while t < switch, then u - eta grad f_{D'}(u) until the end: the model,
  v+ = v - eta grad f_{D'}(v) while t < T: retraining beside it; published is u + sigma N(0, I), u is secret.

The methods differ only in (switch, end). After its end a model stands still, so settings with different T and K
share one run, which must be as long as the longest end.

                        switch   end
  Rewind-to-Delete      T - K    T      (its unlearning starts from x_{T-K})
  Descent-to-Delete     T        T + K  (from x_T)
  retraining            0        T      (from x_0)

The noise is calibrated to a bound on |u - v| (`algorithms.sensitivity`), never to the distance itself.

A step is counted as one gradient, whole or on D': deleting costs the steps after the switch, K or T. The
retraining beside it is measurement and is not counted.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import refuse_step_count, refuse_unless, refuse_unless_positive
from algorithms.gaussian_mechanism import indistinguishability, noise_multiplier
from algorithms.metric import Metric
from algorithms.recursions import descend_by
from problems.constants import UNSTATED
from problems.oracles import Key
from problems.problem import Problem


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

    noise, retrained_noise: standard normal, drawn once, for publishing u and v; start: x_0;
    start_gradient: |grad f_{D'}(x_0)|, known to whoever holds D'.
    """

    x: Any
    retrained: Any
    start: Any
    t: Array
    switch: Array
    end: Array
    noise: Any
    retrained_noise: Any
    sigma: Array
    epsilon: Array
    start_gradient: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` outside the ranges the messages name."""
    prepared = prepare_learning(hp)
    refuse_step_count(hp.K, "K", "unlearning")
    return prepared


def prepare_learning(hp: Any) -> Any:
    """Return `hp`, whatever its unlearning steps are, with its noise multiplier; raise like `prepare`."""
    refuse_unless_positive(hp.eta)
    refuse_step_count(hp.T, "T", "learning")
    epsilon, delta = np.asarray(hp.epsilon, float), np.asarray(hp.delta, float)
    refuse_unless((epsilon > 0) & np.isfinite(epsilon), f"epsilon = {hp.epsilon}: must be positive and finite")
    refuse_unless((delta > 0) & (delta < 1), f"delta = {hp.delta}: must lie in (0, 1)")
    refuse_unless(np.asarray(hp.noise_scale) >= 0, f"noise_scale = {hp.noise_scale}: must be >= 0")
    return replace(hp, noise_multiplier=noise_multiplier(epsilon, delta))


def start_gradient(problem: Problem, x0: Any) -> Array:
    """Return |grad f_{D'}(x_0)|."""
    return optax.tree.norm(problem.retained().grad(x0))


def retained_records(problem: Problem) -> Array:
    """Return the number n - m of records that stay, which come first."""
    return jnp.asarray(problem.records - problem.constants.forgotten, jnp.int32)


def count(steps: Any) -> Array:
    """Return a number of steps as a 32-bit integer."""
    return jnp.asarray(steps, jnp.int32)


def begin(
    problem: Problem, x0: Any, key: Key, hp: Any, switch: Array, end: Array, sensitivity: Callable[[Array], Array]
) -> State:
    """Return the start; `sensitivity(|grad f_{D'}(x_0)|)` is the declared bound on |u - v| that sigma hides."""
    gradient = start_gradient(problem, x0)
    noise, retrained_noise = (optax.tree.random_like(part, x0, jax.random.normal) for part in jax.random.split(key))
    return State(
        x=x0,
        retrained=x0,
        start=x0,
        t=count(0),
        switch=count(switch),
        end=count(end),
        noise=noise,
        retrained_noise=retrained_noise,
        sigma=hp.noise_scale * hp.noise_multiplier * sensitivity(gradient),
        epsilon=jnp.asarray(hp.epsilon, float),
        start_gradient=gradient,
    )


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


def distance(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v|, before noise."""
    return optax.tree.norm(optax.tree.sub(state.x, state.retrained))


def magnitude(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v|."""
    return optax.tree.norm(state.x) + optax.tree.norm(state.retrained)


def extent(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v| + |grad f_{D'}(x_0)|/L_max: also from x_0 = 0, the size of the points to come."""
    L = problem.constants.L_max
    return magnitude(problem, x, state) + (0.0 if L is UNSTATED else state.start_gradient / L)


def rounding(problem: Problem, x: Any, state: State) -> Array:
    """Return 100 eps (|u| + |v|): no smaller distance is told from rounding."""
    return 100 * jnp.finfo(jnp.zeros(()).dtype).eps * magnitude(problem, x, state)


def privacy_spent(problem: Problem, x: Any, state: State) -> Array:
    """Return the published pair's exact delta; only distance above rounding counts."""
    resolved = jnp.maximum(distance(problem, x, state) - rounding(problem, x, state), 0.0)
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
LEARNING_GRADIENT = Metric("learning_gradient", lambda problem, x, state: optax.tree.norm(problem.grad(state.start)))
SIGMA = Metric("sigma", lambda problem, x, state: state.sigma)


def at_turn(metric: Metric) -> Metric:
    """Return the metric's value when learning ended, at t = `switch`; before, its value now."""

    def measure(problem: Problem, x: Any, state: State) -> Array:
        return jnp.where(state.t <= state.switch, metric.measure(problem, x, state), jnp.nan)

    return Metric(f"turn_{metric.name}", measure, lambda kept, now: jnp.where(jnp.isnan(now), kept, now), metric.scale)


def gradient_at(point: Callable[[State], Any]) -> Callable[[Problem, Any, State], Array]:
    """Return the measure |grad f_{D'}| at a point of the state, unpublished."""
    return lambda problem, x, state: optax.tree.norm(problem.retained().grad(point(state)))


TURN_DISTANCE = at_turn(SENSITIVITY)
UNLEARNED_GRADIENT = Metric(
    "unlearned_gradient",
    gradient_at(lambda state: state.x),
    scale=lambda problem, x, state: extent(problem, x, state) * problem.constants.L_max,
)
RETRAINED_GRADIENT = Metric("retrained_gradient", gradient_at(lambda state: state.retrained))
DISTANCE_ROUNDING = Metric(
    "distance_rounding",
    lambda problem, x, state: rounding(problem, x, state) / distance(problem, x, state),
)
