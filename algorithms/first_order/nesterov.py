"""Accelerated gradient:  x+ = y - eta grad f(y),  y+ = x+ + beta (x+ - x).

With q = mu eta, alpha+ the positive root of alpha+^2 = (1 - alpha+) alpha^2 + q alpha+, and
  beta = alpha (1 - alpha) / (alpha^2 + alpha+);   y_0 = x_0,  alpha_0 = 1 if q = 0, else sqrt q.
For q = 0 and theta = 1/alpha this is FISTA's theta+^2 - theta+ = theta^2, beta = (theta - 1)/theta+; for q >
0 alpha stays sqrt q and beta = (1 - sqrt q)/(1 + sqrt q). An L-smooth f is 1/eta-smooth for eta <= 1/L and a
strongly convex one hp.mu-strongly convex for hp.mu <= mu, so that theorems proven for eta = 1/L and mu hold
for the eta and mu it is told.
Sources: Nesterov (2018), scheme (2.2.20); Beck & Teboulle (2009), Theorem 4.4.
"""

from typing import Any

import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import DISTANCE_SQ, SUBOPTIMALITY, initial
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Source, Theorem
from problems.constants import Regularity


@struct.dataclass
class HParams:
    """eta: step size; mu: the strong convexity it is told, 0 for merely convex objectives."""

    eta: Array | float | str = "1/L"
    mu: Array | float | str = 0.0


@struct.dataclass
class State:
    """x is the iterate, y the extrapolated point, alpha the momentum's parameter."""

    x: Any
    y: Any
    alpha: Array


def init(problem, x0, key, hp):
    q = hp.mu * hp.eta
    return State(x0, x0, jnp.where(q > 0, jnp.sqrt(q), 1.0))


def step(problem, state, key, hp):
    x = descend_by(state.y, hp.eta, problem.grad(state.y))
    half = 0.5 * (state.alpha**2 - hp.mu * hp.eta)
    alpha = jnp.sqrt(half**2 + state.alpha**2) - half
    beta = state.alpha * (1 - state.alpha) / (state.alpha**2 + alpha)
    y = optax.tree.add_scale(x, beta, optax.tree.sub(x, state.x))
    return State(x, y, alpha)


def readout(state):
    return state.x


convex: AnyTheorem = Theorem(
    name="nesterov_convex",
    statement="f(x_t) - f* <= 2 |x_0 - x*|^2 / (eta (t + 1)^2)",
    source=Source(
        "Beck & Teboulle",
        2009,
        "A fast iterative shrinkage-thresholding algorithm for linear inverse problems",
        "Theorem 4.4",
    ),
    assumes=Regularity.SMOOTH | Regularity.CONVEX | Regularity.LOWER_BOUNDED,
    metric=SUBOPTIMALITY,
    given=(initial(DISTANCE_SQ),),
    condition="0 < eta <= 1/L, mu = 0",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L) & (hp.mu == 0),
    bound=lambda t, c, hp, distance_sq: 2 * distance_sq / (hp.eta * (t + 1) ** 2),
    control=Control(
        why="with momentum a step beyond (4/3)/L already diverges",
        problem="quadratic[d=20,kappa=100]",
        setting="eta=1.5/L",
    ),
)

strongly_convex: AnyTheorem = Theorem(
    name="nesterov_strongly_convex",
    statement="f(x_t) - f* <= (1 - sqrt(mu eta))^t (f(x_0) - f* + (mu/2) |x_0 - x*|^2)",
    source=Source("Nesterov", 2018, "Lectures on Convex Optimization", "Theorem 2.2.3 with gamma_0 = mu"),
    assumes=Regularity.SMOOTH | Regularity.STRONGLY_CONVEX | Regularity.LOWER_BOUNDED,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY), initial(DISTANCE_SQ)),
    condition="0 < eta <= 1/L, 0 < hp.mu <= mu",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L) & (hp.mu > 0) & (hp.mu <= (1 + 1e-12) * c.mu),
    bound=lambda t, c, hp, gap, distance_sq: (1 - jnp.sqrt(hp.mu * hp.eta)) ** t * (gap + 0.5 * hp.mu * distance_sq),
    control=Control(
        why="mu overstated twenty times promises a rate the flattest direction cannot have",
        problem="quadratic[d=20,kappa=100]",
        setting="eta=1/L,mu=mu",
        misstate={"mu": 20.0},
    ),
)

algorithm = Algorithm(
    name="nesterov",
    source=Source(
        "Nesterov", 1983, "A method for solving the convex programming problem with rate O(1/k^2)", "Doklady 269"
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    theorems=(convex, strongly_convex),
)
