"""What selectors choose: problems with their parameters, algorithms with their grids of settings."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from algorithms.algorithm import Algorithm
from bench import catalogue
from bench.errors import NotInstalled, UserError, unknown
from bench.resolve import check
from bench.selector import Selector, Value, parse_selector, render
from problems.constants import InvalidParameter, Unavailable
from problems.problem import Family, Problem

EACH = "each"


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
            NotInstalled: the family needs an optional extra that is not there.
        """
        try:
            shape = jax.eval_shape(self.make, jax.random.key(0))
        except Unavailable as error:
            raise NotInstalled(f"{self.label}: {error}") from None
        except InvalidParameter as error:
            raise UserError(f"{self.label}: {error}") from None
        if not isinstance(shape, Problem):
            raise UserError(f"{self.label}: `make` returns a {type(shape).__name__}, not a Problem")
        return shape

    @property
    def family(self) -> Family:
        """Return the family, without computing any data."""
        return self.shape.family

    @property
    def own_data(self) -> bool:
        """Return whether seeds live on instances of their own, rather than all on instance 0."""
        return self.instances != 1

    def instance_of(self, seed: int) -> int:
        """Return the number of the instance on which the seed lives."""
        return seed if self.instances == EACH else seed % int(self.instances)


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
        check(algorithm, settings.static, settings.points)
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
