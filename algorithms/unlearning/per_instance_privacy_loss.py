"""Per-instance privacy loss:  u+ = u - eta grad f_D(u) + s N(0, I), then on D without record i: what is *i* worth?

T steps on D, then on D^-i = D without record `record` until the end; v takes every step on D^-i with the same noise.
With g_i the gradient of record i and gbar that of the mean over all n (a regulariser cancels in the difference),
  grad f_D - grad f_{D^-i} = (g_i - gbar)/(n - 1),   a_t = (eta/(n-1)) |g_i(u_t) - gbar(u_t)|:
the disturbance that this record causes at this step, where a worst-case analysis writes 2 eta G/n.
  privacy loss  P_i = sum_{t<T} a_t^2/(2 s^2): by which the noisy steps tell D from D^-i, a Renyi divergence over its
                order alpha, plugged in along the path (Thudi et al. 2024); without noise in units of 1/s^2;
  radius        z_i = sum_{t<T} c^(T-1-t) a_t.

Derived here, c the Lipschitz constant of a step on f_{D^-i} ((2) of `algorithms.sensitivity`, D^-i in place of D'):
|u_{t+1} - v_{t+1}| <= c |u_t - v_t| + a_t since the noise is shared, so |u_T - v_T| <= z_i, and c^k z_i after k steps
of unlearning, hence at most k_i = ceil(ln(z_i/tau)/(-ln c)) steps until the distance is tau, where c < 1.
All of it depends on the path on D, and on i: a diagnosis of which records are hard to unlearn, never a certificate.
Source: Sepahvand et al. (2025), arXiv:2505.18786, whose theorem is in Renyi divergence; its loss barrier is measured:
max over s in [0, 1] of f_{D^-i}((1-s) u + s v) minus the line between the end values (<= 0 where f is convex).
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import count
from algorithms.metric import VALUE, Metric
from algorithms.recursions import descend_by
from algorithms.sensitivity import growth_rate, is_step, is_strongly_convex_step, log_contraction
from algorithms.theorem import Control, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

TITLE = "Leveraging per-instance privacy for machine unlearning"
SOURCE = Source("derived here", 2026, TITLE, "algorithms/unlearning/per_instance_privacy_loss.py")


@struct.dataclass
class HParams:
    """eta: step size; T: learning steps; record: index i, from 0; noise: s, shared by u and v; tau: distance at which
    record i counts as unlearned.
    """

    eta: Array | float | str = "1/L_max"
    T: Array | int = 100
    record: Array | int = 0
    noise: Array | float = 0.01
    tau: Array | float = 1e-3


@struct.dataclass
class State:
    """x: u; retrained: v; t: steps done; record: i; radius: c^(t-T) z_i from T on, learned_radius: z_i; shift_sq: the
    sum of a_t^2; noise: s; steps: of unlearning with |u - v| > tau; loss: f_i(u_T).
    """

    x: Any
    retrained: Any
    t: Array
    record: Array
    radius: Array
    learned_radius: Array
    shift_sq: Array
    noise: Array
    steps: Array
    loss: Array


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` outside the ranges the messages name."""
    refuse_unless(np.asarray(hp.eta) > 0, f"eta = {hp.eta}: a step size must be positive")
    refuse_unless(np.asarray(hp.T) >= 1, f"T = {hp.T}: at least one learning step")
    refuse_unless(np.asarray(hp.record) >= 0, f"record = {hp.record}: records are numbered from 0")
    refuse_unless(np.asarray(hp.noise) >= 0, f"noise = {hp.noise}: a standard deviation cannot be negative")
    refuse_unless(np.asarray(hp.tau) > 0, f"tau = {hp.tau}: a distance to reach must be positive")
    return hp


def single(problem: Problem, record: Array) -> Problem:
    """Return the problem of one record."""
    return problem.rows(jnp.reshape(record, (1,)))


def gradients(problem: Problem, record: Array, x: Any) -> tuple[Any, Any]:
    """Return grad f_D and grad f_D - grad f_{D^-i} at `x`."""
    whole = problem.grad(x)
    difference = optax.tree.sub(single(problem, record).grad(x), whole)
    return whole, optax.tree.scale(1 / (problem.records - 1), difference)


def growth(problem: Problem, hp: Any) -> Array:
    """Return c of a step on f_{D^-i}: 1 - eta mu, 1 or 1 + eta L by class and step size; 0 where nothing is proven."""
    if Regularity.DELETABLE not in problem.family.regularity:
        return jnp.zeros(())
    return jnp.maximum(1 + hp.eta * growth_rate(problem, hp), jnp.finfo(jnp.zeros(()).dtype).eps)


def init(problem, x0, key, hp):
    zero = jnp.zeros(())
    loss, record, noise = single(problem, hp.record).value(x0), count(hp.record), jnp.asarray(hp.noise, float)
    return State(x0, x0, count(0), record, zero, zero, zero, noise, zero, loss)


def step(problem, state, key, hp):
    u, v, learning = state.x, state.retrained, state.t < hp.T
    noise = optax.tree.random_like(key, u, jax.random.normal)
    whole, difference = gradients(problem, hp.record, u)
    whole_v, difference_v = gradients(problem, hp.record, v)
    used = optax.tree.add_scale(whole, jnp.where(learning, 0.0, -1.0), difference)
    shift = jnp.where(learning, hp.eta * optax.tree.norm(difference), 0.0)
    radius = growth(problem, hp) * state.radius + shift
    far = ~learning & (optax.tree.norm(optax.tree.sub(u, v)) > hp.tau)
    return replace(
        state,
        x=optax.tree.add_scale(descend_by(u, hp.eta, used), hp.noise, noise),
        retrained=optax.tree.add_scale(descend_by(v, hp.eta, optax.tree.sub(whole_v, difference_v)), hp.noise, noise),
        t=state.t + 1,
        radius=radius,
        learned_radius=jnp.where(learning, radius, state.learned_radius),
        shift_sq=state.shift_sq + shift**2,
        steps=state.steps + far,
        loss=jnp.where(state.t <= hp.T, single(problem, hp.record).value(u), state.loss),
    )


def readout(state):
    return state.x


def calls(problem, hp):
    return 1 + 1 / problem.records


def distance(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v|."""
    return optax.tree.norm(optax.tree.sub(state.x, state.retrained))


def privacy_loss(problem: Problem, x: Any, state: State) -> Array:
    """Return P_i, in units of 1/s^2 where there is no noise: its ranks stay."""
    return state.shift_sq / (2 * jnp.where(state.noise > 0, state.noise, 1.0) ** 2)


def loss_barrier(problem: Problem, x: Any, state: State) -> Array:
    """Return the largest of 21 values of f_{D^-i} on the segment from u to v, less the line between its ends."""

    def above(s: Array) -> Array:
        point = optax.tree.add_scale(state.x, s, optax.tree.sub(state.retrained, state.x))
        n = problem.records
        return (n * problem.value(point) - single(problem, state.record).value(point)) / (n - 1)

    s = jnp.linspace(0.0, 1.0, 21)
    values = jax.vmap(above)(s)
    return jnp.max(values - (1 - s) * values[0] - s * values[-1])


def magnitude(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v|."""
    return optax.tree.norm(state.x) + optax.tree.norm(state.retrained)


DISTANCE = Metric("distance", distance, scale=magnitude)
RADIUS = Metric("radius", lambda problem, x, state: state.radius)
LEARNED_RADIUS = Metric("learned_radius", lambda problem, x, state: state.learned_radius)
PRIVACY_LOSS = Metric("privacy_loss", privacy_loss)
UNLEARNING_STEPS = Metric("unlearning_steps", lambda problem, x, state: state.steps)
FINAL_LOSS = Metric("final_loss", lambda problem, x, state: state.loss)
LOSS_BARRIER = Metric("loss_barrier", loss_barrier)


def is_record(c: Constants, hp: Any) -> Array:
    """Return whether eta > 0 and record i exists."""
    return is_step(c, hp) & (hp.record < c.n)


def steps_to_unlearn(t: Array, c: Constants, hp: Any, learned_radius: Array) -> Array:
    """Return ceil(ln(z/tau)/(-ln(1 - eta mu))), at least 0, from t = T on, NaN before."""
    steps = jnp.ceil(jnp.log(learned_radius / hp.tau) / -log_contraction(c, hp))
    return jnp.where(t >= hp.T, jnp.maximum(steps, 0.0), jnp.nan)


radius = Theorem(
    name="per_instance_radius",
    statement="|u_t - v_t| <= sum_{s<min(t,T)} c^(t-1-s) (eta/(n-1)) |g_i(u_s) - gbar(u_s)|, c = 1 - eta mu, 1 or 1 + "
    "eta L by class",
    source=SOURCE,
    assumes=Regularity.DELETABLE,
    metric=DISTANCE,
    given=(RADIUS,),
    condition="eta > 0, record < n",
    admits=is_record,
    bound=lambda t, c, hp, radius: radius,
    control=Control(
        why="strong convexity overstated five times: more is forgotten than steps contract",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05",
        misstate={"mu_min": 5.0},
    ),
)

steps = Theorem(
    name="per_instance_unlearning_steps",
    statement="|u - v| <= tau after at most ceil(ln(z_i/tau)/(-ln(1 - eta mu))) steps on D^-i, z_i the radius at T",
    source=SOURCE,
    assumes=Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=UNLEARNING_STEPS,
    given=(LEARNED_RADIUS,),
    condition="0 < eta <= 2/(L + mu), L and mu of every record, record < n; claimed from t = T on",
    admits=lambda c, hp: is_record(c, hp) & is_strongly_convex_step(c, hp),
    bound=steps_to_unlearn,
    control=Control(
        why="strong convexity overstated five times: more is forgotten than steps contract",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,record=199,tau=1e-5",
        misstate={"mu_min": 5.0},
        steps=300,
    ),
)

algorithm = Algorithm(
    name="per_instance_privacy_loss",
    source=Source("Sepahvand et al.", 2025, TITLE, "arXiv:2505.18786"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    calls=calls,
    prepare=prepare,
    metrics=(DISTANCE, RADIUS, LEARNED_RADIUS, PRIVACY_LOSS, UNLEARNING_STEPS, FINAL_LOSS, LOSS_BARRIER, VALUE),
    theorems=(radius, steps),
)
