"""Drawn estimates against their exact moments, for every estimator; counts of outcomes against drawn trajectories."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace
from scipy import stats

from algorithms.algorithm import InvalidSetting
from algorithms.estimator_moments import (
    gpomdp_moments,
    of_batch,
    pgt_moments,
    random_horizon_moments,
    reinforce_moments,
    roulette_moments,
    scored,
)
from algorithms.policy_gradient import (
    action_value_policy_gradient,
    perturbed_policy_gradient,
    random_horizon_policy_gradient,
    reinforce_policy_gradient,
    roulette_policy_gradient,
    truncated_policy_gradient,
)
from algorithms.score_estimators import gpomdp, multinomial
from algorithms.truncation import STEPS_NEAR_SADDLE
from problems.decision import bilinear_logit, delay_saddle, garnet

KEY = jax.random.key(4)
RUNS, H, CAP = 4000, 7, 40
UNTIL = {"horizon": H, "baseline": 0.3, "batch_size": 2, "max_batch": 3, "max_horizon": 9}
CAPPED = {"survival": 0.5, "baseline": 0.3, "batch_size": 2, "max_batch": 3, "max_horizon": CAP}


@pytest.fixture(scope="module")
def problem():
    return jax.jit(lambda key: garnet.make(key, S=3, A=2, gamma=0.5))(KEY)


@pytest.fixture(scope="module")
def exact(problem):
    """Return the moments of one trajectory of every estimator, by name, and -grad J_H, -grad J, all at one point."""

    @BRIEFLY
    def compute(x):
        process = scored(problem, x)
        moments = {
            "truncated": gpomdp_moments(process, 0.3, jnp.asarray(H), 9),
            "reinforce": reinforce_moments(process, 0.3, jnp.asarray(H), 9),
            "action_value": pgt_moments(process, 0.3, jnp.asarray(H), 9),
            "roulette": roulette_moments(process, 0.3, jnp.asarray(0.5), CAP),
            "random_horizon": random_horizon_moments(process, 0.3),
        }
        return moments, problem.truncated(jnp.asarray(H)).grad(x).ravel(), problem.grad(x).ravel()

    return compute(problem.init(KEY))


BRIEFLY = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
COUNT = BRIEFLY(jax.vmap(multinomial, (0, None, None)))
METHODS = {
    "truncated": (gpomdp, truncated_policy_gradient.HParams(eta=0.1, **UNTIL)),
    "reinforce": (reinforce_policy_gradient.estimate, reinforce_policy_gradient.HParams(eta=0.1, **UNTIL)),
    "action_value": (action_value_policy_gradient.estimate, action_value_policy_gradient.HParams(eta=0.1, **UNTIL)),
    "roulette": (roulette_policy_gradient.estimate, roulette_policy_gradient.HParams(eta=0.1, **CAPPED)),
    "random_horizon": (
        random_horizon_policy_gradient.estimate,
        random_horizon_policy_gradient.HParams(eta=0.1, **CAPPED),
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_estimates_have_the_exact_moments(problem, exact, name):
    estimate, hp = METHODS[name]
    x, promised = problem.init(KEY), of_batch(exact[0][name], jnp.asarray(2))
    draw = BRIEFLY(lambda: jax.vmap(lambda key: -estimate(problem, x, key, hp))(jax.random.split(KEY, RUNS)))
    g = np.asarray(draw()).reshape(RUNS, -1)
    assert np.abs((g.mean(0) - promised.mean) / (g.std(0) / RUNS**0.5)).max() < 4
    square = (g**2).sum(1)
    assert abs(square.mean() - promised.square) < 4 * square.std() / RUNS**0.5
    assert square.std() / RUNS**0.5 < 0.1 * promised.square


def test_means_are_the_gradients_that_they_claim(exact):
    moments, cut, whole = exact
    for name in ("truncated", "reinforce"):
        np.testing.assert_allclose(moments[name].mean, -cut, rtol=0, atol=1e-14)
    for name in ("roulette", "random_horizon"):
        np.testing.assert_allclose(moments[name].mean, -whole, rtol=0, atol=1e-9)
    assert np.abs(cut - whole).max() > 1e-5
    assert moments["truncated"].square < moments["roulette"].square < moments["random_horizon"].square


def test_action_values_miss_the_visits_after_the_horizon(problem, exact):
    x = problem.init(KEY)
    state = action_value_policy_gradient.start(x, METHODS["action_value"][1], H)
    missed = BRIEFLY(lambda: action_value_policy_gradient.visits_cut_off(problem, x, state))()
    np.testing.assert_allclose(missed, jnp.linalg.norm(exact[0]["action_value"].mean + exact[2]), rtol=1e-9)


def test_counts_and_trajectories_agree_in_law():
    saddle, x, runs = delay_saddle.make(KEY, kappa=0.3), jnp.array([0.4, -0.7]), 4000
    kinds = {"counts": {}, "trajectories": {"max_batch": 5}}

    def draw(kind):
        hp = truncated_policy_gradient.HParams(
            eta=0.1, horizon=3, batch_size=jnp.asarray(5), max_horizon=4, draws=kind, **kinds[kind]
        )
        return jax.vmap(lambda key: -gpomdp(saddle, x, key, hp))(jax.random.split(KEY, runs))

    moments = BRIEFLY(lambda: gpomdp_moments(scored(saddle, x), 0.0, jnp.asarray(3), 4))()
    for kind in kinds:
        g = np.asarray(BRIEFLY(partial(draw, kind))())
        assert np.abs((g.mean(0) - moments.mean) / (g.std(0) / runs**0.5)).max() < 4, kind
        square = (g**2).sum(1)
        promised = of_batch(moments, jnp.asarray(5)).square
        assert abs(square.mean() - promised) < 4 * square.std() / runs**0.5, kind


@pytest.mark.parametrize("n", [1, 30, 10_000])
def test_the_chain_of_binomials_is_multinomial(n):
    p, runs = jnp.array([0.25, 0.1, 0.0, 0.4, 0.25]), 4000
    counts = np.asarray(COUNT(jax.random.split(KEY, runs), jnp.asarray(n, float), p))
    np.testing.assert_array_equal(counts.sum(1), n)
    np.testing.assert_array_equal(counts[:, 2], 0)
    assert (counts >= 0).all()
    for share, column in zip(np.asarray(p), counts.T, strict=True):
        edges = np.unique(stats.binom.ppf(np.linspace(0, 1, 12)[1:-1], n, share))
        below = stats.binom.cdf(edges, n, share)
        error = np.sqrt(below * (1 - below) / runs)
        assert (np.abs((column[:, None] <= edges).mean(0) - below) <= 4.5 * error + 1e-12).all()
    among = np.cov(counts[:, 0], counts[:, 3])[0, 1] / n
    assert abs(among + 0.25 * 0.4) < 5 * 0.35 / runs**0.5


@pytest.mark.parametrize("n", [0, 7])
def test_a_certain_outcome_takes_all(n):
    counts = COUNT(jax.random.split(KEY, 4000), jnp.asarray(n, float), jnp.array([0.0, 0.0, 1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(counts, np.tile([0, 0, n, 0, 0], (4000, 1)))


@pytest.mark.parametrize("method", [roulette_policy_gradient, random_horizon_policy_gradient])
def test_a_cap_that_trajectories_outlive_is_refused(method):
    method.algorithm.prepare(method.HParams(eta=0.1, survival=0.9, max_horizon=200))
    for wrong in ({"max_horizon": 100}, {"survival": -0.1}, {"survival": 1.1}, {"batch_size": 9}, {"eta": -1.0}):
        with pytest.raises(InvalidSetting):
            method.algorithm.prepare(method.HParams(**{"eta": 0.1, "survival": 0.9, **wrong}))


def test_perturbation_escapes_where_scores_vanish():
    saddle, seeds, scales = bilinear_logit.make(KEY), 150, jnp.array([1e-2, 1e-4])

    def near(key, s_iso):
        hp = perturbed_policy_gradient.HParams(
            eta=0.2, horizon=1, batch_size=1, s_iso=s_iso, max_batch=1, max_horizon=1
        )
        return trace(perturbed_policy_gradient.algorithm, saddle, hp, STEPS_NEAR_SADDLE, 280, key)[-1]

    run = BRIEFLY(jax.vmap(jax.vmap(near, (None, 0)), (0, None)))
    medians = jnp.median(run(jax.random.split(KEY, seeds), scales), 0)
    hp = perturbed_policy_gradient.HParams(eta=0.2, horizon=1, batch_size=1, s_iso=scales, max_horizon=1)
    promised = perturbed_policy_gradient.escape.bound(280.0, saddle.constants, hp, 0.0)
    np.testing.assert_allclose(promised, [97.9, 192.3], atol=0.1)
    assert (jnp.abs(medians - promised) <= 0.05 * promised + 3 * 1.166 / (seeds**0.5 * jnp.log(1.05))).all()
    with pytest.raises(InvalidSetting):
        perturbed_policy_gradient.algorithm.prepare(perturbed_policy_gradient.HParams(eta=0.2, s_iso=-1.0))
