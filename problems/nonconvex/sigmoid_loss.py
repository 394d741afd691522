"""f(x) = (1/n) sum_i s(-y_i a_i.x) with s(u) = 1/(1 + e^-u): the bounded, nonconvex surrogate of the 0-1 loss.

Labels are folded into the rows, whose largest norm is rho = 1; the last `forgotten` records are deleted. With
s' = s (1 - s), largest at s = 1/2, and s'' = s (1 - s) (1 - 2s), largest in size at s = (1 +- 1/sqrt3)/2:
  G     = rho/4,  L_max = rho^2 / (6 sqrt3)            exact for a record of norm rho
  L     = lambda_max(A^T A / n) / (6 sqrt3)            an upper bound: records turn at different margins
f >= 0; the infimum is not known. Starts are N(0, I): at x = 0 every record is at its steepest.
Source: Mason, Baxter, Bartlett & Frean (1999), Boosting algorithms as gradient descent, for the loss.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems import users as groupings
from problems.constants import Constants, Regularity, require
from problems.linear_model import Design, link, matvec
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler

CURVATURE = 1 / (6 * np.sqrt(3.0))  # sup |s''|


@struct.dataclass
class Data:
    """Rows y_i a_i (n, d), their weights (n,), which sum to 1, and kept (n,): 0 on the forgotten records."""

    design: Design
    weight: Array
    kept: Array


def init(data: Data, key: Array) -> Array:
    return jax.random.normal(key, data.design.A.shape[-1:])


def slope(margin: Array) -> Array:
    return -jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin)


loss = link(lambda margin: jax.nn.sigmoid(-margin), slope)


def value(data: Data, x: Array) -> Array:
    return data.weight @ loss(matvec(data.design, x))


def rows(data: Data, index: Array) -> Data:
    return Data(data.design.rows(index), equal_weights(data.weight, len(index)), data.kept[index])


def substitute(data: Data) -> Data:
    sign = 2 * data.kept - 1  # a forgotten record's label is turned
    return replace(data, design=Design.of(sign[:, None] * data.design.A))


SIGMOID_LOSS = Family(
    name="sigmoid_loss",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.DELETABLE,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)


def make(
    key: Array,
    *,
    n: int = 200,
    d: int = 10,
    data: str = "synthetic",
    users: str = "random",
    user: int = -1,
    forgotten: int = 10,
) -> Problem[Data, Array]:
    """Return the sigmoid loss on `n` Gaussian records in `d` dimensions, or on a data set with its own `n` and `d`.

    `data` is `synthetic`, where any m records are forgotten, `breast_cancer` or `digits` (odd against even), whose
    records of length 1 are grouped by `users` and `user` as `problems.users` says; `adversarial` goes by x = 0.
    """
    if data == "synthetic":
        require(users == "random", f"users = {users}: synthetic records have no users; take breast_cancer or digits")
        A, kept = synthetic(key, n, d, forgotten)
    else:
        records = groupings.choose(key, data, users, user, forgotten, lambda: signed(data))
        A, kept = records.inputs * sign_of(records.labels)[:, None], records.kept
    count = len(A)
    known = Constants(
        L=jnp.linalg.eigvalsh(A.T @ A / count)[-1] * CURVATURE,
        L_max=jnp.asarray(CURVATURE),
        G=jnp.asarray(0.25),
        n=jnp.asarray(count, float),
        forgotten=count - jnp.sum(kept),
        dimension=jnp.asarray(A.shape[1], float),
    )
    return Problem(SIGMOID_LOSS, Data(Design.of(A), jnp.full_like(kept, 1 / count), kept), known)


def synthetic(key: Array, n: int, d: int, forgotten: int) -> tuple[Array, Array]:
    """Return Gaussian rows, the largest of norm 1, times labels of a noisy hyperplane, and the kept ones."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    row_key, direction_key, noise_key = jax.random.split(key, 3)
    A = jax.random.normal(row_key, (n, d))
    depth = A @ jax.random.normal(direction_key, (d,)) / d**0.5 + 0.5 * jax.random.normal(noise_key, (n,))
    A = A * jnp.where(depth > 0, 1.0, -1.0)[:, None]
    return A / jnp.sqrt(jnp.max(jnp.sum(A**2, axis=1))), kept_mask(n, forgotten)


def sign_of(labels: Array) -> Array:
    """Return 1 for odd labels (digits; benign in breast_cancer), -1 for even ones."""
    return 2.0 * (labels % 2) - 1


def signed(name: str) -> np.ndarray:
    """Return the rows times their labels: the record gradients at x = 0, times -4."""
    table = groupings.read(name)
    return np.asarray(table.inputs * (2.0 * (table.labels % 2) - 1)[:, None])
