"""Mean and second moment of a score estimator, exactly:  E g and E|g|^2 of one trajectory, by recursion over its steps.

A trajectory in state s carries the score sum z_t = sum_(k<=t) c_k and an estimate w_t, both vectors, c = score(s, a).
The moments of (1, z, w) up to second order, restricted to the trajectories that stand in s, obey a linear recursion:
a step multiplies by pi(a|s), adds c and the reward's part rho_t = D_t (r(s, a) - baseline), and moves by P(s, a, .):
    GPOMDP     w += rho_t z                          (z the sum with the present score)
    REINFORCE  w = z R,  R += rho_t                  (moments of z of order <= 2 times powers of R of order <= 2)
    PGT        w += rho_t c,  rho_t = D_t Q(s, a)
Only traces of second moments are carried, so E|g|^2 costs as much as one direction; along v pass the scores c.v.
D_t = gamma^t before the horizon. A trajectory that goes on with probability q has D_t = (gamma/q)^t; what dies leaves
its w behind. The random-horizon estimate g = Qhat c(s_T, a_T)/(1-gamma) has E|g|^2 = sum_s d(s) sum_a pi |c|^2
M(s, a)/(1-gamma) with M = E Qhat^2 = r^2 + 2 gamma r PV + gamma^(3/2) P M_pi, one more solve. Derived here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from problems.decision_process import action_values, chain, occupancy
from problems.oracles import MDP
from problems.problem import Problem


class Moments(NamedTuple):
    """E g (d,) and E|g|^2 of one trajectory."""

    mean: Array
    square: Array


class Scored(NamedTuple):
    """A process under a policy: its table p (S, A) and the scores c = grad log pi(a|s), (S, A, d)."""

    mdp: MDP
    p: Array
    c: Array


def scored(problem: Problem, x: Any) -> Scored:
    """Return the process under the policy at x, with its scores."""
    flat, unravel = ravel_pytree(x)
    log_policy = lambda flat: problem.log_policy(unravel(flat))  # noqa: E731
    return Scored(problem.mdp, jnp.exp(log_policy(flat)), jax.jacobian(log_policy)(flat))


def shifted(mdp: MDP, baseline: Array | float) -> MDP:
    """Return the process with the baseline subtracted from every reward."""
    return replace(mdp, r=mdp.r - baseline)


def moves(process: Scored) -> Array:
    """Return pi(a|s) P(s, a, t) as a matrix (S, S A)."""
    return (process.p[..., None] * process.mdp.P).reshape(-1, process.mdp.mu.size).T


def push(move: Array, moments: Any) -> Any:
    """Return the moments (S, A, ...) after the move, by the state that is reached (S, ...): one product for all."""
    leaves, structure = jax.tree.flatten(moments)
    columns = [leaf.reshape(move.shape[1], -1) for leaf in leaves]
    pushed = jnp.split(move @ jnp.concatenate(columns, 1), np.cumsum([c.shape[1] for c in columns])[:-1], 1)
    reached = [new.reshape(len(move), *leaf.shape[2:]) for new, leaf in zip(pushed, leaves, strict=True)]
    return jax.tree.unflatten(structure, reached)


def spread(moments: Any) -> Any:
    """Return the moments (S, ...) with an axis of actions (S, 1, ...)."""
    return jax.tree.map(lambda m: m[:, None], moments)


class Additive(NamedTuple):
    """E of 1, z, w, |z|^2, z.w and |w|^2 by state."""

    one: Array
    z: Array
    w: Array
    zz: Array
    zw: Array
    ww: Array


def gpomdp_step(m: Additive, c: Array, rho: Array) -> Additive:
    """Return the moments after z += c, w += rho z."""
    vector = rho[..., None]
    z = m.z + c * m.one[..., None]
    zz = m.zz + 2 * (c * m.z).sum(-1) + (c**2).sum(-1) * m.one
    half = m.zw + (c * m.w).sum(-1)
    return Additive(m.one + 0 * rho, z, m.w + vector * z, zz, half + rho * zz, m.ww + 2 * rho * half + rho**2 * zz)


def pgt_step(m: Additive, c: Array, rho: Array) -> Additive:
    """Return the moments after w += rho c; z stands still."""
    vector = rho[..., None] * c
    square = m.ww + 2 * (vector * m.w).sum(-1) + (vector**2).sum(-1) * m.one
    keep = jax.tree.map(lambda leaf: leaf + jnp.zeros((*rho.shape, *leaf.shape[2:])), m)
    return keep._replace(w=m.w + vector * m.one[..., None], ww=square)


def recursion(process: Scored, parts: Array, survival: Array | float, step: Callable[..., Additive]) -> Moments:
    """Return the moments of w; `parts` (T, S, A) are the rho_t."""
    mdp, _, c = process
    move, S, d = moves(process), mdp.mu.size, c.shape[-1]
    none, vector = jnp.zeros(S), jnp.zeros((S, d))
    first = Additive(mdp.mu, vector, vector, none, none, none)

    def advance(carry: tuple[Additive, Moments], rho: Array) -> tuple[tuple[Additive, Moments], None]:
        m, left = carry
        m = push(move, step(spread(m), c, rho))
        died = Moments(left.mean + (1 - survival) * m.w.sum(0), left.square + (1 - survival) * m.ww.sum())
        return (jax.tree.map(lambda leaf: survival * leaf, m), died), None

    (last, left), _ = lax.scan(advance, (first, Moments(jnp.zeros(d), jnp.zeros(()))), parts)
    return Moments(left.mean + last.w.sum(0), left.square + last.ww.sum())


def factors(ratio: Array, horizon: Array, length: int) -> Array:
    """Return D_t (length, 1, 1): ratio^t before the horizon."""
    t = jnp.arange(length)[:, None, None]
    return jnp.where(t < horizon, ratio**t, 0.0)


def gpomdp_moments(process: Scored, baseline: Array | float, horizon: Array, length: int) -> Moments:
    """Return the moments of GPOMDP cut after `horizon` <= `length` steps."""
    mdp = process.mdp
    return recursion(process, factors(mdp.gamma, horizon, length) * (mdp.r - baseline), 1.0, gpomdp_step)


def roulette_moments(process: Scored, baseline: Array | float, survival: Array, length: int) -> Moments:
    """Return the moments of GPOMDP that goes on with probability `survival`, at most `length` steps."""
    mdp = process.mdp
    ratio = jnp.where(survival > 0, mdp.gamma / jnp.where(survival > 0, survival, 1.0), 0.0)
    parts = factors(ratio, jnp.asarray(length), length) * (mdp.r - baseline)
    return recursion(process, parts, survival, gpomdp_step)


def pgt_moments(process: Scored, baseline: Array | float, horizon: Array, length: int) -> Moments:
    """Return the moments of sum_(t<H) gamma^t score_t Q(s_t, a_t), Q that of the rewards r - baseline."""
    mdp, p, _ = process
    parts = factors(mdp.gamma, horizon, length) * action_values(shifted(mdp, baseline), p)
    return recursion(process, parts, 1.0, pgt_step)


PASCAL = jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 2.0, 1.0]])
EXPONENT = jnp.array([[0, 0, 0], [1, 0, 0], [2, 1, 0]])


def reinforce_moments(process: Scored, baseline: Array | float, horizon: Array, length: int) -> Moments:
    """Return the moments of (sum_(k<H) score_k) (sum_(t<H) gamma^t (r_t - baseline)).

    Carried are E of 1, z and |z|^2, each times R^j, j = 0, 1, 2, by state; from the horizon on nothing is added.
    """
    mdp, _, c = process
    move, S, d = moves(process), mdp.mu.size, c.shape[-1]

    def advance(m: tuple[Array, Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        one, z, zz = spread(m)
        rho, score = step[0], step[1] * c
        zz = (
            zz + 2 * jnp.einsum("sad,sajd->saj", score, z + 0 * score[:, :, None]) + (score**2).sum(-1)[..., None] * one
        )
        z = z + score[:, :, None] * one[..., None]
        grow = PASCAL * rho[..., None, None] ** EXPONENT
        added = tuple(jnp.einsum("saij,saj...->sai...", grow, leaf + jnp.zeros((*rho.shape, *leaf.shape[2:])))
                      for leaf in (one, z, zz))  # fmt: skip
        return push(move, added), None

    powers = jnp.zeros((S, 3)).at[:, 0].set(mdp.mu)
    D = factors(mdp.gamma, horizon, length)
    first = (powers, jnp.zeros((S, 3, d)), jnp.zeros((S, 3)))
    (_, z, zz), _ = lax.scan(advance, first, (D * (mdp.r - baseline), jnp.where(D > 0, 1.0, 0.0)))
    return Moments(z[:, 1].sum(0), zz[:, 2].sum())


def random_horizon_moments(process: Scored, baseline: Array | float) -> Moments:
    """Return the moments of Qhat score(s_T, a_T)/(1 - gamma) with rewards r - baseline, without a cap."""
    mdp, p, c = process
    mdp = shifted(mdp, baseline)
    Q = action_values(mdp, p)
    later = mdp.gamma**1.5 * chain(mdp, p)
    known = mdp.r**2 + 2 * mdp.r * (Q - mdp.r)
    M_pi = jnp.linalg.solve(jnp.eye(mdp.mu.size) - later, (p * known).sum(-1))
    M = known + mdp.gamma**1.5 * mdp.P @ M_pi
    visits = occupancy(mdp, p)[:, None] * p
    square = (visits * (c**2).sum(-1) * M).sum() / (1 - mdp.gamma)
    return Moments(jnp.einsum("sa,sa,sad->d", visits, Q, c), square)


def of_batch(one: Moments, batch_size: Array) -> Moments:
    """Return the moments of the mean of `batch_size` independent trajectories."""
    return Moments(one.mean, one.square / batch_size + (1 - 1 / batch_size) * (one.mean**2).sum())
