"""Rewind-to-Delete as it is run:  the noise of L = largest |grad f(x + r) - grad f(x)|/|r|, G = largest |grad f_B|.

Source: Mu & Klabjan (2024), arXiv:2409.09778, and the code published with it. The run is that of `rewind_to_delete`,
the noise that of its published nonconvex form (`source_sensitivity`) at constants that are estimated while learning:
L by the difference quotient along r = 0.01 N(0, I), one each step (the source takes 100 at the last iterate, as
many as learning has steps here if T - K = 100), G by the norm of the gradient of `batch_size` records.

Nothing is certified. Every quotient is at most L and a mean of record gradients at most G plus the regulariser's, so
both are estimated from below; with one direction of curvature L among d flat ones a quotient is about L |r_1|/|r|. As
(1 + eta L)^T is exponential in L, the distance of the runs then exceeds the sensitivity that the noise was made for.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms import deletion
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import PRIVACY_SPENT, PUBLISHED_DISTANCE, SENSITIVITY, SIGMA, begin, readout
from algorithms.metric import VALUE, Metric
from algorithms.sensitivity import source_sensitivity
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import UNSTATED, Constants, Regularity
from problems.oracles import Key, Oracle
from problems.problem import Problem

SOURCE = Source(
    "Mu & Klabjan",
    2024,
    "Rewind-to-Delete: certified machine unlearning for nonconvex functions",
    "arXiv:2409.09778",
)
PROBE = 0.01  # length of a probe's coordinates


@struct.dataclass
class HParams(deletion.HParams):
    """batch_size: records of the minibatches whose gradients are looked at."""

    batch_size: int = struct.field(pytree_node=False, default=32)


@struct.dataclass
class State(deletion.State):
    """L_seen, G_seen: the largest quotient and minibatch gradient so far; estimate: the sensitivity made of them."""

    L_seen: Array
    G_seen: Array
    estimate: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier; raise `InvalidSetting` also for K > T and batch_size < 1."""
    refuse_unless(hp.batch_size >= 1, f"batch_size = {hp.batch_size}: a minibatch has at least one record")
    hp = deletion.prepare(hp)
    refuse_unless(hp.K <= hp.T, f"K = {hp.K} with T = {hp.T}: rewinding needs 0 <= K <= T")
    return hp


def look(problem: Problem, x: Any, key: Key, hp: Any) -> tuple[Array, Array]:
    """Return one difference quotient of grad f along a random direction, and the norm of one minibatch gradient."""
    probe_key, batch_key = jax.random.split(key)
    probe = optax.tree.scale(PROBE, optax.tree.random_like(probe_key, x, jax.random.normal))
    change = optax.tree.sub(problem.grad(optax.tree.add(x, probe)), problem.grad(x))
    minibatch = problem.sample(batch_key, hp.batch_size).grad(x)
    return optax.tree.norm(change) / optax.tree.norm(probe), optax.tree.norm(minibatch)


def estimated_sensitivity(problem: Problem, hp: Any, L: Array, G: Array) -> Array:
    """Return the published sensitivity at estimated constants; 0 where m is not stated."""
    if problem.constants.forgotten is UNSTATED:
        return jnp.zeros_like(L)
    return source_sensitivity(replace(problem.constants, L_max=L, G=G), hp)


def init(problem, x0, key, hp):
    noise_key, look_key = jax.random.split(key)
    L, G = look(problem, x0, look_key, hp)
    estimate = estimated_sensitivity(problem, hp, L, G)
    state = begin(problem, x0, noise_key, hp, hp.T - hp.K, hp.T, lambda _: estimate)
    return State(**vars(state), L_seen=L, G_seen=G, estimate=estimate)


def step(problem, state, key, hp):
    learning = state.t < state.switch
    L, G = (jnp.where(learning, seen, 0.0) for seen in look(problem, state.x, key, hp))
    L, G = jnp.maximum(state.L_seen, L), jnp.maximum(state.G_seen, G)
    estimate = estimated_sensitivity(problem, hp, L, G)
    sigma = hp.noise_scale * hp.noise_multiplier * estimate
    moved = deletion.step(problem, state, key, hp)
    return replace(moved, L_seen=L, G_seen=G, estimate=estimate, sigma=sigma)


def is_steep_among_many(c: Constants, hp: Any) -> Array:
    """Return whether d >= 10, f'' < 0 along the way of all runs, and eta L (T - K) >= 4; False where unstated."""
    if c.spread is UNSTATED or c.dimension is UNSTATED:
        return jnp.zeros((), bool)
    return (c.dimension >= 10) & (c.spread < 0) & (hp.eta * c.L_max * (hp.T - hp.K) >= 4)


def calls(problem: Problem, hp: Any) -> float:
    """Return the gradients of a step: its own, one at the probe, and a minibatch."""
    return 2 + hp.batch_size / problem.records


ESTIMATE = Metric("estimated_sensitivity", lambda problem, x, state: state.estimate)
L_SEEN = Metric("L_seen", lambda problem, x, state: state.L_seen)
G_SEEN = Metric("G_seen", lambda problem, x, state: state.G_seen)

falls_short = Theorem(
    name="estimated_rewind_to_delete_falls_short",
    statement="observed: with one steep direction among d >= 10 the estimate is below |u_T - v_T| in the median",
    source=Source("observed here", 2026, SOURCE.title, "algorithms/unlearning/estimated_rewind_to_delete.py"),
    assumes=Regularity.DELETABLE | Regularity.QUADRATIC,
    metric=ESTIMATE,
    given=(SENSITIVITY,),
    condition="runs part along one direction of d >= 10, f'' < 0 there, eta L (T - K) >= 4; claimed from t = T on",
    admits=is_steep_among_many,
    bound=lambda t, c, hp, distance: jnp.where(t >= hp.T, distance, jnp.nan),
    holds=Holds.IN_MEDIAN,
    kind=Kind.FINDING,
    fewest_seeds=10,
    control=Control(
        why="in one dimension every quotient is L, and single records have the gradients G: both estimates suffice",
        problem="spiked_deletion[d=1]",
        setting="eta=0.05,T=200,K=100,batch_size=1",
        seeds=32,
    ),
)

algorithm = Algorithm(
    name="estimated_rewind_to_delete",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN | Oracle.SAMPLE,
    calls=calls,
    prepare=prepare,
    metrics=(SENSITIVITY, ESTIMATE, L_SEEN, G_SEEN, PRIVACY_SPENT, PUBLISHED_DISTANCE, SIGMA, VALUE),
    theorems=(falls_short,),
)
