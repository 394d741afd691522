"""T2: how much of the gradient a cut return misses, on random processes and points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.truncation import bias_bound
from problems.decision import delay_saddle, garnet

HORIZONS = jnp.array([1, 2, 5, 10, 20, 40, 80])


def bias(problem, x, horizon):
    return jnp.linalg.norm(problem.grad(x) - problem.truncated(horizon).grad(x))


def curves(make, spread, runs):
    """Return bias and bound, (runs, horizons), and the instances."""

    def curve(key):
        problem = make(key)
        x = spread * jax.random.normal(key, problem.init(key).shape)
        biases = jax.vmap(lambda H: bias(problem, x, H))(HORIZONS)
        return biases, bias_bound(problem.constants, HORIZONS)

    return jax.jit(jax.vmap(curve))(jax.random.split(jax.random.key(5), runs))


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_bias_is_below_its_bound(gamma):
    biases, bounds = curves(lambda key: garnet.make(key, S=5, gamma=gamma), 2.0, 100)
    judged = bounds > 1e-12
    assert (biases[judged] <= bounds[judged]).all()
    assert (biases[:, 0] >= 0.01 * bounds[:, 0]).any()


def test_bias_is_below_its_bound_under_aliasing():
    biases, bounds = curves(lambda key: delay_saddle.make(key, kappa=0.5), 1.0, 100)
    assert (biases <= bounds).all()


def test_bias_decays_by_the_discount_factor_per_step():
    biases, _ = curves(lambda key: garnet.make(key, S=5, gamma=0.9), 0.5, 16)
    slope = jnp.log(biases[:, -1] / biases[:, -2]) / (HORIZONS[-1] - HORIZONS[-2])
    np.testing.assert_allclose(slope, jnp.log(0.9), rtol=0.01)
