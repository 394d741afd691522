"""f(x) = -E_rho [ E_pi r - beta KL(pi | pi_ref) ], pi = softmax(x): a contextual bandit that stays near a reference.

Prompts s ~ rho, responses a; a round shows r(s, a) + N(0, sd^2). Rewards are uniform in [margin R, (1 - margin) R],
pi_ref = softmax(tilt N(0, 1)), rho has the odds exp(N(0, 1)/4). The W source rewards are r with N(0, error^2) added
and brought back to [0, R], their errors spaced evenly in the logarithm from `nearest` to `farthest`. The optimum is
pi* ~ pi_ref exp(r/beta) (`problems.kl_regularised`); all constants are exact. Runs start at pi_ref.
Source: Huang, Li, Dann & He (2025), Can RLHF be more efficient with imperfect reward models?, arXiv:2502.19255.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.kl_regularised import log_optimum, logits_for, objective, regret
from problems.oracles import RewardFeedback
from problems.problem import Family, Problem

ROUNDING = 1e-12


def init(data: RewardFeedback, key: Array) -> Array:
    return data.log_ref


def value(data: RewardFeedback, x: Array) -> Array:
    return -objective(data, jax.nn.log_softmax(x), data.r)


KL_BANDIT = Family(
    name="kl_bandit",
    regularity=Regularity.LOWER_BOUNDED | Regularity.KL_REGULARISED,
    init=init,
    value=value,
    feedback=lambda data: data,
)


def solved(data: RewardFeedback) -> Problem[RewardFeedback, Array]:
    """Return the problem with its constants."""
    log_star = log_optimum(data)
    log_sources = jax.nn.log_softmax(jax.vmap(lambda q: logits_for(data, q))(data.sources))
    S, A = data.r.shape
    constants = Constants(
        f_star=-objective(data, log_star, data.r),
        beta=data.beta,
        R_max=data.R,
        reward_sd=data.sd,
        states=jnp.asarray(S, float),
        actions=jnp.asarray(A, float),
        visit_min=jnp.min(data.rho[:, None] * jnp.exp(log_star)),
        sources=jnp.asarray(len(data.sources), float),
        source_gap=jax.vmap(lambda log_pi: regret(data, log_pi))(log_sources).min(),
        reference_gap=regret(data, data.log_ref),
    )
    return Problem(KL_BANDIT, data, constants, x_star=log_star)


def require_scales(beta: float, R: float, sd: float) -> None:
    """Raise `InvalidParameter` unless beta, R and sd are positive."""
    require(beta > 0, f"beta = {beta}: without a KL term the optimum covers nothing, write beta > 0")
    require(R > 0, f"R = {R}: rewards lie in [0, R], R > 0")
    require(sd > 0, f"sd = {sd}: the standard deviation of an observed reward is positive")


def require_law(name: str, p: np.ndarray) -> None:
    """Raise `InvalidParameter` unless the last axis holds probabilities, all positive."""
    require(bool((p > 0).all()), f"{name} has no full support: every probability must be positive")
    require(bool((np.abs(p.sum(-1) - 1) <= ROUNDING).all()), f"{name} does not sum to 1")


def of_rewards(
    rho: Array, r: Array, p_ref: Array, sources: Array, *, beta: float, R: float, sd: float
) -> Problem[RewardFeedback, Array]:
    """Return the problem of rewards of one's own: rho (S,), r and p_ref (S, A), sources (W, S, A).

    Raises:
        InvalidParameter: beta, R or sd is not positive, rho or p_ref is no law of full support, or a reward lies
            outside [0, R].
    """
    require_scales(beta, R, sd)
    require_law("rho", np.asarray(rho, float))
    require_law("pi_ref", np.asarray(p_ref, float))
    for name, rewards in (("r", np.asarray(r, float)), ("sources", np.asarray(sources, float))):
        require(bool(((rewards >= 0) & (rewards <= R)).all()), f"{name}: rewards lie in [0, R], R = {R}")
    numbers = (jnp.asarray(number, float) for number in (beta, R, sd))
    return solved(RewardFeedback(rho, r, jnp.log(p_ref), sources, *numbers))


def make(
    key: Array,
    *,
    S: int = 4,
    A: int = 30,
    W: int = 3,
    beta: float = 0.2,
    R: float = 1.0,
    sd: float = 0.5,
    margin: float = 0.1,
    tilt: float = 0.5,
    nearest: float = 0.03,
    farthest: float = 0.5,
) -> Problem[RewardFeedback, Array]:
    """Return a bandit of `S` prompts, `A` responses and `W` source rewards of errors `nearest` to `farthest`."""
    require_scales(beta, R, sd)
    require(S >= 1 and A >= 2, f"S = {S}, A = {A}: at least one prompt and two responses")
    require(W >= 1, f"W = {W}: at least one source")
    require(0 <= margin <= 0.5, f"margin = {margin}: rewards lie in [margin R, (1 - margin) R], so in [0, R]")
    require(0 <= tilt <= 10, f"tilt = {tilt}: pi_ref = softmax(tilt N(0, 1)) has full support for tilt in [0, 10]")
    require(0 < nearest <= farthest, f"nearest = {nearest}, farthest = {farthest}: errors of sources are ordered")
    r_key, normal_key = jax.random.split(key)
    r = R * (margin + (1 - 2 * margin) * jax.random.uniform(r_key, (S, A)))
    numbers = jax.random.normal(normal_key, (W + 1, S, A + 1))  # one block: three would compile longer
    errors = jnp.geomspace(nearest, farthest, W)[:, None, None]
    sources = jnp.clip(r + errors * numbers[1:, :, 1:], 0, R)
    rho, log_ref = jax.nn.softmax(numbers[0, :, 0] / 4), jax.nn.log_softmax(tilt * numbers[0, :, 1:])
    return solved(RewardFeedback(rho, r, log_ref, sources, *(jnp.asarray(number, float) for number in (beta, R, sd))))
