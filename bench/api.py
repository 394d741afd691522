"""The Python interface: `sweep(problem, algorithm, seeds=1000, steps=10_000).frame()`, `solve(problem, algorithm)`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import pandas as pd

from algorithms.algorithm import Algorithm, InvalidSetting
from algorithms.theorem import Theorem
from bench import data
from bench.choice import ProblemChoice, Settings, choose_algorithm, choose_problems, settings_of
from bench.errors import UserError, unknown
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


def asked_for(algorithm: Algorithm, names: Collection[str]) -> tuple[Theorem, ...]:
    """Return the theorems of these names, all of the method's where none is named.

    Raises:
        UserError: a name is none of them.
    """
    known = {theorem.name: theorem for theorem in algorithm.theorems}
    for name in names:
        if name not in known:
            raise unknown(f"theorem of {algorithm.name}", name, known)
    return tuple(known[name] for name in names) if names else algorithm.theorems


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
    theorems: Collection[str] = (),
) -> Sweep:
    """Run every setting of `algorithm` from `seeds` seeds on `problem` and return what was measured, in memory.

    `problem` is a selector as on the command line, a `Problem`, or a function of a key that makes one; `algorithm` a
    selector or an `Algorithm` with a `grid` of hyper-parameters. Precision is float64 unless `x32`. Of the method's
    theorems those named in `theorems` are judged, or all.

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
                chosen = applicable(asked_for(method.algorithm, theorems), choice, seeds)
                dtype = "float32" if x32 else "float64"
                tasks += tasks_of(choice, method, chosen, seeds, log_spaced(steps, checkpoints), seed, dtype)
        machine = Machine()
        _, groups = run(tuple(tasks), machine, seed, None, suite="python")
        return Sweep(groups, len(machine.compiler.compiled))


def solve(
    problem: str | Problem | Callable[[jax.Array], Problem],
    algorithm: str | Algorithm,
    steps: int = 1000,
    grid: dict[str, Any] | None = None,
    seed: int = 0,
    x32: bool = False,
) -> Any:
    """Return the point that one run of one setting ends at: that of the lane of `seed` in `sweep` of the same.

    Raises:
        UserError: as `sweep`, or a selector that names more than one problem or setting.
    """
    check_numbers(seed + 1, steps, 0)
    with jax.enable_x64(not x32), jax.default_matmul_precision("highest"):
        choices, methods = problem_choices(problem, 1), settings_choices(algorithm, grid or {})
        if len(choices) != 1 or len(methods) != 1 or len(methods[0].points) != 1:
            raise UserError("solve runs one setting on one problem: sweep runs grids")
        (choice,), (method,) = choices, methods
        if reason := unfit(choice, method.algorithm):
            raise UserError(f"{choice.label}: {reason}")
        (task,) = tasks_of(choice, method, (), seed + 1, (0, steps), 0, "float32" if x32 else "float64")
        lane = data.Data(0).lanes(task, [seed], [0])
        hp = jax.tree.map(lambda leaf: leaf[0, 0], lane.hp)
        try:
            return jax.jit(partial(end, method.algorithm))(lane.problem, lane.keys[0], hp, steps)
        except InvalidSetting as error:
            raise UserError(f"{method.algorithm.name}: {error}") from None


def end(algorithm: Algorithm, problem: Problem, keys: jax.Array, hp: Any, steps: int) -> Any:
    """Return the point after `steps` steps of a lane with these keys, as the engine runs it."""

    def advance(t: jax.Array, state: Any) -> Any:
        return algorithm.step(problem, state, jax.random.fold_in(keys[2], t), hp)

    state = algorithm.init(problem, problem.init(keys[0]), keys[1], hp)
    return algorithm.readout(jax.lax.fori_loop(0, steps, advance, state))
