"""Steps on a gain: policy iteration, the plain gradient, rates wherever they are admitted, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient.linear_quadratic_policy_gradient import (
    COST_GAP,
    HParams,
    State,
    algorithm,
    gauss_newton,
    gradient,
    natural,
    policy_iteration,
    step,
)
from problems.decision import linear_quadratic
from problems.linear_system import cost_to_go, visited

KEY = jax.random.key(6)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def problem():
    return once(lambda key: linear_quadratic.make(key, n=3, radius=0.6))(KEY)


def test_directions_are_what_they_are_called(problem):
    K = problem.x_star + 0.1

    @once
    def steps():
        moved = {d: step(problem, State(K), None, HParams(0.5, d)).x for d in ("gradient", "natural", "gauss_newton")}
        return moved, problem.grad(K), cost_to_go(problem.system, K), visited(problem.system, K)

    moved, slope, P, Sig = steps()
    A, B, R = problem.data.A, problem.data.B, problem.data.R
    D = R + B.T @ P @ B
    np.testing.assert_allclose(moved["gradient"], K - 0.5 * slope, rtol=1e-10)
    np.testing.assert_allclose(moved["natural"], K - 0.5 * slope @ np.linalg.inv(Sig), rtol=1e-10)
    np.testing.assert_allclose(moved["gauss_newton"], np.linalg.solve(D, B.T @ P @ A), rtol=1e-10)


@pytest.mark.parametrize(
    ("direction", "theorems", "multiples"),
    [
        ("gauss_newton", (gauss_newton, policy_iteration), [0.05, 0.5, 0.95]),
        ("natural", (natural,), [0.05, 0.5, 0.95]),
        ("gradient", (gradient,), [0.5, 1.0, 1.9]),
    ],
)
def test_rates_hold_and_the_steps_are_admitted(problem, direction, theorems, multiples):
    unit = {"natural": 1 / problem.constants.level_D, "gradient": 1 / problem.constants.level_L}.get(direction, 1.0)

    @once
    @jax.vmap
    def run(eta):
        hp = HParams(eta, direction)
        gaps = trace(algorithm, problem, hp, COST_GAP, 40, KEY)
        t = jnp.arange(41.0)
        bounds = [jax.vmap(lambda t, r=r: r.bound(t, problem.constants, hp, gaps[0]))(t) for r in theorems]
        return gaps, bounds, [theorem.admits(problem.constants, hp) for theorem in theorems]

    gaps, bounds, admitted = run(unit * jnp.asarray(multiples))
    assert admitted[0].all() and admitted[-1].any()
    for bound, admits in zip(bounds, admitted, strict=True):
        judged = (bound > 1e-25 * gaps[:, :1]) & admits[:, None]
        assert judged.sum() >= 5
        assert (gaps <= bound * (1 + 1e-9))[judged].all()
    assert (jnp.diff(gaps) <= 0)[gaps[:, :-1] > 1e-20].all()


def test_steps_that_are_too_large_are_not_admitted(problem):
    c = problem.constants
    assert not gauss_newton.admits(c, HParams(1.0, "gauss_newton"))
    assert not natural.admits(c, HParams(1.001 / c.level_D, "natural"))
    assert not gradient.admits(c, HParams(2.001 / c.level_L, "gradient"))
    assert not policy_iteration.admits(c, HParams(0.5, "natural"))


@pytest.mark.parametrize("wrong", [{"eta": 0.0}, {"eta": -1.0}, {"direction": "newton"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**wrong))
