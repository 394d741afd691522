"""Finite Markov decision processes under a policy table p (S, A): returns, values, occupancies, trajectories.

With P_pi = sum_a p(a|s) P(s, a, .) and r_pi likewise: the values V = (I - gamma P_pi)^-1 r_pi, Q = r + gamma P V, the
occupancy d = (I - gamma P_pi^T)^-1 mu (it sums to 1/(1-gamma)), the return J = mu^T V, the return of H steps J_H =
sum_(t<H) gamma^t mu^T P_pi^t r_pi by doubling, the stationary law rho^T P_pi = rho^T, the average reward rho^T r_pi.
Source: Puterman (1994), Markov Decision Processes; Sutton, McAllester, Singh & Mansour (2000).
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array, lax

from problems.constants import require
from problems.oracles import MDP, Rollout

HORIZON_BITS = 12  # horizons up to 4095
SWEEPS = 50  # of policy iteration, which is stable after about ten on instances of a hundred states


def chain(mdp: MDP, p: Array) -> Array:
    """Return P_pi (S, S)."""
    return jnp.einsum("sa,sat->st", p, mdp.P)


def transitions(mdp: MDP, p: Array) -> Array:
    """Return gamma P_pi, the discounted chain of the policy table p."""
    return mdp.gamma * chain(mdp, p)


def state_values(mdp: MDP, p: Array) -> Array:
    """Return V of the policy table p."""
    return jnp.linalg.solve(jnp.eye(mdp.mu.size) - transitions(mdp, p), (p * mdp.r).sum(-1))


def action_values(mdp: MDP, p: Array) -> Array:
    """Return Q of the policy table p."""
    return mdp.r + mdp.gamma * mdp.P @ state_values(mdp, p)


def advantages(mdp: MDP, p: Array) -> Array:
    """Return Q - V (S, A), with V = sum_a p Q: no cancellation beyond that of the differences."""
    Q = action_values(mdp, p)
    return Q - (p * Q).sum(-1, keepdims=True)


def occupancy(mdp: MDP, p: Array) -> Array:
    """Return d, the discounted number of visits to each state, which sums to 1/(1 - gamma)."""
    return jnp.linalg.solve(jnp.eye(mdp.mu.size) - transitions(mdp, p).T, mdp.mu)


def exact_return(mdp: MDP, p: Array) -> Array:
    """Return J. Its derivative in p(s, a) is d(s) Q(s, a): autodiff reuses the factors of the one solve."""
    return mdp.mu @ state_values(mdp, p)


def truncated_sum(M: Array, v: Array, horizon: Array) -> Array:
    """Return sum_(t<H) M^t v for H <= 4095, bit by bit of H: v_(2^i + h) = v_(2^i) + M^(2^i) v_h."""

    def double(bit: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        M, v, total = carry
        total = jnp.where((horizon >> bit) & 1, v + M @ total, total)
        return M @ M, v + M @ v, total

    return lax.fori_loop(0, HORIZON_BITS, double, (M, v, jnp.zeros_like(v)))[2]


def truncated_return(mdp: MDP, p: Array, horizon: Array) -> Array:
    """Return J_H for H <= 4095."""
    return mdp.mu @ truncated_sum(transitions(mdp, p), (p * mdp.r).sum(-1), horizon)


def truncated_occupancy(mdp: MDP, p: Array, horizon: Array) -> Array:
    """Return d_H, the discounted number of visits to each state within H <= 4095 steps."""
    return truncated_sum(transitions(mdp, p).T, mdp.mu, horizon)


def expected_return(mdp: MDP, p: Array) -> Array:
    """Return J, or J_H where the MDP has a horizon."""
    return exact_return(mdp, p) if mdp.horizon is None else truncated_return(mdp, p, mdp.horizon)


def cut(mdp: MDP, horizon: Array) -> MDP:
    """Return the MDP that ends after `horizon` steps."""
    return replace(mdp, horizon=jnp.asarray(horizon).astype(jnp.int32))


def stationary(P: Array) -> Array:
    """Return the stationary law of the chain P (S, S), not finite where it is not unique."""
    S = len(P)
    return jnp.linalg.solve((jnp.eye(S) - P + 1).T, jnp.ones(S))  # rho^T (I - P + 1 1^T) = 1^T


def power(P: Array, steps: Array) -> Array:
    """Return P^steps, bit by bit of a whole number up to 4095."""

    def square(bit: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        P, result = carry
        return P @ P, jnp.where((steps >> bit) & 1, result @ P, result)

    return lax.fori_loop(0, HORIZON_BITS, square, (P, jnp.eye(len(P))))[1]


def contraction_coefficient(P: Array) -> Array:
    """Return Dobrushin's coefficient, half the largest L1 distance between two rows: span(P V) <= it times span(V)."""
    return jnp.abs(P[:, None] - P[None]).sum(-1).max() / 2


def average_reward(mdp: MDP, p: Array) -> Array:
    """Return rho^T r_pi, the reward a step in the long run."""
    return stationary(chain(mdp, p)) @ (p * mdp.r).sum(-1)


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


def random_process(key: Array, S: int, A: int, branching: int, gamma: Array) -> MDP:
    """Return a Garnet: `branching` successors drawn without replacement, probabilities the spacings of uniforms."""
    successor_key, spacing_key, reward_key = jax.random.split(key, 3)
    order = jnp.argsort(jax.random.uniform(successor_key, (S, A, S)), -1)
    cuts = jnp.sort(jax.random.uniform(spacing_key, (S, A, branching - 1)), -1)
    spacings = jnp.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    P = jnp.einsum("sab,sabt->sat", spacings, jax.nn.one_hot(order[..., :branching], S))
    return MDP(P=P, r=jax.random.uniform(reward_key, (S, A)), mu=jnp.full((S,), 1 / S), gamma=gamma)


def require_process(gamma: float, S: int, A: int) -> None:
    """Raise `InvalidParameter` unless 0 <= gamma < 1, S >= 1 and A >= 2."""
    require(0 <= gamma < 1, f"gamma = {gamma}: a discount factor is in [0, 1)")
    require(S >= 1, f"S = {S}: an MDP has at least one state")
    require(A >= 2, f"A = {A}: a decision needs at least two actions")
