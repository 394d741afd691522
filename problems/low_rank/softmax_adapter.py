"""ell(W) = mean_i [logsumexp(W x_i) - (W x_i)_{y_i}] + (lam/2) |W|_F^2, seen through adapters, W = W0 + B A.

Adapting a classifier of digits: W0 is the optimum on the digits 0 to 4 alone, the adapter learns all ten
(scikit-learn's 1797 images, pixels in [0, 1], centred). Constants: L = lambda_max(X^T X / N)/2 + lam, an
upper bound, since diag(p) - p p^T has norm at most 1/2; f_star = ell(W) - |grad ell(W)|^2/(2 lam) at a
numerical optimum W, a lower bound, since ell is lam-strongly convex; sigma_sq = 2 mean_i |x_i|^2, since the gradient of
a record is (p - e_y) x^T, the ridge aside, and |p - e_y|^2 <= 2.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.scipy.sparse.linalg import cg
from sklearn.datasets import load_digits

from problems.adapter import low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem
from problems.records import equal_weights, finite_sum, sampler

CLASSES = 10


@struct.dataclass
class Data:
    """X is (N, d) with labels y (N,) and record weights (N,) that sum to 1; W0 is (10, d)."""

    X: Array
    y: Array
    weight: Array
    W0: Array
    lam: Array


def init(data: Data, key: Array) -> Array:
    return data.W0


def scores(data: Data, W: Array) -> Array:
    return data.X @ W.T


def value(data: Data, W: Array) -> Array:
    logits = scores(data, W)
    own = jnp.take_along_axis(logits, data.y[:, None], axis=1)[:, 0]
    cross_entropy = data.weight @ (jax.nn.logsumexp(logits, axis=1) - own)
    return cross_entropy + 0.5 * data.lam * jnp.sum(W**2)


def accuracy(data: Data, W: Array) -> Array:
    return data.weight @ (jnp.argmax(scores(data, W), axis=1) == data.y)


def rows(data: Data, index: Array) -> Data:
    return replace(data, X=data.X[index], y=data.y[index], weight=equal_weights(data.weight, len(index)))


def variance(X: Array) -> Array:
    """Return 2 mean_i |x_i|^2, a bound on the variance of a record's gradient at every W."""
    return 2 * jnp.mean(jnp.sum(X**2, axis=1))


SOFTMAX_ADAPTER = Family(
    name="softmax_adapter",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.CONVEX
    | Regularity.STRONGLY_CONVEX
    | Regularity.PL
    | Regularity.LOWER_BOUNDED
    | Regularity.BOUNDED_VARIANCE
    | Regularity.MATRIX,
    init=init,
    value=value,
    sample=sampler(rows),
    records=finite_sum(rows),
    scores=scores,
    measures=(("accuracy", accuracy),),
)


def optimum(data: Data, steps: int = 12) -> Array:
    """Return the full weight that minimises the loss: Newton steps, halved until the loss does not increase."""
    gradient = jax.grad(value, argnums=1)
    lengths = jnp.append(0.5 ** jnp.arange(10), 0.0)

    def step(_: int, W: Array) -> Array:
        slope = gradient(data, W)
        direction = cg(lambda v: jax.jvp(lambda W: gradient(data, W), (W,), (v,))[1], slope, tol=1e-4, maxiter=60)[0]
        trials = W - lengths[:, None, None] * direction
        acceptable = lax.map(lambda trial: value(data, trial), trials) <= value(data, W)
        return trials[jnp.argmax(acceptable)]

    return lax.fori_loop(0, steps, step, jnp.zeros((CLASSES, data.X.shape[1])))


def make(key: Array, *, rank: int = 4, lam: float = 1e-3) -> Problem:
    """Return the problem with adapters of rank `rank` and ridge `lam`, the same for every key; rank 0: W itself."""
    require(lam > 0, f"lam = {lam}: the lower bound of the loss needs a positive ridge")
    images, digits = load_digits(return_X_y=True)
    X, y = jnp.asarray(images / 16 - (images / 16).mean(axis=0)), jnp.asarray(digits)
    known = (y < 5) / jnp.sum(y < 5)
    every = jnp.full(len(digits), 1 / len(digits))
    data = Data(X, y, every, jnp.zeros((CLASSES, X.shape[1])), jnp.asarray(lam, float))
    W = optimum(data)
    slope = jax.grad(value, argnums=1)(data, W)
    constants = Constants(
        L=0.5 * jnp.linalg.eigvalsh(X.T @ X / len(digits))[-1] + lam,
        mu=data.lam,
        mu_pl=data.lam,
        f_star=value(data, W) - jnp.sum(slope**2) / (2 * lam),
        sigma_sq=variance(X),
        n=jnp.asarray(float(len(digits))),
        rows=jnp.asarray(float(CLASSES)),
        columns=jnp.asarray(float(X.shape[1])),
    )
    problem = Problem(SOFTMAX_ADAPTER, replace(data, W0=optimum(replace(data, weight=known))), constants, W)
    return low_rank(problem, rank) if rank else problem
