"""Records deleted one by one: the run, the recursion it obeys and attains, the published noise, and what breaks it."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deletion_curves import curves, misstated

from algorithms.algorithm import InvalidSetting
from algorithms.deletion import PRIVACY_SPENT, SENSITIVITY, SIGMA, HParams
from algorithms.metric import Metric
from algorithms.unlearning import sequential_descent_to_delete as sequential
from algorithms.unlearning.sequential_descent_to_delete import GRADIENT_LEFT, algorithm
from problems.convex import logistic_regression, tight_deletion

KEY = jax.random.key(0)
POINT = Metric("point", lambda problem, x, state: state.x[0])
RETRAINED = Metric("retrained_point", lambda problem, x, state: state.retrained[0])
DELETED = Metric("deleted", lambda problem, x, state: state.deleted.astype(float))


def tight(**chosen):
    return tight_deletion.make(KEY, **chosen)


def logistic():
    return jax.jit(lambda key: logistic_regression.make(key, n=60, d=5, l2=0.05, forgotten=6))(KEY)


def settings(**chosen):
    return HParams(**{"eta": 0.1, "K": np.array([1.0, 3, 10]), "T": 20.0, **chosen})


def ratio(seen, theorem):
    claimed = ~np.isnan(seen["bound"])
    return seen[theorem.metric.name][claimed] / seen["bound"][claimed]


def test_a_run_learns_then_deletes_one_record_after_another_then_stands():
    n, m, K, T, eta, G = 20, 4, 3, 5, 0.1, 1.0
    problem = tight(n=n, forgotten=m, G=G)
    seen = curves(algorithm, problem, settings(K=float(K), T=float(T)), 25, None, POINT, RETRAINED, DELETED, SIGMA)
    x, points, deleted = 0.0, [0.0], [0]
    for t in range(25):
        i = 0 if t < T else min(m, 1 + (t - T) // K)
        slope = G * (n - m - (m - i)) / (n - i)  # retained ones pull by G, the forgotten that are left by -G
        x -= (eta if t < T + m * K else 0.0) * (x + slope)
        points.append(x)
        deleted.append(i if t < T + m * K else m)
    np.testing.assert_allclose(seen["point"][0], points, rtol=1e-12)
    np.testing.assert_array_equal(seen["deleted"][0], deleted)
    retrained = -(1 - (1 - eta) ** np.minimum(np.arange(26), T)) * G
    np.testing.assert_allclose(seen["retrained_point"][0], retrained, rtol=1e-12)


def test_sixty_deletions_come_within_a_percent_of_the_recursion():
    hp = settings(eta=0.4, T=60.0, K=np.array([1.0, 3, 10]))
    steps = 60 + 60 * 10
    seen = curves(algorithm, tight(forgotten=60), hp, steps, sequential.gradient_left)
    at_end = (seen["gradient_left"] / seen["bound"])[:, -1]
    np.testing.assert_allclose(at_end, [0.990, 0.998, 1.000], atol=6e-4)
    assert np.all(ratio(seen, sequential.gradient_left) <= 1 + 1e-9)
    assert np.isnan(seen["bound"][:, :60]).all() and not np.isnan(seen["bound"][:, 60:]).any()


def test_the_recursion_is_the_one_that_is_stated():
    n, m, K, g = 200, 10, 3, 0.9
    seen = curves(algorithm, tight(), settings(K=float(K)), 20 + m * K, sequential.gradient_left)
    r = g**20 * (n - 2 * m) / n
    for i in range(1, m + 1):
        r = g**K * (r + 2 / (n - i + 1))
        assert seen["bound"][0, 20 + i * K] == pytest.approx(r, rel=1e-12)
        assert seen["bound"][0, 20 + i * K - 1] == pytest.approx(r / g, rel=1e-12)


@pytest.mark.parametrize("theorem", algorithm.theorems, ids=lambda theorem: theorem.name)
def test_bounds_hold_and_a_wrong_gradient_bound_is_caught(theorem):
    for problem, eta in ((tight(), 0.1), (logistic(), np.repeat([1.0, 5.0], 3))):
        hp = settings(eta=eta, K=np.resize([1.0, 3, 10], np.size(eta) if np.size(eta) > 1 else 3))
        assert np.all(theorem.admits(problem.constants, hp))
        seen = curves(algorithm, problem, hp, 130, theorem)
        assert np.all(ratio(seen, theorem) <= 1 + 1e-9) and ratio(seen, theorem).size
    hp = settings(eta=0.05, K=3.0, T=400.0)
    wrong = curves(algorithm, misstated(tight(), theorem.control), hp, 430, theorem)
    assert ratio(wrong, theorem).max() > 5


def test_the_noise_is_the_published_theorem_once_learning_is_long_enough():
    problem = tight()
    n, mu, G, g, epsilon, delta = 200, 1.0, 1.0, 0.9, 1.0, 1e-5
    sigma = curves(algorithm, problem, settings(T=200.0), 0, None, SIGMA)["sigma"][:, 0]
    root = math.sqrt(math.log(1 / delta) + epsilon) - math.sqrt(math.log(1 / delta))
    shrunk = g ** np.array([1.0, 3, 10])
    np.testing.assert_allclose(sigma, 4 * 2**0.5 * G * shrunk / (mu * n * (1 - shrunk) * root), rtol=1e-12)
    short = curves(algorithm, problem, settings(T=5.0), 0, None, SIGMA)["sigma"][:, 0]
    assert np.all(short > sigma)


def test_deleting_more_than_half_is_refused():
    for m, admitted in ((100, True), (101, False)):
        problem = tight(n=200, forgotten=m)
        assert sequential.certificate.admits(problem.constants, settings(K=3.0)) == admitted
        sigma = curves(algorithm, problem, settings(K=3.0), 0, None, SIGMA)["sigma"][0, 0]
        assert (sigma > 0) == admitted
        assert sequential.gradient_left.admits(problem.constants, settings(K=3.0))


def test_nothing_is_certified_beyond_the_step_size_or_without_strong_convexity():
    assert not sequential.certificate.admits(tight().constants, settings(eta=1.5, K=3.0))
    for curvature in (0.0, -1.0):
        problem = tight(curvature=curvature)
        seen = curves(algorithm, problem, settings(K=3.0), 60, None, SIGMA, PRIVACY_SPENT, SENSITIVITY, GRADIENT_LEFT)
        assert seen["sigma"][0, 0] == 0 and seen["sensitivity"][0, -1] > 0 and seen["privacy_spent"][0, -1] == 1


def test_hiding_the_whole_history_takes_more_noise_than_one_secret_iterate():
    c, hp = tight().constants, replace(settings(K=3.0), epsilon=1.0)
    without = sequential.published_noise_without_secret_state(c, hp)
    log, shrunk = 2 * math.log(2 / 1e-5), 0.9**3
    expected = 8 * shrunk / (200 * (1 - shrunk) * (math.sqrt(log + 3) - math.sqrt(log + 2)))
    assert without == pytest.approx(expected, rel=1e-12)
    assert without > sequential.published_sensitivity(c, hp) * algorithm.prepare(hp).noise_multiplier


def test_requests_without_a_step_are_refused():
    with pytest.raises(InvalidSetting, match="K = 0"):
        algorithm.prepare(settings(K=0.0))
    assert jnp.all(jnp.isfinite(algorithm.prepare(settings()).noise_multiplier))
