"""Unlearning by minibatches:  u+ = P(u - eta_t grad f_B(u)), P the projection on |x| <= radius, eta_t = eta decay^t.

The run of `algorithms.deletion` with a minibatch B a step, of D while u learns and of D' = D without Z from `switch`
on. Retraining v runs beside it on minibatches B' of D', its step s being step t = s + delay of the run:

                        switch   end     delay
  Rewind-to-Delete      T - K    T       0      both take their last K steps on the same B'
  Descent-to-Delete     T        T + K   K      u goes on from x_T for K steps: those are the last K of retraining too

Unlearning takes the step sizes of the steps of retraining it is coupled with. Either of u and v alone is what its own
owner computes, with fresh minibatches and a start projected into the ball; only their joint law is a choice of ours.

Coupling of B and B'. `subsets`: b times B draws one more record z of D. B' takes z too where it can, z being in D' and
not yet in B', and else draws another such record. B n D' lies in B' all along, so a z that B' takes is uniform on what
B' lacks: both are uniform subsets, and B' replaces the j = |B n Z| forgotten records of B.
`independent`: b indices with replacement; where one is forgotten, B' draws another of D'. Minibatches are independent
over steps, hence so are the j. One permutation an epoch is refused: D' has fewer minibatches than D, so that there is
no such pairing of steps and none of this holds.
A batch_size of 0 is the whole of D. A step counts as b/n gradients, as u alone makes them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms import deletion
from algorithms.algorithm import InvalidSetting, refuse_unless
from algorithms.deletion import State
from algorithms.recursions import descend_by, projected
from algorithms.relaxed_mechanism import MECHANISMS, Distance, c_epsilon, left_for_noise
from algorithms.stochastic_sensitivity import step_size
from problems.constants import UNSTATED, Constants
from problems.oracles import Key
from problems.problem import Problem

SAMPLINGS = ("subsets", "independent")


@struct.dataclass
class HParams(deletion.HParams):
    """radius: of the ball that steps are projected on, inf for none; decay: eta_t = eta decay^t, 0 < decay <= 1.

    p: probability of the tail that the mechanism gives up, 0 for the best of a few; batch_size: b, 0 for the whole of
    D; sampling: `subsets` or `independent`; mechanism: how the noise is calibrated (`algorithms.relaxed_mechanism`);
    `c_epsilon` is filled by `prepare`; the others are those of `algorithms.deletion`.
    """

    radius: Array | float | str = float("inf")
    decay: Array | float | str = 1.0
    p: Array | float = 0.0
    c_epsilon: Array | float = float("nan")
    batch_size: int = struct.field(pytree_node=False, default=1)
    sampling: str = struct.field(pytree_node=False, default="subsets")
    mechanism: str = struct.field(pytree_node=False, default="chernoff")


def prepare(hp: Any) -> Any:
    """Return `hp` with its noise multiplier and c_eps; raise `InvalidSetting` outside the ranges the messages name."""
    hp = deletion.prepare(hp)
    radius, decay = np.asarray(hp.radius, float), np.asarray(hp.decay, float)
    refuse_unless(radius > 0, f"radius = {hp.radius}: a ball needs a radius > 0 (inf: no projection)")
    refuse_unless((decay > 0) & (decay <= 1), f"decay = {hp.decay}: must lie in (0, 1], as eta is the largest step")
    refuse_unless(hp.batch_size >= 0, f"batch_size = {hp.batch_size}: at least one record (0: the whole of D)")
    refuse_unless(
        hp.sampling != "permutation",
        "sampling = 'permutation': D' has fewer minibatches an epoch than D, so no coupling pairs their steps and "
        f"nothing is certified under deletion; use one of {', '.join(SAMPLINGS)}",
    )
    refuse_unless(hp.sampling in SAMPLINGS, f"sampling = {hp.sampling!r}: must be one of {', '.join(SAMPLINGS)}")
    refuse_unless(hp.mechanism in MECHANISMS, f"mechanism = {hp.mechanism!r}: must be one of {', '.join(MECHANISMS)}")
    left_for_noise(hp.delta, hp.p)
    return replace(hp, c_epsilon=c_epsilon(hp.epsilon))


def noise(known: Distance, hp: Any) -> Array:
    """Return sigma for the distance; on the whole of D nothing is left to chance, and all mechanisms are one."""
    mechanism = "worst_case" if hp.batch_size == 0 else hp.mechanism
    return hp.noise_scale * MECHANISMS[mechanism](known, hp)


def is_certifying(c: Constants, hp: Any) -> Array:
    """Return whether the minibatches can be coupled and the mechanism, with its whole noise, certifies."""
    mechanism = hp.batch_size == 0 or hp.mechanism != "mean_plugged_in"
    return is_coupled(c, hp) & (hp.noise_scale >= 1) & mechanism


def is_coupled(c: Constants, hp: Any) -> Array:
    """Return whether D' has b records to draw without replacement."""
    drawn = hp.batch_size if hp.sampling == "subsets" else 0
    return drawn <= c.n - c.forgotten


def begin(problem: Problem, x0: Any, key: Key, hp: Any, switch: Array, end: Array, sigma: Callable[[], Array]) -> State:
    """Return the start, in the ball, with noise of scale `sigma()`.

    Raises:
        InvalidSetting: the problem does not state m, or a b-subset is larger than any D'. Where only this D' is too
            small for it, which the program learns as it runs, the start is NaN: the lane is written down as diverged.
    """
    if problem.constants.forgotten is UNSTATED:
        raise InvalidSetting(f"{problem.family.name} does not state how many records it forgets")
    if hp.sampling == "subsets" and hp.batch_size >= problem.records:
        raise InvalidSetting(f"batch_size = {hp.batch_size}: D' has fewer than n = {problem.records} records")
    coupled = is_coupled(problem.constants, hp)
    x0 = jax.tree.map(lambda leaf: jnp.where(coupled, leaf, jnp.nan), projected(x0, hp.radius))
    return replace(deletion.begin(problem, x0, key, hp, switch, end, jnp.zeros_like), sigma=sigma())


def coupled_minibatches(problem: Problem, key: Key, hp: Any) -> tuple[Array, Array]:
    """Return the indices (b,) of B, drawn from D, and of B', drawn from D'."""
    n, b, retained = problem.records, hp.batch_size, deletion.retained_records(problem)
    taken = jnp.arange(b, dtype=jnp.int32) * (hp.sampling == "subsets")
    rank, other = jax.random.randint(key, (2, b), 0, jnp.stack([n - taken, retained - taken]), jnp.int32)
    if hp.sampling == "independent":
        return rank, jnp.where(rank < retained, rank, other)

    def draw(i: Array, drawn: tuple[Array, Array]) -> tuple[Array, Array]:
        of_d, of_retained = drawn
        z = absent(of_d, rank[i])
        kept = (z < retained) & ~jnp.any(of_retained == z)
        return insert(of_d, z), insert(of_retained, jnp.where(kept, z, absent(of_retained, other[i])))

    empty = jnp.full(b, 2 * n, jnp.int32)
    return lax.fori_loop(0, b, draw, (empty, empty))


def absent(chosen: Array, rank: Array) -> Array:
    """Return the number that has `rank` among 0, 1, ... without the increasing `chosen`, empty places being 2n."""
    skipped = chosen - jnp.arange(len(chosen), dtype=jnp.int32) <= rank
    return rank + jnp.sum(skipped, dtype=jnp.int32)


def insert(chosen: Array, z: Array) -> Array:
    """Return the increasing numbers with z among them, the last, empty place given up."""
    before = jnp.roll(chosen, 1).at[0].set(-1)
    return jnp.where(chosen < z, chosen, jnp.maximum(before, z))


def gradients(problem: Problem, state: State, key: Key, hp: Any) -> tuple[Any, Any]:
    """Return the gradients of u and of v on coupled minibatches; u's is of D while it learns."""
    learns = state.t < state.switch
    if hp.batch_size == 0:
        retained = problem.retained()
        return deletion.choose(learns, problem, retained).grad(state.x), retained.grad(state.retrained)
    of_d, of_retained = (problem.rows(index) for index in coupled_minibatches(problem, key, hp))
    direction = optax.tree.where(learns, of_d.grad(state.x), of_retained.grad(state.x))
    return direction, of_retained.grad(state.retrained)


def coupled_step(problem: Problem, state: State, key: Key, hp: Any, delay: Array | int = 0) -> State:
    """Return the state after a step of u and of v, who begins `delay` steps later."""
    direction, retraining_direction = gradients(problem, state, key, hp)
    own = state.t - delay
    s = jnp.where(state.t < state.switch, state.t, jnp.maximum(own, 0))
    eta = jnp.where(state.t < state.end, step_size(s, hp), 0.0)
    retraining_eta = jnp.where((own >= 0) & (own < hp.T), step_size(own, hp), 0.0)
    return replace(
        state,
        x=projected(descend_by(state.x, eta, direction), hp.radius),
        retrained=projected(descend_by(state.retrained, retraining_eta, retraining_direction), hp.radius),
        t=state.t + 1,
    )


def calls(problem: Problem, hp: Any) -> Array | float:
    """Return b/n, or 1 for the whole of D."""
    return hp.batch_size / problem.records if hp.batch_size else 1.0
