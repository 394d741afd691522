"""f(x) = -J(x) on a random MDP: every state and action leads to `branching` random states, pi = softmax(x).

Successors are drawn without replacement, their probabilities are the spacings of branching - 1 uniforms,
rewards are U[0, 1], the start is uniform over the states. Constants and optimum are exact
(`problems.tabular`).
Source: Archibald, McKinnon & Thomas (1995), On the generation of Markov decision processes; Bhatnagar et al.
(2009)."""

import jax
import jax.numpy as jnp
from jax import Array

from problems.problem import Problem, require
from problems.tabular import MDP, Data, softmax_family, softmax_problem

GARNET = softmax_family("garnet")


def make(
    key: Array, *, S: int = 10, A: int = 3, branching: int = 3, gamma: float = 0.9, spread: float = 0.5
) -> Problem[Data, Array]:
    """Return a random MDP of `S` states and `A` actions; runs start at logits N(0, spread^2)."""
    require(S >= 1, f"S = {S}: an MDP has at least one state")
    require(A >= 2, f"A = {A}: a decision needs at least two actions")
    require(1 <= branching <= S, f"branching = {branching}: between 1 and S = {S} successors")
    require(0 <= gamma < 1, f"gamma = {gamma}: a discount factor is in [0, 1)")
    require(spread >= 0, f"spread = {spread}: a standard deviation is not negative")
    successor_key, spacing_key, reward_key = jax.random.split(key, 3)
    order = jnp.argsort(jax.random.uniform(successor_key, (S, A, S)), -1)
    cuts = jnp.sort(jax.random.uniform(spacing_key, (S, A, branching - 1)), -1)
    spacings = jnp.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    P = jnp.einsum("sab,sabt->sat", spacings, jax.nn.one_hot(order[..., :branching], S))
    mdp = MDP(
        P=P,
        r=jax.random.uniform(reward_key, (S, A)),
        mu=jnp.full((S,), 1 / S),
        gamma=jnp.asarray(gamma, float),
    )
    return softmax_problem(GARNET, mdp, spread)
