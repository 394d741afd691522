"""Noise for a random distance: tabulated constants, exact mixtures within delta, and the mean alone beyond it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, logsumexp
from scipy.stats import binom, poisson

from algorithms.algorithm import InvalidSetting
from algorithms.gaussian_mechanism import indistinguishability, noise_multiplier
from algorithms.relaxed_mechanism import (
    CERTIFYING,
    MECHANISMS,
    Distance,
    c_epsilon,
    chernoff_radius,
    left_for_noise,
    tolerated_distance,
)

C_EPSILON = {0.01: 0.38689, 0.1: 0.35350, 0.5: 0.29960, 1: 0.26729, 2: 0.23116, 4: 0.19356, 8: 0.15711}
TABLE = {  # sigma over the mean distance: full batch, chernoff, mean, markov
    (1.0, 0.1): (1.086, 1.336, 2.67, 20.2),
    (1.0, 1e-2): (1.878, 2.375, 26.7, 286),
    (1.0, 1e-5): (3.731, 5.059, 2.67e4, 4.6e5),
    (2.0, 1e-5): (1.994, 2.701, 2.31e4, 2.4e5),
}


def mixture_indistinguishability(epsilon, log_weights, shifts):
    """Return the exact delta(epsilon), both ways, of sum_k w_k N(shift_k, 1) against N(0, 1), shifts >= 0.

    log p/q increases in x, so that each hockey-stick is a threshold test.
    """

    def log_ratio(x):
        return logsumexp(log_weights + shifts * x - shifts**2 / 2)

    def threshold(level):
        return -np.inf if log_ratio(-60) >= level else brentq(lambda x: log_ratio(x) - level, -60, 1e7, xtol=1e-13)

    above, below = threshold(epsilon), threshold(-epsilon)
    told = np.exp(logsumexp(log_weights + log_ndtr(shifts - above))) - np.exp(epsilon + log_ndtr(-above))
    other = np.exp(log_ndtr(below)) - np.exp(epsilon + logsumexp(log_weights + log_ndtr(below - shifts)))
    return max(told, other)


class Setting(NamedTuple):
    """What a mechanism reads of the hyper-parameters."""

    epsilon: float
    delta: float
    p: float
    c_epsilon: float
    noise_multiplier: float


def setting(epsilon, delta, p=0.0):
    return Setting(epsilon, delta, p, float(c_epsilon(epsilon)), float(noise_multiplier(epsilon, delta)))


@partial(jax.jit, static_argnames="name")
def traced_sigma(name, trials, q, hp):
    known = Distance(
        mean=trials * q,
        worst=trials,
        tail=lambda p: chernoff_radius(lambda s: trials * jnp.log1p(q * jnp.expm1(s)), p),
    )
    return MECHANISMS[name](known, hp)


def sigma_of(name, trials, q, hp):
    """Return sigma for X ~ Binomial(trials, q)."""
    return float(traced_sigma(name, float(trials), q, hp))


@pytest.mark.parametrize("epsilon", C_EPSILON)
def test_the_steepest_chord_is_the_tabulated_and_above_every_other(epsilon):
    steepest = c_epsilon(epsilon)
    np.testing.assert_allclose(steepest, C_EPSILON[epsilon], atol=6e-6)
    s = jnp.geomspace(1e-3, 1e3, 4001)
    assert np.all(indistinguishability(jnp.asarray(float(epsilon)), s) / s <= steepest)


def test_the_steepest_chord_tends_to_that_of_no_epsilon():
    np.testing.assert_allclose(c_epsilon(1e-7), 1 / np.sqrt(2 * np.pi), rtol=1e-3)


def test_the_mean_mechanism_is_the_best_of_the_mean_alone():
    epsilon, delta = 1.0, 1e-2
    s = minimize_scalar(
        lambda s: -float(indistinguishability(jnp.asarray(epsilon), jnp.asarray(s)) / s),
        bounds=(0.1, 10),
        method="bounded",
    ).x
    sigma = sigma_of("mean", 1, 1.0, setting(epsilon, delta))
    jump = s * sigma  # X = jump with probability 1/jump, else 0: of mean 1
    spent = float(indistinguishability(jnp.asarray(epsilon), jnp.asarray(s))) / jump
    assert spent <= delta
    np.testing.assert_allclose(spent, delta, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 10.0])
def test_the_tolerated_distance_is_one_over_the_noise_multiplier(epsilon):
    delta = np.array([1e-10, 1e-5, 1e-2, 0.5])
    tolerated = np.asarray(tolerated_distance(jnp.asarray(epsilon), jnp.asarray(delta)))
    np.testing.assert_allclose(tolerated, 1 / noise_multiplier(epsilon, delta), rtol=1e-9)
    assert np.all(indistinguishability(jnp.asarray(epsilon), jnp.asarray(tolerated)) <= delta)


@pytest.mark.parametrize(("epsilon", "delta"), TABLE)
def test_noise_over_the_mean_distance_is_the_tabulated(epsilon, delta):
    trials, q, hp = 500 * 50, 10 / 1000, setting(epsilon, delta)
    sigma = {name: sigma_of(name, trials, q, hp) / (trials * q) for name in MECHANISMS}
    full_batch, chernoff, mean, markov = TABLE[epsilon, delta]
    np.testing.assert_allclose(sigma["mean_plugged_in"], full_batch, rtol=1e-3)
    assert (1 - 5e-4) * chernoff <= sigma["chernoff"] <= 1.01 * chernoff
    np.testing.assert_allclose(sigma["mean"], mean, rtol=2e-3)
    np.testing.assert_allclose(sigma["markov"], markov, rtol=1e-2)
    np.testing.assert_allclose(sigma["worst_case"], 100 * full_batch, rtol=1e-3)


@pytest.mark.parametrize(("trials", "q"), [(25000, 0.01), (100, 0.005), (10, 0.05)])
def test_a_few_shares_of_delta_lose_little_to_all(trials, q):
    every = np.geomspace(1e-3, 0.99, 60) * 1e-5
    best = min(sigma_of("chernoff", trials, q, setting(1.0, 1e-5, p)) for p in every)
    found = sigma_of("chernoff", trials, q, setting(1.0, 1e-5))
    assert best <= found <= 1.01 * best


@pytest.mark.parametrize("q", [0.5, 0.01])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("p", [0.05, 1e-6])
def test_the_grid_finds_chernoff_s_minimum_from_above(q, gamma, p):
    jumps = gamma ** np.arange(200.0)

    def objective(log_s):
        s = np.exp(log_s)
        return (8 * np.log1p(q * np.expm1(s * jumps)).sum() - np.log(p)) / s

    best = minimize_scalar(objective, bounds=(-8, 5), method="bounded").fun

    def cumulant(s):
        return 8 * jnp.sum(jnp.log1p(q * jnp.expm1(s[:, None] * jumps)), axis=1)

    found = float(jax.jit(lambda p: chernoff_radius(cumulant, p))(p))
    assert best * (1 - 1e-9) <= found <= best * 1.002
    if gamma == 1:
        assert binom.sf(found, 8 * 200, q) <= p


HITS = {500: 1.016, 50: 1.17, 5: 3.91, 0.5: 353.5, 0.05: 4700}


@pytest.mark.parametrize("hits", HITS)
def test_the_mean_plugged_in_spends_more_than_delta_the_less_is_forgotten(hits):
    epsilon, delta = 1.0, 1e-5
    count = np.arange(int(hits + 20 * np.sqrt(hits) + 30))
    sigma = noise_multiplier(epsilon, delta) * hits
    spent = mixture_indistinguishability(epsilon, poisson.logpmf(count, hits), count / sigma)
    np.testing.assert_allclose(spent / delta, HITS[hits], rtol=5e-3)


@pytest.mark.parametrize(("epsilon", "delta"), TABLE)
@pytest.mark.parametrize(("trials", "q"), [(5000, 0.01), (500, 0.01), (50, 0.01), (5, 0.01)])
def test_certifying_mechanisms_spend_at_most_delta_on_the_exact_mixture(epsilon, delta, trials, q):
    count, hp = np.arange(301), setting(epsilon, delta)  # more hits have a probability below 1e-100
    log_weights = binom.logpmf(count, trials, q)
    for name in CERTIFYING:
        s = count / sigma_of(name, trials, q, hp)
        spent = mixture_indistinguishability(epsilon, log_weights, s)
        relaxed = np.exp(log_weights) @ np.asarray(indistinguishability(epsilon, jnp.asarray(s)))
        assert spent <= relaxed * (1 + 1e-9) <= delta * (1 + 2e-9), name
    assert sigma_of("chernoff", trials, q, hp) <= sigma_of("worst_case", trials, q, hp)


def test_a_tail_as_likely_as_delta_is_refused():
    assert left_for_noise(1e-5, 0.0) == 1e-5
    np.testing.assert_allclose(left_for_noise(1e-2, 5e-3), 5e-3 / 0.995)
    for p in (1e-5, 1e-3, np.array([1e-7, 1e-5])):
        with pytest.raises(InvalidSetting, match="p >= delta"):
            left_for_noise(1e-5, p)
    with pytest.raises(InvalidSetting, match="must be >= 0"):
        left_for_noise(1e-5, -1e-6)


def test_a_given_p_is_used_and_never_better_than_the_best_share():
    best, *given = (sigma_of("chernoff", 5000, 0.01, setting(1.0, 1e-5, p)) for p in (0.0, 1e-7, 8e-7, 9e-6))
    assert best == pytest.approx(given[1], rel=1e-2)
    assert min(given[0], given[2]) > 1.02 * best
