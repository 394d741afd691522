"""Exact values, cut visits:  x+ = x + eta sum_(t<H) gamma^t E[score_t Q(s_t, a_t)].

The policy gradient theorem with its sum over visits cut after H steps: Q is exact, so a cut sum misses only what late
visits weigh, and no horizon enters the values. Proof of the bias in `algorithms.cut_horizon`.
Source: Sutton, McAllester, Singh & Mansour (2000), Theorem 1.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.cut_horizon import DEVIATION, VISITS_BIAS, visits_bound, visits_gradient
from algorithms.metric import GRADIENT_NORM_SQ
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Source, Theorem
from algorithms.truncation import is_cut, prepare
from problems.constants import Regularity
from problems.oracles import Oracle


@struct.dataclass
class HParams:
    """eta: step size; horizon: steps after which visits no longer count, a mask and not a shape."""

    eta: Array | float | str = "1/L"
    horizon: Array | int = 20


@struct.dataclass
class State:
    """The horizon is read by measurements only."""

    x: Array
    horizon: Array


def init(problem, x0, key, hp):
    return State(x0, jnp.asarray(hp.horizon))


def step(problem, state, key, hp):
    return state.replace(x=descend_by(state.x, hp.eta, visits_gradient(problem, state.x, hp.horizon)))


def readout(state):
    return state.x


def bias_bound(t, c, hp: Any, deviation):
    """Return the bound on the bias of cut visits."""
    return visits_bound(c, hp.horizon, deviation)


bias = Theorem(
    name="cut_visits_bias",
    statement="|grad J - sum_(t<H) gamma^t E score_t Q_t| <= gamma^H sqrt(lamF) max_s std_a Q(s, .) / (1-gamma)",
    source=Source("derived here", 2026, "policy gradient theorem with cut visits", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    metric=VISITS_BIAS,
    given=(DEVIATION,),
    condition="H >= 1",
    admits=is_cut,
    bound=bias_bound,
    control=Control(
        why="a smaller discount factor promises that late visits weigh less than they do",
        problem="garnet[S=10,A=3,gamma=0.9]",
        setting="eta=1/L,horizon=40",
        misstate={"gamma": 0.8},
    ),
)

algorithm = Algorithm(
    name="cut_visits_policy_gradient",
    source=Source(
        "Sutton, McAllester, Singh & Mansour",
        2000,
        "Policy gradient methods for reinforcement learning with function approximation",
        "Theorem 1",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TABLE,
    requires=Regularity.DISCOUNTED_RETURN,
    prepare=prepare,
    metrics=(GRADIENT_NORM_SQ,),
    theorems=(bias,),
)
