"""Policy gradients from scores:  g = sum over trajectories of share * sum_k grad log pi(a_k|s_k) w_k.

The weights w_k say which estimator it is; the gradient is that of a surrogate with the trajectories held fixed.

Batches. `drawn`: max_batch trajectories of which the first batch_size count, 1/batch_size each. `counted`: where a
family lists its m outcomes, the numbers of trajectories that follow each one are multinomial; they are drawn by a
chain of binomials N_j ~ Bin(B - N_1 - .. - N_(j-1), p_j/(p_j + .. + p_m)). The same law at a cost that does not grow
with the batch.
Sources: Baxter & Bartlett (2001), GPOMDP; Williams (1992), REINFORCE.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from algorithms.algorithm import InvalidSetting, refuse_unless
from algorithms.truncation import prepare as prepare_horizon
from problems.oracles import Key, Rollout
from problems.problem import Problem

NEGLIGIBLE = 1e-9  # weight that a cap may leave to the steps beyond it


@struct.dataclass
class State:
    """`before` is the point that the last estimate was drawn at; all but x are read by measurements only."""

    x: Any
    before: Any
    horizon: Array
    eta: Array
    batch_size: Array
    baseline: Array
    accuracy: Array


def start(x0: Any, hp: Any, horizon: Array | int, accuracy: Array | float = 0.0) -> State:
    """Return the state before the first step."""
    numbers = (jnp.asarray(number, float) for number in (hp.eta, hp.batch_size, hp.baseline, accuracy))
    return State(x0, x0, jnp.asarray(horizon), *numbers)


def moved(state: State, x: Any) -> State:
    """Return the state after a step to `x`."""
    return replace(state, x=x, before=state.x)


def drawn(problem: Problem, x: Any, key: Key, hp: Any) -> tuple[Rollout, Array]:
    """Return max_batch trajectories (max_horizon, max_batch) and the share of each."""
    policy, data = problem.policy, problem.data
    keys = jax.random.split(key, hp.max_batch)
    batch = jax.vmap(lambda key: policy.rollout(data, x, key, hp.max_horizon), out_axes=1)(keys)
    return batch, jnp.where(jnp.arange(hp.max_batch) < hp.batch_size, 1 / hp.batch_size, 0.0)


def counted(problem: Problem, x: Any, key: Key, hp: Any) -> tuple[Rollout, Array]:
    """Return the outcomes (max_horizon, m) and the share of the batch that follows each."""
    policy, data = problem.policy, problem.data
    if policy.outcomes is None:
        raise InvalidSetting("draws = counts: the outcomes cannot be listed here, write draws = trajectories")
    outcomes = policy.outcomes(data, hp.max_horizon)
    log_p = policy.log_prob(data, x, outcomes.states, outcomes.actions).sum(0)
    return outcomes, multinomial(key, jnp.asarray(hp.batch_size, float), jax.nn.softmax(log_p)) / hp.batch_size


DRAWS = {"trajectories": drawn, "counts": counted}


def multinomial(key: Key, n: Array, p: Array) -> Array:
    """Return how many of n draws fall on each of the outcomes with probabilities p (m,)."""
    tail = lax.cumsum(p, reverse=True)
    among = jnp.where(tail > 0, jnp.clip(p / tail, 0.0, 1.0), 0.0).at[-1].set(1.0)

    def fall(left: Array, outcome: tuple[Key, Array]) -> tuple[Array, Array]:
        key, chance = outcome
        count = jax.random.binomial(key, left, chance)
        return left - count, count

    left, counts = lax.scan(fall, n, (jax.random.split(key, p.size - 1), among[:-1]))
    return jnp.append(counts, left)


def batch_of(problem: Problem, x: Any, key: Key, hp: Any) -> tuple[Rollout, Array]:
    """Return trajectories and the share of each, as `hp.draws` says."""
    return DRAWS[hp.draws](problem, x, key, hp)


def before_horizon(hp: Any) -> Array:
    """Return (max_horizon, 1): 1 before the horizon, then 0."""
    return jnp.where(jnp.arange(hp.max_horizon)[:, None] < hp.horizon, 1.0, 0.0)


def discounted(rewards: Array, gamma: Array, hp: Any) -> Array:
    """Return gamma^t (r_t - baseline) along the first axis, 0 from the horizon on."""
    return before_horizon(hp) * gamma ** jnp.arange(hp.max_horizon)[:, None] * (rewards - hp.baseline)


def to_go(rewards: Array) -> Array:
    """Return sum_(t>=k) rewards_t along the first axis."""
    return lax.cumsum(rewards, axis=0, reverse=True)


def descent(problem: Problem, x: Any, batch: Rollout, weights: Array) -> Any:
    """Return -g, as the gradient of a surrogate with trajectories drawn at x and then held fixed."""

    def surrogate(x: Any) -> Array:
        return -jnp.sum(weights * problem.policy.log_prob(problem.data, x, batch.states, batch.actions))

    return jax.grad(surrogate)(x)


def gpomdp(problem: Problem, x: Any, key: Key, hp: Any) -> Any:
    """Return -g with w_k = G_k = sum_(k<=t<H) gamma^t (r_t - baseline)."""
    batch, share = batch_of(problem, x, key, hp)
    return descent(problem, x, batch, share * to_go(discounted(batch.rewards, problem.constants.gamma, hp)))


def steps_of_the_environment(problem: Problem, hp: Any) -> Array:
    """Return batch_size * horizon: here a call is one step of the environment."""
    return hp.batch_size * hp.horizon


def refuse_batch(hp: Any) -> None:
    """Raise `InvalidSetting` unless batch_size >= 1, and at most max_batch where trajectories are drawn."""
    size = np.asarray(hp.batch_size, float)
    whole = (size >= 1) & (np.floor(size) == size)
    refuse_unless(whole, f"batch_size = {hp.batch_size}: a step needs a whole number of trajectories, at least one")


def refuse_excess(hp: Any) -> None:
    """Raise `InvalidSetting` for batch_size > max_batch."""
    message = f"batch_size = {hp.batch_size} with max_batch = {hp.max_batch}: too few trajectories are drawn, raise it"
    refuse_unless(np.asarray(hp.batch_size) <= hp.max_batch, message)


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` unless eta, horizon, batch size and the kind of draws have a meaning."""
    refuse_batch(hp)
    refuse_unless(hp.draws in DRAWS, f"draws = {hp.draws}: one of {', '.join(DRAWS)}")
    if DRAWS[hp.draws] is drawn:
        refuse_excess(hp)
    message = f"horizon = {hp.horizon} with max_horizon = {hp.max_horizon}: trajectories are too short, raise it"
    refuse_unless(np.asarray(hp.horizon) <= hp.max_horizon, message)
    return prepare_horizon(hp)


def prepare_capped(hp: Any) -> Any:
    """Return `hp` of an estimator of random length; raise `InvalidSetting` where the cap leaves weight beyond it.

    A survival of 1 stands for one that is not known yet.
    """
    refuse_batch(hp)
    refuse_excess(hp)
    survival, eta = np.asarray(hp.survival, float), np.asarray(hp.eta, float)
    refuse_unless(~(eta <= 0) & ~np.isinf(eta), f"eta = {hp.eta}: a step size must be positive and finite")
    refuse_unless((survival >= 0) & (survival <= 1), f"survival = {hp.survival}: a probability is in [0, 1]")
    refuse_unless(
        (survival == 1) | (survival**hp.max_horizon <= NEGLIGIBLE),
        f"max_horizon = {hp.max_horizon}: a trajectory outlives it with probability survival^max_horizon = "
        f"{np.max(survival) ** hp.max_horizon:.1e}, raise it until that is at most {NEGLIGIBLE}",
    )
    return hp


def survives(u: Array, survival: Array, length: int) -> Array:
    """Return (length, n): whether t is at most a geometric T, P(T >= t) = survival^t, one uniform u (n,) each."""
    return 1 - u <= jnp.asarray(survival, float) ** jnp.arange(length)[:, None]
