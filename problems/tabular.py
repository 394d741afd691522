"""Softmax policies on finite processes, one logit per state and action:  f(x) = -J(x) + (l2/2) |x|^2,  pi = softmax(x).

The gradient of J in the logits is d(s) pi(a|s) (Q(s,a) - V(s)): two solves (`problems.decision_process`).

Constants. Scores S_t = sum_(k<=t) score_k have martingale-difference summands, so E(u.S_t)^2 <= (t+1) lamF, and Hess J
= E sum_t gamma^t (r_t - r_mid) [S_t S_t^T + sum_(k<=t) Hess log pi_k] with |Hess log pi| <= F = 1/2 = lamF gives L =
R_c (1/2 + 1/2) sum_t gamma^t (t+1) = R_c/(1-gamma)^2. The third derivative along a unit u is E sum_t gamma^t (r_t -
r_mid) [(u.S)^3 + 3 (u.S) u^T(grad S)u + grad^2 S[u,u,u]]. With n = t+1, dia = sqrt 2 the largest distance of two
features: u.S_t has conditional ranges at most dia, so it is sub-Gaussian of variance proxy n dia^2/4 and E|u.S|^3 <=
n^(3/2) dia^3, |u^T grad S u| <= n dia^2/4 with E|u.S| <= dia sqrt(n)/2, and a third central moment on an interval of
length dia is at most dia^3/(6 sqrt 3): rho = R_c dia^3 sum_t gamma^t [(11/8) n^(3/2) + n/(6 sqrt 3)], where by
Cauchy-Schwarz sum_t gamma^t n^(3/2) <= sqrt(1+gamma)/(1-gamma)^(5/2). All rewards and the optimum are those of the very
instance; L and rho are upper bounds. Adding l2 raises L by l2, leaves rho, and no infimum is claimed.
Sources: Sutton, McAllester, Singh & Mansour (2000), Theorem 1; Baxter & Bartlett (2001); L and rho derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems.constants import UNSTATED, Constants, Regularity, require
from problems.decision_process import (
    action_values,
    cut,
    exact_return,
    expected_return,
    occupancy,
    optimal_actions,
    require_process,
    trajectory,
)
from problems.oracles import MDP, Policy, Rollout, Tabular
from problems.problem import Family, Problem

REGULARISED = Regularity.SMOOTH | Regularity.SOFTMAX_POLICY | Regularity.HESSIAN_LIPSCHITZ
RETURN_ALONE = Regularity.LOWER_BOUNDED | Regularity.DISCOUNTED_RETURN | Regularity.TABULAR_MDP


@struct.dataclass
class Data:
    """a_star and d_star (S,) are of an optimal policy; first logits are N(0, spread^2)."""

    mdp: MDP
    a_star: Array
    d_star: Array
    spread: Array
    l2: Array


def init(data: Data, key: Array) -> Array:
    return data.spread * jax.random.normal(key, data.mdp.r.shape)


def value(data: Data, x: Array) -> Array:
    return -expected_return(data.mdp, jax.nn.softmax(x)) + data.l2 / 2 * jnp.sum(x**2)


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, mdp=cut(data.mdp, horizon))


def rollout(data: Data, x: Array, key: Array, length: int) -> Rollout:
    return trajectory(data.mdp, jax.nn.softmax(x), key, length)


def log_policy(data: Data, x: Array) -> Array:
    return jax.nn.log_softmax(x)


def log_prob(data: Data, x: Array, states: Array, actions: Array) -> Array:
    return jax.nn.log_softmax(x)[states, actions]


POLICY = Policy(
    truncate=truncate,
    rollout=rollout,
    log_prob=log_prob,
    tabular=Tabular(mdp=lambda data: data.mdp, log_policy=log_policy),
    optimum=lambda data: (data.a_star, data.d_star),
)


def softmax_families(name: str) -> tuple[Family[Data, Array], Family[Data, Array]]:
    """Return the families of softmax policies on finite MDPs without and with l2; `make` draws the MDP."""
    regularised = Family(name=name, regularity=REGULARISED, init=init, value=value, policy=POLICY)
    return replace(regularised, regularity=REGULARISED | RETURN_ALONE), regularised


def softmax_problem(
    families: tuple[Family[Data, Array], Family[Data, Array]], mdp: MDP, spread: float, l2: float = 0.0
) -> Problem[Data, Array]:
    """Return the problem of `mdp` with its constants; the first logits are N(0, spread^2).

    Raises:
        InvalidParameter: `spread` or `l2` is negative.
    """
    require(spread >= 0, f"spread = {spread}: a standard deviation is not negative")
    require(l2 >= 0, f"l2 = {l2}: a regulariser is not negative")
    S, A = mdp.r.shape
    a_star = optimal_actions(mdp)
    p_star = jax.nn.one_hot(a_star, A)
    Q = action_values(mdp, p_star)
    lead = jnp.where(p_star > 0, jnp.inf, (Q * p_star).sum(-1, keepdims=True) - Q)
    R_c = (mdp.r.max() - mdp.r.min()) / 2
    growth = 11 / 8 * jnp.sqrt(1 + mdp.gamma) / (1 - mdp.gamma) ** 2.5 + 1 / (6 * 3**0.5 * (1 - mdp.gamma) ** 2)
    constants = Constants(
        L=R_c / (1 - mdp.gamma) ** 2 + l2,
        f_star=UNSTATED if l2 else -exact_return(mdp, p_star),
        rho=2**1.5 * R_c * growth,
        gamma=mdp.gamma,
        states=jnp.asarray(S, float),
        actions=jnp.asarray(A, float),
        R_c=R_c,
        r_mid=(mdp.r.max() + mdp.r.min()) / 2,
        score_sq=jnp.asarray(1 - 1 / A),
        fisher=jnp.asarray(0.5),
        score_slope=jnp.asarray(0.5),
        gap=lead.min(),
        start_min=mdp.mu.min(),
    )
    data = Data(mdp, a_star, occupancy(mdp, p_star), jnp.asarray(spread, float), jnp.asarray(l2, float))
    return Problem(families[bool(l2)], data, constants)


OWN = softmax_families("tabular")


def process_problem(
    P: np.ndarray,
    r: np.ndarray,
    *,
    gamma: float,
    mu: np.ndarray | None = None,
    spread: float = 0.5,
    l2: float = 0.0,
) -> Problem[Data, Array]:
    """Return the problem of a process of your own: P (S, A, S), rewards r (S, A), first states mu (S,), else uniform.

    Raises:
        InvalidParameter: shapes that do not fit, a law that is negative or does not sum to 1 up to 1e-12, gamma outside
            [0, 1), rewards that are not finite.
    """
    P, r = np.asarray(P, float), np.asarray(r, float)
    require(P.ndim == 3 and P.shape == (*r.shape, len(r)), f"P {P.shape} and r {r.shape}: must be (S, A, S) and (S, A)")
    require_process(gamma, *r.shape)
    mu = np.full(len(r), 1 / len(r)) if mu is None else np.asarray(mu, float)
    require(mu.shape == (len(r),), f"mu {mu.shape}: must be ({len(r)},), one probability a state")
    for name, law in (("P", P), ("mu", mu)):
        require(bool((law >= 0).all()), f"{name} has a negative probability")
        off = np.abs(law.sum(-1) - 1).max()
        require(bool(off <= 1e-12), f"{name} has a row that sums to 1 only up to {off:.1e}, not 1e-12")
    require(bool(np.isfinite(r).all()), "r has a reward that is not finite")
    mdp = MDP(*(jnp.asarray(numbers, float) for numbers in (P, r, mu, gamma)))
    return softmax_problem(OWN, mdp, spread, l2)
