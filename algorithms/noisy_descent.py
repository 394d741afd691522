"""Noisy descent, learning and then unlearning:  x+ = P(x - eta grad f_B(x) + s N(0, I)),  s^2 = 2 eta sigma^2.

The model u steps on D while t < switch, then on D', which differs from D in the m forgotten records, until end.
Retraining v beside it steps on D' from the first step on, as often as u and from the same x_0, with the same
minibatches and the same noise: a coupling, each alone has the law that its owner computes. Published is u itself.

Derived here. c is the Lipschitz constant of a step, l steps learn, k unlearn; S(g, k) = 1 + g + ... + g^(k-1).
(1) Shared noise cancels: |u - v| <= z, z+ = min(c z + d, 2 radius), where d = 2 eta G h/b for the h forgotten records
    among the b of the minibatch while u learns, then d = 0. On the whole of D: d = 2 eta G m/n and z = d c^k S(c, l).
(2) Given all that learning drew, two runs z apart take k steps on the same data. Shifting one of them by a_1, ..., a_k
    makes them meet if sum_j c^(k-j) a_j = c^k z, and each shift hides in the noise of its step: composed adaptively
    they cost mu^2 = sum_j a_j^2/s^2 of Gaussian differential privacy, at least
      mu_k = (c^k z/s) / sqrt(S(c^2, k)),  for c > 1 never below the floor (z/s) sqrt(c^2 - 1).
(3) The noise of learning hides too, if a shift absorbs no more than there is to absorb. For a constant d: pay l - j
    steps of learning in full, a = d, and absorb what the last j disturb from the first of them on,
      mu^2 = [(l - j) d^2 + (d c^k S(c, j))^2/S(c^2, j + k)]/s^2.
    For c <= 1, j = l. For c > 1 the first of the j shifts must not exceed d, and the largest such j is the cheapest:
    c^j <= ((c + 1) + sqrt((c + 1)^2 - 4 c^(1-2k)))/2, so no more than log(1 + c)/log(c) steps are carried.
(4) A quadratic in one dimension attains (2) for every c, and (3) for c <= 1: both laws are Gaussian, of one variance.
Shifts: Bok, Su & Altschuler (2024), arXiv:2403.00278; GDP: Dong, Roth & Su (2022), arXiv:1905.02383.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax
from jax.scipy.special import erf

from algorithms.algorithm import refuse_step_count, refuse_unless, refuse_unless_positive
from algorithms.gaussian_mechanism import indistinguishability
from algorithms.metric import Metric
from algorithms.recursions import descend_by, log_geometric_sum, projected
from algorithms.sensitivity import growth_rate, is_noise_whole, is_step
from problems.constants import Constants
from problems.oracles import Key
from problems.problem import Problem

HALVINGS = 64  # of an interval that holds epsilon


@struct.dataclass
class HParams:
    """eta: step size; sigma: a step's noise is sqrt(2 eta) sigma; K, T: how long u unlearns and how long it learns.

    delta: at which epsilon is read; `noise_scale` multiplies the noise that is drawn (below 1 certifies nothing).
    """

    eta: Array | float | str = "1/L_max"
    sigma: Array | float | str = 0.1
    K: Array | float | str = 5
    T: Array | float | str = 20
    delta: Array | float = 1e-5
    noise_scale: Array | float = 1.0


@struct.dataclass
class State:
    """x: u; retrained: v; t: steps done; u learns before `switch`, unlearns before `end`, then both stand.

    noise: what is drawn a step, noise_scale s; c: Lipschitz constant of a step; z: bound (1) on |u - v|; certified: the
    worst z at the switch; variance: of the noise that hides |u - v| along this very path.
    """

    x: Any
    retrained: Any
    t: Array
    switch: Array
    end: Array
    eta: Array
    noise: Array
    c: Array
    z: Array
    certified: Array
    variance: Array
    radius: Array
    delta: Array


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` outside the ranges the messages name."""
    sigma, delta = np.asarray(hp.sigma, float), np.asarray(hp.delta, float)
    refuse_unless_positive(hp.eta)
    refuse_unless((sigma > 0) & np.isfinite(sigma), f"sigma = {hp.sigma}: without noise nothing is hidden, sigma > 0")
    refuse_step_count(hp.T, "T", "learning")
    refuse_step_count(hp.K, "K", "unlearning")
    refuse_unless((delta > 0) & (delta < 1), f"delta = {hp.delta}: must lie in (0, 1)")
    refuse_unless(np.asarray(hp.noise_scale) > 0, f"noise_scale = {hp.noise_scale}: must be positive")
    return hp


def step_noise(hp: Any) -> Array:
    """Return s = sqrt(2 eta) sigma, the standard deviation of a step's noise in a coordinate."""
    return jnp.sqrt(2 * hp.eta) * hp.sigma


def lipschitz(problem: Problem, hp: Any) -> Array:
    """Return c of a step on any of the records: 1 - eta mu, 1 or 1 + eta L by their class; NaN where none is proven."""
    return 1 + hp.eta * growth_rate(problem, hp)


def is_certifying(c: Constants, hp: Any) -> Array:
    """Return whether there is a step of unlearning and all of the declared noise."""
    return is_step(c, hp) & is_noise_whole(c, hp) & (hp.K > 0)


def begin(
    problem: Problem, x0: Any, hp: Any, switch: Array, end: Array, certified: Array, radius: Any = jnp.inf
) -> State:
    """Return the start, in the ball; `certified` is the largest z that learning can end with."""
    x0, noise = projected(x0, radius), hp.noise_scale * step_noise(hp)
    return State(
        x=x0,
        retrained=x0,
        t=jnp.zeros((), jnp.int32),
        switch=jnp.asarray(switch, jnp.int32),
        end=jnp.asarray(end, jnp.int32),
        eta=jnp.asarray(hp.eta, float),
        noise=noise,
        c=jnp.asarray(lipschitz(problem, hp), float),
        z=jnp.zeros(()),
        certified=jnp.asarray(certified, float),
        variance=noise**2,
        radius=jnp.asarray(radius, float),
        delta=jnp.asarray(hp.delta, float),
    )


def advance(state: State, gradient: Any, retrained_gradient: Any, key: Key, disturbance: Array | float) -> State:
    """Return the state after a step of u and of v on these gradients, with the same noise.

    A step of unlearning multiplies the variance by the square of what it multiplies |u - v| by, and adds its own. While
    u learns, the noise of its last step counts alone: that of the others is taken as given.
    """
    drawn = optax.tree.scale(state.noise, optax.tree.random_like(key, state.x, jax.random.normal))

    def moved(x: Any, direction: Any) -> Any:
        return projected(optax.tree.add(descend_by(x, state.eta, direction), drawn), state.radius)

    x, retrained = moved(state.x, gradient), moved(state.retrained, retrained_gradient)
    before, after = apart(state.x, state.retrained), apart(x, retrained)
    rate = jnp.where(before > 0, after / jnp.where(before > 0, before, 1.0), 1.0)
    carried = jnp.where(state.t > state.switch, rate**2 * state.variance, 0.0)
    added = jnp.where(state.t < state.switch, disturbance, 0.0)
    stepped = replace(
        state,
        x=x,
        retrained=retrained,
        z=jnp.minimum(state.c * state.z + added, 2 * state.radius),
        variance=carried + state.noise**2,
    )
    going = state.t < state.end
    return replace(jax.tree.map(partial(jnp.where, going), stepped, state), t=state.t + 1)


def readout(state):
    return state.x


def apart(x: Any, y: Any) -> Array:
    """Return |x - y|."""
    return optax.tree.norm(optax.tree.sub(x, y))


def log_growth(c: Array) -> Array:
    """Return log c, finite also at c = 0 (a step that forgets at once)."""
    return jnp.log(jnp.maximum(c, jnp.finfo(jnp.zeros(()).dtype).tiny))


def gdp_of_unlearning(z: Array, c: Array, s: Array, k: Array) -> Array:
    """Return mu_k of (2) for runs z apart before k steps of unlearning; not finite at k = 0."""
    log_c = log_growth(c)
    return jnp.exp(jnp.log(z) + k * log_c - log_geometric_sum(2 * log_c, k) / 2) / s


def gdp_floor(z: Array, c: Array, s: Array) -> Array:
    """Return (z/s) sqrt(c^2 - 1), the limit of mu_k for an expansive step; NaN for c <= 1."""
    return z / s * jnp.sqrt(jnp.where(c > 1, (c - 1) * (c + 1), jnp.nan))


def carried(c: Array, learned: Array, unlearned: Array) -> Array:
    """Return j of (3), a whole number between 1 and `learned`."""
    expansive = jnp.where(c > 1, c, 2.0)
    root = jnp.sqrt((expansive + 1) ** 2 - 4 * jnp.exp((1 - 2 * unlearned) * jnp.log(expansive)))
    most = jnp.floor(jnp.log((expansive + 1 + root) / 2) / jnp.log(expansive))
    return jnp.where(c > 1, jnp.clip(most, jnp.minimum(1.0, learned), learned), learned)


def gdp_of_all_noise(disturbance: Array, c: Array, s: Array, learned: Array, unlearned: Array) -> Array:
    """Return mu of (3): `learned` noisy steps with a constant disturbance, then `unlearned` without."""
    log_c, j = log_growth(c), carried(c, learned, unlearned)
    log_distance = unlearned * log_c + log_geometric_sum(log_c, j)
    absorbed = jnp.exp(2 * log_distance - log_geometric_sum(2 * log_c, j + unlearned))
    return disturbance / s * jnp.sqrt(learned - j + absorbed)


def gaussian_epsilon(mu: Array, delta: Array | float) -> Array:
    """Return the least epsilon >= 0 for which mu-GDP is (epsilon, delta)-indistinguishability, from above."""
    enough = mu**2 / 2 + mu * jnp.sqrt(-2 * jnp.log(delta))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        reached = indistinguishability(middle, mu) <= delta
        return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

    epsilon = lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(enough), enough))[1]
    return jnp.where(erf(mu / 8**0.5) <= delta, 0.0, epsilon)  # what mu costs at epsilon = 0


def distance(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v|."""
    return apart(state.x, state.retrained)


def extent(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v| and how far the steps to come can carry them: rounding is relative to that."""
    walk = state.end * (state.eta * optax.tree.norm(problem.grad(x)) + state.noise)
    return optax.tree.norm(state.x) + optax.tree.norm(state.retrained) + walk


def gaussian_parameter(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v| in standard deviations of the noise that hides it along this path, given what learning drew."""
    return distance(problem, x, state) / jnp.sqrt(state.variance)


def all_noise_parameter(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v| in standard deviations of u on a quadratic in one dimension: of all noise since x_0."""
    log_rate = log_growth(jnp.abs(1 - state.eta * problem.constants.spread))
    steps = jnp.clip(state.t, 1, jnp.maximum(state.end, 1))
    return distance(problem, x, state) / (state.noise * jnp.exp(log_geometric_sum(2 * log_rate, steps) / 2))


def in_noise(problem: Problem, x: Any, state: State) -> Array:
    """Return `extent` in standard deviations of a step's noise."""
    return extent(problem, x, state) / state.noise


COUPLED_DISTANCE = Metric("coupled_distance", distance, scale=extent)
GAUSSIAN_PARAMETER = Metric("gaussian_parameter", gaussian_parameter, scale=in_noise)
ALL_NOISE_PARAMETER = Metric("all_noise_parameter", all_noise_parameter, scale=in_noise)
EPSILON_SPENT = Metric(
    "epsilon_spent",
    lambda problem, x, state: gaussian_epsilon(gaussian_parameter(problem, x, state), state.delta),
    scale=in_noise,
)
LIPSCHITZ = Metric("lipschitz", lambda problem, x, state: state.c)
RADIUS = Metric("radius", lambda problem, x, state: state.z)
CERTIFIED_RADIUS = Metric("certified_radius", lambda problem, x, state: state.certified)
SIGMA = Metric("sigma", lambda problem, x, state: state.noise / jnp.sqrt(2 * state.eta))
