"""What to run: selectors crossed into tasks; what does not fit, and why."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from algorithms.algorithm import Algorithm
from algorithms.theorem import Control, Theorem
from bench import catalogue
from bench.choice import ProblemChoice, Settings, choose_algorithm, choose_problems, settings_of
from bench.errors import NotInstalled, UserError, unknown
from bench.resolve import expression
from bench.selector import Value, parse_selector
from problems.constants import Regularity

LANES_A_TASK = 1 << 14  # a task is what a kill can lose at most (less what its partial file holds)
BRIEF = 1 << 16  # lanes x steps
MOST = 1 << 31  # seeds, steps and roots are 32-bit on the devices


@dataclass(frozen=True)
class Request:
    """What a `[[run]]` of a suite or a command line asks for; theorems empty means all that apply."""

    problems: tuple[str, ...]
    algorithms: tuple[str, ...]
    theorems: tuple[str, ...] = ()
    seeds: int = 16
    steps: int = 1000
    checkpoints: int = 40


@dataclass(frozen=True)
class Task:
    """One algorithm on one problem: a block of seeds times all settings of one tree structure; one file of results."""

    problem: ProblemChoice
    algorithm: Algorithm
    static: dict[str, Value]
    settings: tuple[dict[str, Value], ...]
    theorems: tuple[Theorem, ...]
    seeds: range
    checkpoints: tuple[int, ...]
    root: int
    dtype: str
    control: Control | None = None
    control_of: str = ""
    code: str = field(default="", compare=False)
    sibling_seeds: int = field(default=0, compare=False)  # of the longest block beside it, whose program it shares

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return self.checkpoints[-1]

    @property
    def work(self) -> int:
        """Return lanes x steps."""
        return len(self.seeds) * len(self.settings) * max(self.steps, 1)

    @property
    def brief(self) -> bool:
        """Return whether running takes less than optimising the program would; blocks of seeds share a program."""
        lanes = max(len(self.seeds), self.sibling_seeds) * len(self.settings)
        return lanes * self.steps <= BRIEF

    def description(self) -> dict[str, Any]:
        """Return the canonical description, equal for equal work in whatever order it was asked for."""
        return {
            "algorithm": self.algorithm.name,
            "static": dict(sorted(self.static.items())),
            "settings": [dict(sorted(setting.items())) for setting in self.settings],
            "problem": self.problem.label,
            "instances": self.problem.instances,
            "theorems": sorted(theorem.name for theorem in self.theorems),
            "seeds": [self.seeds[0], self.seeds[-1]],
            "steps": self.steps,
            "checkpoints": list(self.checkpoints),
            "root": self.root,
            "dtype": self.dtype,
            "control_of": self.control_of,
            "misstate": dict(sorted(self.control.misstate.items())) if self.control else {},
            "code": {"algorithm": self.code, "problem": self.problem.code},
        }

    def digest(self) -> str:
        """Return the content hash of the description, which names the file."""
        return hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Skipped:
    """A pair that was not run, and why."""

    problem: str
    algorithm: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What will be run, in order, and what will not."""

    tasks: tuple[Task, ...]
    skipped: tuple[Skipped, ...] = ()


def log_spaced(steps: int, count: int) -> tuple[int, ...]:
    """Return 0 and about `count` whole numbers spaced evenly in the logarithm up to `steps`."""
    if steps == 0:
        return (0,)
    return (0, *(int(t) for t in np.unique(np.round(np.geomspace(1, steps, count)))))


def unstated(problem: ProblemChoice, method: Settings) -> str:
    """Return which constant a setting needs that the problem does not state, or nothing."""
    stated = {name: np.ones(1) for name, shape in vars(problem.shape.constants).items() if shape is not None}
    for point in method.points:
        numbers = {name: value for name, value in point.items() if not isinstance(value, str)}
        for text in (value for value in point.values() if isinstance(value, str)):
            try:
                expression(text, stated | numbers, may_be_unknown=False)
            except UserError as error:
                return f"{method.algorithm.name}: {error}"
    return ""


def not_installed(problem: ProblemChoice) -> str:
    """Return why the problem cannot be made here, or nothing if it can."""
    try:
        _ = problem.shape
    except NotInstalled as error:
        return str(error).removeprefix(f"{problem.label}: ")
    return ""


def unfit(problem: ProblemChoice, algorithm: Algorithm) -> str:
    """Return why the algorithm cannot run on the problem, or nothing if it can."""
    family = problem.family
    missing = algorithm.needs & ~family.oracles
    if missing:
        return f"{algorithm.name} needs the oracle {missing.name}, {family.name} offers {family.oracles.name}"
    absent = algorithm.requires & ~family.regularity
    if not absent:
        return ""
    hint = " (rank=0 asks for the weight itself)" if absent == Regularity.MATRIX and family.factored else ""
    return f"{algorithm.name} requires {absent.name}, which {family.name} is not{hint}"


def applicable(theorems: tuple[Theorem, ...], problem: ProblemChoice, seeds: int) -> tuple[Theorem, ...]:
    """Return the theorems whose assumptions the problem's family has and that so many seeds can speak of."""
    return tuple(
        theorem
        for theorem in theorems
        if theorem.assumes in problem.family.regularity and seeds >= theorem.fewest_seeds
    )


def silence(theorems: tuple[Theorem, ...], request: Request) -> str:
    """Return why none of the theorems asked for is judged on a pair."""
    for theorem in theorems:
        if theorem.name in request.theorems and theorem.fewest_seeds > request.seeds:
            return f"{theorem.name} takes at least {theorem.fewest_seeds} seeds, not {request.seeds}"
    return "none of the theorems asked for speaks of this pair"


def blocks(seeds: int, settings: int) -> Iterator[range]:
    """Yield the blocks of seeds, of one length but for the last, as many a block as fill one task."""
    count = ceil(seeds / max(1, LANES_A_TASK // settings))
    length = ceil(seeds / count)
    for first in range(0, seeds, length):
        yield range(first, min(first + length, seeds))


def tasks_of(
    problem: ProblemChoice,
    method: Settings,
    theorems: tuple[Theorem, ...],
    seeds: int,
    checkpoints: tuple[int, ...],
    root: int,
    dtype: str,
) -> list[Task]:
    """Return the tasks of one pair, a block of seeds each."""
    parts = list(blocks(seeds, len(method.points)))
    return [
        Task(problem, method.algorithm, method.static, method.points, theorems, part, checkpoints, root, dtype,
             code=method.code, sibling_seeds=len(parts[0]))
        for part in parts
    ]  # fmt: skip


def check_numbers(seeds: int, steps: int, root: int) -> None:
    """Raise `UserError` for a number of seeds or steps, or a root, that has no meaning."""
    for name, number, least in (("seeds", seeds, 1), ("steps", steps, 0), ("seed", root, 0)):
        if not least <= number < MOST:
            raise UserError(f"{name} = {number}: must be at least {least} and less than {MOST}")


def cross(request: Request, root: int, dtype: str) -> Plan:
    """Return the tasks of a request and the pairs that do not fit.

    Raises:
        UserError: nothing can be run, or a number has no meaning (seeds < 1, steps < 0).
    """
    check_numbers(request.seeds, request.steps, root)
    checkpoints = log_spaced(request.steps, request.checkpoints)
    tasks, skipped = [], []
    problems = [choice for text in request.problems for choice in choose_problems(text)]
    methods = [settings for text in request.algorithms for settings in choose_algorithm(text)]
    known = {*catalogue.theorems(), *(theorem.name for method in methods for theorem in method.algorithm.theorems)}
    for name in request.theorems:
        if name not in known:
            raise unknown("theorem", name, known)
    for problem in problems:
        if absent := not_installed(problem):
            skipped += [Skipped(problem.label, method.algorithm.name, absent) for method in methods]
            continue
        for method in methods:
            reason = unfit(problem, method.algorithm) or unstated(problem, method)
            theorems = applicable(method.algorithm.theorems, problem, request.seeds)
            if request.theorems:
                theorems = tuple(theorem for theorem in theorems if theorem.name in request.theorems)
                reason = reason or ("" if theorems else silence(method.algorithm.theorems, request))
            if reason:
                skipped.append(Skipped(problem.label, method.algorithm.name, reason))
                continue
            tasks += tasks_of(problem, method, theorems, request.seeds, checkpoints, root, dtype)
    return Plan(tuple(tasks), tuple(skipped))


def control_task(theorem: Theorem, algorithm: Algorithm, root: int, dtype: str, code: str = "") -> Task:
    """Return the theorem's negative control: the same check on a setting outside its assumptions.

    `algorithm`, whose file has the version `code`, states the theorem, and runs unless the control names another.
    """
    control = theorem.control
    problem = next(choose_problems(control.problem))
    text = f"{control.algorithm or algorithm.name}[{control.setting}]"
    method = (choose_algorithm(text) if control.algorithm else settings_of(algorithm, parse_selector(text), code))[0]
    return Task(
        problem,
        method.algorithm,
        method.static,
        method.points,
        (theorem,),
        range(control.seeds),
        log_spaced(control.steps, 30),
        root,
        dtype,
        control=control,
        control_of=theorem.name,
        code=method.code,
    )


def with_controls(plan: Plan, root: int, dtype: str) -> Plan:
    """Return the plan with the negative control of every theorem that it judges, each once, at the end."""
    judged = {theorem.name: (theorem, task) for task in plan.tasks for theorem in task.theorems}
    controls = [control_task(theorem, task.algorithm, root, dtype, task.code) for theorem, task in judged.values()]
    return replace(plan, tasks=(*plan.tasks, *controls))
