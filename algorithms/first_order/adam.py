"""Adam:  m+ = b1 m + (1 - b1) g, v+ = b2 v + (1 - b2) g^2, x+ = x - eta mhat / (sqrt(vhat) + 1e-8), g = grad f(x).

mhat = m / (1 - b1^t) and vhat = v / (1 - b2^t). No theorem: its original convergence proof is wrong (Reddi et
al. 2018).
Source: Kingma & Ba (2015), Algorithm 1.
"""

import optax
from flax import struct
from jax import Array

from algorithms.from_optax import from_optax
from algorithms.theorem import Source


@struct.dataclass
class HParams:
    """eta: step size; beta1, beta2: decay of the two moments, in [0, 1)."""

    eta: Array | float | str = 1e-2
    beta1: Array | float | str = 0.9
    beta2: Array | float | str = 0.999


algorithm = from_optax(
    name="adam",
    make=lambda hp: optax.adam(hp.eta, hp.beta1, hp.beta2),
    hparams=HParams,
    source=Source("Kingma & Ba", 2015, "Adam: a method for stochastic optimization", "arXiv:1412.6980, Algorithm 1"),
)
