"""The exact form of the truncation bias, its limit, its bounds; what ascent on a cut return ends at."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.cut_horizon import (
    MIXED,
    limit,
    limit_law,
    mixing_bound,
    mixing_factor,
    unmixed,
    visits_bias,
    visits_gradient,
)
from algorithms.policy_gradient import cut_visits_policy_gradient
from algorithms.policy_gradient.truncated_exact_policy_gradient import HParams, State, algorithm, floor
from algorithms.truncation import TRUNCATION_BIAS
from problems.constants import InvalidParameter
from problems.decision import delay_saddle, garnet
from problems.decision_process import advantages, average_reward, chain, occupancy, power, state_values, stationary

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
KEYS = jax.random.split(jax.random.key(8), 8)
H = jnp.array([1, 2, 5, 10, 20, 40, 80])
SMALL = {"S": 5, "A": 2, "branching": 2, "gamma": 0.8}


def on_instances(measure):
    """Return the measurements of `measure(problem, x)` on small random instances."""

    def one(key):
        problem = garnet.make(key, **SMALL)
        return measure(problem, 2 * problem.init(key))

    return once(jax.vmap(one))(KEYS)


def test_the_bias_is_the_gradient_of_the_values_after_the_horizon():
    def both(problem, x):
        def late(x, horizon):
            mdp, p = problem.mdp, jax.nn.softmax(x)
            return problem.mdp.gamma**horizon * mdp.mu @ power(chain(mdp, p), horizon) @ state_values(mdp, p)

        bias = jax.vmap(lambda h: problem.truncated(h).grad(x) - problem.grad(x))(H)
        return bias, jax.vmap(jax.grad(late), (None, 0))(x, H)

    bias, late = on_instances(both)
    np.testing.assert_allclose(bias, late, rtol=0, atol=1e-12)


def test_the_bias_meets_its_bounds_and_its_limit():
    def measured(problem, x):
        def at(horizon):
            state = State(x, horizon)
            bias = TRUNCATION_BIAS.measure(problem, x, state)
            bound = mixing_bound(problem.constants, horizon, mixing_factor(problem, x, state))
            law = limit_law(problem.constants, horizon, limit(problem, x, state), unmixed(problem, x, state))
            return bias, bound, law

        return jax.vmap(at)(H)

    bias, bound, law = on_instances(measured)
    assert (bias <= bound).all() and (bias[:, 0] > 0.02 * bound[:, 0]).any()
    spoken = ~np.isnan(law)
    assert spoken.sum() >= 8 and not spoken[:, 0].any()
    np.testing.assert_allclose(bias[spoken], law[spoken], rtol=0.005)


def test_the_limit_is_the_gradient_of_the_average_reward_by_differences():
    problem = once(lambda key: garnet.make(key, **SMALL))(KEYS[0])
    x, h = problem.init(KEYS[1]), 1e-6
    reward = once(lambda x: average_reward(problem.mdp, jax.nn.softmax(x)))
    steps = h * np.eye(x.size).reshape(-1, *x.shape)
    slope = [(reward(x + step) - reward(x - step)) / (2 * h) for step in steps]
    expected = np.linalg.norm(slope) / (1 - SMALL["gamma"])
    np.testing.assert_allclose(once(limit)(problem, x, None), expected, rtol=1e-6)


def test_cut_visits_are_the_sum_written_out_and_whole_in_the_end():
    def measured(problem, x):
        mdp, p = problem.mdp, jax.nn.softmax(x)
        d, summed = mdp.mu, 0.0
        for t in range(7):
            summed += mdp.gamma**t * d[:, None] * p * advantages(mdp, p)
            d = d @ chain(mdp, p)
        return (
            -visits_gradient(problem, x, jnp.asarray(7)),
            summed,
            visits_bias(problem, x, State(x, jnp.asarray(4095))),
        )

    cut, summed, whole = on_instances(measured)
    np.testing.assert_allclose(cut, summed, rtol=0, atol=1e-13)
    assert whole.max() < 1e-13
    assert cut_visits_policy_gradient.algorithm.theorems[0].metric.name == "visits_bias"


def test_a_chain_that_never_mixes_gets_no_limit():
    problem = delay_saddle.make(KEYS[0])
    x = jnp.array([0.3, -0.2])
    rest, factor = once(lambda x: (unmixed(problem, x, State(x, jnp.asarray(80))), mixing_factor(problem, x, None)))(x)
    assert not rest <= MIXED
    assert not jnp.isfinite(factor)


def test_the_stationary_law_and_the_occupancy():
    def measured(problem, x):
        mdp, p = problem.mdp, jax.nn.softmax(x)
        rho = stationary(chain(mdp, p))
        return rho @ chain(mdp, p) - rho, rho.sum(), occupancy(mdp, p).sum()

    moved, total, visits = on_instances(measured)
    np.testing.assert_allclose(moved, 0, atol=1e-14)
    np.testing.assert_allclose(total, 1, rtol=1e-13)
    np.testing.assert_allclose(visits, 1 / (1 - SMALL["gamma"]), rtol=1e-13)


def test_ascent_on_a_cut_return_ends_at_its_bias():
    problem = once(lambda key: garnet.make(key, S=5, A=3, gamma=0.8, l2=0.05))(KEYS[0])
    hp = HParams(eta=20 / problem.constants.L, horizon=jnp.array([60, 70]))

    @once
    @jax.vmap
    def ends(horizon):
        settings = hp.replace(horizon=horizon)
        state = algorithm.init(problem, problem.init(KEYS[1]), KEYS[1], settings)
        state = jax.lax.fori_loop(0, 6000, lambda t, s: algorithm.step(problem, s, KEYS[0], settings), state)
        given = [metric.measure(problem, state.x, state) for metric in floor.given]
        return floor.metric.measure(problem, state.x, state), floor.bound(6000.0, problem.constants, settings, *given)

    size, law = ends(hp.horizon)
    np.testing.assert_allclose(size, law, rtol=floor.tolerance)
    assert problem.constants.f_star is None


def test_a_negative_regulariser_is_refused():
    with pytest.raises(InvalidParameter, match="l2"):
        garnet.make(KEYS[0], l2=-0.1)
