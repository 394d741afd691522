"""f(W) = (1/n) sum_i log(1 + exp(-y_i a.tanh(W x_i))): a network whose hidden layer W learns, with proven constants.

W is (h, d); the outer weights a = (+-1)/sqrt h are fixed. Rows have norm at most rho = 1, the last `forgotten`
records are deleted. With F(W) = a.tanh(W x), u = W x, |tanh'| <= 1 and |tanh''| <= 4/(3 sqrt3):
  grad F = (a * tanh'(u)) x^T, of norm at most |a|_2 rho;  Hess F [V, V] = sum_j a_j tanh''(u_j) (V x)_j^2, of size at
  most (4/(3 sqrt3)) |a|_inf rho^2 |V|^2;  the logistic loss has slope below 1 and curvature at most 1/4:
  G     = |a|_2 rho                                           an upper bound, approached by wide networks
  L_max = rho^2 (|a|_2^2/4 + (4/(3 sqrt3)) |a|_inf)           an upper bound: the two parts peak apart
  L     = lambda_max(X^T X / n) (|a|_2^2/4 + (4/(3 sqrt3)) |a|_inf)     likewise, since |V x|^2 enters both parts
f >= 0; the infimum is not known. Source: derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems import users as groupings
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler

BEND = 4 / (3 * np.sqrt(3.0))  # sup |tanh''|


@struct.dataclass
class Data:
    """Inputs (n, d), labels +-1 (n,), weights (n,) that sum to 1, kept (n,); the outer weights a (h,); scale of W_0."""

    inputs: Array
    labels: Array
    weight: Array
    kept: Array
    a: Array
    start: Array


def init(data: Data, key: Array) -> Array:
    return data.start * jax.random.normal(key, (len(data.a), data.inputs.shape[-1]))


def value(data: Data, x: Array) -> Array:
    margins = data.labels * (jnp.tanh(data.inputs @ x.T) @ data.a)
    return data.weight @ jax.nn.softplus(-margins)


def rows(data: Data, index: Array) -> Data:
    return replace(
        data,
        inputs=data.inputs[index],
        labels=data.labels[index],
        weight=equal_weights(data.weight, len(index)),
        kept=data.kept[index],
    )


def substitute(data: Data) -> Data:
    return replace(data, labels=(2 * data.kept - 1) * data.labels)  # a forgotten record's label is turned


TANH_NETWORK = Family(
    name="tanh_network",
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
    width: int = 8,
    data: str = "synthetic",
    users: str = "random",
    user: int = -1,
    forgotten: int = 10,
    start: float = 1.0,
) -> Problem[Data, Array]:
    """Return the network of `width` hidden units on `n` Gaussian records in `d` dimensions, or on a data set.

    `data`, `users`, `user` as in `sigmoid_loss`; `adversarial` is not offered. W_0 is N(0, start^2).
    """
    require(width >= 1, f"width = {width}: at least one hidden unit")
    if data == "synthetic":
        require(users == "random", f"users = {users}: synthetic records have no users; take breast_cancer or digits")
        inputs, labels, kept = synthetic(key, n, d, forgotten)
    else:
        records = groupings.choose(key, data, users, user, forgotten)
        inputs, labels, kept = records.inputs, 2.0 * (records.labels % 2) - 1, records.kept
    n, d = inputs.shape
    a = jnp.where(jnp.arange(width) % 2 == 0, 1.0, -1.0) / np.sqrt(width)
    curvature = 0.25 + BEND / np.sqrt(width)
    known = Constants(
        L=jnp.linalg.eigvalsh(inputs.T @ inputs / n)[-1] * curvature,
        L_max=jnp.asarray(curvature),
        G=jnp.ones(()),
        n=jnp.asarray(n, float),
        forgotten=n - jnp.sum(kept),
        dimension=jnp.asarray(width * d, float),
    )
    instance = Data(inputs, labels, jnp.full_like(kept, 1 / n), kept, a, jnp.asarray(start, float))
    return Problem(TANH_NETWORK, instance, known)


def synthetic(key: Array, n: int, d: int, forgotten: int) -> tuple[Array, Array, Array]:
    """Return Gaussian rows, the largest of norm 1, noisy labels that no hyperplane separates, and the kept ones."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(0 < forgotten < n, f"forgotten = {forgotten}: between 1 and n - 1 = {n - 1} records")
    row_key, noise_key = jax.random.split(key)
    inputs = jax.random.normal(row_key, (n, d))
    depth = inputs[:, 0] * inputs[:, -1] + inputs[:, 0] + 0.5 * jax.random.normal(noise_key, (n,))
    scale = jnp.sqrt(jnp.max(jnp.sum(inputs**2, axis=1)))
    return inputs / scale, jnp.where(depth > 0, 1.0, -1.0), kept_mask(n, forgotten)
