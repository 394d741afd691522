"""Gradient descent with a constant step size:  x+ = x - eta grad f(x).

Sources: Nesterov (2018), Theorem 2.1.15; Drori & Teboulle (2014), Theorem 3.1; Karimi, Nutini & Schmidt (2016),
Theorem 1.
"""

from typing import Any

from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import DISTANCE_SQ, GRADIENT_NORM_SQ, SUBOPTIMALITY, best, initial
from algorithms.recursions import contraction, descend_by
from algorithms.theorem import AnyTheorem, Control, Source, Theorem
from problems.constants import Regularity


@struct.dataclass
class HParams:
    """eta: step size."""

    eta: Array | float | str = "1/L"


@struct.dataclass
class State:
    x: Any


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    return State(descend_by(state.x, hp.eta, problem.grad(state.x)))


def readout(state):
    return state.x


strongly_convex: AnyTheorem = Theorem(
    name="gradient_descent_strongly_convex",
    statement="|x_t - x*|^2 <= max(|1 - eta mu|, |1 - eta L|)^(2t) |x_0 - x*|^2",
    source=Source("Nesterov", 2018, "Lectures on Convex Optimization", "Theorem 2.1.15 with the sharp factor"),
    assumes=Regularity.SMOOTH | Regularity.STRONGLY_CONVEX,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ),),
    condition="0 < eta < 2/L",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta < 2 / c.L),
    bound=lambda t, c, hp, distance_sq: contraction(hp.eta, c.mu, c.L) ** (2 * t) * distance_sq,
    control=Control(
        why="mu overstated twenty times promises a rate the flattest direction cannot have",
        problem="quadratic[d=20,kappa=100]",
        setting="eta=1/L",
        misstate={"mu": 20.0},
    ),
)

convex: AnyTheorem = Theorem(
    name="gradient_descent_convex",
    statement="f(x_t) - f* <= |x_0 - x*|^2 / (4 eta t + 2/L)",
    source=Source(
        "Drori & Teboulle",
        2014,
        "Performance of first-order methods for smooth convex minimization: a novel approach",
        "Theorem 3.1",
    ),
    assumes=Regularity.SMOOTH | Regularity.CONVEX | Regularity.LOWER_BOUNDED,
    metric=SUBOPTIMALITY,
    given=(initial(DISTANCE_SQ),),
    condition="0 < eta <= 1/L",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L),
    bound=lambda t, c, hp, distance_sq: distance_sq / (4 * hp.eta * t + 2 / c.L),
    control=Control(
        why="a step beyond 2/L diverges",
        problem="logistic_regression[n=200,d=10]",
        setting="eta=8/L",
    ),
)

polyak_lojasiewicz: AnyTheorem = Theorem(
    name="gradient_descent_pl",
    statement="f(x_t) - f* <= (1 - eta mu)^t (f(x_0) - f*)",
    source=Source(
        "Karimi, Nutini & Schmidt",
        2016,
        "Linear convergence of gradient and proximal-gradient methods under the Polyak-Lojasiewicz condition",
        "Theorem 1",
    ),
    assumes=Regularity.SMOOTH | Regularity.PL | Regularity.LOWER_BOUNDED,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L),
    bound=lambda t, c, hp, gap: (1 - hp.eta * c.mu_pl) ** t * gap,
    control=Control(
        why="an overstated PL constant promises a rate the flattest direction cannot have",
        problem="rank_deficient_least_squares",
        setting="eta=1/L",
        misstate={"mu_pl": 20.0},
    ),
)

nonconvex: AnyTheorem = Theorem(
    name="gradient_descent_nonconvex",
    statement="min_(k<=t) |grad f(x_k)|^2 <= 2 (f(x_0) - f*) / (eta t)",
    source=Source("Nesterov", 2018, "Lectures on Convex Optimization", "inequality (1.2.22)"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED,
    metric=best(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L),
    bound=lambda t, c, hp, gap: 2 * gap / (hp.eta * t),
    control=Control(
        why="a step beyond 2/L jumps over the minimiser for ever",
        problem="huber",
        setting="eta=8/L",
    ),
)

algorithm = Algorithm(
    name="gradient_descent",
    source=Source("Cauchy", 1847, "Methode generale pour la resolution des systemes d'equations", "C. R. Acad. Sci."),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    theorems=(strongly_convex, convex, polyak_lojasiewicz, nonconvex),
)
