"""The delay saddle: its closed form is the return of its five-state process, its constants are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.aliased_choice import log_policy
from problems.constants import InvalidParameter
from problems.decision import delay_saddle
from problems.decision_process import expected_return

KEY = jax.random.key(0)
GAMMA, C, KAPPA = 0.9, 1.5, 0.3


@pytest.fixture(scope="module")
def problem():
    return delay_saddle.make(KEY, gamma=GAMMA, c=C, kappa=KAPPA)


def return_of_process(problem, x):
    return -expected_return(problem.data.mdp, jnp.exp(log_policy(x)))


@pytest.mark.parametrize("horizon", [None, 1, 2, 3, 11, 200])
def test_closed_form_is_the_return_of_the_process(problem, horizon):
    cut = problem if horizon is None else problem.truncated(jnp.asarray(horizon))
    process = jax.jit(jax.value_and_grad(lambda x: return_of_process(cut, x)))
    for x in (jnp.zeros(2), jnp.array([0.3, -1.2]), jnp.array([-2.0, -0.4])):
        expected, slope = process(x)
        np.testing.assert_allclose(cut.value(x), expected, rtol=0, atol=1e-14)
        np.testing.assert_allclose(cut.grad(x), slope, rtol=0, atol=1e-14)


def test_the_origin_is_a_strict_saddle_with_the_claimed_curvature(problem):
    origin = problem.init(KEY)
    assert (problem.grad(origin) == 0).all()
    curvatures = np.linalg.eigvalsh(-jax.hessian(problem.value)(origin))
    np.testing.assert_allclose(curvatures, [-problem.constants.curvature, problem.constants.curvature], rtol=1e-14)


def test_gradient_keeps_its_digits_near_the_saddle(problem):
    e = 1e-30
    gradient = problem.grad(jnp.array([e, 2 * e]))
    np.testing.assert_allclose(gradient, -GAMMA * C / 8 * jnp.array([2 * e, e]), rtol=1e-14)


def test_truncation_alone_pushes_off_the_saddle(problem):
    bias = -problem.truncated(jnp.asarray(7)).grad(jnp.zeros(2))
    np.testing.assert_allclose(bias, [KAPPA * GAMMA**7 / (4 * (1 - GAMMA)), 0.0], rtol=1e-13)


def test_curvature_is_below_L_everywhere(problem):
    points = 3 * jax.random.normal(KEY, (2000, 2))
    curvature = jnp.abs(np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(problem.value)))(points))).max()
    assert curvature <= problem.constants.L * (1 + 1e-12)


def test_infimum_is_approached_where_both_actions_are_certain(problem):
    np.testing.assert_allclose(problem.value(jnp.array([-60.0, -60.0])), problem.constants.f_star, rtol=1e-14)


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": 1.0}, {"c": 0.0}, {"kappa": -0.1}])
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        delay_saddle.make(KEY, **wrong)
