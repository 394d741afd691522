"""What is proven of the error of TD(0), and the settings that its methods share.

x_t = E|omega_t - omega_star|^2, u = Phi (omega - omega_star), w = lambda_min(Phi^T D Phi), m the modulus of gamma P_pi
in |.|_D (`problems.policy_evaluation`), |Phi(s)| <= 1, sig2 = E|d* Phi|^2 at omega_star. For the mean update g(omega) =
b - A omega, by Cauchy-Schwarz: (omega_star - omega).g >= (1-m) |u|_D^2, |g| <= (1+m) |u|_D <= 2 |u|_D.

Mean path, eta = (1-m)/4: x_(t+1) <= x_t - 2 eta (1-m) |u|_D^2 + 4 eta^2 |u|_D^2 = x_t - (1-m)^2/4 |u_t|_D^2. Summed,
with Jensen: |u of the mean of omega_0, ..., omega_(T-1)|_D^2 <= 4 x_0/(T (1-m)^2); |u|_D^2 >= w |e|^2 gives the rate.

States drawn afresh: E|sampled update|^2 <= 2 sig2 + 2 E(gamma u(s') - u(s))^2 <= 2 sig2 + 8 |u|_D^2, so for eta <=
(1-m)/8: x_(t+1) <= (1 - eta (1-m) w) x_t + 2 eta^2 sig2. With eta_t = b/(l+t), b = 2/((1-m) w), l = 16/((1-m)^2 w):
x_t <= nu/(l+t), nu = max(8 sig2/((1-m)^2 w^2), l x_0), by induction.

Along the chain, any first state, projected on |omega| <= Rad with Rad >= |omega_star|: G = R_max + 2 Rad bounds every
update, q = 2 eta (1-m) w < 1, tv(t) = max_s TV(P^t(s, .), rho), tau = min{t: tv(t) <= eta}. zeta = (sampled - mean
update).(omega - omega_star) is 6 G-Lipschitz and at most 2 G^2, so E zeta_t <= eta G^2 (4 + 6 tau) for t >= tau and
<= 4 G^2 tv(t) + 6 G^2 eta t before: conditioning on time t - tau uses tv alone, never a stationary start. With
x_(t+1) <= (1-q) x_t + 2 eta E zeta_t + eta^2 G^2
    x_T <= (1-q)^T x_0 + eta G^2 (9 + 12 tau)/(2 (1-m) w) + 8 eta G^2 [sum_(t<tau) tv(t)] (1-q)^max(T-tau, 0).

Any first law nu: E_nu X <= max(nu/rho) E_rho X <= E_rho X/rho_min for every X >= 0 of the trajectory.
Sources: Bhandari, Russo & Singal (2018), arXiv:1806.02450, Theorems 1 to 3, constants derived here; m of the restart
chain and the two statements on the first state derived here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from algorithms.algorithm import refuse_unless, refuse_unless_positive
from problems.constants import Constants

MARGIN = 1e-12  # a step that equals its limit up to rounding is within it
MIXING_STEPS = 100_000  # after which a chain counts as one that does not mix


def step_size(hp: Any, t: Array) -> Array:
    """Return eta_t = eta/(1 + decay t), which is b/(l+t) with eta = b/l and decay = 1/l."""
    return hp.eta / (1 + hp.decay * t)


def first_law(hp: Any, rho: Array) -> Array:
    """Return the law (S,) of the first state: a point, or rho for start = -1; NaN for a state that is not there."""
    point = jax.nn.one_hot(hp.start, rho.size)
    return jnp.where(hp.start < 0, rho, jnp.where(hp.start < rho.size, point, jnp.nan))


def refuse_settings(hp: Any, samplings: tuple[str, ...]) -> None:
    """Raise `InvalidSetting` for a sampling, a step size, a decay or a first state that has no meaning."""
    refuse_unless(hp.sampling in samplings, f"sampling = {hp.sampling}: one of {', '.join(samplings)}")
    refuse_unless_positive(hp.eta)
    decay, start = np.asarray(hp.decay, float), np.asarray(hp.start, float)
    refuse_unless((decay >= 0) & np.isfinite(decay), f"decay = {hp.decay}: eta/(1 + decay t) needs a decay >= 0")
    whole = (start >= -1) & (np.floor(start) == start)
    refuse_unless(whole, f"start = {hp.start}: the number of a state, or -1 for the stationary law")


def pace(c: Constants) -> Array:
    """Return (1-m) w, the least rate at which the mean update shrinks the error."""
    return (1 - c.modulus) * c.feature_min


def is_close(a: Array, b: Array) -> Array:
    """Return whether two numbers agree up to rounding."""
    return jnp.abs(a - b) <= MARGIN * jnp.abs(b)


def takes_mean_step(c: Constants, hp: Any) -> Array:
    """Return whether eta = (1-m)/4 at every step."""
    return is_close(hp.eta, (1 - c.modulus) / 4) & (hp.decay == 0)


def mean_path_average(t: Array, c: Constants, x_0: Array) -> Array:
    """Return 4 x_0/(t (1-m)^2)."""
    return 4 * x_0 / (t * (1 - c.modulus) ** 2)


def mean_path_rate(t: Array, c: Constants, x_0: Array) -> Array:
    """Return exp(-(1-m)^2 w t/4) x_0."""
    return jnp.exp(-(1 - c.modulus) * pace(c) * t / 4) * x_0


def takes_fresh_step(c: Constants, hp: Any) -> Array:
    """Return whether eta <= (1-m)/8 is constant, or eta_t is the schedule b/(l+t) of the theorem."""
    constant = (hp.decay == 0) & (hp.eta <= (1 - c.modulus) / 8 * (1 + MARGIN))
    schedule = is_close(hp.eta, (1 - c.modulus) / 8) & is_close(hp.decay, (1 - c.modulus) * pace(c) / 16)
    return constant | schedule


def fresh_states(t: Array, c: Constants, hp: Any, x_0: Array) -> Array:
    """Return the bound on x_t for states drawn afresh, with a constant step or the schedule."""
    decayed = jnp.exp(-hp.eta * pace(c) * t)
    constant = decayed * x_0 + 2 * hp.eta * c.td_noise_sq / pace(c)
    length = 16 / ((1 - c.modulus) * pace(c))
    nu = jnp.maximum(8 * c.td_noise_sq / pace(c) ** 2, length * x_0)
    return jnp.where(hp.decay == 0, constant, nu / (length + t))


def mixing(P: Array, rho: Array, level: Array) -> tuple[Array, Array]:
    """Return tau = min{t: tv(t) <= level} and the sum of tv(t) over t < tau, for a chain P (S, S)."""

    def distance(law: Array) -> Array:
        return jnp.abs(law - rho).sum(-1).max() / 2

    def mixes_on(carry: tuple[Array, Array, Array]) -> Array:
        law, t, _ = carry
        return (distance(law) > level) & (t < MIXING_STEPS)

    def walk(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        law, t, total = carry
        return law @ P, t + 1, total + distance(law)

    _, tau, total = lax.while_loop(mixes_on, walk, (jnp.eye(len(P)), jnp.zeros((), int), jnp.zeros(())))
    return jnp.where(tau < MIXING_STEPS, tau, jnp.inf), total


def contracts_projected(c: Constants, hp: Any) -> Array:
    """Return whether q < 1 and the ball holds omega_star."""
    return (2 * hp.eta * pace(c) < 1) & (hp.radius >= c.x_star_norm) & (hp.radius < jnp.inf) & (hp.decay == 0)


def projected_states(t: Array, c: Constants, hp: Any, x_0: Array, tau: Array, total: Array) -> Array:
    """Return the bound on x_t along the chain, from any first state; `total` is the sum of tv(t) over t < tau."""
    q, G_sq = 2 * hp.eta * pace(c), (c.R_max + 2 * hp.radius) ** 2
    floor = hp.eta * G_sq * (9 + 12 * tau) / (2 * pace(c))
    return (1 - q) ** t * x_0 + floor + 8 * hp.eta * G_sq * total * (1 - q) ** jnp.maximum(t - tau, 0)
