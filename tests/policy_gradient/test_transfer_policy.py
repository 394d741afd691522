"""Plug-in and transfer policies: the golden constant of the regret, the twin, which candidates are played, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from policy_runs import trace

from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient import plug_in_policy, transfer_policy
from algorithms.policy_gradient.plug_in_policy import kappa_of_log, law
from algorithms.reward_estimates import REGRET
from problems.decision import kl_bandit

KEY = jax.random.key(8)
TRANSFER, PLUG_IN = transfer_policy.HParams(0.5, 0.5), plug_in_policy.HParams(0.5)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_the_law_is_the_golden_constant_and_runs_follow_it():
    problem = once(lambda key: kl_bandit.make(key, S=2, A=3, beta=0.5))(KEY)
    seeds, steps = 300, 2000
    run = jax.jit(jax.vmap(lambda key: trace(plug_in_policy.algorithm, problem, PLUG_IN, REGRET, steps, key)[-1]))
    scaled = steps * run(jax.random.split(KEY, seeds))
    promised = steps * law(steps, problem.constants, PLUG_IN)
    np.testing.assert_allclose(promised, 2 * 2 * 0.5**2 / (2 * 0.5), rtol=1e-12)
    assert abs(scaled.mean() - promised) <= 0.05 * promised + 3 * scaled.std() / seeds**0.5
    assert jnp.isnan(law(1.0, problem.constants, PLUG_IN))


@pytest.fixture(scope="module")
def bandit():
    return once(lambda key: kl_bandit.make(key, S=2, A=40))(KEY)


@pytest.fixture(scope="module")
def runs(bandit):
    """Return cumulative regrets and choices of transfer, and of the plug-in policy on the same keys."""

    @once
    @jax.vmap
    def run(key):
        def advance(states, t):
            ours, alone = states
            now = (ours.regret, ours.twin.regret, ours.choice, alone.regret)
            drawn = jax.random.fold_in(key, t)
            ours = transfer_policy.algorithm.step(bandit, ours, drawn, TRANSFER)
            return (ours, plug_in_policy.algorithm.step(bandit, alone, drawn, PLUG_IN)), now

        start = (transfer_policy.init(bandit, None, key, TRANSFER), plug_in_policy.init(bandit, None, key, PLUG_IN))
        return lax.scan(advance, start, jnp.arange(1001))[1]

    return jax.tree.map(np.asarray, run(jax.random.split(KEY, 16)))


def test_the_twin_is_the_plug_in_policy(runs):
    _, twin, _, alone = runs
    np.testing.assert_allclose(twin, alone, rtol=1e-12)


def test_every_source_is_played_once_and_a_good_one_saves_regret(bandit, runs):
    transfer, twin, choice, _ = runs
    assert {tuple(sorted(first)) for first in choice[:, :3].astype(int)} == {(0, 1, 2)}
    assert transfer_policy.early_gain.admits(bandit.constants.replace(actions=50.0), TRANSFER)
    assert (transfer[:, 50:] < twin[:, 50:]).mean() > 0.95
    assert (np.diff(transfer) >= 0).all() and (transfer[:, 0] == 0).all()


def test_early_gain_speaks_of_early_rounds_and_good_sources(bandit):
    speaks = [
        transfer_policy.early_gain.bound(t, bandit.constants, TRANSFER, 1.0) for t in (49.0, 50.0, 1000.0, 1001.0)
    ]
    np.testing.assert_array_equal(np.isnan(speaks), [True, False, False, True])
    bad = bandit.constants.replace(source_gap=bandit.constants.reference_gap, actions=jnp.asarray(50.0))
    assert not transfer_policy.early_gain.admits(bad, TRANSFER)


def test_kappa_near_one_is_two():
    np.testing.assert_allclose(kappa_of_log(jnp.asarray([1e-4, jnp.log(3.0)])), [2, 4 / (2 - np.log(3))], rtol=1e-4)


@pytest.mark.parametrize("prior", [-0.1, 1.1])
def test_impossible_priors_are_refused(prior):
    with pytest.raises(InvalidSetting):
        plug_in_policy.algorithm.prepare(plug_in_policy.HParams(prior))
    with pytest.raises(InvalidSetting):
        transfer_policy.algorithm.prepare(transfer_policy.HParams(prior=prior))
    with pytest.raises(InvalidSetting):
        transfer_policy.algorithm.prepare(transfer_policy.HParams(width=0.0))
