"""RAC-LoRA, asymmetric LoRA and its chains: exact laws, equalities with plainer methods, and where they part."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import sketches
from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import asymmetric_lora, chain_of_lora, rac_lora
from problems.constants import InvalidParameter
from problems.low_rank import cosine, matrix_factorization, matrix_least_squares, weighted_quadratic

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
KEY = jax.random.key(0)


def made(family, **chosen):
    """Return the family's instance."""
    return once(partial(family.make, **chosen))(KEY)


COSINE = made(cosine, m=6, n=4, rank=0, N=8, noise=0.5)
PARTING = made(weighted_quadratic)
BEST_RANK_1 = 26 / 45  # above the infimum


gradient = once(lambda problem, W: problem.grad(W))


@partial(once, static_argnums=(0, 3, 4))
def runs(method, problem, hp, steps, count=1):
    """Return the weights (count, steps + 1, m, n) of runs with their own keys."""

    def run(key):
        def advance(state, t):
            return method.step(problem, state, jax.random.fold_in(key, t), hp), method.algorithm.readout(state)

        return jax.lax.scan(advance, method.init(problem, problem.init(key), key, hp), jnp.arange(steps + 1))[1]

    return jax.vmap(run)(jax.random.split(KEY, count))


def gaps(problem, weights):
    """Return f - f_star at every weight (count, steps + 1, m, n)."""
    return np.asarray(values(problem, weights))


@once
def values(problem, weights):
    return jax.vmap(jax.vmap(problem.value))(weights) - problem.constants.f_star


def test_a_frame_is_orthonormal_and_every_direction_is_seen_alike():
    Q = once(jax.vmap(lambda key: sketches.orthonormal(key, 5, 3)))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(np.einsum("sij,sik->sjk", Q, Q), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-13)
    H = np.einsum("sij,skj->sik", Q, Q)
    assert np.max(np.abs(H.mean(0) - 3 / 5 * np.eye(5)) / (H.std(0) / 4000**0.5)) < 5


def test_a_full_sketch_is_gradient_descent():
    W = COSINE.init(KEY)
    for sketched in runs(rac_lora, COSINE, rac_lora.HParams(gamma=0.7, rank=6), 4)[0]:
        np.testing.assert_allclose(sketched, W, atol=1e-13)
        W = W - 0.7 * gradient(COSINE, W)


def expected_gap(problem, rank, gamma, steps):
    """Return E f(W_t) - f_star of a left sketch from W_0 = 0 on least squares, t = 0 .. steps.

    (W - W_star) v_i becomes (I - gamma s_i H)(W - W_star) v_i along the i-th eigenvector of X^T X/N.
    """
    s, V = np.linalg.eigh(problem.data.X.T @ problem.data.X / len(problem.data.X))
    energy = np.sum((np.asarray(problem.x_star) @ V) ** 2, axis=0)
    factor = 1 - rank / len(problem.x_star) * (2 * gamma * s - (gamma * s) ** 2)
    return 0.5 * factor ** np.arange(steps + 1)[:, None] @ (s * energy)


def iterations(curve):
    """Return the step, between whole ones, at which the curve is a thousandth of its start."""
    return np.interp(np.log(1000), np.log(curve[0] / curve), np.arange(len(curve)))


def test_least_squares_follows_its_expected_curve_and_rank_times_iterations_is_constant():
    problem = made(matrix_least_squares, noise=0.1)
    gamma = float(1 / problem.constants.L)
    work = []
    for rank, steps in ((1, 160), (4, 40)):
        measured = gaps(problem, runs(rac_lora, problem, rac_lora.HParams(gamma=gamma, rank=rank), steps, 64))
        predicted = expected_gap(problem, rank, gamma, steps)
        assert np.max(np.abs(measured.mean(0) - predicted)[1:] / (measured.std(0)[1:] / 8)) < 5
        assert abs(iterations(measured.mean(0)) / iterations(predicted) - 1) < 0.03
        work.append(rank * iterations(measured.mean(0)))
    work += [rank * iterations(expected_gap(problem, rank, gamma, 200)) for rank in (1, 2, 4)]
    assert max(work) / min(work) < 1.1
    assert expected_gap(problem, 16, gamma, 200).min() < 1e-3  # at full rank the law is gradient descent's


def test_a_pass_is_as_close_to_a_sketched_step_as_the_lemma_says():
    gamma, hp = 0.5, rac_lora.HParams(gamma=0.5, rank=2, batch_size=2, order="reshuffled")

    @once
    @jax.vmap
    def both(key):
        W, Q = 3 * jax.random.normal(key, (6, 4)), sketches.orthonormal(key, 6, 2)
        end = rac_lora.one_pass(COSINE, W, Q, jax.random.fold_in(key, 1), hp)
        batches = jax.random.permutation(jax.random.fold_in(key, 1), 8).reshape(4, 2)
        seen = jax.vmap(lambda index: jnp.sum((Q.T @ COSINE.rows(index).grad(W)) ** 2))(batches)
        off = (W - end) / gamma - sketches.project(Q, COSINE.grad(W), "left")
        return jnp.sum(off**2), sketches.drift(1.0, gamma, 4, 1 / 2) * jnp.mean(seen)

    off, allowed = both(jax.random.split(KEY, 200))
    assert np.all(off <= allowed)
    assert np.max(off / allowed) > 0.02


def test_a_reshuffled_pass_in_one_batch_is_a_whole_step():
    whole = runs(rac_lora, COSINE, rac_lora.HParams(gamma=0.5, rank=2), 3)
    one = runs(rac_lora, COSINE, rac_lora.HParams(gamma=0.5, rank=2, batch_size=8, order="reshuffled"), 3)
    np.testing.assert_allclose(one, whole, atol=1e-13)


def test_no_weight_of_rank_1_falls_below_the_stated_infimum():
    rng = np.random.default_rng(0)
    for m, n, corner in ((3, 3, 10.0), (4, 3, 10.0), (3, 5, 0.05)):
        problem = made(weighted_quadratic, m=m, n=n, corner=corner)
        H, b = np.asarray(problem.data.H), np.asarray(problem.data.b)
        found = []
        for _ in range(20):
            u, v = np.ones(m), rng.normal(size=n)
            for _ in range(300):  # u and v in turn, each at its own best
                u = (b @ v) / (H @ v**2)
                v = (b.T @ u) / (H.T @ u**2)
            found.append(np.sum(H * np.outer(u, v) ** 2 / 2 - b * np.outer(u, v)))
        np.testing.assert_allclose(min(found), problem.constants.f_star_rank_1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(PARTING.constants.f_star_rank_1 - PARTING.constants.f_star, BEST_RANK_1, rtol=1e-12)
    np.testing.assert_allclose(PARTING.constants.f_star, -4.05, rtol=1e-14)
    adapted = made(weighted_quadratic, rank=1)
    np.testing.assert_allclose(adapted.constants.f_star, PARTING.constants.f_star + BEST_RANK_1, rtol=1e-12)


def test_lora_stays_above_the_best_rank_1_where_rac_lora_converges():
    lora = gaps(PARTING, runs(chain_of_lora, PARTING, chain_of_lora.HParams(eta=0.01, K=np.inf), 1500, 6))
    assert lora.min() >= BEST_RANK_1 * (1 - 1e-10)
    assert abs(lora[:, -1].min() / BEST_RANK_1 - 1) < 1e-2
    assert gaps(PARTING, runs(rac_lora, PARTING, rac_lora.HParams(gamma=0.1), 1500, 6))[:, -1].max() < 1e-12


def test_chains_diverge_at_a_step_that_rac_lora_only_descends_with():
    chain = gaps(PARTING, runs(chain_of_lora, PARTING, chain_of_lora.HParams(eta=0.1), 1500, 6))
    assert not np.any(np.isfinite(chain[:, -1]))
    assert np.diff(gaps(PARTING, runs(rac_lora, PARTING, rac_lora.HParams(gamma=0.1), 1500, 6))).max() < 1e-13


def test_a_chain_without_end_is_lora():
    hp = chain_of_lora.HParams(eta=0.01, K=np.inf, sigma_A=0.5, rank=2)
    (weights,) = runs(chain_of_lora, COSINE, hp, 4)
    B = jnp.zeros((6, 2))
    A = 0.5 * jax.random.normal(jax.random.split(KEY, 1)[0], (2, 4))
    for W in weights:
        np.testing.assert_allclose(W, B @ A, atol=1e-14)
        G = gradient(COSINE, B @ A)
        B, A = B - 0.01 * G @ A.T, A - 0.01 * B.T @ G


def test_adapters_that_see_nothing_never_move_and_a_fresh_sketch_does():
    blind = made(weighted_quadratic, m=2, n=2, corner=1.0, target="last_entry")
    stalled = chain_of_lora.HParams(eta=0.1, start="axis", redraw="fixed")
    assert np.all(gaps(blind, runs(chain_of_lora, blind, stalled, 40)) == 0.5)
    assert np.all(gaps(blind, runs(asymmetric_lora, blind, asymmetric_lora.HParams(eta=1.0, frame="axis"), 40)) == 0.5)
    fresh = gaps(blind, runs(rac_lora, blind, rac_lora.HParams(gamma=1.0), 6, 3000))
    error = np.abs(fresh.mean(0) - 0.5 * 0.5 ** np.arange(7))[1:] / (fresh.std(0)[1:] / 3000**0.5)
    assert error.max() < 4


def test_asymmetric_lora_ends_at_its_floor():
    problem = made(matrix_factorization, m=5, n=6, rank=0, rank_star=3, L=2.0)
    hp = asymmetric_lora.HParams(eta=0.5, rank=2)
    weights = runs(asymmetric_lora, problem, hp, 3000)[:, -1:]
    A = once(lambda key: asymmetric_lora.init(problem, problem.init(key), key, hp).A)(jax.random.split(KEY, 1)[0])
    np.testing.assert_allclose(np.linalg.norm(A, 2), 1, rtol=1e-14)
    P = np.linalg.pinv(A) @ A
    M = np.asarray(problem.data.M)
    np.testing.assert_allclose(weights[0, 0], M @ P, atol=1e-10)
    np.testing.assert_allclose(gaps(problem, weights)[0, 0], np.sum((M - M @ P) ** 2), rtol=1e-10)


@pytest.mark.parametrize(
    ("method", "hp", "message"),
    [
        (rac_lora, rac_lora.HParams(gamma=0.0), "gamma = 0.0"),
        (rac_lora, rac_lora.HParams(gamma=1.0, rank=0), "rank = 0"),
        (rac_lora, rac_lora.HParams(gamma=1.0, side="top"), "side"),
        (rac_lora, rac_lora.HParams(gamma=1.0, sketch="sparse"), "sketch"),
        (rac_lora, rac_lora.HParams(gamma=1.0, order="reshuffled"), "batch_size = 0"),
        (rac_lora, rac_lora.HParams(gamma=1.0, order="cyclic"), "order"),
        (asymmetric_lora, asymmetric_lora.HParams(eta=-1.0), "eta = -1"),
        (asymmetric_lora, asymmetric_lora.HParams(eta=1.0, frame="sparse"), "frame"),
        (chain_of_lora, chain_of_lora.HParams(eta=1.0, K=0.5), "K = 0.5"),
        (chain_of_lora, chain_of_lora.HParams(eta=1.0, sigma_A=0.0), "sigma_A"),
        (chain_of_lora, chain_of_lora.HParams(eta=1.0, redraw="sometimes"), "redraw"),
    ],
)
def test_impossible_settings_are_refused(method, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        method.algorithm.prepare(hp)


@pytest.mark.parametrize(
    ("method", "hp", "message"),
    [
        (rac_lora, rac_lora.HParams(gamma=1.0, rank=7), "1 to 6"),
        (rac_lora, rac_lora.HParams(gamma=1.0, rank=5, side="right"), "1 to 4"),
        (rac_lora, rac_lora.HParams(gamma=1.0, batch_size=3, order="reshuffled"), "divisor"),
        (asymmetric_lora, asymmetric_lora.HParams(eta=1.0, rank=5), "4 rows"),
        (chain_of_lora, chain_of_lora.HParams(eta=1.0, rank=5), "1 to 4"),
    ],
)
def test_settings_that_do_not_fit_the_problem_are_refused(method, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        method.init(COSINE, COSINE.init(KEY), KEY, hp)
    with pytest.raises(InvalidSetting, match="no records"):
        rac_lora.init(PARTING, PARTING.init(KEY), KEY, rac_lora.HParams(gamma=1.0, batch_size=1))


@pytest.mark.parametrize(
    ("gamma", "settings", "admitted"),
    [
        (1.0, {}, True),
        (1.01, {}, False),
        (1.0, {"sketch": "fixed"}, False),
        (1.0, {"batch_size": 2}, False),
    ],
)
def test_the_rates_speak_of_short_steps_and_fresh_sketches(gamma, settings, admitted):
    assert rac_lora.admits_whole(COSINE.constants, rac_lora.HParams(gamma=gamma, **settings)) == admitted


@pytest.mark.parametrize(
    "chosen", [{"target": "all"}, {"start": "far"}, {"corner": 0.0}, {"rank_star": 9}, {"kappa": 0.5}]
)
def test_meaningless_quadratics_are_refused(chosen):
    with pytest.raises(InvalidParameter):
        weighted_quadratic.make(KEY, **chosen)
