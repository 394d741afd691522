"""ScaledGD of one factor:  X+ = X - eta grad f(X) (X^T X)^+  for f(X) = ell(X X^T).

Evaluated at X V, whose columns are orthogonal (f(X V) = f(X), grad f(X V) = grad f(X) V): the gradient's rounding is
then small column by column, and is divided by a column's norm, not by its square.
Source: Tong, Ma & Chi (2021); started at X = A Omega (Nystrom), Li, Zhang, Mokhtari & He (2025).
Derived here, for f = |X X^T - A|_F^2/4, A = Q Sigma Q^T of rank at most r, P = I - Q Q^T, 0 < eta < 1:
- P X+ = P X - eta P X X^T X (X^T X)^+ = (1 - eta) P X, for any start.
- P X = 0: X = Q Phi, Phi+ = (1-eta) Phi + eta Sigma (Phi Phi^T)^{-1} Phi, so S = Sigma^{-1/2} Phi Phi^T Sigma^{-1/2}
  follows S+ = (1-eta)^2 S + 2 eta (1-eta) I + eta^2 S^{-1}: its eigenvectors stay, and u = sqrt(eig S), the singular
  values of Sigma^{-1/2} Phi, follow u+ = (1-eta) u + eta/u. No condition number, and |1 - 2 eta| near u = 1.
- eta = 1/2 is Newton's square root: e = u - 1 follows e+ = e^2/(2(1+e)) <= min(e/2, e^2/2) from t = 1 on, and
  e_1 <= (w - 1)/2 with w = max(u_0, 1/u_0). So e_k <= (w-1)/w < 1 for k = ceil(log2 w), and e_(k+j) <= 2 (1/2)^(2^j).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import SUBOPTIMALITY, Metric, initial
from algorithms.principal_axes import inverse_squares, principal_axes, singular_values
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.constants import Constants, Regularity

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
    """eta: step size, 0 < eta < 1 (at 1, u+ = 1/u alternates for ever)."""

    eta: Array | float | str = 0.5


@struct.dataclass
class State:
    x: Array


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for eta outside (0, 1)."""
    eta = np.asarray(hp.eta, float)
    refuse_unless((eta > 0) & (eta < 1), f"eta = {hp.eta}: must lie in (0, 1)")
    return hp


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    XV, d, Vt = principal_axes(state.x)
    return State((XV - hp.eta * problem.grad(XV) * inverse_squares(d)) @ Vt)


def readout(state):
    return state.x


def newton_step(u: Array, eta: Array) -> Array:
    """Return (1 - eta) u + eta/u."""
    return (1 - eta) * u + eta / u


def farthest(u: Array) -> Array:
    """Return max |u - 1|."""
    return jnp.max(jnp.abs(u - 1))


def condition_number(problem, x, state):
    """Return 10 kappa: rounding of about kappa eps in X is rounding in u (1000 kappa eps is the floor)."""
    return 10 * problem.constants.sigma_1 / problem.constants.sigma_r


def spread(problem, x, state):
    """Return u (r_A,), the singular values of Sigma^{-1/2} Q^T X."""
    return singular_values(problem.target.whitened(problem.data, x))


SPREAD = Metric("spread", spread)
SPREAD_ERROR = Metric(
    "spread_error", lambda problem, x, state: farthest(spread(problem, x, state)), scale=condition_number
)
# a column of length d is moved by rounding eps sigma_1/d: below sqrt(eps sigma_1) there is nothing but rounding
OFF_RANGE = Metric(
    "off_range",
    lambda problem, x, state: problem.target.off_range(problem.data, x),
    scale=lambda problem, x, state: jnp.sqrt(problem.constants.sigma_1 / jnp.finfo(x.dtype).eps),
)


def recursion_bound(t: Array, c: Constants, hp: Any, spread: Array) -> Array:
    """Return max |u_t - 1| of the recursion from the u_0 that the start has."""
    return farthest(lax.fori_loop(0, jnp.asarray(t, int), lambda _, u: newton_step(u, jnp.asarray(hp.eta)), spread))


def quadratic_bound(t: Array, c: Constants, hp: Any, spread: Array) -> Array:
    """Return 2 (1/2)^(2^(t-k)) from t = k = ceil(log2 max(u_0, 1/u_0)) on."""
    burn_in = jnp.ceil(jnp.log2(jnp.max(jnp.maximum(spread, 1 / spread))))
    return jnp.where(t >= jnp.maximum(burn_in, 1), 2 * 0.5 ** (2.0 ** (t - burn_in)), jnp.nan)


recursion: AnyTheorem = Theorem(
    name="symmetric_scaled_gradient_descent_recursion",
    statement="max |u_t - 1| with u+ = (1-eta) u + eta/u, u_0 the singular values of Sigma^{-1/2} Q^T X_0",
    source=DERIVED,
    assumes=Regularity.PSD_TARGET | Regularity.NYSTROM_START,
    metric=SPREAD_ERROR,
    given=(initial(SPREAD),),
    condition="X_0 = A Omega, rank of A at most r, 0 < eta < 1",
    admits=lambda c, hp: c.off_range == 0,
    bound=recursion_bound,
    kind=Kind.EXACT,
    tolerance=1e-6,
    control=Control(
        why="a start with a part outside the range of A obeys no such law",
        problem="symmetric_factorization[off_range=1.0]",
        steps=20,
    ),
)

quadratic: AnyTheorem = Theorem(
    name="symmetric_scaled_gradient_descent_quadratic",
    statement="eta = 1/2: max |u_t - 1| <= 2 (1/2)^(2^(t-k)), k = ceil(log2 max(u_0, 1/u_0)), whatever kappa is",
    source=DERIVED,
    assumes=Regularity.PSD_TARGET | Regularity.NYSTROM_START,
    metric=SPREAD_ERROR,
    given=(initial(SPREAD),),
    condition="X_0 = A Omega, rank of A at most r, eta = 1/2",
    admits=lambda c, hp: (c.off_range == 0) & (hp.eta == 0.5),
    bound=quadratic_bound,
    control=Control(
        why="any other step converges linearly, at |1 - 2 eta|",
        problem="symmetric_factorization",
        setting="eta=0.3",
        steps=20,
    ),
)

outside: AnyTheorem = Theorem(
    name="symmetric_scaled_gradient_descent_off_range",
    statement="|(I - Q Q^T) X_t|_F = (1 - eta)^t |(I - Q Q^T) X_0|_F: without Nystrom's start linear at best",
    source=DERIVED,
    assumes=Regularity.PSD_TARGET,
    metric=OFF_RANGE,
    given=(initial(OFF_RANGE),),
    condition="a start with a part outside the range of A, 0 < eta < 1",
    admits=lambda c, hp: jnp.asarray(c.off_range is None or c.off_range > 0),
    bound=lambda t, c, hp, start: (1 - hp.eta) ** t * start,
    kind=Kind.EXACT,
    tolerance=1e-6,
    control=Control(
        why="without the preconditioner the part outside decays at the pace of X^T X, direction by direction",
        problem="symmetric_factorization[init=generic,start=0.3]",
        algorithm="gradient_descent",
        setting="eta=0.1",
        steps=20,
    ),
)

algorithm = Algorithm(
    name="symmetric_scaled_gradient_descent",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    requires=Regularity.PSD_TARGET,
    prepare=prepare,
    metrics=(SUBOPTIMALITY,),
    theorems=(recursion, quadratic, outside),
)
