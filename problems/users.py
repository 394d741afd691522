"""Whose record is which: data sets with their users, and the records of the one who asks to be forgotten.

Every grouping is a score for each record: the m records with the largest score are forgotten, and come last.
  writers       the 12 writers that the digits are stored by, one after the other; two more are never trained on
  one_label     a user is a class: deleting all or part of one label
  feature_skew  a user is a cell of k-means (digits 8 cells, breast_cancer 4)
  label_skew    the user's m records are drawn without replacement, class c with odds p ~ Dirichlet(0.3)
  adversarial   the m records whose deletion moves the gradient most at the point the family names (a local maximum)
  random        any m records
The user is given by number, or drawn by the key (-1). Of a data set every record is brought to length 1 by itself:
x/|x|, a 1 appended, divided by sqrt 2. Units of breast_cancer are set by the unseen records: D touches no record.
Source: scikit-learn's course material for the boundaries between the writers of `load_digits`.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems.constants import require
from problems.oracles import Key
from problems.records import equal_weights, kept_mask

WRITERS = np.array((0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667, 1797))
SEEN = 12  # writers to train on
CELLS = {"digits": 8, "breast_cancer": 4}
GROUPED = ("writers", "one_label", "feature_skew")
DRAWN = ("label_skew", "adversarial", "random")
CONCENTRATION = 0.3  # of the Dirichlet distribution of label_skew
EVERY = 5  # of breast_cancer every fifth record is unseen


@struct.dataclass
class Records:
    """Inputs (n, ...) with labels (n,), weight (n,), which sums to 1, kept (n,), and records never trained on."""

    inputs: Array
    labels: Array
    weight: Array
    kept: Array
    unseen_inputs: Any = None
    unseen_labels: Any = None


def rows(data: Records, index: Array) -> Records:
    """Return the records at `index`, equally weighted."""
    return replace(
        data,
        inputs=data.inputs[index],
        labels=data.labels[index],
        weight=equal_weights(data.weight, len(index)),
        kept=data.kept[index],
    )


@dataclass(frozen=True)
class Table:
    """A data set on the host: inputs (n, d) of length 1, labels (n,), the unseen ones, the writers (n,) if known."""

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    unseen_inputs: np.ndarray
    unseen_labels: np.ndarray
    writers: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.labels.max()) + 1


@cache
def read(name: str) -> Table:
    """Return `digits` (1545 records of 12 writers, 252 unseen) or `breast_cancer` (456 records, 113 unseen)."""
    from sklearn import datasets

    require(name in CELLS, f"data = {name}: digits or breast_cancer")
    if name == "digits":
        digits: Any = datasets.load_digits()
        n, inputs = int(WRITERS[SEEN]), on_sphere(digits.data)
        writers = np.repeat(np.arange(SEEN), np.diff(WRITERS[: SEEN + 1]))
        return Table(name, inputs[:n], digits.target[:n], inputs[n:], digits.target[n:], writers)
    tumours: Any = datasets.load_breast_cancer()
    unseen = np.arange(len(tumours.target)) % EVERY == EVERY - 1
    centre, unit = tumours.data[unseen].mean(axis=0), tumours.data[unseen].std(axis=0)
    inputs = on_sphere((tumours.data - centre) / unit)
    return Table(name, inputs[~unseen], tumours.target[~unseen], inputs[unseen], tumours.target[unseen])


def on_sphere(features: np.ndarray) -> np.ndarray:
    """Return (x/|x|, 1)/sqrt 2 for every row x: length 1, whatever the other rows are."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.append(unit, np.ones((len(unit), 1)), axis=1) / np.sqrt(2)


@cache
def groups(name: str, users: str) -> np.ndarray:
    """Return the user (n,) of each record, numbered from 0."""
    table = read(name)
    if users == "writers":
        require(table.writers is not None, f"users = writers: {name} does not say who wrote what; digits do")
        assert table.writers is not None
        return table.writers
    if users == "one_label":
        return table.labels
    from sklearn.cluster import KMeans

    cells: Any = KMeans(CELLS[name], n_init=10, random_state=0)  # type: ignore[arg-type]
    return cells.fit_predict(table.inputs)


def choose(key: Key, name: str, users: str, user: int, forgotten: int, gradients: Any = None) -> Records:
    """Return the data set with the records to forget last: `forgotten` of them, or with 0 all that `user` has.

    `gradients()` are the record gradients (n, p), on the host, that `adversarial` goes by; None where the family
    has no point to name.

    Raises:
        InvalidParameter: no such data set, grouping or user, or a user with fewer records than are to be forgotten.
    """
    table = read(name)
    require(users in GROUPED + DRAWN, f"users = {users}: one of {', '.join(GROUPED + DRAWN)}")
    if users in GROUPED:
        score, m = grouped_score(key, groups(name, users), user, forgotten, f"{users} of {name}")
    else:
        require(user == -1, f"user = {user}: with users = {users} the key draws the one user")
        n, m = len(table.labels), forgotten
        require(0 < m < n, f"forgotten = {m}: between 1 and n - 1 = {n - 1} records")
        score = drawn_score(key, table, users, m, gradients)
    order = jnp.argsort(score, stable=True)
    kept = kept_mask(len(table.labels), m)
    return Records(
        jnp.asarray(table.inputs)[order],
        jnp.asarray(table.labels)[order],
        jnp.full_like(kept, 1 / len(kept)),
        kept,
        jnp.asarray(table.unseen_inputs),
        jnp.asarray(table.unseen_labels),
    )


def grouped_score(key: Key, group: np.ndarray, user: int, forgotten: int, what: str) -> tuple[Array, int]:
    """Return the scores (n,), first records of the user first, and the number m of records to forget."""
    sizes = np.bincount(group)
    require(-1 <= user < len(sizes), f"user = {user}: {what} are numbered 0 to {len(sizes) - 1}; -1 draws one")
    require(
        forgotten > 0 or user >= 0, f"forgotten = {forgotten}, user = {user}: all records of a user given by number"
    )
    most = int(sizes[user] if user >= 0 else sizes.min())
    require(0 <= forgotten <= most, f"forgotten = {forgotten}: {what} have {most} records to forget")
    chosen = jax.random.randint(key, (), 0, len(sizes)) if user < 0 else user
    first_first = np.arange(len(group), 0, -1)
    return jnp.where(jnp.asarray(group) == chosen, jnp.asarray(first_first), 0), forgotten or most


def drawn_score(key: Key, table: Table, users: str, m: int, gradients: Any) -> Array:
    """Return the scores (n,) of `label_skew`, `random` or `adversarial`."""
    if users == "adversarial":
        require(gradients is not None, "users = adversarial: this family names no point to take gradients at")
        return jnp.asarray(alignment(gradients(), m))
    class_key, record_key = jax.random.split(key)
    chance = jax.random.gumbel(record_key, (len(table.labels),))  # the m largest: drawn without replacement
    if users == "random":
        return chance
    odds = jax.random.loggamma(class_key, CONCENTRATION, (table.classes,)) - np.log(np.bincount(table.labels))
    return chance + odds[table.labels]


def alignment(gradients: np.ndarray, m: int, rounds: int = 50) -> np.ndarray:
    """Return <g_i - mean, v> with v = sum over the m most aligned of (g_i - mean), from the leading direction on.

    Each round lets |v| = |sum over Z of (g_i - mean)| grow, to which the move of the gradient is proportional.
    """
    centred = gradients - gradients.mean(axis=0)
    score = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    for _ in range(rounds):
        largest = np.argsort(score, kind="stable")[-m:]
        score = centred @ centred[largest].sum(axis=0)
        if set(np.argsort(score, kind="stable")[-m:]) == set(largest):
            break
    return score
