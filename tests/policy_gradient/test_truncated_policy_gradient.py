"""GPOMDP: mean, second moment, the mask of the horizon, refusals; escape from the saddle by noise alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient.truncated_policy_gradient import HParams, algorithm, escape, estimate, variance
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE
from problems.decision import delay_saddle, garnet

KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def problem():
    return jax.jit(lambda key: garnet.make(key, S=5, A=3, gamma=0.8))(KEY)


def estimates(problem, x, hp, runs):
    draw = jax.jit(lambda: jax.vmap(lambda key: -estimate(problem, x, key, hp))(jax.random.split(KEY, runs)))
    return np.asarray(draw()).reshape(runs, -1)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_mean_is_the_truncated_gradient_and_second_moment_is_bounded(problem, baseline):
    hp, runs = HParams(eta=0.1, horizon=7, baseline=baseline, batch_size=1, max_horizon=12), 20000
    x = problem.init(KEY)
    g = estimates(problem, x, hp, runs)
    slope = jax.jit(problem.truncated(jnp.asarray(7)).grad)(x)
    z = (g.mean(0) + np.asarray(slope).ravel()) / (g.std(0) / runs**0.5)
    assert np.abs(z).max() < 4
    assert (g**2).sum(1).mean() <= variance(problem.constants, hp)


def test_second_moment_along_the_escape_direction_is_the_claimed_one():
    saddle = delay_saddle.make(KEY, kappa=0.0)
    hp = HParams(eta=0.1, horizon=2, batch_size=1, max_horizon=2)
    along = estimates(saddle, jnp.zeros(2), hp, 20000) @ np.array([1.0, 1.0]) / 2**0.5
    error = (along**2).std() / 20000**0.5
    assert abs((along**2).mean() - saddle.constants.estimator_sq) < 4 * error


def test_full_mask_is_the_estimate_written_out(problem):
    hp = HParams(eta=0.1, horizon=6, batch_size=4, max_horizon=6)
    x, gamma = problem.init(KEY), problem.constants.gamma
    p, g = np.asarray(jax.nn.softmax(x)), np.zeros(x.shape)
    draw = jax.jit(lambda key: problem.policy.rollout(problem.data, x, key, 6))
    for key in jax.random.split(KEY, 4):
        run = draw(key)
        discounted = np.asarray(gamma ** np.arange(6) * run.rewards)
        for k, (s, a) in enumerate(zip(np.asarray(run.states), np.asarray(run.actions), strict=True)):
            g[s] += discounted[k:].sum() * (np.eye(x.shape[1])[a] - p[s]) / 4
    np.testing.assert_allclose(-jax.jit(lambda: estimate(problem, x, KEY, hp))(), g, rtol=0, atol=1e-14)


def test_noise_alone_leaves_the_saddle_when_the_law_says():
    saddle = delay_saddle.make(KEY, kappa=0.0)
    hp = HParams(eta=0.2, horizon=2, batch_size=100, max_horizon=2)
    assert escape.admits(saddle.constants, hp)
    run = jax.jit(jax.vmap(lambda key: trace(algorithm, saddle, hp, STEPS_NEAR_SADDLE, 300, key)[-1]))
    seeds = 1000
    median = jnp.median(run(jax.random.split(KEY, seeds)))
    promised = escape.bound(300.0, saddle.constants, hp, 0.0)
    np.testing.assert_allclose(promised, 128.8, atol=0.1)
    error = 1.166 / (seeds**0.5 * jnp.log1p(hp.eta * saddle.constants.curvature))
    assert abs(median - promised) <= escape.tolerance * promised + 3 * error


def test_escape_is_claimed_from_the_saddle_only():
    saddle = delay_saddle.make(KEY, kappa=0.0, start=0.1)
    hp = HParams(eta=0.2, horizon=2, batch_size=100, max_horizon=2)
    z_0 = ESCAPE_DISTANCE.measure(saddle, saddle.init(KEY), None)
    assert jnp.isnan(escape.bound(10.0, saddle.constants, hp, z_0))


@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"horizon": 51}, {"horizon": 2.5}, {"batch_size": 0}, {"eta": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{"eta": 0.1, **wrong}))
