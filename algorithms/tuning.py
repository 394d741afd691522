"""Unlearning without a certificate: learn on D for T steps, then tune the model for K steps of a baseline's own.

  u+ = u - eta grad f_D(u) while t < T, then u - eta_tune h(u) for K steps, h a baseline's direction on minibatches,
  v+ = v - eta grad f_{D'}(v) while t < T: retraining beside it; w = u_T is kept, it is what was published before.

Nothing is proven about any h, so nothing hides behind noise: u is published as it is. Minibatches are drawn with
replacement, b records of D' or b records of Z. A step is counted as one gradient, whole or of a minibatch.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import refuse_step_count, refuse_unless, refuse_unless_positive
from algorithms.deletion import distance, extent, retained_records, start_gradient
from algorithms.metric import VALUE, Metric
from algorithms.recursions import descend_by
from problems.oracles import Key
from problems.problem import Problem


@struct.dataclass
class HParams:
    """eta: step size of learning; eta_tune: of tuning; K: tuning steps; T: learning steps; batch_size: b."""

    eta: Array | float | str = "1/L_max"
    eta_tune: Array | float | str = "1/L_max"
    K: Array | float | str = 20
    T: Array | float | str = 100
    batch_size: int = struct.field(pytree_node=False, default=32)


@struct.dataclass
class State:
    """x: the model u; learned: u while t < T, then w = u_T; retrained: v; t: steps done; start_gradient: at x_0."""

    x: Any
    learned: Any
    retrained: Any
    t: Array
    start_gradient: Array


def prepare_steps(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for a step size that is not positive or step counts that are not counts."""
    refuse_unless_positive(hp.eta)
    refuse_step_count(hp.T, "T", "learning")
    refuse_step_count(hp.K, "K", "unlearning")
    return hp


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for step sizes, step counts or a batch size without meaning."""
    refuse_unless_positive(hp.eta_tune, "eta_tune")
    refuse_unless(hp.batch_size >= 1, f"batch_size = {hp.batch_size}: a minibatch holds at least one record")
    return prepare_steps(hp)


def init(problem: Problem, x0: Any, key: Key, hp: Any) -> State:
    """Return the start: nothing learned, nothing tuned."""
    return State(x0, x0, x0, jnp.zeros((), jnp.int32), start_gradient(problem, x0))


def keep_unless(condition: Array, kept: Any, new: Any) -> Any:
    """Return `new` where the condition holds, else `kept`, leaf by leaf."""
    return jax.tree.map(lambda old, later: jnp.where(condition, later, old), kept, new)


def advance(problem: Problem, state: State, hp: Any, direction: Any) -> State:
    """Return the state after one step; tuning goes down `direction`, whose value while learning is not used."""
    learning, tuning = state.t < hp.T, (state.t >= hp.T) & (state.t < hp.T + hp.K)
    learned = keep_unless(learning, state.learned, descend_by(state.x, hp.eta, problem.grad(state.x)))
    tuned = keep_unless(tuning, state.x, descend_by(state.x, hp.eta_tune, direction))
    retrained = descend_by(state.retrained, hp.eta, problem.retained().grad(state.retrained))
    return replace(
        state,
        x=keep_unless(learning, tuned, learned),
        learned=learned,
        retrained=keep_unless(learning, state.retrained, retrained),
        t=state.t + 1,
    )


def readout(state: State) -> Any:
    """Return u, without noise."""
    return state.x


def retained_rows(problem: Problem, key: Key, batch_size: int) -> Problem:
    """Return the problem of `batch_size` records of D'."""
    return problem.rows(jax.random.randint(key, (batch_size,), 0, retained_records(problem)))


def forgotten_rows(problem: Problem, key: Key, batch_size: int) -> Problem:
    """Return the problem of `batch_size` records of Z."""
    return problem.rows(jax.random.randint(key, (batch_size,), retained_records(problem), problem.records))


def forgotten_gap(problem: Problem, x: Any, y: Any) -> Array:
    """Return |f_Z(x) - f_Z(y)|: how differently two models do on the forgotten records."""
    forgotten = problem.forgotten()
    return jnp.abs(forgotten.value(x) - forgotten.value(y))


def forgotten_value(problem: Problem, x: Any, state: Any) -> Array:
    """Return |f_Z(x)|, the size of what `forgotten_gap` subtracts."""
    return jnp.abs(problem.forgotten().value(x))


METRICS = (
    Metric("distance_to_retrained", distance, scale=extent),
    Metric(
        "original_distance",
        lambda problem, x, state: optax.tree.norm(optax.tree.sub(state.learned, state.retrained)),
        scale=extent,
    ),
    Metric(
        "forgotten_gap",
        lambda problem, x, state: forgotten_gap(problem, state.x, state.retrained),
        scale=forgotten_value,
    ),
    VALUE,
)
