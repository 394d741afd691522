"""Tabular families: returns, gradients, truncation, optimum and trajectories against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.policy_gradient.softmax_policy_gradient import mismatch
from bench import sweep
from problems.constants import InvalidParameter
from problems.decision import bandit, garnet
from problems.decision_process import action_values, exact_return, occupancy, state_values, transitions
from problems.tabular import process_problem

KEY = jax.random.key(3)
SMALL = {"S": 4, "A": 3, "branching": 2, "gamma": 0.8, "spread": 1.0}


@pytest.fixture(scope="module")
def problem():
    return jax.jit(lambda key: garnet.make(key, **SMALL))(KEY)


@pytest.fixture(scope="module")
def x(problem):
    return problem.init(jax.random.key(1))


def truncated_by_recursion(mdp, x, horizon):
    p = jax.nn.softmax(x)
    r_pi, V = (p * mdp.r).sum(-1), jnp.zeros(mdp.mu.size)
    for _ in range(horizon):
        V = r_pi + transitions(mdp, p) @ V
    return -mdp.mu @ V


def test_an_instance_is_a_markov_decision_process(problem):
    mdp = problem.data.mdp
    np.testing.assert_allclose(mdp.P.sum(-1), 1, rtol=1e-14)
    assert ((mdp.P > 0).sum(-1) == SMALL["branching"]).all()
    np.testing.assert_allclose(mdp.mu.sum(), 1, rtol=1e-14)


def test_gradient_is_occupancy_times_policy_times_advantage(problem, x):
    mdp, p = problem.data.mdp, jax.nn.softmax(x)
    advantage = action_values(mdp, p) - state_values(mdp, p)[:, None]
    formula = -occupancy(mdp, p)[:, None] * p * advantage
    np.testing.assert_allclose(problem.grad(x), formula, rtol=0, atol=1e-14)


def test_gradient_is_the_central_difference(problem, x):
    h = 1e-5
    step = jnp.eye(x.size).reshape(-1, *x.shape) * h
    value = jax.jit(jax.vmap(problem.value))
    differences = (value(x + step) - value(x - step)) / (2 * h)
    np.testing.assert_allclose(problem.grad(x), differences.reshape(x.shape), rtol=0, atol=1e-9)


@pytest.mark.parametrize("horizon", [1, 2, 3, 8, 37])
def test_truncated_return_and_gradient_follow_the_recursion(problem, x, horizon):
    truncated = problem.truncated(jnp.asarray(horizon))
    recursion = jax.jit(jax.value_and_grad(truncated_by_recursion, argnums=1), static_argnums=2)
    expected, slope = recursion(problem.data.mdp, x, horizon)
    np.testing.assert_allclose(truncated.value(x), expected, rtol=1e-14)
    np.testing.assert_allclose(truncated.grad(x), slope, rtol=0, atol=1e-14)


def test_longest_horizon_is_the_untruncated_return(problem, x):
    truncated = problem.truncated(jnp.asarray(4095))
    np.testing.assert_allclose(truncated.value(x), problem.value(x), rtol=1e-13)
    np.testing.assert_allclose(truncated.grad(x), problem.grad(x), rtol=0, atol=1e-13)


def test_optimum_is_the_best_of_all_deterministic_policies(problem):
    mdp = problem.data.mdp
    policies = jnp.array(list(itertools.product(range(SMALL["A"]), repeat=SMALL["S"])))
    returns = jax.jit(jax.vmap(lambda a: exact_return(mdp, jax.nn.one_hot(a, SMALL["A"]))))(policies)
    np.testing.assert_allclose(problem.constants.f_star, -returns.max(), rtol=1e-13)
    np.testing.assert_array_equal(problem.data.a_star, policies[jnp.argmax(returns)])
    Q = action_values(mdp, jax.nn.one_hot(problem.data.a_star, SMALL["A"]))
    ordered = jnp.sort(Q, -1)
    np.testing.assert_allclose(problem.constants.gap, (ordered[:, -1] - ordered[:, -2]).min(), rtol=1e-12)


def test_mismatch_is_a_lojasiewicz_constant(problem):
    def both_sides(key):
        x = 2 * jax.random.normal(key, (SMALL["S"], SMALL["A"]))
        C = mismatch(problem, x, None)
        return jnp.linalg.norm(problem.grad(x)), C * (problem.value(x) - problem.constants.f_star)

    slope, bound = jax.jit(jax.vmap(both_sides))(jax.random.split(KEY, 200))
    assert (slope >= bound).all()


@pytest.mark.parametrize("make", [lambda k: garnet.make(k, **SMALL), lambda k: bandit.make(k, A=4)])
def test_curvature_is_below_L(make):
    def curvature(key):
        problem = make(key)
        x = 2 * problem.init(key)
        hessian = jax.hessian(problem.value)(x).reshape(x.size, x.size)
        return jnp.abs(jnp.linalg.eigvalsh(hessian)).max() / problem.constants.L

    assert jax.jit(jax.vmap(curvature))(jax.random.split(KEY, 50)).max() <= 1


def test_trajectories_follow_policy_and_transitions(problem, x):
    mdp, p, runs, length = problem.data.mdp, jax.nn.softmax(x), 20000, 6
    rollout = jax.jit(jax.vmap(lambda key: problem.policy.rollout(problem.data, x, key, length)))
    drawn = jax.tree.map(np.asarray, rollout(jax.random.split(KEY, runs)))
    mdp, p = jax.tree.map(np.asarray, (mdp, p))
    discounted = drawn.rewards @ (mdp.gamma ** jnp.arange(length))
    error = discounted.std() / runs**0.5
    assert abs(discounted.mean() + jax.jit(problem.truncated(jnp.asarray(length)).value)(x)) < 4 * error
    np.testing.assert_array_equal(drawn.rewards, mdp.r[drawn.states, drawn.actions])
    assert (mdp.P[drawn.states[:, :-1], drawn.actions[:, :-1], drawn.states[:, 1:]] > 0).all()
    frequency = (drawn.actions[:, 0] == 0)[drawn.states[:, 0] == 1].mean()
    assert abs(frequency - p[1, 0]) < 4 * 0.5 / (runs / SMALL["S"]) ** 0.5


def test_log_prob_is_the_log_of_the_policy(problem, x):
    states, actions = jnp.array([0, 3, 1]), jnp.array([2, 0, 1])
    log_prob = problem.policy.log_prob(problem.data, x, states, actions)
    np.testing.assert_allclose(jnp.exp(log_prob), jax.nn.softmax(x)[states, actions], rtol=1e-14)


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"branching": 11}, {"A": 1}, {"spread": -1.0}])
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        garnet.make(KEY, **wrong)


PROCESS = np.random.default_rng(0).dirichlet(np.ones(3), size=(3, 2))
REWARDS = np.arange(6.0).reshape(3, 2)


def test_a_users_own_process_is_a_problem():
    own = process_problem(PROCESS, REWARDS, gamma=0.5, mu=np.array([1.0, 0.0, 0.0]))
    x = jnp.zeros((3, 2))
    V = np.linalg.solve(np.eye(3) - 0.5 * PROCESS.mean(1), REWARDS.mean(1))
    np.testing.assert_allclose(own.value(x), -V[0], rtol=1e-14)
    assert own.constants.start_min == 0
    verdicts = sweep(own, "softmax_policy_gradient", seeds=2, steps=20).verdicts()
    assert dict(zip(verdicts.theorem, verdicts.verdict, strict=True))["policy_gradient_ascent"] == "held"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"P": PROCESS + 1e-9}, "P has a row that sums to 1 only up to"), ({"P": PROCESS[:, :, :2]}, "must be"),
     ({"mu": np.array([1.5, -0.5, 0.0])}, "mu has a negative"), ({"mu": np.ones(2) / 2}, "mu"),
     ({"gamma": 1.0}, "gamma"), ({"r": REWARDS + np.inf}, "not finite"), ({"l2": -1.0}, "l2")],
)  # fmt: skip
def test_a_process_that_is_none_is_refused(wrong, said):
    with pytest.raises(InvalidParameter, match=said):
        process_problem(**{"P": PROCESS, "r": REWARDS, "gamma": 0.9} | wrong)
