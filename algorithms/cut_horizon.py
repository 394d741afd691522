"""How the truncation bias decays: its exact form, a bound by mixing, its limit, its Hessian, the bias of cut visits.

J - J_H = gamma^H mu^T P_pi^H V exactly, so
    grad J - grad J_H = gamma^H grad (mu^T P_pi^H V).                                                          (1)
Mixing. With Dobrushin's coefficient tau of P_pi a kernel contracts spans, span(P_pi v) <= tau span(v). In (1) the
derivative of the k-th factor is E[score_k (P_pi^(H-k-1) V)(s_(k+1))], free of constants, at most sqrt(lamF) times half
a span tau^(H-k-1) span(V); the geometric sum and |u.grad V| <= sqrt(lamF) max_s span_a Q(s, .)/(2 (1-gamma)) give
    |grad J - grad J_H| <= gamma^H sqrt(lamF) [span(V)/(2 (1-tau)) + max_s span_a Q(s, .)/(2 (1-gamma))].      (2)
Limit. Where P_pi has one aperiodic class mu^T P_pi^H V -> rho^T V = h/(1-gamma), h the average reward, and so do the
derivatives: gamma^-H (grad J - grad J_H) -> grad h/(1-gamma). What is left of (1) is a sum of terms (mu - rho)^T P^k
dP P^(H-1-k) V, at most tau(P^k) tau(P^(H-1-k)) span(V); with q = H/8 (rounded down) k and H-1-k hold six whole q
between them: it is small where m(H) = H tau(P_pi^q)^6 span(V)/|grad h| is at most 1/1000.                      (3)
Hessian. Hess (J - J_H) = E sum_(t>=H) gamma^t (r_t - r_mid) [S_t S_t^T + sum_(k<=t) Hess log pi_k], at most R_c (lamF +
F) sum_(t>=H) gamma^t (t+1) = R_c (lamF + F) gamma^H (H + 1/(1-gamma))/(1-gamma).                               (4)
Cut visits. sum_(t<H) gamma^t E[score_t Q(s_t, a_t)] leaves out gamma^H grad V averaged over s_H:
    at most gamma^H sqrt(lamF) max_s std_a Q(s, .)/(1-gamma).                                                  (5)
Second order. With |grad J_H| and the top curvature lam_H of Hess J_H, by the triangle inequality and Weyl's, x is an
(eps, sqrt(rho eps))-second-order stationary point of J for
    eps = max(|grad J_H| + beta(H), (lam_H+ + (4))^2/rho):                                                     (6)
what ascent on J_H finds is second-order stationary for J once H is of the order log(1/((1-gamma) eps))/(1-gamma).
Derived here; the questions are those of Mu & Klabjan (2024), arXiv:2311.02546.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from algorithms.metric import Metric
from algorithms.second_order import gradient_norm
from algorithms.truncation import bias_bound
from problems.constants import Constants
from problems.decision_process import (
    action_values,
    advantages,
    average_reward,
    chain,
    contraction_coefficient,
    power,
    truncated_occupancy,
)
from problems.problem import Problem

MIXED = 1e-3


def span(values: Array) -> Array:
    """Return max - min along the last axis."""
    return values.max(-1) - values.min(-1)


def mixing_factor(problem: Problem, x: Any, state: Any) -> Array:
    """Return span(V)/(2 (1-tau)) + max_s span_a Q(s, .)/(2 (1-gamma)); not finite where tau = 1."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    Q = action_values(mdp, p)
    apart = 1 - contraction_coefficient(chain(mdp, p))
    return span((p * Q).sum(-1)) / (2 * apart) + span(Q).max() / (2 * (1 - mdp.gamma))


def limit(problem: Problem, x: Any, state: Any) -> Array:
    """Return |grad h|/(1-gamma) of the average reward h."""
    mdp = problem.mdp
    slope = jax.grad(lambda x: average_reward(mdp, jnp.exp(problem.log_policy(x))))(x)
    return optax.tree.norm(slope) / (1 - mdp.gamma)


def unmixed(problem: Problem, x: Any, state: Any) -> Array:
    """Return m(H) of (3)."""
    mdp, p, horizon = problem.mdp, jnp.exp(problem.log_policy(x)), state.horizon
    apart = contraction_coefficient(power(chain(mdp, p), horizon // 8)) ** 6
    V = (p * action_values(mdp, p)).sum(-1)
    return horizon * apart * span(V) / ((1 - mdp.gamma) * limit(problem, x, state))


def hessian_bias(problem: Problem, x: Any, state: Any) -> Array:
    """Return the spectral norm of Hess J - Hess J_H."""

    def tail(x: Array) -> Array:
        return problem.truncated(state.horizon).value(x) - problem.value(x)

    return jnp.abs(jnp.linalg.eigvalsh(jax.hessian(tail)(x).reshape(x.size, x.size))).max()


def visits_gradient(problem: Problem, x: Any, horizon: Array) -> Any:
    """Return - sum_(t<H) gamma^t E[score_t Q(s_t, a_t)], the gradient with exact values and cut visits."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    weight = truncated_occupancy(mdp, p, horizon)[:, None] * p * advantages(mdp, p)
    return jax.grad(lambda x: -jnp.sum(weight * problem.log_policy(x)))(x)


def visits_bias(problem: Problem, x: Any, state: Any) -> Array:
    """Return the norm by which the gradient of cut visits misses grad J."""
    return optax.tree.norm(optax.tree.sub(problem.grad(x), visits_gradient(problem, x, state.horizon)))


def deviation(problem: Problem, x: Any, state: Any) -> Array:
    """Return max_s std_a Q(s, .) under the policy."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    return jnp.sqrt((p * advantages(mdp, p) ** 2).sum(-1).max())


MIXING_FACTOR = Metric("mixing_factor", mixing_factor)
LIMIT = Metric("bias_limit", limit)
UNMIXED = Metric("unmixed", unmixed)
HESSIAN_BIAS = Metric(
    "hessian_bias", hessian_bias, scale=lambda problem, x, state: jnp.maximum(1.0, jnp.abs(problem.value(x)))
)
VISITS_BIAS = Metric("visits_bias", visits_bias, scale=lambda problem, x, state: gradient_norm(problem, x))
DEVIATION = Metric("deviation", deviation)
GRADIENT_NORM = Metric("gradient_norm", lambda problem, x, state: gradient_norm(problem, x))


def mixing_bound(c: Constants, horizon: Array, factor: Array) -> Array:
    """Return (2)."""
    return c.gamma**horizon * jnp.sqrt(c.fisher) * factor


def limit_law(c: Constants, horizon: Array, limit: Array, unmixed: Array) -> Array:
    """Return gamma^H |grad h|/(1-gamma) once the chain is mixed, else NaN."""
    return jnp.where(unmixed <= MIXED, c.gamma**horizon * limit, jnp.nan)


def hessian_bound(c: Constants, horizon: Array) -> Array:
    """Return (4)."""
    tail = c.gamma**horizon * (horizon + 1 / (1 - c.gamma)) / (1 - c.gamma)
    return c.R_c * (c.fisher + c.score_slope) * tail


def visits_bound(c: Constants, horizon: Array, deviation: Array) -> Array:
    """Return (5)."""
    return c.gamma**horizon * jnp.sqrt(c.fisher) * deviation / (1 - c.gamma)


def transfer_bound(c: Constants, horizon: Array, gradient_norm: Array, top_curvature: Array) -> Array:
    """Return (6)."""
    curvature = jnp.maximum(top_curvature, 0.0) + hessian_bound(c, horizon)
    return jnp.maximum(gradient_norm + bias_bound(c, horizon), curvature**2 / c.rho)
