"""DP-SGD:  x+ = x - (eta/(q n)) (sum_{i in B} min(1, C/|g_i|) g_i + sigma C N(0, I)), each i in B with probability q.

T steps, of which only x_T is seen. Beside the run with all n records another one, with its own draws and noise, never
sees the last record, the canary: how well do the two last iterates tell them apart? The score is x_0 - x_T along the
canary's gradient at x_0, in units of eta C/(q n). On linear losses whose canary has a direction of its own and a
gradient of at least C,
  score_in ~ Binomial(T, q) + N(0, sigma^2 T),  score_out ~ N(0, sigma^2 T),
the pair of `algorithms.last_iterate_heuristic`, whose epsilon for `delta` is the *heuristic epsilon*. It is exact
there; on other losses it is a heuristic, which artificial counterexamples exceed: it certifies nothing.

- At q = 1 it bounds the leak of all linear dynamics x+ = c x - eta (...): the two laws are sum_t c^(T-t) apart in units
  of sigma sqrt(sum_t c^(2(T-t))), at most sqrt(T)/sigma by Cauchy-Schwarz, which is c = 1.
- It is never above the epsilon of composing all T steps, of which the last iterate is a function.
Source: Abadi et al. (2016), arXiv:1607.00133; Steinke et al. (2024), arXiv:2410.06186.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.deletion import count
from algorithms.last_iterate_heuristic import composition_epsilon, heuristic_epsilon
from algorithms.metric import VALUE, Metric
from algorithms.sensitivity import is_noise_whole
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Key, Oracle
from problems.problem import Problem

TITLE = "The last iterate advantage: empirical auditing and principled heuristic analysis of DP-SGD"

LEAST = 0.01  # noise multiplier: with less, epsilon is in the thousands and its arithmetic overflows


@struct.dataclass
class HParams:
    """eta: step size; T: steps; q: sampling probability; C: clipping norm; sigma: noise multiplier; delta: of epsilon.

    `noise_scale` multiplies the noise that is used (below 1 more leaks than is stated). `prepare` fills the heuristic
    epsilon of the noise that is stated, that of the noise that is used, and the epsilon of composing the stated steps.
    """

    eta: Array | float | str = 0.1
    T: Array | int = 100
    q: Array | float = 0.1
    C: Array | float | str = 1.0
    sigma: Array | float = 2.0
    delta: Array | float = 1e-2
    noise_scale: Array | float = 1.0
    stated_epsilon: Array | float = float("nan")
    used_epsilon: Array | float = float("nan")
    composed_epsilon: Array | float = float("nan")


@struct.dataclass
class State:
    """x: the run with the canary; without: the one without; start: x_0; canary: unit vector along its gradient at x_0;
    unit: eta C/(q n); epsilon: heuristic, of the noise that is used.
    """

    x: Any
    without: Any
    start: Any
    canary: Any
    t: Array
    unit: Array
    epsilon: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with its epsilons; raise `InvalidSetting` outside the ranges the messages name."""
    T, q, C, sigma, delta, scale = (
        np.asarray(v, float) for v in (hp.T, hp.q, hp.C, hp.sigma, hp.delta, hp.noise_scale)
    )
    refuse_unless_positive(hp.eta)
    refuse_unless((T >= 1) & (np.floor(T) == T), f"T = {hp.T}: a whole number of steps >= 1")
    refuse_unless((q > 0) & (q <= 1), f"q = {hp.q}: a sampling probability lies in (0, 1]")
    refuse_unless((C > 0) & np.isfinite(C), f"C = {hp.C}: a clipping norm must be positive and finite")
    refuse_unless((sigma >= LEAST) & np.isfinite(sigma), f"sigma = {hp.sigma}: a noise multiplier from {LEAST} on")
    refuse_unless((delta > 0) & (delta < 1), f"delta = {hp.delta}: must lie in (0, 1)")
    message = f"noise_scale = {hp.noise_scale} with sigma = {hp.sigma}: less noise than {LEAST} is left"
    refuse_unless(scale * sigma >= LEAST, message)

    def epsilons(function: Any, noise: np.ndarray) -> np.ndarray:
        return np.vectorize(lambda d, T, q, s: function(d, int(T), q, s), otypes=[float])(delta, T, q, noise)

    return replace(
        hp,
        stated_epsilon=epsilons(heuristic_epsilon, sigma),
        used_epsilon=epsilons(heuristic_epsilon, scale * sigma),
        composed_epsilon=epsilons(composition_epsilon, sigma),
    )


def clipped_gradients(problem: Problem, x: Any, C: Any) -> Any:
    """Return min(1, C/|g_i|) g_i for every record, stacked along a first axis of length n."""

    def clipped(i: Array) -> Any:
        g = problem.rows(jnp.reshape(i, (1,))).grad(x)
        return optax.tree.scale(C / jnp.maximum(optax.tree.norm(g), C), g)

    return jax.vmap(clipped)(jnp.arange(problem.records))


def descended(problem: Problem, x: Any, members: Array, key: Key, hp: Any) -> Any:
    """Return x after one step; `members` (n,) is 1 on the records that can be drawn."""
    draw_key, noise_key = jax.random.split(key)
    drawn = members * jax.random.bernoulli(draw_key, hp.q, members.shape)
    noise = optax.tree.random_like(noise_key, x, jax.random.normal)
    total = jax.tree.map(lambda g: jnp.tensordot(drawn, g, 1), clipped_gradients(problem, x, hp.C))
    noisy = optax.tree.add_scale(total, hp.noise_scale * hp.sigma * hp.C, noise)
    return optax.tree.add_scale(x, -hp.eta / (hp.q * problem.records), noisy)


def init(problem, x0, key, hp):
    g = problem.rows(jnp.array([problem.records - 1])).grad(x0)
    length = optax.tree.norm(g)
    canary = optax.tree.scale(jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1.0), 0.0), g)
    unit = jnp.asarray(hp.eta * hp.C / (hp.q * problem.records), float)
    return State(x0, x0, x0, canary, count(0), unit, jnp.asarray(hp.used_epsilon, float))


def step(problem, state, key, hp):
    key_in, key_out = jax.random.split(key)
    everyone = jnp.ones(problem.records)
    others = everyone.at[-1].set(0.0)
    running = state.t < hp.T
    x = descended(problem, state.x, everyone, key_in, hp)
    without = descended(problem, state.without, others, key_out, hp)
    return replace(
        state,
        x=optax.tree.where(running, x, state.x),
        without=optax.tree.where(running, without, state.without),
        t=state.t + 1,
    )


def readout(state):
    return state.x


def score(state: State, x: Any) -> Array:
    """Return <x_0 - x, canary> in units of eta C/(q n): on linear losses how often the canary was drawn, plus noise."""
    return jnp.asarray(optax.tree.vdot(optax.tree.sub(state.start, x), state.canary)) / state.unit


SCORE_IN = Metric("score_in", lambda problem, x, state: score(state, state.x))
SCORE_OUT = Metric("score_out", lambda problem, x, state: score(state, state.without))
HEURISTIC_EPSILON = Metric("heuristic_epsilon", lambda problem, x, state: state.epsilon)


def is_linear(c: Constants, hp: Any) -> Array:
    """Return whether the losses are linear and the noise is not scaled down."""
    return (c.L_max == 0) & is_noise_whole(c, hp)


audit = Theorem(
    name="dp_sgd_last_iterate_audit",
    statement="on linear losses an audit of x_T reveals no more than the heuristic epsilon of Binomial(T, q) + "
    "N(0, sigma^2 T) against N(0, sigma^2 T)",
    source=Source("Steinke et al.", 2024, TITLE, "arXiv:2410.06186"),
    assumes=Regularity.DELETABLE,
    metric=SCORE_IN,
    given=(),
    condition="linear losses: L_max = 0; noise_scale >= 1; claimed from t = T on; a heuristic, no certificate",
    admits=is_linear,
    bound=lambda t, c, hp: jnp.where(t >= hp.T, hp.stated_epsilon, jnp.nan),
    holds=Holds.AUDITED,
    kind=Kind.FINDING,
    against=SCORE_OUT,
    fewest_seeds=1000,
    control=Control(
        why="a quarter of the noise that is stated",
        problem="linear_losses",
        setting="T=20,q=0.5,sigma=4.0,noise_scale=0.25",
        steps=20,
        seeds=2000,
    ),
)

composition = Theorem(
    name="dp_sgd_heuristic_below_composition",
    statement="the heuristic epsilon of x_T is at most the epsilon of composing all T steps; equal at q = 1",
    source=Source("derived here", 2026, TITLE, "algorithms/last_iterate_heuristic.py"),
    assumes=Regularity.NONE,
    metric=HEURISTIC_EPSILON,
    given=(),
    condition="noise_scale >= 1",
    admits=is_noise_whole,
    bound=lambda t, c, hp: hp.composed_epsilon,
    control=Control(
        why="half of the noise whose composition is stated",
        problem="linear_losses",
        setting="T=20,q=0.5,sigma=4.0,noise_scale=0.5",
        steps=1,
    ),
)

algorithm = Algorithm(
    name="dp_sgd_last_iterate",
    source=Source("Abadi et al.", 2016, "Deep learning with differential privacy", "arXiv:1607.00133"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    calls=lambda problem, hp: hp.q,
    prepare=prepare,
    metrics=(SCORE_IN, SCORE_OUT, HEURISTIC_EPSILON, VALUE),
    theorems=(audit, composition),
)
