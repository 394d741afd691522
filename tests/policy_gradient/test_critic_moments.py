"""The critic's exact moments: golden order 1/N with its constant, the floor, no decay for constant steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_runs import trace

from algorithms.policy_gradient.critic_moments import (
    BIAS_EXCESS,
    BIAS_FLOOR,
    MEAN_BIAS_SQ,
    HParams,
    algorithm,
    excess,
    floor,
)
from problems.decision import garnet

KEY = jax.random.key(0)
STEPS = 8000


@pytest.mark.parametrize("rank", [0, 2])
def test_the_excess_falls_as_one_over_n_to_the_floor(rank):
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(key):
        problem = garnet.make(key, S=3, A=2, branching=2, gamma=0.7, spread=0.0)
        hp = HParams(restart=0.3, critic_decay=200.0, rank=rank)
        state = algorithm.init(problem, problem.init(key), key, hp)
        x, T = algorithm.readout(state), jnp.asarray(float(STEPS))
        total = trace(algorithm, problem, hp, MEAN_BIAS_SQ, STEPS, key)
        least = BIAS_FLOOR.measure(problem, x, state)
        start = BIAS_EXCESS.measure(problem, x, state)
        laws = [law.bound(t, problem.constants, hp, state.watched) for law, t in ((excess, T), (floor, 1e9))]
        return total, least, start, *laws

    total, least, start, decayed, ends = run(KEY)
    np.testing.assert_allclose(abs(total[0] - least), start, rtol=1e-10)
    np.testing.assert_allclose(abs(total[-1] - least), decayed, rtol=excess.tolerance)
    slope = np.log(abs(total[-1] - least) / abs(total[STEPS // 4] - least)) / np.log(4)
    assert -1.3 <= slope <= -0.7
    if rank:
        np.testing.assert_allclose(ends, least, rtol=1e-12)
    else:
        assert least < 1e-28 and jnp.isnan(ends)


def test_constant_steps_are_not_admitted():
    assert not excess.admits(None, HParams(critic_decay=jnp.inf, restart=0.1))
    assert excess.admits(None, HParams(restart=0.1))
