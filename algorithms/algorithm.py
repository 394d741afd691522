"""The word for a method: `init` makes a state, `step` advances it, `readout` says which point it stands for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from jax import Array

from algorithms.metric import Metric
from algorithms.theorem import Source, Theorem
from problems.constants import Regularity
from problems.oracles import Key, Oracle
from problems.problem import Problem

S = TypeVar("S")
H = TypeVar("H")


class InvalidSetting(ValueError):  # noqa: N818
    """A hyper-parameter has no meaning for the method, whatever the problem (horizon 0, K > T)."""


def refuse_unless(holds: Any, message: str) -> None:
    """Raise `InvalidSetting(message)` unless the condition holds for every setting."""
    if not np.all(holds):
        raise InvalidSetting(message)


def refuse_unless_positive(value: Any, name: str = "eta") -> None:
    """Raise `InvalidSetting` unless every value of a step size, a radius, ... is positive and finite."""
    known = np.asarray(value, float)
    refuse_unless((known > 0) & np.isfinite(known), f"{name} = {value}: must be positive and finite")


def refuse_step_count(steps: Any, name: str, what: str) -> None:
    """Raise `InvalidSetting` unless every number of steps is whole and not negative."""
    known = np.asarray(steps, float)
    refuse_unless((known >= 0) & (np.floor(known) == known), f"{name} = {steps}: {what} steps: a whole number >= 0")


def one_gradient(problem: Problem, hp: Any) -> float:
    """Return 1: a step asks for one gradient of the whole objective."""
    return 1.0


def unchanged(hp: H) -> H:
    """Accept every setting as it is."""
    return hp


@dataclass(frozen=True)
class Algorithm(Generic[S, H]):
    """A method as pure functions of explicit data.

    `init(problem, x0, key, hp)` makes the state, `step(problem, state, key, hp)` advances it, `readout(state)` is the
    point it stands for (last iterate, average, published model). `hparams` is a record of scalars with defaults: its
    leaves are traced and swept in one compile, its static fields change shapes. A default may be an expression in the
    problem's constants such as `"1/L"`. `prepare(hp)` runs on the host before tracing: it refuses impossible settings
    (`InvalidSetting`) and fills what follows from the others (a noise level from epsilon and delta).
    `calls(problem, hp)` counts full-gradient equivalents a step, `metrics` are recorded beside those of the theorems.
    """

    name: str
    source: Source
    hparams: type[H]
    init: Callable[[Problem, Any, Key, H], S]
    step: Callable[[Problem, S, Key, H], S]
    readout: Callable[[S], Any]
    needs: Oracle = Oracle.GRADIENT
    requires: Regularity = Regularity.NONE
    calls: Callable[[Problem, H], Array | float] = one_gradient
    prepare: Callable[[H], H] = unchanged
    metrics: tuple[Metric, ...] = ()
    theorems: tuple[Theorem[H], ...] = field(default=())
