"""Environments of gymnax: the gradient is that of the scores, returns end with the episode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.policy_gradient.truncated_policy_gradient import HParams
from algorithms.score_estimators import gpomdp
from problems.constants import InvalidParameter
from problems.decision import gymnax_environment

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY = jax.random.key(4)


@pytest.fixture(scope="module", params=["CartPole-v1", "Pendulum-v1"])
def seen(request):
    """Return a problem, a point, its gradient at three horizons, the estimator's step and the runs behind the value."""
    problem = gymnax_environment.make(KEY, env=request.param, runs=3, horizon=40, spread=1.0)

    @once
    def look(x):
        data = problem.data
        runs = jax.vmap(lambda w: problem.policy.rollout(data, x, jax.random.wrap_key_data(w), 40))(data.keys)
        hp = HParams(eta=0.1, horizon=7, batch_size=3, max_horizon=10)
        drawn = gpomdp(problem, x, KEY, hp)
        scores = jax.vmap(jax.vmap(lambda s, a: jax.grad(lambda x: problem.policy.log_prob(data, x, s, a))(x)))
        return {
            "grads": jax.vmap(lambda horizon: problem.truncated(horizon).grad(x))(jnp.array([7, 40, 4095])),
            "value": problem.value(x),
            "runs": runs,
            "scores": scores(runs.states, runs.actions),
            "estimate": drawn,
        }

    x = once(problem.init)(KEY)
    return request.param, problem, x, jax.tree.map(np.asarray, look(x))


def written_out(seen, horizon):
    """Return -(1/runs) sum_k score_k sum_(t>=k) gamma^t r_t of the runs, leaf by leaf."""
    rewards = seen["runs"].rewards * 0.95 ** np.arange(40) * (np.arange(40) < horizon)
    to_go = np.cumsum(rewards[:, ::-1], 1)[:, ::-1]
    return jax.tree.map(lambda score: -np.einsum("rt,rt...->...", to_go, score) / len(to_go), seen["scores"])


def test_the_gradient_is_the_score_function_gradient_of_the_runs(seen):
    _, _, x, looked = seen
    for i, horizon in enumerate((7, 40, 40)):
        expected = jax.tree.leaves(written_out(looked, horizon))
        for ours, theirs in zip(jax.tree.leaves(looked["grads"]), expected, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-9, atol=1e-9)
    assert jax.tree.structure(looked["estimate"]) == jax.tree.structure(x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(looked["estimate"]))


def test_the_value_is_minus_the_discounted_rewards_until_the_episode_ends(seen):
    env, _, _, looked = seen
    rewards = looked["runs"].rewards
    np.testing.assert_allclose(looked["value"], -(rewards * 0.95 ** np.arange(40)).sum(1).mean(), rtol=1e-12)
    if env == "CartPole-v1":
        lengths = rewards.sum(1).astype(int)
        assert (lengths < 40).any()
        for run, length in zip(rewards, lengths, strict=True):
            np.testing.assert_array_equal(run, np.arange(40) < length)
    else:
        assert (rewards <= 0).all() and (rewards[:, -1] < 0).any()


@pytest.mark.parametrize(
    "wrong", [{"env": "Walker"}, {"hidden": -1}, {"runs": 0}, {"horizon": 0}, {"gamma": 1.0}, {"spread": -1.0}]
)
def test_impossible_environments_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        gymnax_environment.make(KEY, **wrong)
