"""f(x) = sum_i weight_i loss(model(x, a_i), y_i): your own model and data as a problem, x the model's parameters.

    class Net(linen.Module): ...
    problem = module_problem(Net(), inputs, labels, users, forget="alice")
    sweep(problem, "rewind_to_delete[eta=0.5,T=300,K=100]", seeds=4, steps=300).frame()

Nothing is proven of a network in general. Whoever knows L_max and G of every record declares them, and the problem is
then `DELETABLE`, hence certifiable; the declaration is the user's word: an estimate from a run is no bound, and a
network with ReLU has no L_max (tanh and softplus have).
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array

from problems.constants import STATED_WITH, Constants, Regularity, require
from problems.membership import Measure, cross_entropy, measures
from problems.problem import Family, Problem
from problems.records import deletion, finite_sum, sampler
from problems.users import Records, rows

Loss = Callable[[Array, Array], Array]


def family(
    name: str,
    module: Any,
    loss: Loss = cross_entropy,
    classes: int = 0,
    unseen: bool = False,
    regularity: Regularity = Regularity.NONE,
    more: tuple[tuple[str, Measure], ...] = (),
    forgets: bool = True,
) -> Family[Records, Any]:
    """Return the family of a model; a new object each time, so build it once for every program that it is to run in.

    `classes` is the number of classes if labels are classes, else 0; `more` are measures beside those of `membership`.
    Without `forgets` there is nobody to delete.
    """

    def scores(x: Any, inputs: Any) -> Array:
        return module.apply(x, inputs)

    def init(data: Records, key: Array) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(float), module.init(key, data.inputs[:1]))

    def value(data: Records, x: Any) -> Array:
        return data.weight @ loss(scores(x, data.inputs), data.labels)

    def substitute(data: Records) -> Records:
        return replace(data, labels=jnp.where(data.kept > 0, data.labels, (data.labels + 1) % classes))

    return Family(
        name=name,
        regularity=regularity,
        init=init,
        value=value,
        sample=sampler(rows),
        records=finite_sum(rows),
        deletion=deletion(substitute if classes else None) if forgets else None,
        scores=(lambda data, x: scores(x, data.inputs)) if classes else None,
        measures=(*measures(scores, loss, unseen, classes > 0, forgets), *more),
    )


def module_problem(
    module: Any,
    inputs: Any,
    labels: Any,
    users: Any = None,
    forget: Any = None,
    *,
    loss: Loss = cross_entropy,
    unseen: tuple[Any, Any] | None = None,
    constants: Constants | None = None,
    regularity: Regularity = Regularity.NONE,
    measures: tuple[tuple[str, Measure], ...] = (),
) -> Problem[Records, Any]:
    """Return the problem of training `module` on records of users, of whom `forget` (one or several) are forgotten.

    `module` is a flax module, or any object with `init(key, inputs)` and `apply(x, inputs)`, without state
    (batch norm). `inputs` (n, ...) and `labels` (n, ...) are arrays, `users` (n,) says whose each record is; without
    it every record is a user of its own, named by its number; without `forget` nobody is deleted.
    `loss(scores, labels)` is (n,), the cross-entropy of whole-numbered labels unless another is given. `unseen` =
    (inputs, labels) of people never trained on adds accuracy and membership measures, `measures` adds (name, function
    of data and x) pairs. With `constants` (L_max, G, and what each flag of `regularity` states) the problem is
    `DELETABLE`; without, nothing can be certified.

    Raises:
        InvalidParameter: an unknown user (with the nearest names), nobody or everybody forgotten, arrays of different
            lengths, numbers that are not finite, a loss or labels that do not fit, or constants that are not stated.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    n = len(inputs)
    users = np.arange(n) if users is None else np.asarray(users)
    require(
        n == len(labels) == len(users), f"{n} inputs, {len(labels)} labels, {len(users)} users: one of each a record"
    )
    check_numbers(inputs, labels)
    forgets = forget is not None
    gone = asks_to_be_forgotten(users, forget) if forgets else np.zeros(n, bool)
    m = int(gone.sum())
    order = np.argsort(gone, kind="stable")
    others = (None, None) if unseen is None else tuple(np.asarray(part) for part in unseen)
    data = Records(inputs[order], labels[order], np.full(n, 1 / n), 1.0 - gone[order], *others)  # type: ignore[arg-type]
    dimension, classes = check_model(module, data, loss)
    known = replace(constants or Constants(), n=n, forgotten=m if forgets else None, dimension=dimension)
    known = jax.tree.map(lambda number: np.asarray(number, float), known)
    if forgets and known.L_max is not None and known.G is not None:
        regularity |= Regularity.DELETABLE
    if loss is cross_entropy:
        regularity |= Regularity.NONNEGATIVE
    check_constants(known, regularity)
    named = type(module).__name__
    kind = family(named, module, loss, classes, unseen is not None, regularity, tuple(measures), forgets)
    return Problem(kind, data, known)


def check_numbers(*arrays: np.ndarray) -> None:
    """Raise `InvalidParameter` unless every number is finite."""
    for name, array in zip(("inputs", "labels"), arrays, strict=True):
        require(np.issubdtype(array.dtype, np.number) or array.dtype == bool, f"{name} are {array.dtype}: give numbers")
        finite = np.isfinite(array)
        require(bool(finite.all()), f"{name}: {np.size(finite) - finite.sum()} numbers are not finite")


def asks_to_be_forgotten(users: np.ndarray, forget: Any) -> np.ndarray:
    """Return which records (n,) belong to those who are to be forgotten."""
    several = isinstance(forget, Iterable) and not isinstance(forget, str | bytes)
    wanted, known = set(np.asarray(forget).tolist() if several else [forget]), set(users.tolist())
    require(len(wanted) > 0, "forget names nobody: at least one user")
    for user in wanted - known:
        nearest = difflib.get_close_matches(str(user), [str(name) for name in known], cutoff=0.0)
        require(False, f"forget = {user}: no such user; the nearest are {', '.join(nearest)}")
    require(wanted != known, f"forget: these are all {len(known)} users, and nobody is left to learn from")
    return np.array([user in wanted for user in users.tolist()])


def check_model(module: Any, data: Records, loss: Loss) -> tuple[int, int]:
    """Return the number of parameters and of classes (0 where labels are none), if model, labels and loss fit."""
    x = jax.eval_shape(module.init, jax.random.key(0), data.inputs[:1])
    if isinstance(module, linen.Module):
        state = sorted(set(x) - {"params"})
        require(not state, f"the model keeps {', '.join(state)} beside its parameters: then no record has its own loss")
    scores = jax.eval_shape(module.apply, x, data.inputs)
    classes = 0
    if loss is cross_entropy:
        whole, labels, classes = np.issubdtype(data.labels.dtype, np.integer), data.labels, scores.shape[-1]
        require(bool(whole), f"labels are {labels.dtype}: cross-entropy takes whole numbers; give a loss of your own")
        inside = labels.min() >= 0 and labels.max() < classes
        require(
            bool(inside), f"labels {labels.min()} to {labels.max()}: the model has {classes} scores, 0 to {classes - 1}"
        )
    losses = jax.eval_shape(loss, scores, data.labels)
    n = len(data.labels)
    require(losses.shape == (n,), f"the loss of {n} records is {losses.shape}: it must be ({n},), a number a record")
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(x)), classes


def check_constants(known: Constants, regularity: Regularity) -> None:
    """Raise `InvalidParameter` unless every constant is finite and what `regularity` claims is stated and possible."""
    stated = {f.name: getattr(known, f.name) for f in fields(known) if getattr(known, f.name) is not None}
    for name, number in stated.items():
        require(number.shape == () and bool(np.isfinite(number)), f"{name} = {number}: a finite number")
    for name in ("L", "L_max", "G", "mu", "mu_min", "mu_pl", "mu_pl_retained"):
        require(stated.get(name, 1.0) > 0, f"{name} = {stated.get(name)}: must be positive")
    for flag, names in STATED_WITH.items():
        missing = [name for name in names if flag in regularity and name not in stated]
        require(not missing, f"{flag.name} is claimed without {', '.join(missing)}: declare it in `constants`")
    for mu, L in (("mu", "L"), ("mu_min", "L_max")):
        least, most = stated.get(mu, 0.0), stated.get(L, np.inf)
        require(bool(least <= most), f"{mu} = {least} is above {L} = {most}")
