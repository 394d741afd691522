"""KL-regularised contextual bandits:  J(pi) = E_rho [ E_pi r - beta KL(pi | pi_ref) ].

The optimum for rewards q is pi_q ~ pi_ref exp(q/beta). With l = log pi - log pi*,
    J(pi*) - J(pi) = beta E_rho KL(pi | pi*) = beta E_rho E_pi [e^-l - 1 + l],
a sum of terms that are not negative, and chi^2(pi* | pi) = E_rho E_pi (e^-l - 1)^2 = Cov(pi* | pi) - 1.
Source: Huang, Li, Dann & He (2025), arXiv:2502.19255, section 3; the identity derived here.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.oracles import RewardFeedback


def logits_for(feedback: RewardFeedback, rewards: Array) -> Array:
    """Return logits of the optimal policy for rewards (S, A)."""
    return feedback.log_ref + rewards / feedback.beta


def log_optimum(feedback: RewardFeedback) -> Array:
    """Return log pi* (S, A)."""
    return jax.nn.log_softmax(logits_for(feedback, feedback.r))


def objective(feedback: RewardFeedback, log_pi: Array, rewards: Array) -> Array:
    """Return J of a policy (S, A) were the rewards those given."""
    gain = rewards - feedback.beta * (log_pi - feedback.log_ref)
    return feedback.rho @ (jnp.exp(log_pi) * gain).sum(-1)


def lead(feedback: RewardFeedback, log_pi: Array) -> Array:
    """Return l = log pi - log pi* (S, A)."""
    return log_pi - log_optimum(feedback)


def regret(feedback: RewardFeedback, log_pi: Array) -> Array:
    """Return J(pi*) - J(pi) as beta KL(pi | pi*)."""
    ahead = lead(feedback, log_pi)
    return feedback.beta * feedback.rho @ (jnp.exp(log_pi) * (jnp.expm1(-ahead) + ahead)).sum(-1)


def chi_square(feedback: RewardFeedback, log_pi: Array) -> Array:
    """Return Cov(pi* | pi) - 1."""
    return feedback.rho @ (jnp.exp(log_pi) * jnp.expm1(-lead(feedback, log_pi)) ** 2).sum(-1)


def largest_ratio(feedback: RewardFeedback, log_pi: Array) -> Array:
    """Return M = max pi*/pi."""
    return jnp.exp(-lead(feedback, log_pi).min())
