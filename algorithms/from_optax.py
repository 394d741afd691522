"""Every optax optimiser is an algorithm:  x+ = x + optimiser(hp).update(grad f(x))."""

from collections.abc import Callable
from typing import Any

import optax
from flax import struct

from algorithms.algorithm import Algorithm
from algorithms.theorem import Source, Theorem


@struct.dataclass
class OptaxState:
    """The point and the optimiser's own state."""

    x: Any
    opt: Any


def from_optax(
    name: str,
    make: Callable[[Any], optax.GradientTransformation],
    hparams: type,
    source: Source,
    theorems: tuple[Theorem, ...] = (),
) -> Algorithm:
    """Return the algorithm whose step applies the optax optimiser `make(hp)` to the full gradient.

    The transformation is rebuilt from `hp` inside the traced step, so a grid of learning rates is one compile.
    Value, gradient and value function are passed as extras, for optimisers that search along the line.
    """

    def init(problem, x0, key, hp):
        return OptaxState(x0, make(hp).init(x0))

    def step(problem, state, key, hp):
        optimiser = optax.with_extra_args_support(make(hp))
        value, grad = problem.value(state.x), problem.grad(state.x)
        updates, opt = optimiser.update(grad, state.opt, state.x, value=value, grad=grad, value_fn=problem.value)
        return OptaxState(optax.apply_updates(state.x, updates), opt)

    return Algorithm(
        name=name,
        source=source,
        hparams=hparams,
        init=init,
        step=step,
        readout=lambda state: state.x,
        theorems=theorems,
    )
