"""The heuristic epsilon against known numbers, integrals and composition; DP-SGD's scores against their law."""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting import gaussian_mechanism
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom, kstest, norm

from algorithms.algorithm import InvalidSetting
from algorithms.last_iterate_heuristic import composition_epsilon, divergences, heuristic_epsilon
from algorithms.unlearning import dp_sgd_last_iterate
from algorithms.unlearning.dp_sgd_last_iterate import HParams, algorithm, clipped_gradients
from problems.constants import InvalidParameter
from problems.convex import linear_losses, logistic_regression, tight_deletion

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


@pytest.mark.parametrize(
    ("T", "q", "sigma", "heuristic", "composition"),
    [
        (1, 1.0, 1.0, 4.3772, 4.3772),
        (100, 1.0, 10.0, 4.3772, 4.3772),
        (100, 0.1, 1.0, 5.358, 7.047),
        (1000, 0.1, 1.0, 19.24, 25.20),
        (1000, 0.01, 0.6, 2.362, 7.434),
        (1000, 0.01, 1.0, 1.278, 1.828),
        (1000, 0.05, 1.0, 8.068, 10.987),
    ],
)
def test_known_epsilons(T, q, sigma, heuristic, composition):
    digits = 4 if q == 1 else 3
    assert heuristic_epsilon(1e-5, T, q, sigma) == pytest.approx(heuristic, abs=0.5 * 10**-digits, rel=5e-4)
    assert composition_epsilon(1e-5, T, q, sigma) == pytest.approx(composition, abs=0.5 * 10**-digits, rel=5e-4)


@pytest.mark.parametrize(("T", "sigma", "delta"), [(1, 1.0, 1e-5), (100, 10.0, 1e-2), (50, 20.0, 1e-8), (9, 0.5, 0.3)])
def test_without_sampling_it_is_the_gaussian_mechanism(T, sigma, delta):
    exact = gaussian_mechanism.get_epsilon_gaussian(sigma / math.sqrt(T), delta)
    assert heuristic_epsilon(delta, T, 1.0, sigma) == pytest.approx(exact, rel=1e-9, abs=1e-12)
    assert composition_epsilon(delta, T, 1.0, sigma) == pytest.approx(exact, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(("T", "q", "sigma"), [(5, 0.3, 1.0), (20, 0.05, 0.7), (3, 0.9, 2.0)])
@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.0])
def test_divergences_are_the_integrals(T, q, sigma, epsilon):
    scale, k = sigma * math.sqrt(T), np.arange(T + 1)

    def p(x):
        return float(binom.pmf(k, T, q) @ norm.pdf(x, k, scale))

    def q_(x):
        return float(norm.pdf(x, 0, scale))

    def integral(f, g):
        grid = np.linspace(-12 * scale, T + 12 * scale, 60)
        pieces = itertools.pairwise(grid)
        return sum(quad(lambda x: max(f(x) - math.exp(epsilon) * g(x), 0.0), a, b, limit=200)[0] for a, b in pieces)

    added, removed = divergences(epsilon, T, q, sigma)
    assert added == pytest.approx(integral(p, q_), abs=1e-7)
    assert removed == pytest.approx(integral(q_, p), abs=1e-7)
    if T * math.log1p(-q) >= -epsilon:
        assert removed == 0


@given(
    T=st.integers(1, 200), q=st.sampled_from([0.01, 0.1, 0.5, 1.0]), multiple=st.sampled_from([0.3, 1.0, 3.0]),
    delta=st.sampled_from([1e-6, 1e-2]),
)  # fmt: skip
def test_heuristic_is_never_above_composition(T, q, multiple, delta):
    sigma = multiple * max(q * math.sqrt(T), 0.3)
    heuristic = heuristic_epsilon(delta, T, q, sigma)
    assert max(divergences(heuristic, T, q, sigma)) <= delta * (1 + 1e-9)
    assert heuristic <= composition_epsilon(delta, T, q, sigma) * (1 + 1e-9) + 1e-9


def test_epsilon_falls_with_noise_and_delta_and_vanishes():
    assert heuristic_epsilon(1e-2, 10, 0.1, 1e3) == 0
    found = [heuristic_epsilon(1e-5, 50, 0.2, sigma) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert found == sorted(found, reverse=True)
    found = [heuristic_epsilon(delta, 50, 0.2, 1.0) for delta in (1e-12, 1e-6, 1e-2)]
    assert found == sorted(found, reverse=True)


@once
def end(problem, hp, keys):
    def lane(key):
        start_key, init_key, run_key = jax.random.split(key, 3)
        start = algorithm.init(problem, problem.init(start_key), init_key, hp)

        def advance(t, state):
            return algorithm.step(problem, state, jax.random.fold_in(run_key, t), hp)

        return jax.lax.fori_loop(0, hp.T + 3, advance, start)

    return jax.vmap(lane)(keys)


def scores(problem, seeds, **chosen):
    """Return the scores with and without the canary after the run (three steps longer than T), and the settings."""
    hp = jax.tree.map(jnp.asarray, algorithm.prepare(HParams(**chosen)))
    state = end(problem, hp, jax.random.split(KEY, seeds))
    read = [jax.vmap(lambda s, m=m: m.measure(problem, s.x, s))(state)
            for m in (dp_sgd_last_iterate.SCORE_IN, dp_sgd_last_iterate.SCORE_OUT)]  # fmt: skip
    return *(np.asarray(values) for values in read), hp


@cache
def audited(**chosen):
    return scores(linear_losses.make(KEY), 20_000, T=12, **chosen)


@pytest.mark.parametrize(("q", "sigma"), [(0.3, 0.4), (1.0, 1.0)])
def test_scores_follow_their_law_on_linear_losses(q, sigma):
    with_it, without, hp = audited(q=q, sigma=sigma)
    k, scale = np.arange(13), sigma * math.sqrt(12)
    mixture = lambda x: binom.pmf(k, 12, q) @ norm.cdf((np.asarray(x) - k[:, None]) / scale)  # noqa: E731
    assert kstest(with_it, mixture).pvalue > 0.01
    assert kstest(without, norm(0, scale).cdf).pvalue > 0.01
    assert abs(np.corrcoef(with_it, without)[0, 1]) < 4 / math.sqrt(len(with_it))
    assert kstest(with_it, norm(12 * q, scale).cdf).pvalue < 1e-3 or q == 1  # the samples are many enough to tell
    assert hp.stated_epsilon == heuristic_epsilon(1e-2, 12, q, sigma) == hp.used_epsilon


def epsilon_lower_bound(with_it, without, delta):
    """Return what thresholds chosen on one half reveal on the other, at 95 %, from exact binomial limits."""
    half = len(with_it) // 2
    best, threshold = -math.inf, 0.0
    for candidate in np.quantile(np.concatenate([with_it[:half], without[:half]]), np.linspace(0.02, 0.98, 97)):
        missed, wrong = np.mean(with_it[:half] < candidate), np.mean(without[:half] >= candidate)
        if wrong > 5 / half and 1 - missed > delta:
            told = math.log((1 - missed - delta) / wrong)
            best, threshold = max((best, threshold), (told, candidate))
    missed, wrong = np.sum(with_it[half:] < threshold), np.sum(without[half:] >= threshold)
    missed, wrong = (beta.ppf(0.975, count + 1, half - count) for count in (missed, wrong))
    return math.log(max(1 - missed - delta, 1e-9) / wrong)


@pytest.mark.parametrize(("q", "sigma"), [(0.3, 1.0), (1.0, 4.0)])
def test_an_audit_stays_below_the_heuristic_and_finds_missing_noise(q, sigma):
    with_it, without, hp = audited(q=q, sigma=sigma)
    told = epsilon_lower_bound(with_it, without, 1e-2)
    assert 0.3 * hp.stated_epsilon < told <= hp.stated_epsilon <= hp.composed_epsilon * (1 + 1e-9)
    with_it, without, less = audited(q=q, sigma=sigma, noise_scale=0.25)
    assert less.stated_epsilon == hp.stated_epsilon < less.used_epsilon
    assert epsilon_lower_bound(with_it, without, 1e-2) > hp.stated_epsilon
    assert not dp_sgd_last_iterate.audit.admits(linear_losses.make(KEY).constants, less)


def test_without_noise_and_sampling_it_is_descent_on_clipped_gradients():
    problem = once(lambda key: logistic_regression.make(key, n=15, d=3, l2=0.1, forgotten=1))(KEY)
    hp = jax.tree.map(jnp.asarray, HParams(T=4, q=1.0, C=0.2, sigma=0.0, eta=0.7))
    key = jax.random.split(KEY, 1)
    state, gradient = end(problem, hp, key), once(lambda i, x: problem.rows(i[None]).grad(x))
    for x, members in ((state.x[0], range(15)), (state.without[0], range(14))):
        expected = problem.init(jax.random.split(key[0], 3)[0])
        for _ in range(4):
            gradients = [np.asarray(gradient(jnp.asarray(i), expected)) for i in members]
            clipped = [g * min(1, 0.2 / np.linalg.norm(g)) for g in gradients]
            expected = expected - 0.7 / 15 * sum(clipped)
        np.testing.assert_allclose(x, expected, rtol=1e-10)


def test_no_record_moves_more_than_the_clipping_norm():
    problem = once(lambda key: logistic_regression.make(key, n=15, d=3, l2=0.1, forgotten=1))(KEY)
    lengths = np.linalg.norm(clipped_gradients(problem, problem.init(KEY), 0.3), axis=1)
    assert np.max(lengths) == pytest.approx(0.3)
    assert np.min(lengths) < 0.3 - 1e-6


def test_the_canary_has_a_direction_of_its_own():
    problem = linear_losses.make(KEY, n=6, d=4, G=2.0)
    g = clipped_gradients(problem, jnp.zeros(4), 10.0)
    np.testing.assert_allclose(np.linalg.norm(g, axis=1), 2.0)
    np.testing.assert_allclose(g[:-1] @ g[-1], 0.0, atol=1e-15)
    for meaningless in ({"n": 1}, {"d": 1}, {"G": 0.0}):
        with pytest.raises(InvalidParameter):
            linear_losses.make(KEY, **meaningless)


def test_only_linear_losses_with_all_their_noise_are_judged():
    hp = HParams()
    assert dp_sgd_last_iterate.audit.admits(linear_losses.make(KEY).constants, hp)
    assert not dp_sgd_last_iterate.audit.admits(tight_deletion.make(KEY).constants, hp)
    assert not dp_sgd_last_iterate.composition.admits(linear_losses.make(KEY).constants, HParams(noise_scale=0.5))
    assert all(not theorem.certifies for theorem in algorithm.theorems)  # a heuristic, no certificate
    assert "heuristic" in dp_sgd_last_iterate.audit.statement


@pytest.mark.parametrize(
    ("chosen", "said"),
    [({"q": 0.0}, "q = 0"), ({"q": 1.1}, "probability"), ({"sigma": 0.0}, "noise"), ({"C": -1.0}, "clipping"),
     ({"delta": 0.0}, "delta"), ({"delta": 1.0}, "delta"), ({"T": 0}, "steps"), ({"eta": 0.0}, "eta = 0.0"),
     ({"noise_scale": 0.0}, "noise_scale"), ({"sigma": math.nan}, "noise multiplier")],
)  # fmt: skip
def test_meaningless_settings_are_refused(chosen, said):
    with pytest.raises(InvalidSetting, match=said):
        algorithm.prepare(HParams(**chosen))
