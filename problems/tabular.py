"""Finite Markov decision processes under a softmax policy:  f(x) = -J(x),  J = mu^T (I - gamma P_pi)^-1 r_pi.

x holds one logit per state and action, pi = softmax(x). With the values V = (I - gamma P_pi)^-1 r_pi, Q = r +
gamma P V and the occupancy d = (I - gamma P_pi^T)^-1 mu, the gradient of J in the logits is d(s) pi(a|s)
(Q(s,a) - V(s)): two solves. The return of H steps is J_H = sum_(t<H) gamma^t mu^T P_pi^t r_pi, by
doubling.

Constants. Scores S_t = sum_(k<=t) score_k have martingale-difference summands, so E(u.S_t)^2 <= (t+1) lamF,
and Hess J = E sum_t gamma^t (r_t - r_mid) [S_t S_t^T + sum_(k<=t) Hess log pi_k] with |Hess log pi| <= 1/2 =
lamF gives L = R_c (1/2 + 1/2) sum_t gamma^t (t+1) = R_c/(1-gamma)^2. All rewards and the optimum are those of
the very instance.
Sources: Sutton, McAllester, Singh & Mansour (2000), Theorem 1; Baxter & Bartlett (2001); L derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from problems.problem import Constants, Family, Policy, Problem, Regularity, Rollout

HORIZON_BITS = 12  # horizons up to 4095
SWEEPS = 50  # of policy iteration, which is stable after about ten on instances of a hundred states


@struct.dataclass
class MDP:
    """P is (S, A, S), r (S, A), mu (S,); `horizon` is absent for the untruncated return."""

    P: Array
    r: Array
    mu: Array
    gamma: Array
    horizon: Array | None = None


@struct.dataclass
class Data:
    """a_star and d_star (S,) are of an optimal policy; first logits are N(0, spread^2)."""

    mdp: MDP
    a_star: Array
    d_star: Array
    spread: Array


def transitions(mdp: MDP, p: Array) -> Array:
    """Return gamma P_pi, the discounted chain of the policy table p."""
    return mdp.gamma * jnp.einsum("sa,sat->st", p, mdp.P)


def state_values(mdp: MDP, p: Array) -> Array:
    """Return V of the policy table p."""
    return jnp.linalg.solve(jnp.eye(mdp.mu.size) - transitions(mdp, p), (p * mdp.r).sum(-1))


def action_values(mdp: MDP, p: Array) -> Array:
    """Return Q of the policy table p."""
    return mdp.r + mdp.gamma * mdp.P @ state_values(mdp, p)


def occupancy(mdp: MDP, p: Array) -> Array:
    """Return d, the discounted number of visits to each state, which sums to 1/(1 - gamma)."""
    return jnp.linalg.solve(jnp.eye(mdp.mu.size) - transitions(mdp, p).T, mdp.mu)


def exact_return(mdp: MDP, p: Array) -> Array:
    """Return J. Its derivative in p(s, a) is d(s) Q(s, a): autodiff reuses the factors of the one solve."""
    return mdp.mu @ state_values(mdp, p)


def truncated_return(mdp: MDP, p: Array, horizon: Array) -> Array:
    """Return J_H for H <= 4095, bit by bit of H: V_(2^i + h) = V_(2^i) + (gamma P_pi)^(2^i) V_h."""
    M, V = transitions(mdp, p), (p * mdp.r).sum(-1)
    V_H = jnp.zeros_like(V)
    for bit in range(HORIZON_BITS):
        V_H = jnp.where((horizon >> bit) & 1, V + M @ V_H, V_H)
        V, M = V + M @ V, M @ M
    return mdp.mu @ V_H


def expected_return(mdp: MDP, p: Array) -> Array:
    """Return J, or J_H where the MDP has a horizon."""
    return exact_return(mdp, p) if mdp.horizon is None else truncated_return(mdp, p, mdp.horizon)


def cut(mdp: MDP, horizon: Array) -> MDP:
    """Return the MDP that ends after `horizon` steps."""
    return replace(mdp, horizon=jnp.asarray(horizon).astype(jnp.int32))


def optimal_actions(mdp: MDP) -> Array:
    """Return the actions of an optimal policy, by policy iteration."""

    def improve(_: int, actions: Array) -> Array:
        Q = action_values(mdp, jax.nn.one_hot(actions, mdp.r.shape[1]))
        return jnp.argmax(Q, -1)

    return lax.fori_loop(0, SWEEPS, improve, jnp.argmax(mdp.r, -1))


def draw(cumulative: Array, u: Array) -> Array:
    """Return the index drawn by the uniform u from the law with these cumulative probabilities."""
    return (u >= cumulative[:-1]).sum(dtype=jnp.int32)


def trajectory(mdp: MDP, p: Array, key: Array, length: int) -> Rollout:
    """Return `length` steps under the policy table p, from one block of uniforms."""
    act, move = jnp.cumsum(p, -1), jnp.cumsum(mdp.P, -1)
    first, uniforms = jnp.split(jax.random.uniform(key, (2 * length + 1,)), [1])

    def advance(s: Array, u: Array) -> tuple[Array, tuple[Array, Array]]:
        a = draw(act[s], u[0])
        return draw(move[s, a], u[1]), (s, a)

    start = draw(jnp.cumsum(mdp.mu), first[0])
    _, (states, actions) = lax.scan(advance, start, uniforms.reshape(length, 2))
    return Rollout(states, actions, mdp.r[states, actions])


def init(data: Data, key: Array) -> Array:
    return data.spread * jax.random.normal(key, data.mdp.r.shape)


def value(data: Data, x: Array) -> Array:
    return -expected_return(data.mdp, jax.nn.softmax(x))


def truncate(data: Data, horizon: Array) -> Data:
    return replace(data, mdp=cut(data.mdp, horizon))


def rollout(data: Data, x: Array, key: Array, length: int) -> Rollout:
    return trajectory(data.mdp, jax.nn.softmax(x), key, length)


def log_prob(data: Data, x: Array, states: Array, actions: Array) -> Array:
    return jax.nn.log_softmax(x)[states, actions]


def mismatch(data: Data, x: Array) -> Array:
    """Return C = min_s pi(a*(s)|s)/(sqrt(S) max_s d*(s)/d(s)): |grad J| >= C (J* - J), Mei et al. (2020)."""
    p = jax.nn.softmax(x)
    confidence = jnp.take_along_axis(p, data.a_star[:, None], -1).min()
    return confidence / (data.mdp.mu.size**0.5 * jnp.max(data.d_star / occupancy(data.mdp, p)))


def softmax_family(name: str) -> Family[Data, Array]:
    """Return a family of softmax policies on finite MDPs; families differ in how `make` draws the MDP."""
    return Family(
        name=name,
        regularity=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY | Regularity.TABULAR_MDP,
        init=init,
        value=value,
        policy=Policy(truncate=truncate, rollout=rollout, log_prob=log_prob, mismatch=mismatch),
    )


def softmax_problem(family: Family[Data, Array], mdp: MDP, spread: float) -> Problem[Data, Array]:
    """Return the problem of `mdp` with its constants; the first logits are N(0, spread^2)."""
    S, A = mdp.r.shape
    a_star = optimal_actions(mdp)
    p_star = jax.nn.one_hot(a_star, A)
    Q = action_values(mdp, p_star)
    lead = jnp.where(p_star > 0, jnp.inf, (Q * p_star).sum(-1, keepdims=True) - Q)
    R_c = (mdp.r.max() - mdp.r.min()) / 2
    constants = Constants(
        L=R_c / (1 - mdp.gamma) ** 2,
        f_star=-exact_return(mdp, p_star),
        gamma=mdp.gamma,
        states=jnp.asarray(S, float),
        actions=jnp.asarray(A, float),
        R_c=R_c,
        r_mid=(mdp.r.max() + mdp.r.min()) / 2,
        score_sq=jnp.asarray(1 - 1 / A),
        fisher=jnp.asarray(0.5),
        gap=lead.min(),
    )
    data = Data(mdp, a_star, occupancy(mdp, p_star), jnp.asarray(spread, float))
    return Problem(family, data, constants)
