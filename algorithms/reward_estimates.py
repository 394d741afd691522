"""Rounds of a KL-regularised bandit and the plug-in policy:  pi_t ~ pi_ref exp(rhat_t/beta).

rhat is the mean of what was observed, `prior` R for a response never seen, brought back to [0, R] where rewards lie.
A round is one block of uniforms: the prompt, the response by inverse CDF, the noise of the reward. Two policies that
play the same round meet the same prompt, the same uniform and the same noise.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from algorithms.algorithm import refuse_unless
from algorithms.metric import Metric
from problems.decision_process import draw
from problems.kl_regularised import chi_square, largest_ratio, logits_for, regret
from problems.oracles import RewardFeedback


@struct.dataclass
class Round:
    """A prompt, the uniform that picks the response, the noise of its reward."""

    s: Array
    u: Array
    noise: Array


@struct.dataclass
class Estimates:
    """Sums and numbers of the rewards observed, (S, A)."""

    total: Array
    n: Array


@struct.dataclass
class PlugIn:
    """The policy that is played next, as logits x (S, A), and the regret summed over the rounds played."""

    x: Array
    estimates: Estimates
    regret: Array


def next_round(feedback: RewardFeedback, key: Array) -> Round:
    """Return a round drawn from one block of uniforms."""
    prompt, response, level = jax.random.uniform(key, (3,))
    inside = jnp.maximum(level, jnp.finfo(level.dtype).eps / 2)  # at 0 the normal number would be infinite
    noise = 2**0.5 * lax.erf_inv(2 * inside - 1)
    return Round(draw(jnp.cumsum(feedback.rho), prompt), response, feedback.sd * noise)


def respond(log_pi: Array, round: Round) -> Array:
    """Return the response that the policy (S, A) gives to the round's prompt."""
    return draw(jnp.cumsum(jnp.exp(log_pi[round.s])), round.u)


def nothing_seen(feedback: RewardFeedback) -> Estimates:
    """Return the estimates before the first round."""
    return Estimates(jnp.zeros_like(feedback.r), jnp.zeros_like(feedback.r))


def observe(estimates: Estimates, s: Array, a: Array, y: Array) -> Estimates:
    """Return the estimates after the reward y of response a to prompt s."""
    return Estimates(estimates.total.at[s, a].add(y), estimates.n.at[s, a].add(1.0))


def estimated(feedback: RewardFeedback, estimates: Estimates, prior: Array) -> Array:
    """Return rhat (S, A)."""
    mean = estimates.total / jnp.maximum(estimates.n, 1.0)
    return jnp.clip(jnp.where(estimates.n > 0, mean, prior * feedback.R), 0.0, feedback.R)


def start(feedback: RewardFeedback, prior: Array) -> PlugIn:
    """Return the plug-in policy before the first round."""
    estimates = nothing_seen(feedback)
    return PlugIn(logits_for(feedback, estimated(feedback, estimates, prior)), estimates, jnp.zeros(()))


def play(feedback: RewardFeedback, policy: PlugIn, round: Round, prior: Array) -> PlugIn:
    """Return the plug-in policy after a round that it played."""
    log_pi = jax.nn.log_softmax(policy.x)
    a = respond(log_pi, round)
    estimates = observe(policy.estimates, round.s, a, feedback.r[round.s, a] + round.noise)
    x = logits_for(feedback, estimated(feedback, estimates, prior))
    return PlugIn(x, estimates, policy.regret + regret(feedback, log_pi))


def refuse_prior(prior: Array | float | str) -> None:
    """Raise `InvalidSetting` unless 0 <= prior <= 1."""
    known = np.asarray(prior, float)
    refuse_unless((known >= 0) & (known <= 1), f"prior = {prior}: a share of R, in [0, 1]")


def magnitude_of_regret(problem, x, state):
    """Return the rewards' range: log pi is known to eps R/beta, and the regret is quadratic in it."""
    return jnp.finfo(x.dtype).eps * problem.constants.R_max


REGRET = Metric(
    "regret", lambda problem, x, state: regret(problem.feedback, jax.nn.log_softmax(x)), scale=magnitude_of_regret
)
CUMULATIVE_REGRET = Metric("cumulative_regret", lambda problem, x, state: state.regret)
CHI_SQUARE = Metric("chi_square", lambda problem, x, state: chi_square(problem.feedback, jax.nn.log_softmax(x)))
LARGEST_RATIO = Metric(
    "largest_ratio", lambda problem, x, state: largest_ratio(problem.feedback, jax.nn.log_softmax(x))
)
