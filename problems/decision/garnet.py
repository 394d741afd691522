"""f(x) = -J(x) on a random MDP: every state and action leads to `branching` random states, pi = softmax(x).

Successors are drawn without replacement, their probabilities are the spacings of branching - 1 uniforms,
rewards are U[0, 1], the start is uniform over the states. Constants and optimum are exact
(`problems.tabular`).
Source: Archibald, McKinnon & Thomas (1995), On the generation of Markov decision processes; Bhatnagar et al.
(2009)."""

import jax.numpy as jnp
from jax import Array

from problems.constants import require
from problems.decision_process import random_process, require_process
from problems.problem import Problem
from problems.tabular import Data, softmax_families, softmax_problem

GARNET = softmax_families("garnet")


def make(
    key: Array,
    *,
    S: int = 10,
    A: int = 3,
    branching: int = 3,
    gamma: float = 0.9,
    spread: float = 0.5,
    l2: float = 0.0,
) -> Problem[Data, Array]:
    """Return a random MDP of `S` states and `A` actions; runs start at logits N(0, spread^2)."""
    require_process(gamma, S, A)
    require(1 <= branching <= S, f"branching = {branching}: between 1 and S = {S} successors")
    return softmax_problem(GARNET, random_process(key, S, A, branching, jnp.asarray(gamma, float)), spread, l2)
