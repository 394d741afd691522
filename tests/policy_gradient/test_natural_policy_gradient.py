"""Natural policy gradient: the update of the policy, the global bound, the sharp rate down to 1e-250."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient.natural_policy_gradient import (
    DIVERGENCE,
    LOG_DECREASE,
    OPTIMALITY_GAP,
    HParams,
    algorithm,
    global_rate,
    sharp,
)
from problems.decision import bandit, garnet
from problems.decision_process import action_values

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
KEY = jax.random.key(4)
SMALL = {"S": 4, "A": 3, "branching": 2, "gamma": 0.8}


@pytest.fixture(scope="module")
def problem():
    return once(lambda key: garnet.make(key, **SMALL))(KEY)


def test_a_step_multiplies_the_policy_by_the_exponential_of_its_values(problem):
    x, eta = problem.init(KEY), 0.7
    state = algorithm.init(problem, x, KEY, HParams(eta))
    p = jax.nn.softmax(x)
    weight = p * jnp.exp(eta / (1 - SMALL["gamma"]) * action_values(problem.mdp, p))
    expected = weight / weight.sum(-1, keepdims=True)
    after = once(lambda state: algorithm.step(problem, state, KEY, HParams(eta)).x)(state)
    np.testing.assert_allclose(jax.nn.softmax(after), expected, rtol=1e-12)


def test_the_gap_of_positive_terms_is_the_gap_of_the_returns(problem):
    x = problem.init(KEY)
    state = algorithm.init(problem, x, KEY, HParams(1.0))
    gap = OPTIMALITY_GAP.measure(problem, x, state)
    np.testing.assert_allclose(gap, problem.value(x) - problem.constants.f_star, rtol=1e-10)


def test_the_global_bound_holds_along_the_run(problem):
    divergence = DIVERGENCE.measure(problem, problem.init(jax.random.split(KEY, 3)[0]), None)
    run = once(lambda eta: trace(algorithm, problem, HParams(eta), OPTIMALITY_GAP, 100, KEY))
    for eta in (0.1, 10.0):
        gap = run(eta)
        assert (gap <= global_rate.bound(jnp.arange(101.0), problem.constants, HParams(eta), divergence)).all()
        assert (jnp.diff(gap) <= 1e-15).all()


def test_the_sharp_rate_on_many_instances():
    @once
    @jax.vmap
    def end(key):
        problem = garnet.make(key, **SMALL)
        hp = HParams(0.5 * (1 - problem.constants.gamma) / problem.constants.gap)
        state = algorithm.init(problem, problem.init(key), key, hp)
        state = jax.lax.fori_loop(0, 1000, lambda t, s: algorithm.step(problem, s, key, hp), state)
        measured = LOG_DECREASE.measure(problem, state.x, state)
        gap = OPTIMALITY_GAP.measure(problem, state.x, state)
        return measured, sharp.bound(1000.0, problem.constants, hp), sharp.admits(problem.constants, hp), gap

    measured, promised, admitted, gap = end(jax.random.split(KEY, 16))
    assert admitted.all() and (gap < 1e-200).all() and (gap > 0).all()
    np.testing.assert_allclose(measured, promised, rtol=sharp.tolerance)


def test_a_tie_or_a_state_that_never_comes_first_is_not_admitted(problem):
    c, hp = problem.constants, HParams(1.0)
    assert sharp.admits(c, hp)
    assert not sharp.admits(c.replace(gap=jnp.asarray(0.0)), hp)
    assert not sharp.admits(c.replace(start_min=jnp.asarray(0.0)), hp)


def test_a_step_that_is_not_positive_is_refused():
    with pytest.raises(InvalidSetting, match="eta"):
        algorithm.prepare(HParams(0.0))


def test_on_a_bandit_the_loss_is_the_lead_of_the_best_arm():
    problem = bandit.make(KEY, A=4)
    state = algorithm.init(problem, problem.init(KEY), KEY, HParams(1.0))
    np.testing.assert_allclose(state.loss, problem.mdp.r.max() - problem.mdp.r, rtol=1e-14)
