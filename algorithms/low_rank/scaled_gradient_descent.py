"""ScaledGD of adapters, simultaneously:  B+ = B - eta g_B (A A^T)^+ = B - eta G A^+,  A+ = A - eta B^+ G.

G = grad ell(B A); pseudo-inverses, so that 0^+ = 0 and a factor that starts beside a zero one waits a step.
Source: Tong, Ma & Chi (2021); started at B = M Omega, A = 0 (Nystrom), Li, Zhang, Mokhtari & He (2025).
Derived here, for ell(W) = |W - M|_F^2/2, the rank of M at most r, 0 < eta <= 1:
- B_0 = M Omega, A_0 = 0: A_1 = eta B_0^+ M, so B_1 A_1 = eta M. Where B A = c M, G A^+ = -((1-c)/c) B and
  B^+ G = -((1-c)/c) A, so B and A are multiplied by 1 + eta (1-c)/c: c_1 = eta, c+ = (c + eta (1-c))^2/c, and the error
  is |1 - c_t| |M|_F, whatever kappa, m, n, r are. eta = 1 takes one step, eta = 1/2 has e+ = -e^2/(4(1-e)), e = c - 1.
- Any other start, near a solution: the part of B outside the range of M (of A likewise) is multiplied by 1 - eta
  exactly, the rest follows the map of c, of slope 1 - 2 eta at c = 1: the error contracts at max(|1-eta|, |1-2 eta|).
  (Directions beyond the rank of M shrink too; at sqrt(eps) they are rounding, and the error jumps for a few steps.)
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms.adapter_steps import CONTRACTION, residual
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import VALUE, Metric, initial
from algorithms.principal_axes import pseudo_inverse
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.adapter import Adapter, is_adapter
from problems.constants import Constants, Regularity
from problems.oracles import Oracle

SOURCE = Source(
    "Tong, Ma & Chi",
    2021,
    "Accelerating Ill-Conditioned Low-Rank Matrix Estimation via Scaled Gradient Descent",
    "JMLR 22(150)",
)
DERIVED = Source(
    "derived here, after Li, Zhang, Mokhtari & He",
    2026,
    "On the Crucial Role of Initialization for Matrix Factorization",
    "arXiv:2410.18965",
)


@struct.dataclass
class HParams:
    """eta: step size, 0 < eta <= 1."""

    eta: Array | float | str = 0.5


@struct.dataclass
class State:
    """previous: |G|_F before the last step, infinity before the first."""

    x: Any
    previous: Array


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for eta outside (0, 1]."""
    eta = np.asarray(hp.eta, float)
    refuse_unless((eta > 0) & (eta <= 1), f"eta = {hp.eta}: must lie in (0, 1]")
    return hp


def init(problem, x0, key, hp):
    return State(x0, jnp.asarray(jnp.inf))


def step(problem, state, key, hp):
    def scaled(x: Adapter, G: Array) -> Adapter:
        return Adapter(x.B - hp.eta * G @ pseudo_inverse(x.A.T).T, x.A - hp.eta * pseudo_inverse(x.B) @ G)

    G = problem.weight_grad(state.x)
    return State(jax.tree.map(scaled, state.x, G, is_leaf=is_adapter), optax.tree.norm(G))


def readout(state):
    return state.x


def magnitude_of_residual(problem, x, state):
    """Return 10 kappa |G_0|_F: rounding of about kappa eps in a factor is rounding in the product."""
    return 10 * problem.constants.sigma_1 / problem.constants.sigma_r * residual(problem, x, state)


RESIDUAL = Metric("residual", residual, scale=magnitude_of_residual)


def share(t: Array, eta: Array) -> Array:
    """Return c_t, where B A = c_t M: 0, then eta, then the recursion."""
    steps = jnp.maximum(jnp.asarray(t, int) - 1, 0)
    later = lax.fori_loop(0, steps, lambda _, c: (c + eta * (1 - c)) ** 2 / c, jnp.asarray(eta, float))
    return jnp.where(t > 0, later, 0.0)


def nystrom_bound(t: Array, c: Constants, hp: Any, start: Array) -> Array:
    """Return |1 - c_t| |M|_F; at the start, B A = 0."""
    return jnp.abs(1 - share(t, jnp.asarray(hp.eta))) * start


def one_step_bound(t: Array, c: Constants, hp: Any, start: Array) -> Array:
    """Return 1e-12 kappa |M|_F from t = 1 on."""
    return jnp.where(t >= 1, 1e-12 * c.sigma_1 / c.sigma_r * start, jnp.nan)


def local_bound(t: Array, c: Constants, hp: Any, error: Array) -> Array:
    """Return max(|1 - eta|, |1 - 2 eta|) where 1e-10 sigma_1 <= |B A - M|_F <= 1e-4 sigma_r."""
    near = (error <= 1e-4 * c.sigma_r) & (error >= 1e-10 * c.sigma_1)
    return jnp.where(near, jnp.maximum(jnp.abs(1 - hp.eta), jnp.abs(1 - 2 * hp.eta)), jnp.nan)


nystrom: AnyTheorem = Theorem(
    name="scaled_gradient_descent_nystrom",
    statement="|B_t A_t - M|_F = |1 - c_t| |M|_F, c_1 = eta, c+ = (c + eta (1-c))^2/c, whatever kappa is",
    source=DERIVED,
    assumes=Regularity.TARGET | Regularity.NYSTROM_START,
    metric=RESIDUAL,
    given=(initial(RESIDUAL),),
    condition="one factor M Omega or Omega M, the other 0; 0 < eta <= 1",
    admits=lambda c, hp: c.off_range == 0,
    bound=nystrom_bound,
    kind=Kind.EXACT,
    tolerance=1e-6,
    control=Control(
        why="a start with a part outside the range of M obeys no such law",
        problem="matrix_factorization[init=nystrom,off_range=1.0]",
        steps=20,
    ),
)

one_step: AnyTheorem = Theorem(
    name="scaled_gradient_descent_one_step",
    statement="eta = 1: |B_t A_t - M|_F <= 1e-12 (sigma_1/sigma_r) |M|_F from t = 1 on: one step, up to rounding",
    source=DERIVED,
    assumes=Regularity.TARGET | Regularity.NYSTROM_START,
    metric=RESIDUAL,
    given=(initial(RESIDUAL),),
    condition="one factor M Omega or Omega M, the other 0; eta = 1",
    admits=lambda c, hp: (c.off_range == 0) & (hp.eta == 1),
    bound=one_step_bound,
    control=Control(
        why="one step reaches the best matrix in the range of B_0, which a start off the range does not hold",
        problem="matrix_factorization[init=nystrom,off_range=1.0]",
        setting="eta=1.0",
        steps=1,
    ),
)

local: AnyTheorem = Theorem(
    name="scaled_gradient_descent_local_rate",
    statement="|B+ A+ - M|_F / |B A - M|_F = max(|1 - eta|, |1 - 2 eta|) near M, from a start off the range of M",
    source=DERIVED,
    assumes=Regularity.TARGET | Regularity.EXACT_RANK,
    metric=CONTRACTION,
    given=(RESIDUAL,),
    condition="rank M = r < min(m, n), a start not of the Nystrom kind, 1e-10 sigma_1 <= |B A - M|_F <= 1e-4 sigma_r",
    admits=lambda c, hp: jnp.asarray(c.off_range is None or c.off_range > 0),
    bound=local_bound,
    kind=Kind.EXACT,
    slack=1e-3,
    control=Control(
        why="from Nystrom's start it is quadratic",
        problem="matrix_factorization[init=nystrom]",
        steps=8,
    ),
)

algorithm = Algorithm(
    name="scaled_gradient_descent",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    prepare=prepare,
    metrics=(VALUE,),
    theorems=(nystrom, one_step, local),
)
