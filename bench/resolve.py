"""Settings as numbers: expressions in the problem's constants evaluated, the method's own refusals asked for."""

from dataclasses import fields
from typing import Any

import numpy as np

from algorithms.algorithm import Algorithm, InvalidSetting
from bench.errors import UserError
from bench.expression import evaluate
from bench.selector import Value
from problems.constants import Constants


def resolve(algorithm: Algorithm, static: dict, points: tuple[dict[str, Value], ...], constants: Any) -> Any:
    """Return the hyper-parameter record with leaves of shape (instances, settings), prepared.

    `constants` has leaves of shape (instances,). Without constants, expressions that need them stand as 1.

    Raises:
        UserError: an expression names what this problem does not state, or the method refuses a setting.
    """
    return prepared(algorithm, static, leaves_of(algorithm, points, constants))


def check(algorithm: Algorithm, static: dict, points: tuple[dict[str, Value], ...]) -> None:
    """Raise `UserError` for a setting that the method refuses whatever the problem, before anything is computed."""
    for point in points:
        leaves = leaves_of(algorithm, (point,), None)
        prepared(algorithm, static, {name: leaf.reshape(()) for name, leaf in leaves.items()})


def prepared(algorithm: Algorithm, static: dict, leaves: dict[str, np.ndarray]) -> Any:
    """Return the record of these leaves as the method prepares it.

    Raises:
        UserError: the method refuses a setting.
    """
    try:
        return algorithm.prepare(algorithm.hparams(**leaves, **static))
    except InvalidSetting as error:
        raise UserError(f"{algorithm.name}: {error}") from None


def leaves_of(algorithm: Algorithm, points: tuple[dict[str, Value], ...], constants: Any) -> dict[str, np.ndarray]:
    """Return the numbers of the points by hyper-parameter, (instances, settings); whole where the default is whole."""
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
    return leaves


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
