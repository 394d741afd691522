"""LOZO and full-space zeroth order: moments, finite differences, projection of the momentum, laws and bounds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import lozo, zeroth_order
from algorithms.zeroth_order_estimator import central_difference, difference_error, mean_factor, mean_square_factor
from problems.constants import Constants
from problems.low_rank import cosine, matrix_factorization

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
SIZES = Constants(rows=jnp.asarray(7.0), columns=jnp.asarray(5.0), L=jnp.asarray(1.0))
QUADRATIC = once(partial(matrix_factorization.make, m=7, n=5, rank=0, rank_star=5))(KEY)
COSINE = once(partial(cosine.make, m=4, n=3, rank=0))(KEY)


@pytest.mark.parametrize("frame", lozo.FRAMES)
def test_the_estimate_has_the_stated_moments(frame):
    rank = 2
    G = jax.random.normal(KEY, (7, 5))

    @jax.jit
    def moments(key):
        def estimate(key):
            u_key, v_key = jax.random.split(key)
            V = lozo.draw(v_key, 5, rank, frame)
            Z = jax.random.normal(u_key, (7, rank)) @ V.T
            return jnp.vdot(G, Z) * Z / rank, V.T @ V

        H, gram = jax.vmap(estimate)(jax.random.split(key, 100_000))
        return H.mean(0), jnp.sum(H**2, axis=(1, 2)).mean() / jnp.sum(G**2), gram

    mean, q, gram = moments(KEY)
    stated = lozo.second_moment(SIZES, lozo.HParams(rank=rank, frame=frame))
    assert abs(q / stated - 1) < 0.02
    assert jnp.linalg.norm(mean - G) < 4 * (stated / 100_000) ** 0.5 * jnp.linalg.norm(G)
    if frame == "stiefel":
        np.testing.assert_allclose(gram[:100], np.broadcast_to(5 * np.eye(rank), (100, rank, rank)), atol=1e-12)


def test_the_published_second_moments():
    assert lozo.second_moment(SIZES, lozo.HParams(rank=2)) == 40
    assert lozo.second_moment(SIZES, lozo.HParams(rank=2, frame="gaussian")) == 50


def test_the_moments_of_a_step_on_an_isotropic_quadratic():
    for d, h in ((3, 0.2), (14, 0.8)):
        u = jax.random.normal(KEY, (400_000, d))
        s, u_sq = u[:, 0] ** 2, jnp.sum(u**2, axis=1)
        factor = 1 - 2 * h * s + h**2 * s * u_sq
        np.testing.assert_allclose(factor.mean(), mean_factor(h, d), rtol=0.02)
        np.testing.assert_allclose((factor**2).mean(), mean_square_factor(h, d), rtol=0.1)


@once
def difference_errors(problem, key):
    """Return |c - <G, Z>|/(e |Z|^2) at a random point for e = 1, .1, .001."""
    W, Z = jax.random.normal(key, (2, *problem.init(key).shape))
    true = jnp.vdot(problem.grad(W), Z)
    e = jnp.array([1.0, 0.1, 0.001])
    return jnp.array([jnp.abs(central_difference(problem, W, Z, each) - true) for each in e]) / (e * jnp.sum(Z**2))


def test_central_differences_are_exact_on_quadratics_and_close_otherwise():
    for key in jax.random.split(KEY, 10):
        assert jnp.all(difference_errors(QUADRATIC, key) * jnp.array([1.0, 0.01, 1e-6]) < 1e-14)  # rounding of f/e^2
        errors = difference_errors(COSINE, key)
        assert jnp.all(errors <= COSINE.constants.L / 2)
        assert 0 < errors[2] < 0.01 * errors[0]


def test_the_error_of_the_difference_has_the_stated_size():
    u = jax.random.normal(KEY, (400_000, 6))
    sixth = jnp.mean(jnp.sum(u**2, axis=1) ** 3)
    np.testing.assert_allclose(difference_error(2.0, 0.1, 6), 0.1 * sixth**0.5, rtol=0.02)


def lozo_path(hp, steps):
    """Return V and N after every step on the quadratic."""

    def advance(state, i):
        state = lozo.step(QUADRATIC, state, jax.random.fold_in(KEY, i), hp)
        return state, (state.V, state.N, state.W)

    start = lozo.init(QUADRATIC, QUADRATIC.init(KEY), KEY, hp)
    return jax.tree.map(np.asarray, once(lambda: jax.lax.scan(advance, start, jnp.arange(steps))[1])())


def test_frames_live_for_nu_steps_and_the_momentum_is_projected():
    hp = lozo.HParams(eta=1e-3, nu=4, beta=0.9)
    V, N, W = lozo_path(hp, 12)
    for i in range(11):
        assert np.array_equal(V[i], V[i + 1]) == ((i + 1) % 4 != 0)
        np.testing.assert_allclose(W[i + 1] - W[i], -1e-3 / 2 * N[i + 1] @ V[i + 1].T, atol=1e-12)
    carried = N[3] @ V[3].T
    anew = V[4]
    np.testing.assert_allclose(carried @ anew / 5 @ anew.T, carried @ (anew @ np.linalg.pinv(anew)), atol=1e-12)
    key = jax.random.split(jax.random.fold_in(KEY, 4))[0]
    U = np.asarray(jax.random.normal(key, (7, 2)))
    left = N[4] - 0.9 * carried @ anew / 5
    assert np.linalg.norm(left - U * np.vdot(left, U) / np.vdot(U, U)) < 1e-12


def test_laws_and_bounds_agree_where_methods_do():
    c = Constants(**{name: jnp.asarray(v) for name, v in dict(L=1.0, mu=1.0, rows=7.0, columns=5.0).items()})
    t = jnp.arange(30.0)
    hp = lozo.HParams(eta=0.01, e=1e-5, nu=jnp.asarray(1), beta=0.0, rank=2)
    q = lozo.second_moment(c, hp)
    law = once(partial(lozo.isotropic_bound, hp=hp, gap=1.0))
    np.testing.assert_allclose(law(t, c), (1 - 0.02 + 1e-4 * q) ** t, rtol=1e-12)
    whole = lozo.HParams(eta=0.01, e=1e-5, nu=jnp.asarray(1), beta=0.0, rank=5)
    full = zeroth_order.HParams(eta=0.01, e=1e-5)
    lozo_law = once(partial(lozo.isotropic_bound, hp=whole, gap=1.0))(t, c)
    np.testing.assert_allclose(lozo_law, zeroth_order.isotropic_bound(t, c, full, 1.0), rtol=1e-12)


def test_rank_never_makes_the_best_step_faster():
    for m, n, r in ((7.0, 5.0, 2), (3.0, 8.0, 8), (8.0, 6.0, 1)):
        c = Constants(rows=jnp.asarray(m), columns=jnp.asarray(n))
        assert lozo.second_moment(c, lozo.HParams(rank=r)) >= m * n + 2
        assert lozo.second_moment(c, lozo.HParams(rank=r, frame="gaussian")) >= m * n + 2


@jax.jit
def block_sums(hp, keys):
    """Return per lane and step the sum of |G|^2 over the blocks begun, on COSINE."""

    def sums(key):
        def advance(state, i):
            at_start = lozo.BLOCK_GRADIENT.measure(COSINE, state.W, state)
            return lozo.step(COSINE, state, jax.random.fold_in(key, i), hp), at_start

        return jnp.cumsum(jax.lax.scan(advance, lozo.init(COSINE, COSINE.init(KEY), KEY, hp), jnp.arange(200))[1])

    return jax.vmap(sums)(keys)


@pytest.mark.parametrize("nu", [1, 10])
def test_gradients_at_the_starts_of_blocks_stay_below_the_bound(nu):
    hp = lozo.HParams(eta=jnp.asarray(2 / (3 * (2 * 4 + 1 + nu))), e=1e-5, nu=jnp.asarray(nu), beta=0.0, rank=2)
    assert lozo.is_small_step(COSINE.constants, hp)
    measured = block_sums(hp, jax.random.split(KEY, 20)).mean(0)
    bound = lozo.stationary_bound(jnp.arange(200.0), COSINE.constants, hp, COSINE.value(COSINE.init(KEY)))
    ratio = measured / bound
    assert ratio.max() <= 1
    assert ratio[-1] > 0.2


@pytest.mark.parametrize(
    ("prepare", "hp", "message"),
    [
        (lozo.prepare, lozo.HParams(eta=0.1, e=0.0), "e = "),
        (lozo.prepare, lozo.HParams(eta=0.1, e=1e-9), "e = "),
        (lozo.prepare, lozo.HParams(eta=0.0), "eta"),
        (lozo.prepare, lozo.HParams(eta=0.1, nu=0), "nu"),
        (lozo.prepare, lozo.HParams(eta=0.1, beta=1.0), "beta"),
        (lozo.prepare, lozo.HParams(eta=0.1, rank=0), "rank"),
        (lozo.prepare, lozo.HParams(eta=0.1, frame="sparse"), "frame"),
        (zeroth_order.prepare, zeroth_order.HParams(e=-1.0), "e = "),
        (zeroth_order.prepare, zeroth_order.HParams(eta=float("inf")), "eta"),
    ],
)
def test_impossible_settings_are_refused(prepare, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        prepare(hp)


def test_too_many_columns_of_a_stiefel_frame_are_refused():
    with pytest.raises(InvalidSetting, match="at most 5 columns"):
        lozo.init(QUADRATIC, QUADRATIC.init(KEY), KEY, lozo.HParams(rank=6))
    lozo.init(QUADRATIC, QUADRATIC.init(KEY), KEY, lozo.HParams(rank=6, frame="gaussian"))
