"""NegGrad+:  from x_T, K times u+ = u - eta_tune (grad f_B(u) - ascent grad f_C(u)), B in D', C in Z.

Source: Kurmanji, Triantafillou, Hayes & Triantafillou (2023), arXiv:2302.09880, section 5. The run of
`algorithms.tuning` that descends on b records of D' and climbs on b records of Z with a small weight; ascent = 0 is
fine-tuning. Nothing is proven about it: f_{D'} - ascent f_Z need not be bounded below.
"""

from typing import Any

import jax
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms import tuning
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.theorem import Source
from algorithms.tuning import METRICS, advance, forgotten_rows, init, readout, retained_rows
from problems.oracles import Oracle


@struct.dataclass
class HParams(tuning.HParams):
    """Those of `algorithms.tuning`; ascent: the weight of the forgotten records, 0 to forget by fine-tuning alone."""

    ascent: Array | float | str = 0.05


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` also for a negative `ascent`."""
    refuse_unless(np.asarray(hp.ascent, float) >= 0, f"ascent = {hp.ascent}: a weight must be >= 0")
    return tuning.prepare(hp)


def step(problem, state, key, hp):
    down = retained_rows(problem, key, hp.batch_size).grad(state.x)
    up = forgotten_rows(problem, jax.random.fold_in(key, 1), hp.batch_size).grad(state.x)
    return advance(problem, state, hp, optax.tree.add_scale(down, -hp.ascent, up))


algorithm = Algorithm(
    name="negative_gradient_plus",
    source=Source(
        "Kurmanji, Triantafillou, Hayes & Triantafillou",
        2023,
        "Towards unbounded machine unlearning",
        "arXiv:2302.09880",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=METRICS,
)
