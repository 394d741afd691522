"""Zeroth-order descent:  x+ = x - eta c z,  c = (f(x + e z) - f(x - e z))/(2e),  z standard normal in every coordinate.

The full-space comparison of `lozo`, MeZO (Malladi et al. 2023); E[c z] -> grad f as e -> 0.
Source: Nesterov & Spokoiny (2017), Random gradient-free minimization of convex functions. Bounds derived here, with
d parameters: the sum is (E2) of `algorithms.zeroth_order_estimator`. On f = (L/2) |x - x*|^2, where c is exact,
(E3) makes E f+ = (1 - 2 eta L + (eta L)^2 (d + 2)) f, which is least at eta = 1/(L (d + 2)): 1 - 1/(d + 2).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, VALUE, initial, running_sum
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from algorithms.zeroth_order_estimator import (
    central_difference,
    difference_error,
    mean_factor,
    mean_square_factor,
    refuse_settings,
    while_telling,
)
from problems.constants import Constants, Regularity

SOURCE = Source("Nesterov & Spokoiny", 2017, "Random gradient-free minimization of convex functions", "Section 3")


@struct.dataclass
class HParams:
    """eta: step size; e: half the distance of the two values."""

    eta: Array | float | str = 1e-3
    e: Array | float | str = 1e-5


@struct.dataclass
class State:
    x: Any


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for eta <= 0 or e < 1e-8."""
    refuse_settings(hp)
    return hp


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    z = optax.tree.random_like(key, state.x, jax.random.normal)
    return State(descend_by(state.x, hp.eta * central_difference(problem, state.x, z, hp.e), z))


def readout(state):
    return state.x


def calls(problem, hp):
    return 2 / 3  # two values, where a gradient costs about three


def parameters(c: Constants) -> Array:
    """Return d = m n."""
    return c.rows * c.columns


def stationary_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return (E2) for the t + 1 points seen."""
    b = difference_error(c.L, hp.e, parameters(c))
    return (jnp.sqrt(2 * gap / hp.eta) + 5 * b * jnp.sqrt(t + 1)) ** 2


def isotropic_bound(t: Array, c: Constants, hp: Any, gap: Array) -> Array:
    """Return (1 - 2 eta L + (eta L)^2 (d + 2))^t (f(x_0) - f*), NaN once the mean square of that exceeds 6 times it."""
    h, d = hp.eta * c.L, parameters(c)
    return while_telling(mean_factor(h, d) ** t, mean_square_factor(h, d) ** t) * gap


stationary: AnyTheorem = Theorem(
    name="zeroth_order_stationary",
    statement="sum_(s<=t) E |grad f(x_s)|^2 <= (sqrt(2 (f(x_0) - inf f)/eta) + 5 b sqrt(t+1))^2, "
    "b = (L e/2) sqrt(d (d+2) (d+4))",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/zeroth_order_estimator.py, (E2)"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.MATRIX,
    metric=running_sum(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="eta <= 1/(L (d + 2)), d = m n",
    admits=lambda c, hp: hp.eta * c.L * (parameters(c) + 2) <= 1 + 1e-12,
    bound=stationary_bound,
    holds=Holds.IN_EXPECTATION,
    control=Control(
        why="L understated a hundred times: steps forty times beyond the last stable one diverge",
        problem="matrix_factorization[m=4,n=4,rank=0]",
        setting="eta=1/(L*(rows*columns+2))",
        misstate={"L": 0.01},
        steps=100,
        seeds=10,
    ),
)

isotropic: AnyTheorem = Theorem(
    name="zeroth_order_isotropic",
    statement="E f(x_t) = (1 - 2 eta L + (eta L)^2 (d + 2))^t f(x_0) on f = (L/2) |x - x*|^2",
    source=Source("derived here", 2026, SOURCE.title, "algorithms/zeroth_order_estimator.py, (E3)"),
    assumes=Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX | Regularity.SMOOTH | Regularity.MATRIX,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="mu = L, while E f^2 <= 6 (E f)^2",
    admits=lambda c, hp: c.mu == c.L,
    bound=isotropic_bound,
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    fewest_seeds=1000,
    control=Control(
        why="L overstated one and a half times",
        problem="matrix_factorization[m=4,n=4,rank=0]",
        setting="eta=0.05",
        misstate={"L": 1.5, "mu": 1.5},
        steps=30,
        seeds=1000,
    ),
)

algorithm = Algorithm(
    name="zeroth_order",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    calls=calls,
    prepare=prepare,
    metrics=(VALUE,),
    theorems=(stationary, isotropic),
)
