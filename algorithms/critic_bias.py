"""What a linear critic's error does to a policy gradient: the bias, its bound, its exact second moment.

The expected actor with values v = Phi omega in place of V moves along
    g(v) = sum_(s,a) d(s) p(a|s) (r(s, a) + gamma (P v)(s, a) - v(s)) score(s, a),   g(V) = grad J.
With e = v - V the bias is linear, b = g(v) - grad J = B e, B e = gamma sum d p (P e) score: the part -e(s) has mean
zero, since E_a score = 0.

Bound. For |u| = 1 and any constant c (again E_a score = 0), dt = (1-gamma) d the normalised occupancy,
    u.b = gamma/(1-gamma) E_(dt,p,P) (u.score)(s, a) (e(s') - c) <= sqrt(gamma)/(1-gamma) sqrt(u^T Fisher u) |e - c|_dt
by Cauchy-Schwarz and gamma dt^T P_pi <= dt^T; |e - c|_dt <= sqrt(max_s dt/rho) |e - c|_rho for any other law rho.

Fixed point. On the restart chain gamma P_pi contracts |.|_dt by sqrt(gamma), so omega_star = lim E omega obeys
|Phi omega_star - V|_dt^2 <= gamma |Phi omega_star - V|_dt^2 + e_app^2, hence <= e_app^2/(1-gamma). With |Phi(s)| <= 1,
    |b|^2 <= beta^2 := gamma lamF/(1-gamma)^2 (2 |omega - omega_star|^2 + 2 e_app^2/(1-gamma)).

Biased ascent. With eta <= 1/L the step x+ = x + eta (grad J + b) gives J(x+) >= J(x) + (eta/2) (|grad J|^2 - |b|^2).

Second moment. At a fixed point the weights' error e_w = omega - omega_star after N steps of TD(0) has the mean m and
second moment M of `algorithms.td_moments`; with W = B Phi and b_star = B (Phi omega_star - V)
    E b b^T = b_star b_star^T + W m b_star^T + b_star (W m)^T + W M W^T.
Sources: Sutton, McAllester, Singh & Mansour (2000); Tsitsiklis & Van Roy (1997); bound and moments derived here.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax

from algorithms.estimator_moments import scored
from algorithms.linear_critic import inner_step, random_features
from algorithms.metric import Metric
from algorithms.td_moments import advance, coupling, mean_error, second_moment, start
from problems.decision_process import draw, occupancy, state_values
from problems.oracles import MDP, Evaluation
from problems.policy_evaluation import fixed_point, law, value_error
from problems.problem import Problem


@struct.dataclass
class Frozen:
    """A policy at a fixed point x: the process, the table (S, A), the map B (d, S) from value errors to the bias."""

    mdp: MDP
    p: Array
    B: Array

    def watched(self, Phi: Array, restart: Array) -> Evaluation:
        """Return what TD(0) sees of the policy."""
        return Evaluation(self.mdp, self.p, Phi, restart)


def surrogate_gradient(problem: Problem, x: Any, weight: Array) -> Any:
    """Return sum_(s,a) weight(s, a) score(s, a), in the shape of x."""
    return jax.grad(lambda y: jnp.sum(weight * problem.log_policy(y)))(x)


def expected_gradient(problem: Problem, x: Any, v: Array) -> Any:
    """Return g(v), the expected policy gradient with the values v (S,)."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    delta = mdp.r + mdp.gamma * mdp.P @ v - v[:, None]
    return surrogate_gradient(problem, x, occupancy(mdp, p)[:, None] * p * delta)


def sampled_gradient(problem: Problem, x: Any, v: Array, key: Array, batch_size: int) -> Any:
    """Return the mean over the batch of delta score/(1-gamma), s drawn from the normalised occupancy."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    law, act, move = (jnp.cumsum(rows, -1) for rows in ((1 - mdp.gamma) * occupancy(mdp, p), p, mdp.P))

    def one(u: Array) -> tuple[Array, Array, Array]:
        s = draw(law, u[0])
        a = draw(act[s], u[1])
        return s, a, mdp.r[s, a] + mdp.gamma * v[draw(move[s, a], u[2])] - v[s]

    s, a, delta = jax.vmap(one)(jax.random.uniform(key, (batch_size, 3)))
    weight = jnp.zeros_like(p).at[s, a].add(delta / (batch_size * (1 - mdp.gamma)))
    return surrogate_gradient(problem, x, weight)


def critic_bias(problem: Problem, x: Any, v: Array) -> Any:
    """Return b = g(v) - grad J, with f = -J."""
    return optax.tree.add(expected_gradient(problem, x, v), problem.grad(x))


def frozen(problem: Problem, x: Array) -> Frozen:
    """Return the policy at x with B = gamma sum_(s,a) d p score P(s, a, .)."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    weight = mdp.gamma * occupancy(mdp, p)[:, None] * p
    return Frozen(mdp, p, jnp.einsum("sa,sad,sat->dt", weight, scored(problem, x).c, mdp.P))


def fisher_max(problem: Problem, x: Array) -> Array:
    """Return lambda_max of Fisher = E_(dt,p) score score^T."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    weight = (1 - mdp.gamma) * occupancy(mdp, p)[:, None] * p
    score = scored(problem, x).c
    return jnp.linalg.eigvalsh(jnp.einsum("sa,sad,sae->de", weight, score, score))[-1]


def weighted_error(evaluation: Evaluation, omega: Array) -> Array:
    """Return sqrt(max_s dt/rho) |e - c|_rho, e = Phi omega - V, c its rho-mean, rho the law of the critic's chain."""
    mdp, p, rho = evaluation.mdp, evaluation.p, law(evaluation)
    e = evaluation.Phi @ omega - state_values(mdp, p)
    mismatch = (1 - mdp.gamma) * jnp.max(occupancy(mdp, p) / rho)
    return jnp.sqrt(mismatch * (rho @ (e - rho @ e) ** 2))


def floor_bias(policy: Frozen, evaluation: Evaluation) -> Array:
    """Return b_star (d,), the bias of the critic that TD(0) converges to."""
    return policy.B @ (evaluation.Phi @ fixed_point(evaluation) - state_values(evaluation.mdp, evaluation.p))


def excess_moment(W: Array, b_star: Array, mean: Array, second: Array) -> Array:
    """Return E b b^T - b_star b_star^T (d, d), from the mean (k,) and second moment (k, k) of the weights' error."""
    drift = jnp.outer(W @ mean, b_star)
    return drift + drift.T + W @ second @ W.T


def bias_moment(W: Array, b_star: Array, mean: Array, second: Array) -> Array:
    """Return E b b^T (d, d)."""
    return jnp.outer(b_star, b_star) + excess_moment(W, b_star, mean, second)


def trained_moment(policy: Frozen, gamma: Array, hp: Any) -> Array:
    """Return E b b^T (d, d) after N inner steps from weights 0, with the discount factor gamma of both."""
    Phi = random_features(policy.mdp.mu.size, hp.rank, hp.feature_seed)
    evaluation = replace(policy, mdp=replace(policy.mdp, gamma=gamma)).watched(Phi, jnp.asarray(hp.restart))
    omega_star = fixed_point(evaluation)
    c = coupling(evaluation, omega_star)
    nu = jnp.where(jnp.arange(len(Phi)) == hp.first_state, 1.0, 0.0)
    N = lax.fori_loop(0, hp.inner_steps, lambda t, N: advance(c, inner_step(t, hp), N), start(nu, -omega_star))
    return bias_moment(policy.B @ Phi, floor_bias(policy, evaluation), mean_error(N), second_moment(N))


def watched(problem: Problem, x: Any, state: Any) -> Evaluation:
    """Return what the critic sees of the policy at x."""
    return Evaluation(problem.mdp, jnp.exp(problem.log_policy(x)), state.Phi, state.restart)


def bias_sq(problem: Problem, x: Any, state: Any) -> Array:
    """Return |b|^2, b = g(Phi omega) - grad J."""
    return optax.tree.norm(critic_bias(problem, x, state.Phi @ state.omega), squared=True)


def reach_sq(problem: Problem, x: Any, state: Any) -> Array:
    """Return lambda_max(Fisher) max_s dt/rho |e - c|_rho^2."""
    return fisher_max(problem, x) * weighted_error(watched(problem, x, state), state.omega) ** 2


def critic_error_sq(problem: Problem, x: Any, state: Any) -> Array:
    """Return 2 |omega - omega_star|^2 + 2 e_app^2/(1-gamma)."""
    evaluation = watched(problem, x, state)
    distance_sq = jnp.sum((state.omega - fixed_point(evaluation)) ** 2)
    return 2 * distance_sq + 2 * value_error(evaluation) ** 2 / (1 - evaluation.mdp.gamma)


def frozen_start(problem: Problem, x: Any, state: Any) -> Any:
    """Return the policy at the start of seed 0 and how far x is from it: computed once where all seeds start there."""
    x0 = problem.init(jax.random.key(0))
    return frozen(problem, x0), optax.tree.norm(optax.tree.sub(x, x0))


def saddle(problem: Problem, x: Any, state: Any) -> Any:
    """Return the policy at 0 and the escape direction v, computed once for all seeds."""
    escape = problem.policy.escape
    assert escape is not None
    x0 = jnp.zeros_like(problem.init(jax.random.key(0)))
    return frozen(problem, x0), jax.grad(escape, argnums=1)(problem.data, x0).ravel()


CRITIC_BIAS_SQ = Metric(
    "critic_bias_sq",
    bias_sq,
    scale=lambda problem, x, state: optax.tree.norm(problem.grad(x), squared=True),
)
CRITIC_REACH_SQ = Metric("critic_reach_sq", reach_sq)
CRITIC_ERROR_SQ = Metric("critic_error_sq", critic_error_sq)
FROZEN_START = Metric("frozen_start", frozen_start)
SADDLE = Metric("saddle", saddle)
