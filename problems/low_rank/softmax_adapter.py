"""f(B, A) = mean_i [logsumexp(W x_i) - (W x_i)_{y_i}] + (lam/2) |W|_F^2 with W = W0 + B A.

Adapting a classifier of digits: W0 is the optimum on the digits 0 to 4 alone, the adapter learns all ten
(scikit-learn's 1797 images, pixels in [0, 1], centred). Constants: L_weight = lambda_max(X^T X / N)/2 + lam, an
upper bound, since diag(p) - p p^T has norm at most 1/2; ell_star = ell(W) - |grad ell(W)|^2/(2 lam) at a
numerical optimum W, a lower bound, since ell is lam-strongly convex.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.scipy.sparse.linalg import cg
from sklearn.datasets import load_digits

from problems.adapter import Adapter, kaiming_start, merge
from problems.problem import Constants, Factored, Family, Problem, Regularity, require

CLASSES = 10


@struct.dataclass
class Data:
    """X is (N, d) with labels y (N,) and record weights (N,) that sum to 1; W0 is (10, d)."""

    X: Array
    y: Array
    weights: Array
    W0: Array
    lam: Array
    rank: int = struct.field(pytree_node=False)


def init(data: Data, key: Array) -> Adapter:
    return kaiming_start(key, data.W0, data.rank)


def loss(data: Data, W: Array) -> Array:
    logits = data.X @ W.T
    own = jnp.take_along_axis(logits, data.y[:, None], axis=1)[:, 0]
    cross_entropy = data.weights @ (jax.nn.logsumexp(logits, axis=1) - own)
    return cross_entropy + 0.5 * data.lam * jnp.sum(W**2)


def merged(data: Data, x: Adapter) -> Array:
    return merge(data.W0, x)


def value(data: Data, x: Adapter) -> Array:
    return loss(data, merged(data, x))


SOFTMAX_ADAPTER = Family(
    name="softmax_adapter",
    regularity=Regularity.SMOOTH_IN_WEIGHT | Regularity.NONNEGATIVE,
    init=init,
    value=value,
    factored=Factored(merged, loss),
)


def optimum(data: Data, steps: int = 12) -> Array:
    """Return the full weight that minimises the loss: Newton steps, halved until the loss does not increase."""
    gradient = jax.grad(loss, argnums=1)
    lengths = jnp.append(0.5 ** jnp.arange(10), 0.0)

    def step(_: int, W: Array) -> Array:
        slope = gradient(data, W)
        direction = cg(lambda v: jax.jvp(lambda W: gradient(data, W), (W,), (v,))[1], slope, tol=1e-4, maxiter=60)[0]
        trials = W - lengths[:, None, None] * direction
        acceptable = lax.map(lambda trial: loss(data, trial), trials) <= loss(data, W)
        return trials[jnp.argmax(acceptable)]

    return lax.fori_loop(0, steps, step, jnp.zeros((CLASSES, data.X.shape[1])))


def make(key: Array, *, rank: int = 4, lam: float = 1e-3) -> Problem[Data, Adapter]:
    """Return the problem with adapters of rank `rank` and ridge `lam`, the same for every key."""
    require(1 <= rank <= CLASSES, f"rank = {rank}: adapters of a 10 x 64 weight have rank 1 to 10")
    require(lam > 0, f"lam = {lam}: the lower bound of the loss needs a positive ridge")
    images, digits = load_digits(return_X_y=True)
    X, y = jnp.asarray(images / 16 - (images / 16).mean(axis=0)), jnp.asarray(digits)
    known = (y < 5) / jnp.sum(y < 5)
    every = jnp.full(len(digits), 1 / len(digits))
    data = Data(X, y, every, jnp.zeros((CLASSES, X.shape[1])), jnp.asarray(lam, float), rank)
    W = optimum(data)
    slope = jax.grad(loss, argnums=1)(data, W)
    constants = Constants(
        L_weight=0.5 * jnp.linalg.eigvalsh(X.T @ X / len(digits))[-1] + lam,
        ell_star=loss(data, W) - jnp.sum(slope**2) / (2 * lam),
    )
    W0 = optimum(replace(data, weights=known))
    return Problem(SOFTMAX_ADAPTER, replace(data, W0=W0), constants)
