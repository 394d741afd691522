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
from algorithms.sensitivity import is_step
from algorithms.theorem import Control, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle

SOURCE = Source("Bourtoule et al.", 2021, "Machine unlearning", "arXiv:1912.03817")


def prepare(hp: Any) -> Any:
    """Return `hp` with K = T, as all steps are repeated; raise `InvalidSetting` like the other methods."""
    return prepare_deletion(replace(hp, K=hp.T))


def init(problem, x0, key, hp):
    return begin(problem, x0, key, hp, jnp.zeros(()), hp.T, jnp.zeros_like)


certificate = Theorem(
    name="retraining_certificate",
    statement="published u_T is v_T itself: exact delta(epsilon) = 0 <= delta",
    source=SOURCE,
    assumes=Regularity.NONE,
    metric=PRIVACY_SPENT,
    given=(),
    condition="every setting",
    admits=is_step,
    bound=lambda t, c, hp: jnp.where(t >= hp.T, hp.delta, jnp.nan),
    control=Control(
        why="nothing is retrained and no noise is added: the old model is published",
        problem="tight_deletion[curvature=1.0]",
        setting="eta=0.05,K=0,noise_scale=0",
        algorithm="descent_to_delete",
    ),
    certifies="deletion of any records: exact retraining",
)

algorithm = Algorithm(
    name="retraining",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=(SENSITIVITY, PRIVACY_SPENT, PUBLISHED_DISTANCE, VALUE),
    theorems=(certificate,),
)
