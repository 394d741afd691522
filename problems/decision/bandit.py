"""f(x) = -sum_a softmax(x)_a r_a: the MDP of one state and no future, whose constants are those of
`problems.tabular`.

Source: Mei, Xiao, Szepesvari & Schuurmans (2020), section 3.1.
"""

import jax
import jax.numpy as jnp
from jax import Array

from problems.constants import require
from problems.oracles import MDP
from problems.problem import Problem
from problems.tabular import Data, softmax_families, softmax_problem

BANDIT = softmax_families("bandit")


def make(key: Array, *, A: int = 5, spread: float = 0.5) -> Problem[Data, Array]:
    """Return a bandit of `A` arms with rewards U[0, 1]; runs start at logits N(0, spread^2)."""
    require(A >= 2, f"A = {A}: a decision needs at least two arms")
    mdp = MDP(
        P=jnp.ones((1, A, 1)),
        r=jax.random.uniform(key, (1, A)),
        mu=jnp.ones((1,)),
        gamma=jnp.zeros(()),
    )
    return softmax_problem(BANDIT, mdp, spread)
