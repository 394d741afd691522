"""Random chains with features: what TD(0) rests at, the modulus of both chains, refusals."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.constants import InvalidParameter
from problems.decision import markov_reward_process
from problems.decision_process import chain, state_values
from problems.policy_evaluation import mean_update, restarted

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEYS = jax.random.split(jax.random.key(4), 20)


def instances(**parameters):
    return made(tuple(parameters.items()))


@cache
def made(parameters):
    return once(jax.vmap(lambda key: markov_reward_process.make(key, S=5, A=2, **dict(parameters))))(KEYS)


@pytest.mark.parametrize("restart", [False, True])
def test_fixed_point_law_and_modulus(restart):
    problems = instances(d=2, restart=restart, slow=0.3)

    def seen(problem):
        evaluation, rho, m = problem.evaluation, problem.data.rho, problem.constants.modulus
        A, b = mean_update(evaluation)
        weight = jnp.sqrt(rho)
        P = evaluation.mdp.gamma * chain(evaluation.mdp, evaluation.p)
        norm = jnp.linalg.norm(weight[:, None] * P / weight, 2)
        along = jnp.linalg.eigvalsh(A + A.T)[0] / 2 - (1 - m) * problem.constants.feature_min
        visits = jnp.linalg.solve(jnp.eye(5) - P.T, evaluation.mdp.mu) * (1 - evaluation.mdp.gamma)
        return A @ problem.x_star - b, rho @ restarted(evaluation) - rho, norm, m, along, visits - rho

    residual, moved, norm, m, along, unlike = once(jax.vmap(seen))(problems)
    np.testing.assert_allclose(residual, 0, atol=1e-13)
    np.testing.assert_allclose(moved, 0, atol=1e-14)
    assert (norm <= m * (1 + 1e-12)).all() and (along >= -1e-13).all()
    assert (np.abs(unlike).max() < 1e-12) == restart  # the restart chain's law is the normalised occupancy
    np.testing.assert_allclose(m, 0.9**0.5 if restart else 0.9, rtol=1e-14)
    assert (norm > 0.9 * (1 + 1e-6)).all() if restart else np.allclose(norm, 0.9, rtol=1e-12)


@pytest.mark.parametrize(("features", "d"), [("representable", 3), ("tabular", 5)])
def test_representable_values_are_found(features, d):
    problems = instances(d=d, features=features)
    evaluation = problems.data.evaluation
    V = once(jax.vmap(state_values))(evaluation.mdp, evaluation.p)
    np.testing.assert_allclose(jnp.einsum("isd,id->is", evaluation.Phi, problems.x_star), V, rtol=1e-9)
    np.testing.assert_allclose(problems.constants.value_error, 0, atol=1e-10)
    assert (jnp.linalg.norm(evaluation.Phi, axis=-1) <= 1 + 1e-15).all()


def test_features_that_are_not_independent_are_claimed_nothing_of():
    problem = jax.tree.map(lambda leaf: leaf[0], instances(d=2, restart=False, slow=0.3))
    evaluation = problem.evaluation.replace(Phi=jnp.ones((5, 2)) / 2)
    constants = once(markov_reward_process.constants_of)(evaluation, problem.data.rho, problem.x_star)
    assert jnp.isnan(constants.feature_min) and not constants.feature_min > 0


@pytest.mark.parametrize(
    "wrong",
    [{"S": 1}, {"A": 0}, {"d": 11}, {"d": 0}, {"branching": 0}, {"gamma": 1.0}, {"gamma": 0.0}, {"slow": 1.0},
     {"mix": 0.0}, {"features": "fourier"}, {"features": "tabular"}],
)  # fmt: skip
def test_processes_that_do_not_exist_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        markov_reward_process.make(KEYS[0], **wrong)
