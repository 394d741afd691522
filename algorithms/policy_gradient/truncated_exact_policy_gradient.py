"""Exact ascent on the return of H steps, noiseless and biased:  x+ = x + eta grad J_H(x),  J = -f.

Proofs of the statements are in `algorithms.truncation` (ascent, escape), `algorithms.cut_horizon` (bias,
stationarity). The escape law is linearised at the saddle; curvature beyond second order
delays it by delta^2/(12 eta lam) steps, which the condition keeps below one half. Floor: where grad f_H = 0 the
gradient that is left is the bias.
Sources: Yuan, Gower & Lazaric (2022); Mu & Klabjan (2024), arXiv:2311.02546; constants and laws derived here.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.cut_horizon import (
    GRADIENT_NORM,
    HESSIAN_BIAS,
    LIMIT,
    MIXING_FACTOR,
    UNMIXED,
    hessian_bound,
    limit_law,
    mixing_bound,
    transfer_bound,
)
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, initial, running_sum
from algorithms.recursions import descend_by
from algorithms.second_order import GRADIENT_NORM_AT_HORIZON, SECOND_ORDER, TOP_CURVATURE_AT_HORIZON
from algorithms.theorem import Control, Kind, Source, Theorem
from algorithms.truncation import (
    ESCAPE_DISTANCE,
    STEPS_NEAR_SADDLE,
    TRUNCATION_BIAS,
    bias_bound,
    biased_ascent_bound,
    is_cut,
    is_linear,
    is_stable,
    near_points,
    prepare,
    saddle_bias,
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
    """eta: step size; horizon: steps after which a mask and not a shape."""

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


def floor_law(t, c, hp: Any, limit, unmixed, residual):
    """Return the limit of the bias where ascent on J_H has ended, up to a thousandth of it."""
    law = limit_law(c, hp.horizon, limit, unmixed)
    return jnp.where(residual <= 1e-3 * law, law, jnp.nan)


def escape_bound(t, c, hp: Any, z_0):
    """Return the number of near points among x_0, ..., x_t under the bias at the saddle."""
    return near_points(t, c, hp.eta, saddle_bias(c, hp.horizon) / c.curvature, z_0)


def is_linear_escape(c, hp: Any):
    """Return whether the linearised escape is accurate to a step and the bias leaves the radius to it."""
    near = saddle_bias(c, hp.horizon) <= c.escape_radius * c.curvature
    return near & is_linear(c, hp.eta) & (hp.horizon >= 2)


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

mixing = Theorem(
    name="truncation_bias_mixing",
    statement="|grad J - grad J_H| <= gamma^H sqrt(lamF) (span V/(2 (1-tau)) + max_s span_a Q/(2 (1-gamma)))",
    source=Source("derived here", 2026, "truncation bias of a mixing chain", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=TRUNCATION_BIAS,
    given=(MIXING_FACTOR,),
    condition="H >= 1; speaks where Dobrushin's coefficient tau of P_pi is below 1",
    admits=is_cut,
    bound=lambda t, c, hp, factor: mixing_bound(c, hp.horizon, factor),
    control=Control(
        why="a smaller discount factor promises a bias that vanishes sooner",
        problem="garnet[S=10,A=3,gamma=0.9]",
        setting="eta=1/L,horizon=40",
        misstate={"gamma": 0.8},
    ),
)

asymptotic = Theorem(
    name="truncation_bias_limit",
    statement="gamma^-H |grad J - grad J_H| -> |grad h|/(1-gamma), h the average reward: no polynomial factor",
    source=Source("derived here", 2026, "the sharp constant of the truncation bias", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=TRUNCATION_BIAS,
    given=(LIMIT, UNMIXED),
    condition="H >= 1; speaks once H tau(P_pi^(H/8))^6 span V <= |grad h|/1000, tau Dobrushin's coefficient",
    admits=is_cut,
    bound=lambda t, c, hp, limit, unmixed: limit_law(c, hp.horizon, limit, unmixed),
    control=Control(
        why="the discount factor is the slope of the bias in H",
        problem="garnet[S=10,A=3,gamma=0.9]",
        setting="eta=1/L,horizon=60",
        misstate={"gamma": 0.99},
    ),
    kind=Kind.EXACT,
    tolerance=0.005,
)

hessian = Theorem(
    name="truncation_hessian_bias",
    statement="|Hess J - Hess J_H| <= R_c (lamF + F) gamma^H (H + 1/(1-gamma)) / (1-gamma)",
    source=Source("derived here", 2026, "truncation bias of the Hessian", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=HESSIAN_BIAS,
    given=(),
    condition="H >= 1",
    admits=is_cut,
    bound=lambda t, c, hp: hessian_bound(c, hp.horizon),
    control=Control(
        why="a smaller discount factor promises that the rewards cut off curve less than they do",
        problem="garnet[S=4,A=2,branching=2,gamma=0.9]",
        setting="eta=1/L,horizon=40",
        misstate={"gamma": 0.8},
        steps=20,
    ),
)

transfer = Theorem(
    name="second_order_transfer",
    statement="x is an (eps, sqrt(rho eps))-SOSP of J, eps = max(|grad J_H| + beta, (lam_H+ + Hessian bias)^2/rho)",
    source=Source("derived here", 2026, "second-order stationarity carried from J_H to J", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY | Regularity.HESSIAN_LIPSCHITZ,
    metric=SECOND_ORDER,
    given=(GRADIENT_NORM_AT_HORIZON, TOP_CURVATURE_AT_HORIZON),
    condition="H >= 1",
    admits=is_cut,
    bound=lambda t, c, hp, slope, curvature: transfer_bound(c, hp.horizon, slope, curvature),
    control=Control(
        why="without its bias a stationary point of the cut return would be one of the whole",
        problem="garnet[S=4,A=2,branching=2,gamma=0.8,l2=0.05]",
        setting="eta=10/L,horizon=5",
        misstate={"R_c": 0.001},
        steps=2000,
    ),
)

floor = Theorem(
    name="truncation_floor",
    statement="where grad f_H = 0: |grad f| = |grad J - grad J_H| -> gamma^H |grad h|/(1-gamma)",
    source=Source("derived here", 2026, "ascent on a cut return ends at its bias", "algorithms/cut_horizon.py"),
    assumes=Regularity.SOFTMAX_POLICY,
    metric=GRADIENT_NORM,
    given=(LIMIT, UNMIXED, GRADIENT_NORM_AT_HORIZON),
    condition="H >= 1; speaks once |grad f_H| is a thousandth of it and H tau(P_pi^(H/8))^6 span V of |grad h|",
    admits=is_cut,
    bound=floor_law,
    control=Control(
        why="a larger discount factor promises a higher floor",
        problem="garnet[S=5,A=3,gamma=0.8,l2=0.05]",
        setting="eta=10/L,horizon=40",
        misstate={"gamma": 0.97},
        steps=2000,
    ),
    kind=Kind.EXACT,
    tolerance=0.01,
)

algorithm = Algorithm(
    name="truncated_exact_policy_gradient",
    source=YUAN_GOWER_LAZARIC_2022,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TRUNCATE | Oracle.TABLE,
    requires=Regularity.SOFTMAX_POLICY,
    prepare=prepare,
    metrics=(TRUNCATION_BIAS,),
    theorems=(bias, biased_ascent, escape, mixing, asymptotic, hessian, transfer, floor),
)
