"""The linear-quadratic cost: formulas against autodiff, identities, Riccati's optimum, constants of the level set."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.constants import InvalidParameter
from problems.decision import linear_quadratic
from problems.linear_system import cost_gap, cost_to_go, slope, spectral_radius, visited

SYSTEMS = 20
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def systems():
    keys = jax.random.split(jax.random.key(0), SYSTEMS)
    return once(jax.vmap(lambda key: linear_quadratic.make(key, n=3, radius=0.8)))(keys)


@pytest.fixture(scope="module")
def seen(systems):
    """Return what random gains show, some of them unstable."""

    def look(problem, key):
        K = 0.7 * jax.random.normal(key, problem.x_star.shape)
        system = problem.system
        formula = 2 * slope(system, K, cost_to_go(system, K)) @ visited(system, K)
        flat = jax.hessian(lambda x: problem.value(x.reshape(K.shape)))(K.ravel())
        radius = spectral_radius(system.A - system.B @ K)
        return {
            "f": problem.value(K),
            "level": problem.value(problem.init(key)),
            "gap": cost_gap(system, K),
            "grad": problem.grad(K),
            "formula": formula,
            "hessian": jnp.linalg.norm(flat, 2),
            "radius": radius,
            "residual": jnp.abs(slope(system, system.K_star, cost_to_go(system, system.K_star))).max(),
        }

    return once(jax.vmap(look))(systems, jax.random.split(jax.random.key(1), SYSTEMS))


def test_the_cost_is_finite_exactly_where_the_gain_stabilises(seen):
    stable = seen["radius"] < 1
    assert 3 < stable.sum() < SYSTEMS
    np.testing.assert_array_equal(jnp.isfinite(seen["f"]), stable)
    np.testing.assert_array_equal(jnp.isfinite(seen["gap"]), stable)


def test_gradient_and_gap_are_their_formulas(systems, seen):
    stable = np.asarray(seen["radius"] < 1)
    scale = np.abs(seen["formula"][stable]).max((1, 2), keepdims=True)
    np.testing.assert_allclose(seen["grad"][stable] / scale, seen["formula"][stable] / scale, atol=1e-10)
    gap = (seen["f"] - systems.constants.f_star)[stable]
    np.testing.assert_allclose(seen["gap"][stable], gap, rtol=1e-10)


def test_gaps_are_dominated_by_gradients_and_curvature_by_its_bound(systems, seen):
    stable = seen["radius"] < 1
    dominated = systems.constants.dominance * jnp.sum(seen["grad"] ** 2, (1, 2))
    assert (seen["gap"] <= dominated)[stable].all()
    inside = stable & (seen["f"] <= seen["level"])
    assert inside.any()
    assert (seen["hessian"] <= systems.constants.level_L)[inside].all()


def test_structured_doubling_solves_riccati(seen):
    assert seen["residual"].max() <= 1e-12


@once
def scalar(a, b, K):
    """Return f_star, f(0) and gap over dominance x |grad f|^2 at K of a system of one state, all weights 1."""
    one = jnp.ones((1, 1))
    problem = linear_quadratic.solved(a * one, b * one, one, one, one, jnp.ones(()))
    dominated = problem.constants.dominance * jnp.sum(problem.grad(K * one) ** 2)
    return problem.constants.f_star, problem.value(0 * one), cost_gap(problem.system, K * one) / dominated


def test_one_state_has_the_closed_form():
    f_star, f_0, _ = scalar(0.5, 1.0, 0.0)
    np.testing.assert_allclose(f_star, (0.25 + np.sqrt(0.25**2 + 4)) / 2, rtol=1e-13)  # P = 1 + a^2 P/(1 + P)
    np.testing.assert_allclose(f_0, 1 / 0.75, rtol=1e-13)


def test_a_system_without_inputs_that_matter_attains_the_dominance():
    np.testing.assert_allclose(scalar(1e-6, 1e-6, 0.3)[2], 1, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"radius": 1.1}, {"radius": 1.0, "gamma": 1.0}, {"gamma": 0.0}, {"gain": 0.0}, {"n": 0}, {"m": 0}]
)
def test_impossible_systems_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        linear_quadratic.make(jax.random.key(0), **wrong)


@pytest.mark.parametrize("wrong", [{"A": 1.1}, {"R": 0.0}, {"X0": -1.0}, {"Q": 0.0}, {"gamma": 1.5}, {"gamma": -1.0}])
def test_systems_of_ones_own_are_checked(wrong):
    one = np.ones((1, 1))
    given = {"A": 0.5 * one, "B": one, "Q": one, "R": one, "X0": one, "gamma": 1.0}
    given |= {name: number if name == "gamma" else number * one for name, number in wrong.items()}
    with pytest.raises(InvalidParameter):
        linear_quadratic.of_system(**given)
