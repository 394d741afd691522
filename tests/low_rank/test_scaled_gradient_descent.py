"""ScaledGD from Nystrom's start follows scalar recursions whatever the condition number; others are linear."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import nora
from algorithms.low_rank import scaled_gradient_descent as scaled
from algorithms.low_rank import symmetric_scaled_gradient_descent as symmetric
from algorithms.principal_axes import inverse_squares, principal_axes, pseudo_inverse, singular_values
from problems.adapter import Adapter
from problems.constants import InvalidParameter, Regularity
from problems.low_rank import matrix_factorization, symmetric_factorization

KEY, KEYS = jax.random.key(9), jax.random.split(jax.random.key(0), 6)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
EPS, KAPPAS = np.finfo(float).eps, (1.0, 100.0, 1e4)


@once
def start(problem, key):
    """Return the start that the key draws."""
    return problem.init(key)


@partial(once, static_argnames=("steps",))
def run_symmetric(problem, eta, steps=40):
    """Return, over keys and steps, f, max |u - 1| and the law's prediction, |P X|; and the last points."""
    hp = symmetric.HParams(eta)

    def one(key):
        x0 = problem.init(key)
        u0 = symmetric.spread(problem, x0, None)

        def advance(state, t):
            bound = symmetric.recursion_bound(t, problem.constants, hp, u0)
            seen = [m.measure(problem, state.x, state) for m in (symmetric.SPREAD_ERROR, symmetric.OFF_RANGE)]
            return symmetric.step(problem, state, key, hp), (problem.value(state.x), seen[0], bound, seen[1])

        last, seen = jax.lax.scan(advance, symmetric.init(problem, x0, key, hp), jnp.arange(steps))
        return last.x, seen

    return jax.vmap(one)(KEYS)


@partial(once, static_argnames=("steps",))
def run_adapters(problem, eta, steps=60):
    """Return, over keys and steps, |B A - M|_F."""
    hp = scaled.HParams(eta)

    def one(key):
        def advance(state, _):
            return scaled.step(problem, state, key, hp), scaled.residual(problem, state.x, state)

        return jax.lax.scan(advance, scaled.init(problem, problem.init(key), key, hp), None, length=steps)[1]

    return jax.vmap(one)(KEYS)


@pytest.mark.parametrize("rank", [4, 7])
def test_the_error_curve_is_the_scalar_recursion(rank):
    for kappa in KAPPAS:
        problem = symmetric_factorization.make(KEY, rank=rank, kappa=kappa)
        assert Regularity.NYSTROM_START in problem.family.regularity
        for eta in (0.2, 0.5):
            error, law = (seen[:, :16] for seen in run_symmetric(problem, eta)[1][1:3])
            above = law > 1e3 * kappa * EPS
            np.testing.assert_allclose(error[above], law[above], rtol=1e-6, atol=10 * kappa * EPS)
            assert np.all(error[~above] < 1e4 * kappa * EPS)


def test_newton_takes_the_predicted_steps_and_a_generic_start_thirty_five():
    for kappa in KAPPAS:
        seen = run_symmetric(symmetric_factorization.make(KEY, rank=4, kappa=kappa), 0.5)[1]
        error = seen[1]
        reached = np.argmax(error <= 1e-8, axis=1)
        w = np.max(np.exp(np.abs(np.log(first_spread(kappa)))), axis=1)
        assert np.all(reached <= np.ceil(np.log2(w)) + np.ceil(np.log2(np.log2(1e8))) + 2)
        assert reached.min() >= 4 and reached.max() <= 15
    generic = symmetric_factorization.make(KEY, rank=4, kappa=100.0, init="generic")
    relative = 2 * np.sqrt(run_symmetric(generic, 0.5)[1][0]) / np.linalg.norm(generic.data.A)
    reached = np.argmax(relative <= 1e-10, axis=1)
    assert np.all((reached >= 33) & (reached <= 37)), reached
    np.testing.assert_allclose(relative[:, 30] / relative[:, 29], 0.5, atol=2e-3)


def first_spread(kappa):
    """Return u_0 of every key."""
    problem = symmetric_factorization.make(KEY, rank=4, kappa=kappa)
    return once(jax.vmap(lambda key: symmetric.spread(problem, problem.init(key), None)))(KEYS)


def test_what_lies_off_the_range_decays_at_one_minus_eta():
    for kappa in KAPPAS:
        off = run_symmetric(symmetric_factorization.make(KEY, rank=4, kappa=kappa, init="generic"), 0.4)[1][3][:, :16]
        np.testing.assert_allclose(off, off[:, :1] * 0.6 ** np.arange(16), rtol=1e-8)


def test_too_few_columns_end_weakly_optimal():
    problem = symmetric_factorization.make(KEY, rank=2, kappa=10.0)
    X = run_symmetric(problem, 0.5, steps=200)[0]
    A_inverse = np.linalg.pinv(np.asarray(problem.data.A), rcond=1e-10)
    for x in np.asarray(X):
        np.testing.assert_allclose(x.T @ A_inverse @ x, np.eye(2), atol=1e-8)


def test_asymmetric_nystrom_has_one_error_for_all():
    published = np.array([1, 0.5, 0.125, 3.472e-3, 3.004e-6, 2.256e-12])
    for kappa in KAPPAS:
        problem = matrix_factorization.make(KEY, rank=4, kappa=kappa, init="nystrom")
        error = run_adapters(problem, 0.5)[:, :6]
        relative, floor = error / error[:, :1], kappa * 1e-12
        for t, expected in enumerate(published):
            np.testing.assert_allclose(relative[:, t], expected, rtol=2e-4, atol=floor)
            law = scaled.nystrom_bound(jnp.asarray(float(t)), problem.constants, scaled.HParams(0.5), 1.0)
            np.testing.assert_allclose(relative[:, t], law, rtol=1e-6, atol=floor)
        assert np.all(run_adapters(problem, 1.0)[:, 1:6] <= floor * error[:, :1])


def test_generic_starts_are_linear_at_the_stated_rate():
    for kappa in KAPPAS:
        problem = matrix_factorization.make(KEY, rank=4, kappa=kappa, init="spectral", start=1e-3)
        for eta in (0.3, 0.5, 2 / 3, 0.9):
            error = np.asarray(run_adapters(problem, eta))
            target = max(abs(1 - eta), abs(1 - 2 * eta))
            near = (error[:, :-1] < 3e-4 / kappa) & (error[:, 1:] > max(1e-10, 1e2 * kappa * EPS))
            assert near.sum() > 5
            np.testing.assert_allclose((error[:, 1:] / error[:, :-1])[near], target, atol=1e-3)


def test_balance_is_not_seen():
    one, two = (
        run_adapters(matrix_factorization.make(KEY, rank=4, init="spectral", imbalance=s), 0.3) for s in (1, 10)
    )
    np.testing.assert_allclose(one[:, :40], two[:, :40], rtol=1e-9)


def test_a_start_off_the_range_breaks_the_law():
    problem = matrix_factorization.make(KEY, rank=4, init="nystrom", off_range=1.0)
    error = run_adapters(problem, 0.5)[:, :6]
    law = scaled.nystrom_bound(jnp.asarray(5.0), problem.constants, scaled.HParams(0.5), error[:, 0])
    assert np.all(error[:, 5] > 1e3 * law)
    assert not scaled.nystrom.admits(problem.constants, scaled.HParams(0.5))


@pytest.mark.parametrize("r", [1, 3, 8])
def test_principal_axes_are_singular_vectors(r):
    rng = np.random.default_rng(r)
    U, V = (np.linalg.qr(rng.normal(size=(k, k)))[0][:, :r] for k in (12, r))
    for spectrum in (np.ones(r), np.geomspace(1, 1e-9, r), np.arange(r) % 2.0):
        X = (U * spectrum) @ V.T
        XV, d, Vt = once(principal_axes)(jnp.asarray(X))
        np.testing.assert_allclose(XV @ Vt, X, atol=1e-14)
        np.testing.assert_allclose(Vt @ Vt.T, np.eye(r), atol=1e-14)
        np.testing.assert_allclose(np.sort(d), np.sort(spectrum), rtol=1e-6, atol=1e-14)
        np.testing.assert_allclose(np.sort(once(singular_values)(jnp.asarray(X.T))), np.sort(d), rtol=1e-12)
        known = np.linalg.pinv(X, rcond=1e-12)
        np.testing.assert_allclose(
            once(pseudo_inverse)(jnp.asarray(X)), known, rtol=1e-5, atol=1e-6 * np.abs(known).max()
        )


def test_the_cut_off_tells_rank_from_rounding():
    assert np.all(pseudo_inverse(jnp.zeros((16, 7))) == 0)
    np.testing.assert_array_equal(inverse_squares(jnp.array([1.0, 1e-11, 1e-13])) > 0, [True, True, False])
    X = start(symmetric_factorization.make(KEY, rank=7, kappa=1e4), KEYS[1])
    kept = inverse_squares(once(principal_axes)(X)[1]) > 0
    assert kept.sum() == 4


def test_nora_is_the_normalised_step():
    problem = matrix_factorization.make(KEY, rank=4, init="gaussian", start=0.3)
    x, hp = start(problem, KEYS[1]), nora.HParams(eta=0.1, damping=1e-3)
    x_next = once(nora.step)(problem, nora.init(problem, x, KEYS[1], hp), KEYS[1], hp).x
    G = np.asarray(problem.weight_grad(x))
    P_A, P_B = (np.linalg.inv(g + 1e-3 * np.eye(4)) for g in (np.asarray(x.A @ x.A.T), np.asarray(x.B.T @ x.B)))
    np.testing.assert_allclose(x_next.B, x.B - 0.1 * G @ x.A.T @ P_A / np.linalg.norm(P_A), rtol=1e-10)
    np.testing.assert_allclose(x_next.A, x.A - 0.1 * P_B / np.linalg.norm(P_B) @ x.B.T @ G, rtol=1e-10)


def test_starts_are_what_they_are_called():
    spectral = matrix_factorization.make(KEY, rank=2, init="spectral", start=1e-9, imbalance=3.0)
    assert float(once(spectral.value)(start(spectral, KEYS[1]))) == pytest.approx(
        float(spectral.constants.f_star), abs=1e-8
    )
    x = start(matrix_factorization.make(KEY, rank=4, init="imbalanced", imbalance=10.0), KEYS[1])
    assert 70 < jnp.linalg.norm(x.B) / jnp.linalg.norm(x.A) < 130
    nystrom = matrix_factorization.make(KEY, rank=7, init="nystrom")
    x = start(nystrom, KEYS[1])
    assert isinstance(x, Adapter)
    assert np.linalg.matrix_rank(x.B, tol=1e-10) == 4 and not np.any(x.A)
    assert Regularity.EXACT_RANK not in nystrom.family.regularity


@pytest.mark.parametrize(
    ("method", "hp"),
    [
        (symmetric, symmetric.HParams(0.0)),
        (symmetric, symmetric.HParams(1.0)),
        (scaled, scaled.HParams(0.0)),
        (scaled, scaled.HParams(1.1)),
        (scaled, scaled.HParams(float("nan"))),
        (nora, nora.HParams(eta=-1.0)),
        (nora, nora.HParams(damping=0.0)),
    ],
)
def test_impossible_settings_are_refused(method, hp):
    with pytest.raises(InvalidSetting):
        method.algorithm.prepare(hp)


@pytest.mark.parametrize(
    ("make", "chosen"),
    [
        (symmetric_factorization.make, {"rank": 17}),
        (symmetric_factorization.make, {"rank_star": 17}),
        (symmetric_factorization.make, {"kappa": 0.5}),
        (symmetric_factorization.make, {"init": "lora"}),
        (symmetric_factorization.make, {"init": "small", "off_range": 1.0}),
        (matrix_factorization.make, {"imbalance": 2.0}),
        (matrix_factorization.make, {"init": "imbalanced", "imbalance": 0.0}),
        (matrix_factorization.make, {"init": "gaussian", "off_range": 1.0}),
    ],
)
def test_meaningless_parameters_are_refused(make, chosen):
    with pytest.raises(InvalidParameter):
        make(KEY, **chosen)
