"""Ascent on the cut return: golden escape times, the saddle exact ascent never leaves, the full horizon is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.metric import VALUE
from algorithms.policy_gradient import softmax_policy_gradient
from algorithms.policy_gradient.truncated_exact_policy_gradient import HParams, algorithm, escape
from algorithms.truncation import ESCAPE_DISTANCE, STEPS_NEAR_SADDLE
from problems.decision import delay_saddle, garnet

KEY = jax.random.key(0)


def near_saddle(problem, eta, horizon, steps):
    hp = HParams(eta=jnp.asarray(eta), horizon=jnp.asarray(horizon))
    z_0 = ESCAPE_DISTANCE.measure(problem, problem.init(KEY), None)
    measured = trace(algorithm, problem, hp, STEPS_NEAR_SADDLE, steps, KEY)
    promised = jax.vmap(lambda t: escape.bound(t, problem.constants, hp, z_0))(jnp.arange(steps + 1.0))
    return measured, promised, escape.admits(problem.constants, hp)


def test_golden_escape_times():
    problem = delay_saddle.make(KEY, kappa=0.05)
    run = jax.jit(jax.vmap(lambda horizon: near_saddle(problem, 1.0, horizon, 200)))
    measured, promised, admitted = run(jnp.array([5, 10, 20, 40, 80, 160]))
    assert admitted.all()
    np.testing.assert_array_equal(measured[:, -1], [7, 10, 18, 36, 75, 155])
    assert (jnp.abs(measured - promised) <= escape.slack).all()


def test_escape_law_wherever_it_is_admitted():
    etas = jnp.array([0.4, 0.7, 1.0, 2.0, 4.0, 8.0])
    horizons = jnp.array([2, 4, 8, 16, 32, 64])

    problem = delay_saddle.make(KEY)

    def run(kappa, eta, horizon):
        constants = problem.constants.replace(delay_cost=kappa)
        data = problem.data.replace(kappa=kappa)
        return near_saddle(problem.replace(data=data, constants=constants), eta, horizon, 300)

    kappas = jnp.array([0.001, 0.03, 0.3])
    grid = [axis.ravel() for axis in jnp.meshgrid(kappas, etas, horizons, indexing="ij")]
    measured, promised, admitted = jax.jit(jax.vmap(run))(*grid)
    assert admitted.sum() > 50
    assert (jnp.abs(measured - promised)[admitted] <= escape.slack).all()


def test_exact_ascent_never_leaves_and_a_displacement_grows():
    problem = delay_saddle.make(KEY, kappa=0.0)

    def run(start):
        return near_saddle(problem.replace(data=problem.data.replace(start=start)), 1.0, 20, 300)

    measured, promised, _ = jax.jit(jax.vmap(run))(jnp.array([0.0, 1e-2, 1e-4, 1e-8, 1e-12]))
    np.testing.assert_array_equal(measured[:, -1], [301, 37, 81, 167, 253])
    assert (jnp.abs(measured - promised) <= escape.slack).all()


def test_full_horizon_is_exact_ascent():
    problem = jax.jit(lambda key: garnet.make(key, S=4, A=2, gamma=0.5))(KEY)
    exact = softmax_policy_gradient.HParams(eta=jnp.asarray(0.5))
    cut = HParams(eta=jnp.asarray(0.5), horizon=jnp.asarray(4095))
    expected = jax.jit(lambda: trace(softmax_policy_gradient.algorithm, problem, exact, VALUE, 50, KEY))()
    measured = jax.jit(lambda: trace(algorithm, problem, cut, VALUE, 50, KEY))()
    np.testing.assert_allclose(measured, expected, rtol=1e-13)


@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"horizon": 4096}, {"eta": -0.1}, {"eta": float("inf")}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{"eta": 0.1, **wrong}))
