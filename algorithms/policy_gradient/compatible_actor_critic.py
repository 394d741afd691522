"""Actor-critic with compatible features:  x+ = x + eta E_(d,p) score (psi.w),  w = argmin E_(d,p) (Q - psi.w)^2.

With psi = score (whatever the misfit Q - psi.w) the normal equations E score (Q - score.w) = 0 say that the step is
grad J = E_(d,p) score Q exactly. `dropped` leaves the last coordinates of the score out of psi: then it is not.
Source: Sutton, McAllester, Singh & Mansour (2000), Theorem 2.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.estimator_moments import scored
from algorithms.metric import GRADIENT_NORM_SQ, Metric
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Source, Theorem
from problems.constants import Regularity
from problems.decision_process import action_values, occupancy
from problems.oracles import Oracle

NEGLIGIBLE = 1e-12  # the bias that counts as none, as PG15 says
SUTTON_2000 = Source(
    "Sutton, McAllester, Singh & Mansour",
    2000,
    "Policy gradient methods for reinforcement learning with function approximation",
    "Theorem 2",
)


@struct.dataclass
class HParams:
    """eta: step size; dropped: how many of the last coordinates of the score the critic does without."""

    eta: Array | float | str = "1/L"
    dropped: Array | int = 0


@struct.dataclass
class State:
    """dropped is read by measurements only."""

    x: Array
    dropped: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for eta <= 0, or dropped not a whole number >= 0."""
    refuse_unless_positive(hp.eta)
    dropped = np.asarray(hp.dropped, float)
    refuse_unless((dropped >= 0) & (dropped == np.floor(dropped)), f"dropped = {hp.dropped}: a whole number >= 0")
    return hp


def init(problem, x0, key, hp):
    return State(x0, jnp.asarray(hp.dropped))


def fitted(problem, x, dropped) -> tuple[Array, Array]:
    """Return g in the shape of x, and the misfit sqrt(E_(dt,p) (Q - psi.w)^2)."""
    mdp, p = problem.mdp, jnp.exp(problem.log_policy(x))
    score, Q = scored(problem, x).c.reshape(p.size, -1), action_values(mdp, p).ravel()
    weight = (occupancy(mdp, p)[:, None] * p).ravel()
    psi = jnp.where(jnp.arange(x.size) < x.size - dropped, score, 0.0)
    root = jnp.sqrt(weight)
    w = jnp.linalg.lstsq(root[:, None] * psi, root * Q, rcond=1e-13)[0]
    error = (1 - mdp.gamma) * weight @ (Q - psi @ w) ** 2
    return (score.T @ (weight * (psi @ w))).reshape(x.shape), jnp.sqrt(error)


def step(problem, state, key, hp):
    g, _ = fitted(problem, state.x, hp.dropped)
    return state.replace(x=descend_by(state.x, hp.eta, -g))


def readout(state):
    return state.x


COMPATIBLE_BIAS = Metric(
    "compatible_bias",
    lambda problem, x, state: optax.tree.norm(fitted(problem, x, state.dropped)[0] + problem.grad(x)),
    scale=lambda problem, x, state: optax.tree.norm(problem.grad(x)),
)
MISFIT = Metric("misfit", lambda problem, x, state: fitted(problem, x, state.dropped)[1])

unbiased: AnyTheorem = Theorem(
    name="compatible_critic_unbiased",
    statement="|E score (psi.w) - grad J| <= 1e-12 with psi = score, although the misfit |Q - psi.w| >= 1e-3",
    source=SUTTON_2000,
    assumes=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    metric=COMPATIBLE_BIAS,
    given=(MISFIT,),
    condition="dropped = 0; silent where the fit is exact anyway",
    admits=lambda c, hp: hp.dropped == 0,
    bound=lambda t, c, hp, misfit: jnp.where(misfit >= 1e-3, NEGLIGIBLE, jnp.nan),
    control=Control(
        why="features that miss one coordinate of the score are not compatible",
        problem="garnet[S=5,gamma=0.8]",
        setting="eta=1/L,dropped=2",
        steps=20,
    ),
)

algorithm = Algorithm(
    name="compatible_actor_critic",
    source=SUTTON_2000,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.TABLE,
    requires=Regularity.SOFTMAX_POLICY | Regularity.DISCOUNTED_RETURN,
    prepare=prepare,
    metrics=(GRADIENT_NORM_SQ, MISFIT),
    theorems=(unbiased,),
)
