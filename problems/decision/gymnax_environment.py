"""f(x) = -(1/runs) sum_runs sum_t gamma^t r_t of a policy in an environment of gymnax, on trajectories of fixed keys.

The policy reads the observation through one affine map, or one hidden layer of tanh: softmax over discrete actions,
Gaussian with a learned standard deviation for one continuous action. Rewards after termination count 0; there is no
time limit, the return ends after `horizon` steps, the long reference that shorter ones are compared with. Nothing is
known of f but its discount: no bound is claimed, and its value jumps where a draw changes its action.

Each reward is multiplied by exp(sum_(k<=t) log pi_k - the same, held fixed) = 1, so that the derivative of the value is
the score-function gradient sum_k grad log pi_k sum_(t>=k) gamma^t r_t of these very trajectories. Measured along a
run: the return, and by how much the gradient of a return cut after H steps misses that of the whole, H = 1 to 50.
Source: Lange (2022), gymnax; Foerster et al. (2018), DiCE, for the factor. The extra: uv sync --extra environments
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax

from problems.constants import Constants, Regularity, Unavailable, require
from problems.decision_process import draw
from problems.oracles import Policy, Rollout
from problems.problem import Family, Problem

ENVIRONMENTS = ("CartPole-v1", "Pendulum-v1")  # discrete actions, one continuous action
NO_TIME_LIMIT = 1 << 30
CUTS = (1, 5, 20, 50)  # horizons whose bias is measured
LOG_2_PI = 1.8378770664093453


@struct.dataclass
class Data:
    """Keys of the trajectories as words (runs, 2), the horizon of the return, the spread of first weights."""

    keys: Array
    horizon: Array
    gamma: Array
    spread: Array


@struct.dataclass
class Network:
    """Weights (out, in) and offsets (out,) layer by layer, log sd of a continuous action (none: a discrete one)."""

    layers: tuple[tuple[Array, Array], ...]
    log_sd: Array | None = None

    def __call__(self, observations: Array) -> Array:
        """Return logits, or the mean of the action, over any leading axes."""
        for W, b in self.layers[:-1]:
            observations = jnp.tanh(observations @ W.T + b)
        W, b = self.layers[-1]
        return observations @ W.T + b


@cache
def environment(env: str) -> tuple[Any, Any]:
    """Return the environment and its parameters, without a time limit.

    Raises:
        Unavailable: gymnax is not installed.
        InvalidParameter: it is none of those that the policies here fit.
    """
    require(env in ENVIRONMENTS, f"env = {env}: one of {', '.join(ENVIRONMENTS)}")
    missing = [package for package in ("gymnax", "six") if find_spec(package) is None]
    if missing:
        absent = " and ".join(missing)
        raise Unavailable(f"{absent} not installed, an optional extra: uv sync --extra environments")
    import gymnax

    made, parameters = gymnax.make(env)
    return made, parameters.replace(max_steps_in_episode=NO_TIME_LIMIT)


def act(x: Network, observation: Array, noise: Array) -> Array:
    """Return the action that the uniform `noise` draws."""
    output = x(observation)
    if x.log_sd is None:
        return draw(jnp.cumsum(jax.nn.softmax(output)), noise)
    inside = jnp.maximum(noise, jnp.finfo(noise.dtype).eps / 2)  # at 0 the normal number would be infinite
    return output[0] + jnp.exp(x.log_sd) * 2**0.5 * lax.erf_inv(2 * inside - 1)


def log_prob(data: Data, x: Network, states: Array, actions: Array) -> Array:
    output = x(states)
    if x.log_sd is None:
        return jnp.take_along_axis(jax.nn.log_softmax(output), actions[..., None], -1)[..., 0]
    away = (actions - output[..., 0]) / jnp.exp(x.log_sd)
    return -(away**2) / 2 - x.log_sd - LOG_2_PI / 2


def rollout(env: str, data: Data, x: Network, key: Array, length: int) -> Rollout:
    made, parameters = environment(env)
    reset_key, action_key, move_key = jax.random.split(key, 3)
    noise, keys = jax.random.uniform(action_key, (length,)), jax.random.split(move_key, length)

    def advance(carry: tuple[Any, Any, Array], drawn: tuple[Array, Array]) -> tuple[Any, tuple[Array, Array, Array]]:
        observation, state, alive = carry
        action = act(x, observation, drawn[0])
        after, moved, reward, terminated, _, _ = made.step(drawn[1], state, action, parameters)
        following = jax.tree.map(lambda new, old: new.astype(old.dtype), (after, moved), (observation, state))
        return (*following, alive & ~terminated), (observation, action, jnp.where(alive, reward, 0.0))

    first = jax.tree.map(jnp.asarray, made.reset(reset_key, parameters))
    _, (states, actions, rewards) = lax.scan(advance, (*first, jnp.asarray(True)), (noise, keys))
    return Rollout(states, actions, rewards)


def value(env: str, length: int, data: Data, x: Network) -> Array:
    fixed = lax.stop_gradient(x)
    runs = jax.vmap(lambda words: rollout(env, data, fixed, jax.random.wrap_key_data(words), length))(data.keys)
    scores = jnp.cumsum(log_prob(data, x, runs.states, runs.actions), -1)
    t = jnp.arange(length)
    discount = jnp.where(t < data.horizon, data.gamma**t, 0.0)
    return -jnp.mean(jnp.sum(discount * runs.rewards * jnp.exp(scores - lax.stop_gradient(scores)), -1))


def init(env: str, hidden: int, data: Data, key: Array) -> Network:
    made, parameters = environment(env)
    actions = made.action_space(parameters)
    discrete = hasattr(actions, "n")
    sizes = [*made.observation_space(parameters).shape, *([hidden] if hidden else []), actions.n if discrete else 1]
    keys = jax.random.split(key, len(sizes) - 1)
    layers = tuple(
        (data.spread / inputs**0.5 * jax.random.normal(key, (outputs, inputs)), jnp.zeros(outputs))
        for key, inputs, outputs in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )
    return Network(layers, None if discrete else jnp.zeros(()))


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, horizon=jnp.minimum(jnp.asarray(horizon).astype(jnp.int32), data.horizon))


def cut_bias(env: str, length: int, horizon: int, data: Data, x: Network) -> Array:
    """Return |grad f - grad f_H|."""
    slope = jax.grad(partial(value, env, length), argnums=1)
    return optax.tree.norm(optax.tree.sub(slope(data, x), slope(truncate(data, jnp.asarray(horizon)), x)))


@cache
def family_of(env: str, hidden: int, length: int) -> Family[Data, Network]:
    """Return the family of an environment, one a network and a length: equal ones share their programs."""
    drawn: Callable[[Data, Network, Array, int], Rollout] = partial(rollout, env)
    return Family(
        name="gymnax_environment",
        regularity=Regularity.DISCOUNTED_RETURN,
        init=partial(init, env, hidden),
        value=partial(value, env, length),
        policy=Policy(truncate=truncate, rollout=drawn, log_prob=log_prob),
        measures=(
            ("mean_return", lambda data, x: -value(env, length, data, x)),
            *((f"gradient_bias_{H}", partial(cut_bias, env, length, H)) for H in CUTS),
        ),
        drawn=True,
    )


def make(
    key: Array,
    *,
    env: str = "CartPole-v1",
    hidden: int = 0,
    runs: int = 16,
    horizon: int = 200,
    gamma: float = 0.95,
    spread: float = 0.1,
) -> Problem[Data, Network]:
    """Return CartPole-v1 or Pendulum-v1, its return over `horizon` steps the mean of `runs` runs."""
    require(hidden >= 0, f"hidden = {hidden}: a number of units, 0 for an affine policy")
    require(runs >= 1, f"runs = {runs}: a mean of at least one trajectory")
    require(horizon >= 1, f"horizon = {horizon}: a return of at least one step")
    require(0 <= gamma < 1, f"gamma = {gamma}: a discount factor is in [0, 1)")
    require(spread >= 0, f"spread = {spread}: a standard deviation is not negative")
    environment(env)
    keys = jax.random.key_data(jax.random.split(key, runs))
    data = Data(keys, jnp.asarray(horizon, jnp.int32), *(jnp.asarray(number, float) for number in (gamma, spread)))
    return Problem(family_of(env, hidden, horizon), data, Constants(gamma=data.gamma))
