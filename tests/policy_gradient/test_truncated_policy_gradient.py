"""GPOMDP: masks of horizon and batch, refusals, listed outcomes; escape from the saddle by noise alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient.truncated_policy_gradient import HParams, algorithm, escape
from algorithms.score_estimators import gpomdp
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE
from problems.decision import bilinear_logit, delay_saddle, garnet

KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def problem():
    return jax.jit(lambda key: garnet.make(key, S=5, A=3, gamma=0.8))(KEY)


def test_masked_estimate_is_the_estimate_written_out(problem):
    x, gamma = problem.init(KEY), problem.constants.gamma
    p, g = np.asarray(jax.nn.softmax(x)), np.zeros(x.shape)
    draw = jax.jit(jax.vmap(lambda key: problem.policy.rollout(problem.data, x, key, 6)))
    runs = jax.tree.map(np.asarray, draw(jax.random.split(KEY, 4)))
    for b in range(3):
        discounted = np.asarray(gamma ** np.arange(5) * runs.rewards[b, :5])
        for k in range(5):
            s, a = runs.states[b, k], runs.actions[b, k]
            g[s] += discounted[k:].sum() * (np.eye(x.shape[1])[a] - p[s]) / 3
    sizes = {"horizon": jnp.asarray(5), "batch_size": jnp.asarray(3)}
    estimate = jax.jit(lambda sizes: gpomdp(problem, x, KEY, HParams(eta=0.1, max_batch=4, max_horizon=6, **sizes)))
    np.testing.assert_allclose(-estimate(sizes), g, rtol=0, atol=1e-14)


def test_counts_escape_when_the_law_says_whatever_the_batch():
    saddle, seeds, sizes = delay_saddle.make(KEY, kappa=0.0), 150, jnp.array([10, 10000])

    def near(key, batch_size):
        hp = HParams(eta=0.2, horizon=2, batch_size=batch_size, max_horizon=2, draws="counts")
        return trace(algorithm, saddle, hp, STEPS_NEAR_SADDLE, 280, key)[-1]

    over_sizes = jax.vmap(near, (None, 0))
    medians = jnp.median(jax.jit(jax.vmap(over_sizes, (0, None)))(jax.random.split(KEY, seeds), sizes), 0)
    hp = HParams(eta=0.2, horizon=2, batch_size=sizes, max_horizon=2, draws="counts")
    promised = escape.bound(280.0, saddle.constants, hp, 0.0)
    np.testing.assert_allclose(promised, [77.1, 232.3], atol=0.1)
    error = 1.166 / (seeds**0.5 * jnp.log1p(hp.eta * saddle.constants.curvature))
    assert (jnp.abs(medians - promised) <= escape.tolerance * promised + 3 * error).all()
    assert escape.admits(saddle.constants, hp).all()
    assert not escape.admits(saddle.constants, hp.replace(batch_size=1))


def test_escape_is_claimed_from_the_saddle_only():
    saddle = delay_saddle.make(KEY, kappa=0.0, start=0.1)
    hp = HParams(eta=0.2, horizon=2, batch_size=100, max_horizon=2)
    z_0 = ESCAPE_DISTANCE.measure(saddle, saddle.init(KEY), None)
    assert jnp.isnan(escape.bound(10.0, saddle.constants, hp, z_0))


def test_without_a_score_the_point_stays_where_it_is_bit_by_bit():
    saddle = bilinear_logit.make(KEY)
    hp = HParams(eta=0.2, horizon=1, batch_size=1, max_batch=1, max_horizon=1)
    step = lambda t, state: algorithm.step(saddle, state, jax.random.fold_in(KEY, t), hp)  # noqa: E731
    start = algorithm.init(saddle, saddle.init(KEY), KEY, hp)
    np.testing.assert_array_equal(jax.jit(lambda: jax.lax.fori_loop(0, 1000, step, start))().x, 0.0)


WRONG = [
    {"horizon": 0},
    {"horizon": 51},
    {"horizon": 2.5},
    {"batch_size": 0},
    {"batch_size": 9},
    {"batch_size": 1.5},
    {"eta": 0.0},
    {"draws": "count"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{"eta": 0.1, **wrong}))


def test_counts_need_no_maximum_but_a_list_of_outcomes(problem):
    hp = algorithm.prepare(HParams(eta=0.1, batch_size=10**6, draws="counts"))
    with pytest.raises(InvalidSetting, match="outcomes"):
        gpomdp(problem, problem.init(KEY), KEY, hp)
