"""What a user may write: a method with theorems, some of them false, and a family; each is one file."""

METHOD = '''
"""Gradient descent as a user writes it:  x+ = x - eta grad f(x)."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import SUBOPTIMALITY, initial
from algorithms.theorem import Control, Source, Theorem
from problems.constants import Regularity


@struct.dataclass
class HParams:
    eta: Array | float | str = 0.1


@struct.dataclass
class State:
    x: Any


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    return State(jax.tree.map(lambda x, g: x - hp.eta * g, state.x, problem.grad(state.x)))


def readout(state):
    return state.x


theorem = Theorem(
    name="my_theorem",
    statement="f(x_t) - f* <= FACTOR (f(x_0) - f*)",
    source=Source("A. User", 2026, "Mine", "this file"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED,
    metric=SUBOPTIMALITY,
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=lambda c, hp: (hp.eta > 0) & (hp.eta <= (1 + 1e-12) / c.L),
    bound=lambda t, c, hp, gap: FACTOR * gap,
    control=Control(why="it climbs", problem="quadratic[d=4,kappa=10]", setting="eta=CONTROL_ETA", steps=20),
)

algorithm = Algorithm(
    name="NAME",
    source=Source("A. User", 2026, "Mine", "this file"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    theorems=(theorem,),
)
'''

FAMILY = '''
"""f(x) = (scale/2) |x - c|^2 with a random c."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem


@struct.dataclass
class Data:
    c: Array
    scale: Array


def init(data, key):
    return jnp.zeros_like(data.c)


def value(data, x):
    return 0.5 * data.scale * jnp.sum((x - data.c) ** 2)


BOWL = Family("bowl", Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED, init, value)


def make(key: Array, *, d: int = 3, scale: float = 1.0):
    require(scale > 0, f"scale = {scale}: must be positive")
    scale = jnp.asarray(scale, float)
    data = Data(jax.random.normal(key, (d,)), scale)
    return Problem(BOWL, data, Constants(L=scale, f_star=jnp.zeros(())), data.c)
'''


def method(name: str = "my_method", factor: float = 1.0, control_eta: str = "3/L") -> str:
    """Return the text of a method whose theorem claims f - f* <= factor times its start, with a control."""
    replaced = METHOD.replace("NAME", name).replace("FACTOR", str(factor))
    return replaced.replace("CONTROL_ETA", control_eta)
