"""A network that knows the digits 0 to 4, to be adapted to all ten: f(x) = mean cross-entropy of model(x, image).

Records are the first images of scikit-learn's 1797, pixels in [0, 1], in the order they were collected, writer by
writer; the two last writers are never trained on. The start is the network after `STEPS` full-batch steps of Adam on
the records of the digits 0 to 4 alone, from the start that key 0 draws: the same for every key.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax
from sklearn.datasets import load_digits

from problems import module
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.users import SEEN, WRITERS, Records, rows

CLASSES, KNOWN = 10, 5
STEPS, RATE = 100, 0.01


@struct.dataclass
class Pretrained(Records):
    """The records, and the parameters to start from."""

    start: Any = None


def family(name: str, network: Any) -> Family[Pretrained, Any]:
    """Return the family of a flax module with ten scores: build it once for every program that it is to run in."""
    return module.family(name, network, classes=CLASSES, unseen=True, regularity=Regularity.NONNEGATIVE, forgets=False)  # type: ignore[return-value]


def problem_of(kind: Family[Pretrained, Any], records: int) -> Problem[Pretrained, Any]:
    """Return the problem of learning all ten digits from `records` images, in all parameters of the network `kind`.

    Raises:
        InvalidParameter: fewer images than digits, or more than the writers to train on left.
    """
    most = int(WRITERS[SEEN])
    require(CLASSES <= records <= most, f"records = {records}: must lie in {CLASSES} .. {most}")
    data = images(records)
    known: Any = rows(data, np.flatnonzero(data.labels < KNOWN))  # type: ignore[arg-type]
    start = trained(Problem(kind, known, Constants()))
    dimension = sum(leaf.size for leaf in jax.tree.leaves(start))
    constants = Constants(n=jnp.asarray(float(records)), dimension=jnp.asarray(float(dimension)))
    return Problem(resumed(kind), replace(data, start=start), constants)


def images(records: int) -> Pretrained:
    """Return the first `records` images and, unseen, those of the two last writers."""
    pixels, digits = load_digits(return_X_y=True)
    seen, unseen = slice(records), slice(int(WRITERS[SEEN]), None)
    weight = np.full(records, 1 / records)
    return Pretrained(pixels[seen] / 16, digits[seen], weight, np.ones(records), pixels[unseen] / 16, digits[unseen])  # type: ignore[arg-type]


def trained(problem: Problem, steps: int = STEPS, rate: float = RATE) -> Any:
    """Return the parameters after `steps` steps of Adam from the start that key 0 draws."""
    optimiser = optax.adam(rate)

    def step(_: int, carry: Any) -> Any:
        x, state = carry
        updates, state = optimiser.update(problem.grad(x), state)
        return optax.apply_updates(x, updates), state

    x = problem.init(jax.random.key(0))
    return lax.fori_loop(0, steps, step, (x, optimiser.init(x)))[0]


@cache
def resumed(kind: Family[Pretrained, Any]) -> Family[Pretrained, Any]:
    """Return the family that starts where its data say: one object a family."""

    def init(data: Pretrained, key: Array) -> Any:
        return data.start

    return replace(kind, init=init)
