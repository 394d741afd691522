"""f(x) = -J(x) on the river swim: a chain of S states, a small reward at its left end, a large one at its right.

Action 0 swims left and never fails, action 1 swims right and is carried left with probability `slip`; the ends keep
their place. Rewards: `r_left` for swimming left at the left end, `r_right` for swimming right at the right end. Runs
start in a uniform state, or at the left end. Constants and optimum are exact (`problems.tabular`).
Source: Strehl & Littman (2008), An analysis of model-based interval estimation, RiverSwim.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.constants import require
from problems.decision_process import require_process
from problems.oracles import MDP
from problems.problem import Problem
from problems.tabular import Data, softmax_families, softmax_problem

CHAIN = softmax_families("chain")


def make(
    key: Array,
    *,
    S: int = 6,
    slip: float = 0.3,
    r_left: float = 0.05,
    r_right: float = 1.0,
    gamma: float = 0.9,
    uniform: bool = True,
    spread: float = 0.5,
    l2: float = 0.0,
) -> Problem[Data, Array]:
    """Return the river of `S` states; logits start at N(0, spread^2), states uniformly or at the left end."""
    require_process(gamma, S, 2)
    require(S >= 2, f"S = {S}: a chain has two ends")
    require(0 <= slip <= 1, f"slip = {slip}: a probability is in [0, 1]")
    state = jnp.arange(S)
    left, right = (jax.nn.one_hot(jnp.clip(state + move, 0, S - 1), S) for move in (-1, 1))
    mdp = MDP(
        P=jnp.stack([left, (1 - slip) * right + slip * left], 1),
        r=jnp.zeros((S, 2)).at[0, 0].set(r_left).at[-1, 1].set(r_right),
        mu=jnp.full((S,), 1 / S) if uniform else jnp.eye(S)[0],
        gamma=jnp.asarray(gamma, float),
    )
    return softmax_problem(CHAIN, mdp, spread, l2)
