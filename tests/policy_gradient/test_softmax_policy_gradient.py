"""Exact policy gradient: the sharp constant S (A-1)/A and the a-posteriori global rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.metric import SUBOPTIMALITY, best
from algorithms.policy_gradient.softmax_policy_gradient import MISMATCH, HParams, algorithm, global_rate, sharp
from algorithms.recursions import descend_by
from problems.decision import bandit, garnet

KEY = jax.random.key(2)


@pytest.mark.parametrize("A", [2, 3])
def test_sharp_constant(A):
    T = 20000

    def end(key):
        problem = garnet.make(key, S=3, A=A, gamma=0.8)
        hp = HParams(eta=1.5 * problem.constants.states * (1 - problem.constants.gamma) / problem.constants.R_c)
        step = lambda _, x: descend_by(x, hp.eta, problem.grad(x))  # noqa: E731
        x = jax.lax.fori_loop(0, T, step, problem.init(key))
        gap = SUBOPTIMALITY.measure(problem, x, None)
        return gap, sharp.bound(float(T), problem.constants, hp, 0.0), sharp.admits(problem.constants, hp)

    gap, promised, admitted = jax.jit(jax.vmap(end))(jax.random.split(KEY, 16))
    spoken = admitted & ~jnp.isnan(promised)
    assert spoken.sum() >= 8
    np.testing.assert_allclose(gap[spoken], promised[spoken], rtol=sharp.tolerance)


def test_tied_optimal_actions_are_not_admitted():
    problem = jax.jit(lambda key: bandit.make(key, A=3))(KEY)
    hp = HParams(eta=1.0)
    tied = problem.constants.replace(gap=jnp.asarray(1e-12))
    assert sharp.admits(problem.constants, hp)
    assert not sharp.admits(tied, hp)


def test_global_rate_holds_along_the_run():
    @jax.jit
    def run(key):
        problem = garnet.make(key, S=3, A=2, gamma=0.5)
        hp = HParams(eta=1 / problem.constants.L)
        gap = trace(algorithm, problem, hp, SUBOPTIMALITY, 500, key)
        C_min = trace(algorithm, problem, hp, best(MISMATCH), 500, key)
        return gap, global_rate.bound(jnp.arange(501.0), problem.constants, hp, gap[0], C_min)

    gap, bound = run(KEY)
    assert (gap <= bound * (1 + 1e-12)).all()
