"""River swim, gridworld and the saddles: transitions, closed forms against the process, claimed constants."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.constants import InvalidParameter
from problems.decision import bilinear_logit, chain, delay_saddle, gridworld, multi_saddle
from problems.decision_process import expected_return

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
KEY = jax.random.key(0)
MAKES = (multi_saddle.make, bilinear_logit.make)


def return_of_process(problem, x):
    return -expected_return(problem.mdp, jnp.exp(problem.log_policy(x)))


@pytest.mark.parametrize("make", MAKES)
def test_the_closed_form_is_the_return_of_the_process(make):
    problem = make(KEY)
    x = 0.7 * jax.random.normal(KEY, problem.init(KEY).shape)
    for cut in (problem, problem.truncated(jnp.asarray(3))):
        expected, slope = once(jax.value_and_grad(lambda x, cut=cut: return_of_process(cut, x)))(x)
        np.testing.assert_allclose(cut.value(x), expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(once(cut.grad)(x), slope, rtol=0, atol=1e-13)
    np.testing.assert_allclose(problem.mdp.P.sum(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(problem.mdp.mu.sum(), 1, rtol=1e-14)


def test_the_river_carries_left():
    problem = chain.make(KEY, S=4, slip=0.3, uniform=False)
    P = np.asarray(problem.mdp.P)
    np.testing.assert_allclose(P[1], [[1, 0, 0, 0], [0.3, 0, 0.7, 0]])
    np.testing.assert_allclose(P[3, 1], [0, 0, 0.3, 0.7])
    np.testing.assert_array_equal(problem.mdp.mu, [1, 0, 0, 0])
    assert problem.constants.start_min == 0
    assert (problem.optimum[0] == 1).all()  # the optimal policy swims right


def test_the_grid_has_walls_and_an_absorbing_goal():
    problem = gridworld.make(KEY, n=3, slip=0.0, gamma=0.5)
    P, r = np.asarray(problem.mdp.P), np.asarray(problem.mdp.r)
    assert P[0, 0, 0] == 1 and P[0, 1, 1] == 1 and P[0, 2, 3] == 1 and P[0, 3, 0] == 1
    assert (P[8, :, 8] == 1).all() and (r[8] == 0).all()
    assert r[5, 2] == 1 and r[7, 1] == 1 and r.sum() == 2
    distance = np.array([4, 3, 2, 3, 2, 1, 2, 1])
    V = 0.5 ** (distance - 1.0)
    np.testing.assert_allclose(-problem.constants.f_star, V.sum() / 9, rtol=1e-12)
    assert problem.constants.gap == 0


@pytest.mark.parametrize("make", [delay_saddle.make, multi_saddle.make, bilinear_logit.make])
def test_the_origin_is_a_strict_saddle_with_the_claimed_curvature(make):
    problem = make(KEY)
    origin = problem.init(KEY)
    assert (problem.grad(origin) == 0).all()
    hessian = -np.asarray(jax.hessian(problem.value)(origin)).reshape(origin.size, origin.size)
    values, vectors = np.linalg.eigh(hessian)
    np.testing.assert_allclose(values[-1], problem.constants.curvature, rtol=1e-14)
    along = problem.policy.escape(problem.data, jnp.asarray(vectors[:, -1]).reshape(origin.shape))
    np.testing.assert_allclose(abs(along), 1, rtol=1e-12)


@pytest.mark.parametrize(("make", "length"), [(delay_saddle.make, 5), (multi_saddle.make, 2), (delay_saddle.make, 1)])
def test_outcomes_are_all_there_is(make, length):
    problem = make(KEY)
    x = jax.random.normal(KEY, problem.init(KEY).shape)
    runs = problem.policy.outcomes(problem.data, length)
    log_prob = problem.policy.log_prob(problem.data, x, runs.states, runs.actions).sum(0)
    discounted = problem.mdp.gamma ** jnp.arange(length) @ runs.rewards
    expected = jax.nn.softmax(log_prob) @ discounted
    np.testing.assert_allclose(expected, -problem.truncated(jnp.asarray(length)).value(x), rtol=1e-12)
    moves = np.asarray(problem.mdp.P)[runs.states[:-1], runs.actions[:-1], runs.states[1:]]
    assert (moves == 1).all()


@pytest.mark.parametrize("make", [delay_saddle.make, multi_saddle.make])
def test_the_third_derivative_is_below_rho(make):
    problem = make(KEY)
    points = 2 * jax.random.normal(KEY, (300, *problem.init(KEY).shape))
    shift = jax.random.normal(jax.random.key(1), points.shape)
    shift = 1e-4 * shift / jnp.sqrt(jnp.sum(shift**2, axis=tuple(range(1, shift.ndim)), keepdims=True))
    hessian = once(jax.vmap(jax.hessian(problem.value)))
    change = (hessian(points + shift) - hessian(points)).reshape(300, points[0].size, -1)
    slope = np.abs(np.linalg.eigvalsh(change)).max() / 1e-4
    assert 0.2 * problem.constants.rho < slope <= problem.constants.rho * (1 + 1e-6)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [(chain.make, {"S": 1}), (chain.make, {"slip": 1.1}), (gridworld.make, {"n": 1}), (gridworld.make, {"goal": 16}),
     (gridworld.make, {"gamma": 1.0}), (multi_saddle.make, {"n": 0}), (multi_saddle.make, {"decay": 0.0}),
     (multi_saddle.make, {"gamma": 0.0}), (multi_saddle.make, {"c": 0.0})],
)  # fmt: skip
def test_impossible_parameters_are_refused(make, wrong):
    with pytest.raises(InvalidParameter):
        make(KEY, **wrong)
