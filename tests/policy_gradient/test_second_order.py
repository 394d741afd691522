"""The least eps of a second-order stationary point: closed form at a saddle, finite differences elsewhere."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.second_order import (
    GRADIENT_NORM_AT_HORIZON,
    SECOND_ORDER,
    SECOND_ORDER_AT_HORIZON,
    TOP_CURVATURE_AT_HORIZON,
    second_order_gap,
    top_curvature,
)
from problems.decision import bandit, delay_saddle

KEY = jax.random.key(3)
BRIEFLY = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_at_the_saddle_only_the_curvature_counts_and_far_up_the_slope_only_the_gradient():
    saddle = delay_saddle.make(KEY, kappa=0.0)
    measure = BRIEFLY(lambda x: (second_order_gap(saddle, x), top_curvature(saddle, x), saddle.grad(x)))
    gap, curvature, _ = measure(jnp.zeros(2))
    np.testing.assert_allclose(curvature, 0.1125, rtol=1e-12)
    np.testing.assert_allclose(gap, 0.1125**2 / saddle.constants.rho, rtol=1e-12)
    gap, _, slope = measure(jnp.array([9.0, 9.0]))
    np.testing.assert_allclose(gap, jnp.linalg.norm(slope), rtol=1e-12)


def test_at_a_horizon_the_saddle_is_tilted_by_the_truncation():
    saddle, state = delay_saddle.make(KEY, kappa=0.05), SimpleNamespace(horizon=jnp.asarray(20))
    metrics = (GRADIENT_NORM_AT_HORIZON, TOP_CURVATURE_AT_HORIZON, SECOND_ORDER_AT_HORIZON, SECOND_ORDER)
    measured = BRIEFLY(lambda x: [metric.measure(saddle, x, state) for metric in metrics])(jnp.zeros(2))
    tilt = 0.05 * 0.9**20 / (4 * 0.1)
    promised = [tilt, 0.1125, 0.1125**2 / saddle.constants.rho, 0.1125**2 / saddle.constants.rho]
    np.testing.assert_allclose(measured, promised, rtol=1e-12)


def test_curvature_is_the_steepest_second_difference():
    problem = BRIEFLY(lambda key: bandit.make(key, A=3))(KEY)
    x, step = problem.init(KEY), 1e-5 * jnp.eye(3)[:, None]
    curvature, ahead, behind = BRIEFLY(
        lambda x: (top_curvature(problem, x), *(jax.vmap(problem.grad)(x + move) for move in (step, -step)))
    )(x)
    second = -(ahead - behind)[:, 0] / 2e-5
    np.testing.assert_allclose(curvature, np.linalg.eigvalsh((second + second.T) / 2)[-1], atol=1e-9)
