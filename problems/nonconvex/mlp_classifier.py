"""f(x) = mean cross-entropy of softmax(W2 tanh(W1 a + b1) + b2) on digits: a network, nothing proven.

Only f >= 0 is claimed (f_star = 0 is a lower bound). No smoothness constant holds on the whole space;
`measured_L` is the modulus of the Hessian's dominant eigenvalue at the point by power iteration, a
measurement (from below) and no bound: at the start it says which step sizes are worth a try. `accuracy` is
measured on the records that are not trained on.
Source: LeCun, Bottou, Orr & Mueller (1998), Efficient BackProp.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, struct
from jax import Array, lax

from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

PIXELS, CLASSES = 64, 10


@struct.dataclass
class Data:
    """Images (n, 64) in [0, 1] and digits (n,) to train on, and the others to test on."""

    images: Array
    digits: Array
    test_images: Array
    test_digits: Array


def sample(data: Data, key: Array, batch_size: int) -> Data:
    index = jax.random.randint(key, (batch_size,), 0, len(data.digits))
    return replace(data, images=data.images[index], digits=data.digits[index])


@cache
def family(width: int) -> Family[Data, Any]:
    """Return the family of networks with `width` hidden units: one object a width, hence static under jit."""
    network = linen.Sequential(
        [linen.Dense(width, param_dtype=float), linen.tanh, linen.Dense(CLASSES, param_dtype=float)]
    )

    def init(data: Data, key: Array) -> Any:
        return network.init(key, jnp.zeros(PIXELS))

    def value(data: Data, x: Any) -> Array:
        scores: Any = network.apply(x, data.images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, data.digits))

    def accuracy(data: Data, x: Any) -> Array:
        scores: Any = network.apply(x, data.test_images)
        return jnp.mean(jnp.argmax(scores, axis=-1) == data.test_digits)

    def measured_L(data: Data, x: Any) -> Array:
        return dominant_curvature(lambda x: value(data, x), x)

    return Family(
        name="mlp_classifier",
        regularity=Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
        init=init,
        value=value,
        sample=sample,
        measures=(("accuracy", accuracy), ("measured_L", measured_L)),
    )


def dominant_curvature(value: Any, x: Any, steps: int = 30) -> Array:
    """Return |H v| after `steps` power iterations v <- H v / |H v| on the Hessian H of `value` at `x`."""

    def multiply(v: Any) -> Any:
        return jax.jvp(jax.grad(value), (x,), (v,))[1]

    def step(_: int, v: Any) -> Any:
        return normalised(multiply(v))

    start = normalised(jax.grad(value)(x))
    return optax.tree.norm(multiply(lax.fori_loop(0, steps, step, start)))


def normalised(v: Any) -> Any:
    """Return v / |v|."""
    return optax.tree.scale(1 / optax.tree.norm(v), v)


def make(key: Array, *, width: int = 32, records: int = 600) -> Problem[Data, Any]:
    """Return the network of `width` hidden units on `records` random digits; the rest are for testing."""
    from sklearn import datasets

    digits: Any = datasets.load_digits()
    require(width >= 1, f"width = {width}: at least one hidden unit")
    require(0 < records < len(digits.target), f"records = {records}: between 1 and {len(digits.target) - 1}")
    order = jax.random.permutation(key, len(digits.target))
    images, labels = jnp.asarray(digits.data / 16.0)[order], jnp.asarray(digits.target)[order]
    data = Data(images[:records], labels[:records], images[records:], labels[records:])
    constants = Constants(f_star=jnp.zeros(()), n=jnp.asarray(records, float))
    return Problem(family(width), data, constants)
