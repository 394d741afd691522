"""Exact moments of TD(0): against all transitions written out, spectral radii, fixed point, long-run covariance."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import td_moments, td_starts
from algorithms.algorithm import InvalidSetting
from algorithms.policy_gradient.temporal_difference_moments import HParams, algorithm
from problems.decision import markov_reward_process
from problems.policy_evaluation import restarted

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
S, A, d = 4, 2, 2


@pytest.fixture(scope="module", params=[False, True], ids=["chain", "restart"])
def problem(request):
    return once(lambda key: markov_reward_process.make(key, S=S, A=A, d=d, restart=request.param))(jax.random.key(3))


@once
def predicted(problem, eta):
    c = td_moments.coupling(problem.evaluation, problem.x_star)
    return td_starts.predict(c, eta), td_moments.steady_state(c, eta)


def transitions(problem, eta):
    """Yield state, state after, probability, the matrix on e and the constant, every way that a step can go."""
    evaluation = jax.tree.map(np.asarray, problem.evaluation)
    mdp, Phi, x = evaluation.mdp, evaluation.Phi, np.asarray(problem.x_star)
    for i, a, k in np.ndindex(S, A, S):
        B = np.eye(d) - eta * np.outer(Phi[i], Phi[i] - mdp.gamma * Phi[k])
        c = eta * (mdp.r[i, a] + mdp.gamma * Phi[k] @ x - Phi[i] @ x) * Phi[i]
        for j in range(S):
            land = (1 - evaluation.restart) * (j == k) + evaluation.restart * mdp.mu[j]
            yield i, j, evaluation.p[i, a] * mdp.P[i, a, k] * land, B, c


def test_recursion_is_the_law_written_out(problem):
    eta, steps, e = 0.3, 5, -np.asarray(problem.x_star)
    p, m = np.eye(S)[1], np.eye(S)[1][:, None] * e
    M = m[:, :, None] * e
    for _ in range(steps):
        p_next, m_next, M_next = np.zeros(S), np.zeros((S, d)), np.zeros((S, d, d))
        for i, j, w, B, c in transitions(problem, eta):
            cross = np.outer(B @ m[i], c)
            p_next[j] += w * p[i]
            m_next[j] += w * (B @ m[i] + c * p[i])
            M_next[j] += w * (B @ M[i] @ B.T + cross + cross.T + p[i] * np.outer(c, c))
        p, m, M = p_next, m_next, M_next

    @once
    def run(problem):
        c = td_moments.coupling(problem.evaluation, problem.x_star)
        N = td_moments.start(jax.nn.one_hot(1, S), -problem.x_star)
        return jax.lax.fori_loop(0, steps, lambda _, N: td_moments.advance(c, eta, N), N)

    N = run(problem)
    for exact, found in ((p, N[:, -1, -1]), (m, N[:, :-1, -1]), (M, N[:, :-1, :-1])):
        np.testing.assert_allclose(found, exact, atol=1e-14)


def test_radii_and_fixed_point_are_those_of_the_operators_written_out(problem):
    eta = 0.5
    second, first = np.zeros((S, d * d, S, d * d)), np.zeros((S, d, S, d))
    for i, j, w, B, _ in transitions(problem, eta):
        second[j, :, i] += w * np.kron(B, B)
        first[j, :, i] += w * B
    found, N = predicted(problem, eta)
    chain = np.sort(np.abs(np.linalg.eigvals(np.asarray(restarted(problem.evaluation)))))
    exact = [np.abs(np.linalg.eigvals(K.reshape(n, n))).max() for K, n in ((second, S * d * d), (first, S * d))]
    np.testing.assert_allclose([found.radii.r2, found.radii.r1, found.radii.mixing], [*exact, chain[-2]], rtol=1e-6)
    c = td_moments.coupling(problem.evaluation, problem.x_star)
    np.testing.assert_allclose(td_moments.advance(c, eta, N), N, rtol=1e-10, atol=1e-13)
    assert found.radii.r1**2 <= found.radii.r2 * (1 + 1e-9)


def test_small_steps_leave_the_long_run_covariance(problem):
    @once
    def slopes(problem):
        chained = td_moments.coupling(problem.evaluation, problem.x_star)
        afresh = td_moments.coupling(
            td_moments.independent(problem.evaluation, problem.data.rho), problem.x_star
        )  # fmt: skip
        measured = [td_starts.extrapolate(c, jnp.asarray(0.02))[1] for c in (chained, afresh)]
        return measured, td_moments.steady_slope(problem.evaluation, problem.x_star)

    measured, promised = slopes(problem)
    np.testing.assert_allclose(measured, promised, rtol=1e-4)
    assert abs(promised[0] / promised[1] - 1) > 0.01


def test_mean_converges_where_the_mean_square_does_not():
    problem = once(lambda key: markov_reward_process.make(key, S=S, d=d))(jax.random.key(0))
    c = td_moments.coupling(problem.evaluation, problem.x_star)
    radii = once(jax.vmap(lambda eta: td_moments.radii(c, eta)))(jnp.arange(0.25, 4, 0.25))
    assert ((radii.r1 < 1 - 1e-3) & (radii.r2 > 1 + 1e-3)).any()
    assert (radii.r1**2 <= radii.r2 * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    "wrong", [{"eta": 0.0}, {"decay": -1.0}, {"start": -2}, {"start": 0.5}, {"sampling": "mean_path"}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidSetting):
        algorithm.prepare(HParams(**{"eta": 0.1, **wrong}))


def test_moments_too_many_are_refused_and_a_state_that_is_not_there_is_nowhere(problem):
    hp = HParams(eta=0.1, start=S)
    state = algorithm.init(problem, jnp.zeros(d), jax.random.key(0), hp)
    assert jnp.isnan(state.pair.logs[0])
    wide = replace(problem.evaluation, Phi=jnp.zeros((10, 400)))
    large = problem.replace(data=problem.data.replace(evaluation=wide))
    with pytest.raises(InvalidSetting):
        algorithm.init(large, jnp.zeros(400), jax.random.key(0), hp)
