"""TD(0) by sampling: its mean update, its exact law, the chain's mixing, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms import td_bounds
from algorithms.algorithm import InvalidSetting
from algorithms.metric import DISTANCE_SQ
from algorithms.policy_gradient.temporal_difference import (
    HParams,
    algorithm,
    exact_error,
    mean_update,
    sampled_update,
)
from problems.decision import markov_reward_process
from problems.policy_evaluation import law, restarted
from problems.policy_evaluation import mean_update as exact_update

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY = jax.random.key(8)


@pytest.fixture(scope="module")
def problem():
    return once(lambda key: markov_reward_process.make(key, S=4, A=2, d=2, restart=True))(KEY)


def test_sampled_update_has_the_mean_of_the_mean_path(problem):
    x, runs = jnp.array([0.3, -1.0]), 20000

    @once
    def updates(problem):
        evaluation, rho = problem.evaluation, problem.data.rho
        states = jax.random.choice(KEY, 4, (runs,), p=rho)
        u = jax.random.uniform(KEY, (runs, 4))
        drawn, after = jax.vmap(lambda s, u: sampled_update(evaluation, x, s, u))(states, u)
        A, b = exact_update(evaluation)
        return drawn, jnp.bincount(after, length=4) / runs, mean_update(evaluation, x, rho), b - A @ x

    drawn, visited, mean, exact = jax.tree.map(np.asarray, updates(problem))
    np.testing.assert_allclose(mean, exact, atol=1e-14)
    assert np.abs((drawn.mean(0) - exact) / (drawn.std(0) / runs**0.5)).max() < 4
    np.testing.assert_allclose(visited, problem.data.rho, atol=4 * 0.5 / runs**0.5)


@pytest.mark.parametrize("sampling", ["markov", "iid"])
def test_mean_square_error_is_the_exact_one(problem, sampling):
    hp, steps, runs = HParams(eta=0.4, decay=0.01, start=1, sampling=sampling), 40, 4000

    @once
    def run(problem):
        keys = jax.random.split(KEY, runs)
        errors = jax.vmap(lambda key: trace(algorithm, problem, hp, DISTANCE_SQ, steps, key)[-1])(keys)
        start = problem.data.x0, problem.x_star
        return errors, exact_error(float(steps), problem.constants, hp, problem.evaluation, start)

    errors, exact = jax.tree.map(np.asarray, run(problem))
    assert abs(errors.mean() - exact) < 4 * errors.std() / runs**0.5


def test_average_is_the_mean_of_the_points_before(problem):
    hp = HParams(eta=0.2, sampling="mean_path")

    @once
    def run(problem):
        state = algorithm.init(problem, jnp.ones(2), KEY, hp)
        points = []
        for _ in range(3):
            points.append(state.x)
            state = algorithm.step(problem, state, KEY, hp)
        return jnp.stack(points).mean(0), state.average

    expected, average = run(problem)
    np.testing.assert_allclose(average, expected, rtol=1e-14)


def test_mixing_time_is_counted(problem):
    P, rho = np.asarray(restarted(problem.evaluation)), np.asarray(law(problem.evaluation))
    distances = [np.abs(np.linalg.matrix_power(P, t) - rho).sum(-1).max() / 2 for t in range(50)]
    tau = next(t for t, distance in enumerate(distances) if distance <= 1e-3)
    found, total = once(td_bounds.mixing)(P, rho, 1e-3)
    assert found == tau
    np.testing.assert_allclose(total, sum(distances[:tau]), rtol=1e-12)


def test_bounds_speak_of_their_steps_alone(problem):
    c = problem.constants
    limit = (1 - c.modulus) / 8
    decay = (1 - c.modulus) ** 2 * c.feature_min / 16
    for eta, slowing, admitted in (
        (limit, 0.0, True),
        (limit, decay, True),
        (limit, 2 * decay, False),
        (2 * limit, 0, False),
    ):
        assert td_bounds.takes_fresh_step(c, HParams(eta=eta, decay=slowing)) == admitted
    radius = c.x_star_norm
    for eta, ball, admitted in ((0.01, radius, True), (0.01, 0.9 * radius, False), (1e4, radius, False)):
        assert td_bounds.contracts_projected(c, HParams(eta=eta, radius=ball)) == admitted


@pytest.mark.parametrize(
    "wrong", [{"eta": -1.0}, {"radius": 0.0}, {"decay": -0.1}, {"start": -2}, {"sampling": "none"}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{"eta": 0.1, **wrong}))
