"""f(W) = (1/n) sum_i [logsumexp(a_i W) - (a_i W)_{y_i}] + (l2/2) |W|^2: softmax regression on users' records.

W is (d, C). Records have length rho = 1 and belong to users (`problems.users`); one user's records, the last
`forgotten`, are deleted. The gradient of the cross-entropy in the scores is p - e_y, of norm at most sqrt 2 (a
supremum), and its Hessian diag(p) - p p^T has norm at most 1/2 (attained at p = (1/2, 1/2, 0, ...)), hence
  L     = lambda_max(A^T A / n) / 2 + l2      an upper bound
  L_max = rho^2/2 + l2,  G = sqrt 2 rho       upper bounds for each record
  mu = mu_pl = mu_min = l2                    exact: W = c (1, ..., 1) leaves the cross-entropy unchanged
f_star and x_star come from Newton's method to machine precision, which `adversarial` users are chosen at;
sigma_star_sq is computed there. Without ridge (l2 = 0) neither is stated, and `adversarial` goes by W = 0.
A substituted record carries the next label. Source: Boehning (1992), Multinomial logistic regression algorithm.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems import users as groupings
from problems.constants import Constants, Regularity, require
from problems.linear_model import Design, matvec
from problems.membership import cross_entropy, measures
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, sampler


@struct.dataclass
class Data:
    """Rows (n, d), labels (n,), weights (n,), which sum to 1, kept (n,); unseen records; ridge, scale of starts."""

    design: Design
    labels: Array
    weight: Array
    kept: Array
    unseen_inputs: Array
    unseen_labels: Array
    l2: Array
    start: Array
    classes: int = struct.field(pytree_node=False)

    @property
    def inputs(self) -> Array:
        """Return the rows (n, d)."""
        return self.design.A


def init(data: Data, key: Array) -> Array:
    return data.start * jax.random.normal(key, (data.design.A.shape[-1], data.classes))


def value(data: Data, x: Array) -> Array:
    losses = cross_entropy(matvec(data.design, x), data.labels)
    return data.weight @ losses + 0.5 * data.l2 * jnp.sum(x**2)


def rows(data: Data, index: Array) -> Data:
    return replace(
        data,
        design=data.design.rows(index),
        labels=data.labels[index],
        weight=equal_weights(data.weight, len(index)),
        kept=data.kept[index],
    )


def substitute(data: Data) -> Data:
    return replace(data, labels=jnp.where(data.kept > 0, data.labels, (data.labels + 1) % data.classes))


SOFTMAX = Family(
    name="softmax_regression",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.CONVEX
    | Regularity.DELETABLE
    | Regularity.RETAINS_CONVEXITY,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
    scores=lambda data, x: matvec(data.design, x),
    measures=measures(lambda x, inputs: inputs @ x),
)

RIDGE_SOFTMAX = replace(
    SOFTMAX,
    regularity=SOFTMAX.regularity
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.STRONGLY_CONVEX
    | Regularity.FINITE_SUM
    | Regularity.RETAINS_STRONG_CONVEXITY,
)


def make(
    key: Array,
    *,
    data: str = "digits",
    users: str = "writers",
    user: int = -1,
    forgotten: int = 100,
    l2: float = 0.01,
    start: float = 0.0,
) -> Problem[Data, Array]:
    """Return softmax regression on `digits` or `breast_cancer`, one of whose users is to be forgotten.

    `users` is `writers` (digits), `one_label`, `feature_skew`, `label_skew`, `adversarial` or `random`; `user` is the
    number of the writer, label or cell, or -1: the key draws one. `forgotten` = 0 stands for all records of that user.
    The start is N(0, start^2).
    """
    require(l2 >= 0, f"l2 = {l2}: the ridge cannot be negative")
    table = groupings.read(data)
    records = groupings.choose(key, data, users, user, forgotten, lambda: gradients(data, l2))
    instance = Data(
        Design.of(records.inputs),
        records.labels,
        records.weight,
        records.kept,
        records.unseen_inputs,
        records.unseen_labels,
        jnp.asarray(l2, float),
        jnp.asarray(start, float),
        table.classes,
    )
    n, d = table.inputs.shape
    known = Constants(
        L=jnp.asarray(np.linalg.eigvalsh(table.inputs.T @ table.inputs / n)[-1] / 2 + l2),
        L_max=jnp.asarray(0.5 + l2),
        G=jnp.asarray(np.sqrt(2.0)),
        n=jnp.asarray(n, float),
        forgotten=n - jnp.sum(records.kept),
        dimension=jnp.asarray(d * table.classes, float),
    )
    if l2 == 0:
        return Problem(SOFTMAX, instance, known)
    x_star, f_star, sigma_star_sq = (jnp.asarray(number) for number in optimum(data, l2))
    ridge = instance.l2
    known = replace(known, mu=ridge, mu_pl=ridge, mu_min=ridge, f_star=f_star, sigma_star_sq=sigma_star_sq)
    return Problem(RIDGE_SOFTMAX, instance, known, x_star)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of every row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def objective(W: np.ndarray, A: np.ndarray, labels: np.ndarray, l2: float) -> float:
    """Return f(W)."""
    scores = A @ W
    top = scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(A)), labels]
    return float(np.mean(np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0] - own) + 0.5 * l2 * np.sum(W**2))


@cache
def optimum(name: str, l2: float) -> tuple[np.ndarray, float, float]:
    """Return W_star, f(W_star) and the mean squared norm of the record gradients there, the same for every user.

    Newton's method from 0 on the host, steps halved until the value falls. Once the squared decrement <grad, step>,
    about twice the suboptimality, is below 1e-6 full steps converge quadratically; that below 1e-14 is the last one.
    """
    table = groupings.read(name)
    A, labels, C = table.inputs, table.labels, table.classes
    W, decrement = np.zeros((A.shape[1], C)), np.inf
    for _ in range(40):
        direction, decrement = newton(W, A, labels, l2)
        value = objective(W, A, labels, l2)
        trials = (W - 0.5**k * direction for k in range(20))
        lower = (trial for trial in trials if decrement < 1e-6 or objective(trial, A, labels, l2) < value)
        W = next(lower, W)
        if decrement < 1e-14:
            break
    residual = probabilities(A @ W) - np.eye(C)[labels]
    record = residual[:, None, :] * A[:, :, None] + l2 * W
    return W, objective(W, A, labels, l2), float(np.mean(np.sum(record**2, axis=(1, 2))))


def newton(W: np.ndarray, A: np.ndarray, labels: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Return H^-1 g and <g, H^-1 g> at W; H is the mean of (diag(p_i) - p_i p_i^T) x a_i a_i^T, plus l2."""
    (n, d), C = A.shape, W.shape[1]
    P = probabilities(A @ W)
    gradient = A.T @ (P - np.eye(C)[labels]) / n + l2 * W
    weighted = (A[:, :, None] * P[:, None, :]).reshape(n, d * C)
    H = (-weighted.T @ weighted / n + l2 * np.eye(d * C)).reshape(d, C, d, C)
    for c in range(C):
        H[:, c, :, c] += A.T @ (P[:, c, None] * A) / n
    direction = np.linalg.solve(H.reshape(d * C, d * C), gradient.ravel()).reshape(d, C)
    return direction, float(np.sum(gradient * direction))


def gradients(name: str, l2: float) -> np.ndarray:
    """Return the data gradients (n, d C) of the records at W_star, or at 0 without a ridge."""
    table = groupings.read(name)
    W: Any = optimum(name, l2)[0] if l2 > 0 else np.zeros((table.inputs.shape[1], table.classes))
    residual = probabilities(table.inputs @ W) - np.eye(table.classes)[table.labels]
    return (residual[:, None, :] * table.inputs[:, :, None]).reshape(len(residual), -1)
