"""SCRUB:  from w = x_T, in turn climb KL_Z(w, u), a few times, and descend gamma f_{D'}(u) + alpha KL_{D'}(w, u).

Source: Kurmanji, Triantafillou, Hayes & Triantafillou (2023), arXiv:2302.09880, section 3. The learned model w
teaches: the student u is driven from it on minibatches of Z, held to it and to the labels on minibatches of D'.
  KL_B(w, u) = mean over B of tau^2 KL(softmax(s(w)/tau) || softmax(s(u)/tau)),  s class scores, tau temperature
Of the K steps of `algorithms.tuning`, numbers 0, 2, ..., 2 ascents - 2 climb and all others descend. The divergence
is flat at u = w, so that the very first step stands still. ascents = alpha = 0, gamma = 1 is fine-tuning. Momentum,
weight decay and clipping of the source's experiments are left out. Nothing is proven about it.
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
from algorithms.tuning import METRICS, advance, forgotten_rows, init, keep_unless, readout, retained_rows
from problems.oracles import Oracle
from problems.problem import Problem


@struct.dataclass
class HParams(tuning.HParams):
    """Those of `algorithms.tuning`; ascents: climbing steps; alpha, gamma: weights; temperature: tau."""

    ascents: Array | float | str = 5
    alpha: Array | float | str = 0.001
    gamma: Array | float | str = 0.99
    temperature: Array | float | str = 4.0


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` also for negative weights or ascents, or a temperature that is not > 0."""
    for name in ("ascents", "alpha", "gamma"):
        value = np.asarray(getattr(hp, name), float)
        refuse_unless((value >= 0) & np.isfinite(value), f"{name} = {getattr(hp, name)}: must be >= 0 and finite")
    tau = np.asarray(hp.temperature, float)
    refuse_unless((tau > 0) & np.isfinite(tau), f"temperature = {hp.temperature}: must be positive and finite")
    return tuning.prepare(hp)


def divergence(problem: Problem, teacher: Any, student: Any, temperature: Array) -> Array:
    """Return the mean over records of tau^2 KL(softmax(s(teacher)/tau) || softmax(s(student)/tau))."""
    taught, learnt = (jax.nn.log_softmax(problem.scores(x) / temperature) for x in (teacher, student))
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(learnt, taught).mean()


def step(problem, state, key, hp):
    teacher, k = state.learned, state.t - hp.T
    retained = retained_rows(problem, key, hp.batch_size)
    forgotten = forgotten_rows(problem, jax.random.fold_in(key, 1), hp.batch_size)

    def hold(x):
        return hp.gamma * retained.value(x) + hp.alpha * divergence(retained, teacher, x, hp.temperature)

    def drive(x):
        return -divergence(forgotten, teacher, x, hp.temperature)

    climbs = (k % 2 == 0) & (k < 2 * hp.ascents)
    direction = keep_unless(climbs, jax.grad(hold)(state.x), jax.grad(drive)(state.x))
    return advance(problem, state, hp, direction)


algorithm = Algorithm(
    name="scrub",
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
    needs=Oracle.GRADIENT | Oracle.RETAIN | Oracle.SCORES,
    prepare=prepare,
    metrics=METRICS,
)
