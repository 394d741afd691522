"""f(x) = -J(x) on an n x n grid with an absorbing goal: reward 1 on entering it, nothing else.

Four actions move up, right, down and left; with probability `slip` the move is one of the four at random; walls keep
their place. r(s, a) is the expected reward of an entry. In the goal all actions are alike, so the optimal policy is
not unique there (gap = 0). Constants and optimum are exact (`problems.tabular`).
Source: Sutton & Barto (2018), Reinforcement Learning, section 4.1.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.constants import require
from problems.decision_process import require_process
from problems.oracles import MDP
from problems.problem import Problem
from problems.tabular import Data, softmax_families, softmax_problem

GRIDWORLD = softmax_families("gridworld")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def make(
    key: Array,
    *,
    n: int = 4,
    goal: int = -1,
    slip: float = 0.1,
    gamma: float = 0.9,
    uniform: bool = True,
    spread: float = 0.5,
    l2: float = 0.0,
) -> Problem[Data, Array]:
    """Return the grid with the goal at cell `goal` (row by row; -1 the last); states start uniformly or in cell 0."""
    S = n * n
    require(n >= 2, f"n = {n}: a grid has at least two rows")
    require_process(gamma, S, len(MOVES))
    require(-S <= goal < S, f"goal = {goal}: a cell from {-S} to {S - 1}")
    require(0 <= slip <= 1, f"slip = {slip}: a probability is in [0, 1]")
    row, column = jnp.divmod(jnp.arange(S), n)
    moved = [jnp.clip(row + i, 0, n - 1) * n + jnp.clip(column + j, 0, n - 1) for i, j in MOVES]
    intended = jax.nn.one_hot(jnp.stack(moved, 1), S)
    P = (1 - slip) * intended + slip * intended.mean(1, keepdims=True)
    P = P.at[goal].set(jax.nn.one_hot(goal % S, S))
    r = P[:, :, goal].at[goal].set(0.0)
    mu = jnp.full((S,), 1 / S) if uniform else jnp.eye(S)[0]
    return softmax_problem(GRIDWORLD, MDP(P=P, r=r, mu=mu, gamma=jnp.asarray(gamma, float)), spread, l2)
