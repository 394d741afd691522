"""What to run: selectors crossed into tasks; what does not fit, and why."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.algorithm import Algorithm, InvalidSetting
from algorithms.theorem import Control, Theorem
from bench import catalogue
from bench.errors import UserError, unknown
from bench.expression import evaluate
from bench.selector import Selector, Value, parse_selector, render
from problems.problem import Constants, Family, InvalidParameter, Problem

LANES_A_TASK = 1 << 14  # a task is what a kill can lose at most (less what its partial file holds)
MOST = 1 << 31  # seeds, steps and roots are 32-bit on the devices
EACH = "each"


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
class ProblemChoice:
    """A family's `make` with chosen parameters; seed s lives on instance `s mod instances`, or on its own (`each`)."""

    label: str
    make: Callable[[jax.Array], Problem]
    instances: int | str = 1
    code: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """Return what tells choices apart: two files of users may have one name."""
        return self.label, self.code

    @cached_property
    def shape(self) -> Problem:
        """Return the problem with shapes in place of arrays.

        Raises:
            UserError: a parameter has no meaning for the family, or `make` gives no problem.
        """
        try:
            shape = jax.eval_shape(self.make, jax.random.key(0))
        except InvalidParameter as error:
            raise UserError(f"{self.label}: {error}") from None
        if not isinstance(shape, Problem):
            raise UserError(f"{self.label}: `make` returns a {type(shape).__name__}, not a Problem")
        return shape

    @property
    def family(self) -> Family:
        """Return the family, without computing any data."""
        return self.shape.family

    def instance_of(self, seed: int) -> int:
        """Return the number of the instance on which the seed lives."""
        return seed if self.instances == EACH else seed % int(self.instances)


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

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return self.checkpoints[-1]

    @property
    def work(self) -> int:
        """Return lanes x steps."""
        return len(self.seeds) * len(self.settings) * max(self.steps, 1)

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


def hash_of(path: Path) -> str:
    """Return the version of a file: the hash of its text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def as_annotated(owner: str, name: str, value: Value, annotation: Any) -> Value:
    """Return `value` as the parameter's type.

    Raises:
        UserError: it is not of that type.
    """
    fits = {
        int: lambda v: isinstance(v, int) and not isinstance(v, bool),
        float: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
        bool: lambda v: isinstance(v, bool),
        str: lambda v: True,
    }
    if annotation in fits and not fits[annotation](value):
        raise UserError(f"{owner}: {name} = {value} is not {annotation.__name__}")
    return annotation(value) if annotation in (float, str) else value


def choose_problems(text: str) -> Iterator[ProblemChoice]:
    """Yield the problem choices that a selector names; `instances=N` or `instances=each` is understood by all.

    Raises:
        UserError: unknown name or parameter, or a value of the wrong type.
    """
    selector = parse_selector(text)
    module, path = catalogue.load("problems", selector.name)
    signature = inspect.signature(module.make, eval_str=True)
    known = {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    for point in selector.points():
        chosen = dict(point)
        instances = chosen.pop("instances", 1)
        if not (instances == EACH or (isinstance(instances, int) and instances >= 1)):
            raise UserError(f"{selector.name}: instances = {instances}; write a whole number >= 1, or each")
        for name, value in chosen.items():
            if name not in known:
                raise unknown(f"parameter of {selector.name}", name, [*known, "instances"])
            chosen[name] = as_annotated(selector.name, name, value, known[name].annotation)
        told = {name: value for name, value in chosen.items() if value != known[name].default}
        yield ProblemChoice(
            label=render(Path(selector.name).stem, told),
            make=lambda key, chosen=chosen: module.make(key, **chosen),
            instances=EACH if instances == EACH else int(instances),
            code=hash_of(path),
        )


@dataclass(frozen=True)
class Settings:
    """The settings of one algorithm that share their static fields, hence one compile."""

    algorithm: Algorithm
    static: dict[str, Value]
    points: tuple[dict[str, Value], ...]
    code: str = ""


def choose_algorithm(text: str) -> list[Settings]:
    """Return the algorithm that a selector names with its grid of settings, grouped by static fields."""
    selector = parse_selector(text)
    module, path = catalogue.load("algorithms", selector.name)
    if not isinstance(module.algorithm, Algorithm):
        raise UserError(f"{path}: `algorithm` is a {type(module.algorithm).__name__}, not an Algorithm")
    return settings_of(module.algorithm, selector, hash_of(path))


def settings_of(algorithm: Algorithm, selector: Selector, code: str = "") -> list[Settings]:
    """Return the grid of the selector, defaults filled in, grouped by static fields.

    Raises:
        UserError: an unknown hyper-parameter, one without a value, or a setting that the method refuses.
    """
    known = {f.name: f for f in fields(algorithm.hparams)}
    for name in selector.grid:
        if name not in known:
            raise unknown(f"hyper-parameter of {algorithm.name}", name, known)
    defaults = {name: f.default for name, f in known.items() if f.default is not MISSING}
    static = [name for name, f in known.items() if f.metadata.get("pytree_node") is False]
    grouped: dict[tuple, list[dict[str, Value]]] = {}
    for point in selector.points():
        setting = defaults | point
        if missing := [name for name in known if name not in setting]:
            raise UserError(f"{algorithm.name} needs a value for {', '.join(missing)}")
        for name, value in setting.items():
            check_value(algorithm.name, name, value, defaults.get(name, value), name in static)
        key = tuple(setting.pop(name) for name in static)
        grouped.setdefault(key, []).append(setting)
    chosen = []
    for key, points in grouped.items():
        distinct = {json.dumps(point, sort_keys=True): point for point in points}
        ordered = tuple(sorted(distinct.values(), key=in_order))
        settings = Settings(algorithm, dict(zip(static, key, strict=True)), ordered, code)
        resolve(algorithm, settings.static, settings.points, None)
        chosen.append(settings)
    return chosen


def check_value(owner: str, name: str, value: Value, default: Value, static: bool) -> None:
    """Raise `UserError` for a value that is not of the default's kind; numbers may be given by an expression."""
    if static:
        as_annotated(owner, name, value, type(default))
    elif isinstance(value, bool) and not isinstance(default, bool):
        raise UserError(f"{owner}: {name} = {value} is not a number")
    elif isinstance(default, int) and isinstance(value, float) and not value.is_integer():
        raise UserError(f"{owner}: {name} = {value} is not a whole number")


def in_order(point: dict[str, Value]) -> list[tuple[bool, float, str]]:
    """Return the sorting key of a setting: numbers by size, then expressions as text."""
    return [
        (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")
        for _, value in sorted(point.items())
    ]


def resolve(algorithm: Algorithm, static: dict, points: tuple[dict[str, Value], ...], constants: Any) -> Any:
    """Return the hyper-parameter record with leaves of shape (instances, settings), prepared.

    `constants` has leaves of shape (instances,). Without constants, expressions that need them stand as 1, so that
    everything else is checked before anything is computed.

    Raises:
        UserError: an expression names what this problem does not state, or the method refuses a setting.
    """
    stated = {} if constants is None else vars(constants)
    instances = max((np.size(value) for value in stated.values() if value is not None), default=1)
    columns: dict[str, list[Any]] = {name: [] for name in points[0]}
    for point in points:
        numbers = {name: value for name, value in point.items() if not isinstance(value, str)}
        for name, value in point.items():
            number = expression(value, stated | numbers, constants is None) if isinstance(value, str) else value
            columns[name].append(np.broadcast_to(number, (instances,)))
    integral = {f.name for f in fields(algorithm.hparams) if isinstance(f.default, int)}
    leaves = {}
    for name, column in columns.items():
        array = np.stack(column, axis=1)
        whole = name in integral and np.isfinite(array).all()
        leaves[name] = np.round(array).astype(np.int32) if whole else array.astype(float)
    try:
        return algorithm.prepare(algorithm.hparams(**leaves, **static))
    except InvalidSetting as error:
        raise UserError(f"{algorithm.name}: {error}") from None


def expression(text: str, names: dict[str, Any], may_be_unknown: bool) -> Any:
    """Return the value of the expression, or 1, a legal number for everything, where a constant is not known yet."""
    known = {name: np.asarray(value) for name, value in names.items() if value is not None}
    try:
        return evaluate(text, known)
    except UserError:
        if not may_be_unknown:
            raise
        evaluate(text, {f.name: np.ones(1) for f in fields(Constants)} | known)
        return 1.0


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


def unfit(problem: ProblemChoice, algorithm: Algorithm) -> str:
    """Return why the algorithm cannot run on the problem, or nothing if it can."""
    family = problem.family
    missing = algorithm.needs & ~family.oracles
    if missing:
        return f"{algorithm.name} needs the oracle {missing.name}, {family.name} offers {family.oracles.name}"
    absent = algorithm.requires & ~family.regularity
    return f"{algorithm.name} requires {absent.name}, which {family.name} is not" if absent else ""


def applicable(theorems: tuple[Theorem, ...], problem: ProblemChoice) -> tuple[Theorem, ...]:
    """Return the theorems whose assumptions the problem's family has."""
    return tuple(theorem for theorem in theorems if theorem.assumes in problem.family.regularity)


def blocks(seeds: int, settings: int) -> Iterator[range]:
    """Yield the blocks of seeds, as many a block as fill one task."""
    length = max(1, LANES_A_TASK // settings)
    for first in range(0, seeds, length):
        yield range(first, min(first + length, seeds))


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
        for method in methods:
            reason = unfit(problem, method.algorithm) or unstated(problem, method)
            theorems = applicable(method.algorithm.theorems, problem)
            if request.theorems:
                theorems = tuple(theorem for theorem in theorems if theorem.name in request.theorems)
                reason = reason or ("" if theorems else "none of the theorems asked for speaks of this pair")
            if reason:
                skipped.append(Skipped(problem.label, method.algorithm.name, reason))
                continue
            tasks += [
                Task(problem, method.algorithm, method.static, method.points, theorems, seeds, checkpoints, root, dtype,
                     code=method.code)
                for seeds in blocks(request.seeds, len(method.points))
            ]  # fmt: skip
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
