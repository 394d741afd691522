"""Retraining from scratch: u_0 = x_0, then T steps u+ = u - eta grad f_{D'}(u), published as it is.

The yardstick of unlearning (Bourtoule et al. 2021, arXiv:1912.03817): sensitivity and noise are exactly 0, at
full cost. The same run as Rewind-to-Delete with K = T.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax

from algorithms.algorithm import Algorithm
from algorithms.deletion import (
    PRIVACY_SPENT,
    PUBLISHED_DISTANCE,
    SENSITIVITY,
    HParams,
    State,
    calls,
    readout,
    start_gradient,
    step,
)
from algorithms.deletion import prepare as prepare_deletion
from algorithms.theorem import Source
from problems.problem import Oracle, Regularity


def prepare(hp: Any) -> Any:
    """Return `hp` with K = T, as all steps are repeated; raise `InvalidSetting` like the other methods."""
    return prepare_deletion(replace(hp, K=hp.T))


def init(problem, x0, key, hp):
    return State(
        x=x0,
        retrained=x0,
        remaining=jnp.asarray(hp.T, int),
        retraining_remaining=jnp.asarray(hp.T, int),
        noise=optax.tree.zeros_like(x0),
        sigma=jnp.zeros(()),
        epsilon=jnp.asarray(hp.epsilon, float),
        start_gradient=start_gradient(problem, x0),
    )


algorithm = Algorithm(
    name="retraining",
    source=Source("Bourtoule et al.", 2021, "Machine unlearning", "arXiv:1912.03817"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    requires=Regularity.DELETABLE,
    calls=calls,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE),
)
