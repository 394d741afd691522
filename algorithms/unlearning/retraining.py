"""Retraining from scratch:  T times u+ = u - eta grad f_{D'}(u) from x_0, published as it is.

The yardstick of unlearning (Bourtoule et al. 2021, arXiv:1912.03817): sensitivity (up to rounding) and noise are 0, at
full cost. The run of `algorithms.deletion` that turns to D' at once, that is Rewind-to-Delete with K = T.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from algorithms.algorithm import Algorithm
from algorithms.deletion import (
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    HParams,
    begin,
    readout,
    step,
)
from algorithms.deletion import prepare as prepare_deletion
from algorithms.metric import VALUE
from algorithms.theorem import Source
from problems.problem import Oracle


def prepare(hp: Any) -> Any:
    """Return `hp` with K = T, as all steps are repeated; raise `InvalidSetting` like the other methods."""
    return prepare_deletion(replace(hp, K=hp.T))


def init(problem, x0, key, hp):
    return begin(problem, x0, key, hp, jnp.zeros(()), hp.T, jnp.zeros_like)


algorithm = Algorithm(
    name="retraining",
    source=Source("Bourtoule et al.", 2021, "Machine unlearning", "arXiv:1912.03817"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, VALUE),
)
