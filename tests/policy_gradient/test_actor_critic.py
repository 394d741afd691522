"""Actor-critic: the sampled actor and the critic against their exact means, the bound, refusals, blocks of uniforms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.critic_bias import (
    CRITIC_BIAS_SQ,
    CRITIC_REACH_SQ,
    critic_bias,
    expected_gradient,
    fisher_max,
    frozen,
    sampled_gradient,
    trained_moment,
)
from algorithms.linear_critic import BLOCK, random_features
from algorithms.policy_gradient import compatible_actor_critic
from algorithms.policy_gradient.actor_critic import HParams, State, algorithm, bias_bound, init
from problems.decision import delay_saddle, garnet
from problems.decision_process import state_values

KEY = jax.random.key(5)
brief = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
HP = {"eta": 0.1, "restart": 0.2, "critic_step": 1.0, "critic_decay": 20.0}


@pytest.fixture(scope="module")
def problem():
    return jax.jit(lambda key: garnet.make(key, S=4, A=2, branching=2, gamma=0.8))(KEY)


@pytest.fixture(scope="module")
def x(problem):
    return problem.init(jax.random.key(1))


def test_the_exact_values_give_the_exact_gradient_and_errors_enter_by_the_linear_map(problem, x):
    @brief
    def both(e):
        V = state_values(problem.mdp, jax.nn.softmax(x))
        return (
            expected_gradient(problem, x, V),
            problem.grad(x),
            critic_bias(problem, x, V + e),
            frozen(problem, x).B @ e,
        )

    g, slope, bias, mapped = both(jnp.array([1.0, -2.0, 0.5, 3.0]))
    np.testing.assert_allclose(g, -slope, atol=1e-14)
    np.testing.assert_allclose(bias.ravel(), mapped, atol=1e-13)


@pytest.mark.parametrize("restart", [0.0, 0.2])
def test_the_bound_holds_for_any_weights_and_a_constant_error_has_no_bias(problem, restart):
    @brief
    @jax.vmap
    def seen(key):
        x = jax.random.normal(key, (4, 2))
        state = State(x, jax.random.normal(key, (3,)), random_features(4, 3, 1), jnp.asarray(restart))
        bound = bias_bound(0.0, problem.constants, None, CRITIC_REACH_SQ.measure(problem, x, state))
        return CRITIC_BIAS_SQ.measure(problem, x, state) / bound, fisher_max(problem, x), frozen(problem, x).B.sum(1)

    ratio, fisher, constant = seen(jax.random.split(KEY, 200))
    assert 0.02 < ratio.max() <= 1
    assert fisher.max() <= problem.constants.fisher
    assert jnp.abs(constant).max() < 1e-14


def test_the_sampled_actor_has_the_expected_one_as_its_mean(problem, x):
    v = jnp.array([1.0, -1.0, 2.0, 0.0])
    draws = brief(jax.vmap(lambda key: sampled_gradient(problem, x, v, key, 4)))(jax.random.split(KEY, 5000))
    error = (draws.mean(0) - brief(lambda: expected_gradient(problem, x, v))()) / (draws.std(0) / 5000**0.5)
    assert jnp.abs(error).max() < 4


@pytest.mark.parametrize("rank", [0, 2])
def test_the_mean_square_of_the_trained_bias_is_the_exact_one(problem, x, rank):
    runs, N = 4000, jnp.array([3, 40])

    @brief
    def measured(keys):
        def one(N, key):
            hp = HParams(**HP, inner_steps=N, first_state=1, rank=rank)
            return CRITIC_BIAS_SQ.measure(problem, x, init(problem, x, key, hp))

        squares = jax.vmap(lambda N: jax.vmap(partial(one, N))(keys))(N)
        exact = jax.vmap(
            lambda N: jnp.trace(
                trained_moment(
                    frozen(problem, x), problem.mdp.gamma, HParams(**HP, inner_steps=N, first_state=1, rank=rank)
                )
            )
        )(N)
        return squares, exact

    squares, exact = measured(jax.random.split(KEY, runs))
    assert (np.abs(squares.mean(1) - exact) < 4 * squares.std(1) / runs**0.5).all()


def test_lanes_of_different_length_share_a_loop_and_stay_what_they_are_alone(problem, x):
    train = brief(jax.vmap(lambda N: init(problem, x, KEY, HParams(**HP, inner_steps=N)).omega))
    lengths = jnp.array([1, BLOCK, BLOCK + 1])
    together = train(lengths)
    for N, omega in zip(lengths, together, strict=True):
        np.testing.assert_array_equal(train(N[None])[0], omega)
    assert (together[0] != 0).sum() == 1


def test_a_warm_start_goes_on_where_the_critic_was(problem, x):
    @brief
    def after(warm):
        hp = HParams(**{**HP, "critic_step": 1e-9}, inner_steps=5, warm_start=warm)
        state = State(x, jnp.full(4, 7.0), jnp.eye(4), jnp.asarray(0.2))
        return algorithm.step(problem, state, KEY, hp).omega

    np.testing.assert_allclose(after(1), 7.0, rtol=1e-6)
    assert jnp.abs(after(0)).max() < 1e-6


def test_critic_noise_at_the_saddle_has_no_mean_along_the_escape_and_falls_with_the_steps():
    saddle = delay_saddle.make(KEY, kappa=0.0)

    @brief
    @jax.vmap
    def spread(N):
        hp = HParams(eta=0.5, inner_steps=N, critic_step=1.0, critic_decay=40.0, restart=0.1)
        return trained_moment(frozen(saddle, jnp.zeros(2)), saddle.mdp.gamma, hp)

    moment = spread(jnp.array([640, 2560, 10240]))
    np.testing.assert_allclose(moment[:, 1], 0, atol=1e-16)
    np.testing.assert_allclose(moment[:-1, 0, 0] / moment[1:, 0, 0], 4, rtol=0.05)


def test_compatible_features_leave_no_bias_and_fewer_do(problem, x):
    @brief
    def fit(dropped):
        g, misfit = compatible_actor_critic.fitted(problem, x, dropped)
        return jnp.linalg.norm(g + problem.grad(x)), misfit

    (none, misfit), (some, more) = fit(0), fit(2)
    assert none < 1e-13
    assert some > 1e-3
    assert 1e-2 < misfit < more


@pytest.mark.parametrize(
    "wrong",
    [
        {"inner_steps": 0},
        {"inner_steps": 2.5},
        {"eta": 0.0},
        {"critic_step": -1.0},
        {"critic_decay": 0.0},
        {"restart": 1.5},
        {"warm_start": 2},
        {"first_state": -1},
        {"rank": -1},
        {"batch_size": -1},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{**HP, **wrong}))
    assert algorithm.prepare(HParams(**HP)) == HParams(**HP)
