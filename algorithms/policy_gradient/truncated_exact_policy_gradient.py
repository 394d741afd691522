"""Exact ascent on the return of H steps, noiseless and biased:  x+ = x + eta grad J_H(x),  J = -f.

Proofs of the three statements are in `algorithms.truncation`. The escape law is linearised at the saddle;
curvature beyond second order delays it by delta^2/(12 eta lam) steps, which the condition keeps below one
half.
Sources: Yuan, Gower & Lazaric (2022); Mu & Klabjan (2024), arXiv:2311.02546; constants and laws derived here.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, initial, running_sum
from algorithms.recursions import descend_by
from algorithms.theorem import Control, Kind, Source, Theorem
from algorithms.truncation import (
    ESCAPE_DISTANCE,
    STEPS_NEAR_SADDLE,
    TRUNCATION_BIAS,
    bias_bound,
    biased_ascent_bound,
    is_stable,
    prepare,
    saddle_bias,
    steps_to_escape,
)
from problems.constants import Regularity
from problems.oracles import Oracle

YUAN_GOWER_LAZARIC_2022 = Source(
    "Yuan, Gower & Lazaric",
    2022,
    "A general sample complexity analysis of vanilla policy gradient",
    "arXiv:2107.11433, truncation of the gradient; constant derived here",
)


@struct.dataclass
class HParams:
    """eta: step size; horizon: steps after which the return is cut, a mask and not a shape."""

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
    return state.replace(x=descend_by(state.x, hp.eta, problem.truncated(hp.horizon).grad(state.x)))


def readout(state):
    return state.x


def is_cut(c, hp: Any):
    """Return whether H >= 1."""
    return hp.horizon >= 1


def escape_bound(t, c, hp: Any, z_0):
    """Return min(t + 1, k rounded up), the number of near points among x_0, ..., x_t; NaN where z_0 < 0."""
    offset = saddle_bias(c, hp.horizon) / c.curvature
    k = steps_to_escape(c, hp.eta, (c.escape_radius + offset) / (z_0 + offset))
    return jnp.where(z_0 >= 0, jnp.minimum(t + 1, jnp.ceil(k)), jnp.nan)


def is_linear_escape(c, hp: Any):
    """Return whether the linearised escape is accurate to a step."""
    rate = hp.eta * c.curvature
    near = saddle_bias(c, hp.horizon) <= c.escape_radius * c.curvature
    return near & (rate >= c.escape_radius**2 / 6) & (rate <= 1) & (hp.horizon >= 2)


bias = Theorem(
    name="truncation_bias",
    statement="|grad J - grad J_H| <= sqrt(lamF) R_c gamma^H sqrt(H + 1/(1-gamma)) / (1-gamma)",
    source=YUAN_GOWER_LAZARIC_2022,
    assumes=Regularity.SOFTMAX_POLICY,
    metric=TRUNCATION_BIAS,
    given=(),
    condition="H >= 1",
    admits=is_cut,
    bound=lambda t, c, hp: bias_bound(c, hp.horizon),
    control=Control(
        why="a smaller discount factor promises that the rewards cut off weigh less than they do",
        problem="garnet[S=10,A=3,gamma=0.9]",
        setting="eta=1/L,horizon=40",
        misstate={"gamma": 0.8},
    ),
)

biased_ascent = Theorem(
    name="truncated_policy_gradient_biased_ascent",
    statement="sum_(k<=t) |grad J(x_k)|^2 <= 2 (J* - J(x_0))/eta + (t+1) beta(H)^2",
    source=Source("derived here", 2026, "ascent lemma with a bounded bias", "algorithms/truncation.py"),
    assumes=Regularity.SMOOTH | Regularity.LOWER_BOUNDED | Regularity.SOFTMAX_POLICY,
    metric=running_sum(GRADIENT_NORM_SQ),
    given=(initial(SUBOPTIMALITY),),
    condition="0 < eta <= 1/L",
    admits=is_stable,
    bound=lambda t, c, hp, gap: biased_ascent_bound(t, c, hp, gap, 0.0),
    control=Control(
        why="without its bias the method would not leave the neighbourhood of an optimum",
        problem="delay_saddle[kappa=1.0,start=-5.0]",
        setting="eta=1/L,horizon=5",
        misstate={"R_c": 0.001},
    ),
)

escape = Theorem(
    name="truncation_escapes_saddle",
    statement="v.x reaches delta after log((delta + b_v/lam)/(v.x_0 + b_v/lam))/log(1 + eta lam) steps",
    source=Source("derived here", 2026, "linearised escape under a bias", "algorithms/truncation.py"),
    assumes=Regularity.STRICT_SADDLE,
    metric=STEPS_NEAR_SADDLE,
    given=(initial(ESCAPE_DISTANCE),),
    condition="v.x_0 >= 0, H >= 2, b_v <= delta lam, delta^2/6 <= eta lam <= 1",
    admits=is_linear_escape,
    bound=escape_bound,
    control=Control(
        why="a bias a hundred times smaller takes longer to leave",
        problem="delay_saddle[kappa=0.05]",
        setting="eta=1.0,horizon=20",
        misstate={"delay_cost": 0.01},
    ),
    kind=Kind.EXACT,
    slack=1.0,
)

algorithm = Algorithm(
    name="truncated_exact_policy_gradient",
    source=YUAN_GOWER_LAZARIC_2022,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TRUNCATE,
    requires=Regularity.SOFTMAX_POLICY,
    prepare=prepare,
    metrics=(TRUNCATION_BIAS,),
    theorems=(bias, biased_ascent, escape),
)
