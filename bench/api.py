"""The Python interface: `sweep(problem, algorithm, seeds=1000, steps=10_000).frame()`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import pandas as pd

from algorithms.algorithm import Algorithm
from bench.choice import ProblemChoice, Settings, choose_algorithm, choose_problems, settings_of
from bench.errors import UserError
from bench.grid import applicable, check_numbers, log_spaced, tasks_of, unfit
from bench.runner import run
from bench.selector import Selector
from bench.task import Machine
from problems.problem import Problem
from results.schema import Group


@dataclass(frozen=True)
class Sweep:
    """A finished sweep in memory."""

    groups: list[Group]
    compiles: int

    def frame(self) -> pd.DataFrame:
        """Return one row a lane x checkpoint x metric, joined with the lane's seed, setting and hyper-parameters."""
        from results.store import frame, merge

        return frame(merge(self.groups))

    def certificates(self) -> pd.DataFrame:
        """Return one row a setting of the unlearning methods: certified against what, or why not (`certificate`)."""
        from results.certificates import certificates

        return certificates(self.groups)

    def verdicts(self) -> pd.DataFrame:
        """Return the verdict table of the theorems that speak of this sweep."""
        from results.verdicts import verdicts

        return verdicts(self.groups)


def problem_choices(
    problem: str | Problem | Callable[[jax.Array], Problem], instances: int | str
) -> list[ProblemChoice]:
    """Return the choices that a selector, a problem or a function `make(key)` stands for."""
    if isinstance(problem, str):
        return list(choose_problems(problem))
    make = (lambda key: problem) if isinstance(problem, Problem) else problem
    return [ProblemChoice(jax.eval_shape(make, jax.random.key(0)).family.name, make, instances)]


def settings_choices(algorithm: str | Algorithm, grid: dict[str, Any]) -> list[Settings]:
    """Return the settings of a selector, or of an algorithm with a grid `{name: value or list of values}`."""
    if isinstance(algorithm, str):
        if grid:
            raise UserError("write the grid into the selector, or give the algorithm as a record")
        return choose_algorithm(algorithm)
    listed = {name: tuple(v) if isinstance(v, list | tuple) else (v,) for name, v in grid.items()}
    return settings_of(algorithm, Selector(algorithm.name, listed))


def sweep(
    problem: str | Problem | Callable[[jax.Array], Problem],
    algorithm: str | Algorithm,
    seeds: int = 16,
    steps: int = 1000,
    checkpoints: int = 40,
    grid: dict[str, Any] | None = None,
    instances: int | str = 1,
    seed: int = 0,
    x32: bool = False,
) -> Sweep:
    """Run every setting of `algorithm` from `seeds` seeds on `problem` and return what was measured, in memory.

    `problem` is a selector as on the command line, a `Problem`, or a function of a key that makes one; `algorithm` a
    selector or an `Algorithm` with a `grid` of hyper-parameters. Precision is float64 unless `x32`.

    Raises:
        UserError: an unknown name, a setting the method refuses, a pair that does not fit, a number out of range.
    """
    check_numbers(seeds, steps, seed)
    with jax.enable_x64(not x32), jax.default_matmul_precision("highest"):
        tasks = []
        for choice in problem_choices(problem, instances):
            for method in settings_choices(algorithm, grid or {}):
                if reason := unfit(choice, method.algorithm):
                    raise UserError(f"{choice.label}: {reason}")
                theorems = applicable(method.algorithm.theorems, choice, seeds)
                dtype = "float32" if x32 else "float64"
                tasks += tasks_of(choice, method, theorems, seeds, log_spaced(steps, checkpoints), seed, dtype)
        machine = Machine()
        _, groups = run(tuple(tasks), machine, seed, None, suite="python")
        return Sweep(groups, len(machine.compiler.compiled))
