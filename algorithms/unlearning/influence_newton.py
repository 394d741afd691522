"""One Newton step:  u = w - (H + damping I)^{-1} grad f_{D'}(w) from w = x_T, H the Hessian of f_{D'} at w.

Source: Guo, Goldstein, Hannun & van der Maaten (2020), arXiv:1911.03030, for linear models; with a damped Hessian the
update of Zhang, Dong, Wang & Li (2024), arXiv:2408.00920, for networks. Their certificates rest on noise and on
constants (a Lipschitz Hessian, a bounded domain) that are not stated here, so that this one is uncertified: w - z_k
is published as it is, z_k the k-th iterate of conjugate gradients, k <= K; a direction of no positive curvature ends
them. On a quadratic without damping d steps reach the minimiser of f_{D'}, hence retraining that has converged.
Learning and retraining are those of `algorithms.tuning`. A step is counted as one gradient: a Hessian-vector product
costs about two.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms import tuning
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.recursions import descend_by
from algorithms.theorem import Source
from algorithms.tuning import METRICS, keep_unless, prepare_steps, readout
from problems.oracles import Oracle
from problems.problem import Problem


@struct.dataclass
class HParams:
    """eta: step size of learning; K: steps of conjugate gradients; T: learning steps; damping: added to the Hessian."""

    eta: Array | float | str = "1/L_max"
    K: Array | float | str = 20
    T: Array | float | str = 100
    damping: Array | float | str = 0.0


@struct.dataclass
class State(tuning.State):
    """That of `algorithms.tuning`; residual: what is left of grad f_{D'}(w); search: the direction of the next step."""

    residual: Any
    search: Any


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for a step size, counts or a damping without meaning."""
    damping = np.asarray(hp.damping, float)
    refuse_unless((damping >= 0) & np.isfinite(damping), f"damping = {hp.damping}: must be >= 0 and finite")
    return prepare_steps(hp)


def init(problem, x0, key, hp):
    start = tuning.init(problem, x0, key, hp)
    return State(**vars(start), residual=optax.tree.zeros_like(x0), search=optax.tree.zeros_like(x0))


def conjugate_step(retained: Problem, state: State, damping: Array) -> State:
    """Return the state after one step of conjugate gradients; it stands still where the search has no curvature."""

    def gradient(x: Any) -> Any:
        return optax.tree.add_scale(retained.grad(x), damping, x)

    curved = jax.jvp(gradient, (state.learned,), (state.search,))[1]
    size, curvature = optax.tree.norm(state.residual, squared=True), jnp.asarray(optax.tree.vdot(state.search, curved))
    alpha = jnp.where(curvature > 0, size / jnp.where(curvature > 0, curvature, 1.0), 0.0)
    residual = descend_by(state.residual, alpha, curved)
    beta = optax.tree.norm(residual, squared=True) / jnp.where(size > 0, size, 1.0)
    search = optax.tree.add_scale(residual, beta, state.search)
    return replace(state, x=descend_by(state.x, alpha, state.search), residual=residual, search=search)


def step(problem, state, key, hp):
    learning, solving = state.t < hp.T, (state.t >= hp.T) & (state.t < hp.T + hp.K)
    retained = problem.retained()
    learned = descend_by(state.x, hp.eta, problem.grad(state.x))
    retrained = descend_by(state.retrained, hp.eta, retained.grad(state.retrained))
    gradient = retained.grad(state.learned)
    begun = keep_unless(state.t == hp.T, state, replace(state, residual=gradient, search=gradient))
    solved = keep_unless(solving, state, conjugate_step(retained, begun, hp.damping))
    taught = replace(state, x=learned, learned=learned, retrained=retrained)
    return replace(keep_unless(learning, solved, taught), t=state.t + 1)


algorithm = Algorithm(
    name="influence_newton",
    source=Source(
        "Guo, Goldstein, Hannun & van der Maaten",
        2020,
        "Certified data removal from machine learning models",
        "arXiv:1911.03030",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.GRADIENT | Oracle.RETAIN,
    prepare=prepare,
    metrics=METRICS,
)
