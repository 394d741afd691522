"""Sharpness-aware minimization of adapters:  V~ = V + rho g/|g|,  V+ = V - eta grad J(V~),  g = grad J(V).

Both gradients are those of one minibatch of `batch_size` records (0: of the whole objective); where g = 0 the step is
not perturbed. Source: Foret et al. (2021); on adapters Li, Zhang & He (2024), arXiv:2410.14802, Theorem 2:
d calB/dt = rho (|g_B|^2 - |g_A|^2)/|g| + O(rho^2), calB = (|B|^2 - |A|^2)/2. With constants, derived here:
one step changes calB by exactly eta (rho/|g|) (<g_B, g~_B> - <g_A, g~_A>) + (eta^2/2) (|g~_B|^2 - |g~_A|^2), since
<B~, g~_B> = <A~, g~_A> (`algorithms.balance`). Replacing g~ by g in the first term errs by at most eta rho |g~ - g|,
|g~ - g| <= rho H with H the largest |Hess J| on the segment: at V' it is at most L |V'|^2 + |G'|, where
|V'| <= |V| + rho and |G'| <= |G| + L (|V| rho + rho^2/2). Only g of the same minibatch is that close to g~.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from algorithms.adapter_steps import ADAPTER_NORM_SQ, WEIGHT_GAP
from algorithms.algorithm import Algorithm, refuse_unless_positive
from algorithms.balance import IMBALANCE, balance, batch_calls, each_adapter, minibatch, refuse_batch_size, total
from algorithms.metric import Metric, initial
from algorithms.recursions import descend_by
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle

TITLE = "Implicit regularization of sharpness-aware minimization for scale-invariant problems"


@struct.dataclass
class HParams:
    """eta: step size; rho: radius; batch_size: of both gradients, 0 the whole objective; fresh: draw another for g~."""

    eta: Array | float | str = 1e-3
    rho: Array | float | str = 0.1
    batch_size: int = struct.field(pytree_node=False, default=0)
    fresh: bool = struct.field(pytree_node=False, default=False)


@struct.dataclass
class State:
    """drift_error: sum over steps of |change of calB - what the drift says|; drift_allowed: what is proven of it."""

    x: Any
    drift_error: Array
    drift_allowed: Array


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for eta <= 0, rho <= 0 (rho = 0 is gradient descent) or batch_size < 0."""
    refuse_unless_positive(hp.eta)
    refuse_unless_positive(hp.rho, "rho")
    refuse_batch_size(hp.batch_size)
    return hp


def init(problem, x0, key, hp):
    refuse_batch_size(hp.batch_size, problem)
    return State(x0, jnp.zeros(()), jnp.zeros(()))


def step(problem, state, key, hp):
    batch = minibatch(problem, key, hp.batch_size)
    G = batch.weight_grad(state.x)
    g = batch.pull_back(state.x, G)
    size = optax.tree.norm(g)
    ascent = jnp.where(size > 0, hp.rho / jnp.where(size > 0, size, 1.0), 0.0)
    second = minibatch(problem, jax.random.fold_in(key, 1), hp.batch_size) if hp.fresh else batch
    g_ahead = second.grad(optax.tree.add_scale(state.x, ascent, g))
    after = descend_by(state.x, hp.eta, g_ahead)
    drift = hp.eta * (2 * ascent * calB(g) + hp.eta * calB(g_ahead))
    error = jnp.abs(calB(after) - calB(state.x) - drift)
    allowed = hp.eta * hp.rho**2 * curvature(problem.constants.L_weight, state.x, G, hp.rho)
    return State(after, state.drift_error + error, state.drift_allowed + allowed)


def readout(state):
    return state.x


def calls(problem, hp):
    return 2 * batch_calls(problem, hp.batch_size)


def calB(x: Any) -> Array:
    """Return (|B|^2 - |A|^2)/2, summed over adapters."""
    return total(each_adapter(balance, x))


def curvature(L: Array, x: Any, G: Any, rho: Array) -> Array:
    """Return H, a bound on |Hess J| within rho of x."""
    v = optax.tree.norm(x)
    return L * (v + rho) ** 2 + optax.tree.norm(G) + L * (v * rho + rho**2 / 2)


def noise_rate(c: Constants, hp: Any) -> Array:
    """Return rho sigma, sigma^2 = 4 noise_sq the variance of the gradient in the weight."""
    return hp.rho * 2 * jnp.sqrt(c.noise_sq)


def was_observed(hp: Any) -> Array:
    """Return whether the findings speak of the setting: .1 <= rho <= .2 and one draw for both gradients."""
    return (hp.rho >= 0.1) & (hp.rho <= 0.2) & (hp.batch_size == 1) & (not hp.fresh)


def balancing_bound(t: Array, c: Constants, hp: Any, imbalance: Array) -> Array:
    """Return max(exp(-rho sigma eta t/2), .15) | |B_0|^2 - |A_0|^2 | from eta t = .1 on, NaN before."""
    share = jnp.maximum(jnp.exp(-noise_rate(c, hp) * hp.eta * t / 2), 0.15)
    return jnp.where(hp.eta * t >= 0.1 - 1e-9, share * imbalance, jnp.nan)


DRIFT_ERROR = Metric(
    "drift_error",
    lambda problem, x, state: state.drift_error,
    scale=lambda problem, x, state: optax.tree.norm(x, squared=True),
)
DRIFT_ALLOWED = Metric("drift_allowed", lambda problem, x, state: state.drift_allowed)

drift: AnyTheorem = Theorem(
    name="sharpness_aware_minimization_drift",
    statement="each step changes calB by eta rho (|g_B|^2 - |g_A|^2)/|g| + (eta^2/2)(|g~_B|^2 - |g~_A|^2), up to "
    "eta rho^2 (L (|V| + rho)^2 + |G| + L (|V| rho + rho^2/2))",
    source=Source("derived here", 2026, TITLE, "arXiv:2410.14802, Theorem 2, with a constant"),
    assumes=Regularity.SMOOTH_IN_WEIGHT,
    metric=DRIFT_ERROR,
    given=(DRIFT_ALLOWED,),
    condition="both gradients of one minibatch, which is L_weight-smooth: the whole objective, or a noisy target",
    admits=lambda c, hp: jnp.asarray(not hp.fresh and (hp.batch_size == 0 or c.noise_sq is not None)),
    bound=lambda t, c, hp, allowed: allowed,
    control=Control(
        why="with another minibatch for the second gradient, |g~ - g| is as large as the noise, not as rho",
        problem="noisy_target",
        setting="eta=1e-3,rho=0.05,batch_size=1,fresh=true",
        steps=500,
    ),
)

balancing: AnyTheorem = Theorem(
    name="sharpness_aware_minimization_balances",
    statement="| |B_t|^2 - |A_t|^2 | <= max(exp(-rho sigma eta t/2), .15) | |B_0|^2 - |A_0|^2 |, sigma^2 = 4 noise_sq, "
    "from eta t = .1 on; observed on noisy targets with eta = 1e-4, rho = .1 or .2",
    source=Source("Li, Zhang & He", 2024, TITLE, "arXiv:2410.14802, Figure 1"),
    assumes=Regularity.NOISY_TARGET,
    metric=IMBALANCE,
    given=(initial(IMBALANCE),),
    condition="noise (noise_sq > 0), batch_size = 1, eta <= 1e-4, .1 <= rho <= .2",
    admits=lambda c, hp: (c.noise_sq > 0) & was_observed(hp) & (hp.eta <= 1e-4),
    bound=balancing_bound,
    kind=Kind.FINDING,
    control=Control(
        why="without noise the imbalance of x y^T ends above where it started",
        problem="noisy_target[alpha=0.0]",
        setting="eta=1e-4,rho=0.1,batch_size=1",
        steps=100_000,
        seeds=1,
    ),
)

collapse: AnyTheorem = Theorem(
    name="sharpness_aware_minimization_collapses",
    statement="|V_t|^2 <= .001 |V_0|^2 once eta t >= 3: with rho sigma >= .75 the factors balance at zero, without a "
    "fit; observed on noisy targets",
    source=Source("derived here", 2026, TITLE, "arXiv:2410.14802, Figure 1, with the fit recorded"),
    assumes=Regularity.NOISY_TARGET,
    metric=ADAPTER_NORM_SQ,
    given=(initial(ADAPTER_NORM_SQ),),
    condition="rho sigma >= .75, sigma^2 = 4 noise_sq, batch_size = 1, eta <= 1e-3, .1 <= rho <= .2",
    admits=lambda c, hp: (noise_rate(c, hp) >= 0.75) & was_observed(hp) & (hp.eta <= 1e-3),
    bound=lambda t, c, hp, norm_sq: jnp.where(hp.eta * t >= 3 - 1e-9, 1e-3 * norm_sq, jnp.nan),
    kind=Kind.FINDING,
    control=Control(
        why="with half the noise the factors stay, and fit",
        problem="noisy_target[alpha=1.0]",
        setting="eta=1e-3,rho=0.1,batch_size=1",
        steps=3000,
    ),
)

algorithm = Algorithm(
    name="sharpness_aware_minimization",
    source=Source("Foret, Kleiner, Mobahi & Neyshabur", 2021, "Sharpness-aware minimization", "arXiv:2010.01412"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.SMOOTH_IN_WEIGHT,
    calls=calls,
    prepare=prepare,
    metrics=(IMBALANCE, WEIGHT_GAP, ADAPTER_NORM_SQ),
    theorems=(drift, balancing, collapse),
)
