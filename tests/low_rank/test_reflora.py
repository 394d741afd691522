"""RefLoRA: a map of the weight alone, balanced, certified like LoRA's, with its own local rate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import reflora
from algorithms.low_rank.reflora import HParams
from problems.adapter import Adapter
from problems.low_rank import cosine, matrix_factorization

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
balanced = once(reflora.balanced)
COSINE = cosine.make(KEY)
PROBLEM = matrix_factorization.make(KEY, m=12, n=10, rank=3, rank_star=3, kappa=3.0, init="gaussian", start=0.3)


def pairs(seed):
    """Return a random adapter and another one of the same product, badly scaled."""
    rng = np.random.default_rng(seed)
    B, A, P = rng.normal(size=(12, 3)), rng.normal(size=(3, 10)), rng.normal(size=(3, 3)) * [1, 10, 100]
    return Adapter(*map(jnp.asarray, (B, A))), Adapter(*map(jnp.asarray, (B @ P, np.linalg.solve(P, A))))


def root(S):
    w, Q = np.linalg.eigh(S)
    return (Q * np.sqrt(np.maximum(w, 0))) @ Q.T


@partial(once, static_argnames=("steps",))
def run(problem, hp, start, steps=400):
    """Return f, step_sum, dissipated, the least |grad J|^2 so far and |V|^2 along a run."""

    def advance(carry, _):
        state, least = carry
        g = jax.tree.map(lambda leaf: jnp.sum(leaf**2), problem.grad(state.x))
        v_sq = jnp.sum(state.x.B**2) + jnp.sum(state.x.A**2)
        least = jnp.minimum(least, g.B + g.A)
        seen = problem.value(state.x), state.step_sum, state.dissipated, least, v_sq
        return (reflora.step(problem, state, KEY, hp), least), seen

    carry = (reflora.init(problem, start, KEY, hp), jnp.asarray(jnp.inf))
    return jax.lax.scan(advance, carry, None, length=steps)[1]


def test_the_refactoring_is_the_geometric_mean():
    x, _ = pairs(0)
    R = root(np.asarray(x.B.T @ x.B))
    R_inverse = np.linalg.inv(R)
    S = R_inverse @ root(R @ np.asarray(x.A @ x.A.T) @ R) @ R_inverse
    new = balanced(x)
    np.testing.assert_allclose(new.B @ new.B.T, np.asarray(x.B) @ S @ np.asarray(x.B).T, rtol=1e-9)
    np.testing.assert_allclose(
        new.A.T @ new.A, np.asarray(x.A).T @ np.linalg.inv(S) @ np.asarray(x.A), rtol=1e-9, atol=1e-12
    )


def test_balanced_factors_are_the_shortest():
    for seed in range(5):
        x, y = pairs(seed)
        W = np.asarray(x.B @ x.A)
        for z in (x, y):
            new, simple = balanced(z), reflora.rescaled(z)
            for other in (new, simple):
                np.testing.assert_allclose(other.B @ other.A, W, atol=1e-11)
            np.testing.assert_allclose(new.B.T @ new.B, new.A @ new.A.T, atol=1e-11)
            norm_sq, simple_sq, before = (float(jnp.sum(a.B**2) + jnp.sum(a.A**2)) for a in (new, simple, z))
            assert norm_sq == pytest.approx(2 * np.linalg.norm(W, "nuc"), rel=1e-10)
            assert simple_sq == pytest.approx(2 * float(jnp.linalg.norm(z.A) * jnp.linalg.norm(z.B)))
            assert norm_sq <= simple_sq <= before * (1 + 1e-12)


def test_the_step_is_a_map_of_the_weight_alone():
    hp = HParams(rule="const", eta=0.05)
    step = once(lambda x: reflora.step(PROBLEM, reflora.init(PROBLEM, x, KEY, hp), KEY, hp).x)
    for seed in range(5):
        x, y = pairs(seed)
        W, G = np.asarray(x.B @ x.A), np.asarray(PROBLEM.weight_grad(x))
        U, s, Vt = np.linalg.svd(W, full_matrices=False)
        left, right = (U * s) @ U.T, (Vt.T * s) @ Vt
        expected = W - 0.05 * (G @ right + left @ G) + 0.05**2 * G @ W.T @ G
        for z in (x, y):
            new = step(z)
            np.testing.assert_allclose(new.B @ new.A, expected, rtol=1e-9, atol=1e-9)


def test_the_imbalance_of_the_start_is_not_seen():
    x = PROBLEM.init(jax.random.key(1))
    curves = {
        (refactor, s): run(PROBLEM, HParams(refactor), Adapter(x.B * s, x.A / s))[0]
        for refactor in ("full", "simple")
        for s in (1.0, 3.0, 10.0)
    }
    for refactor in ("full", "simple"):
        for s in (3.0, 10.0):
            np.testing.assert_allclose(curves[refactor, s], curves[refactor, 1.0], rtol=1e-6, atol=1e-25)
    scaled = [run(PROBLEM, HParams(), Adapter(x.B * s, x.A))[0] for s in (1.0, 3.0, 10.0)]
    iterations = np.array([np.argmax(curve <= 1e-12) for curve in scaled])
    assert iterations.min() > 0 and iterations.max() <= 1.25 * iterations.min(), iterations


@pytest.mark.parametrize("refactor", ["full", "simple"])
def test_the_bounds_of_lora_hold(refactor):
    for problem in (PROBLEM, COSINE):
        hp = HParams(refactor, c=1.0, warm_up=1)
        f, _, dissipated, least, v_sq = run(problem, hp, problem.init(jax.random.key(1)))
        gap, floor = f - float(problem.constants.ell_star), 1e-13 * f[0]
        t = np.arange(len(f))[1:]
        assert np.all(np.diff(f) <= -reflora.kappa(1.0) * np.diff(dissipated) + floor)
        bound = reflora.rate_bound(t, problem.constants, hp, gap[0], v_sq[0])
        assert np.all(least[1:] <= bound) and least[-1] < 0.1 * least[0]


def test_the_local_rate_is_that_of_the_smallest_singular_value():
    start = PROBLEM.init(jax.random.key(1))
    f = np.asarray(run(PROBLEM, HParams(rule="const", eta=0.3), start)[0])
    near = np.flatnonzero((f < 1e-13) & (f > 1e-22))[1:]
    np.testing.assert_allclose(np.sqrt(f[near] / f[near - 1]), 1 - 0.3 / 3, atol=1e-3)


def test_it_is_stable_up_to_one_over_the_largest_singular_value():
    problem = matrix_factorization.make(KEY, m=1, n=1, rank=1, rank_star=1, scale=2.0, init="gaussian")
    sign = jnp.sign(problem.data.base.M)  # near the solution, the weight 2 or -2
    start = Adapter(jnp.full((1, 1), 2.01**0.5), sign * 2.01**0.5)
    assert run(problem, HParams(rule="const", eta=0.49), start)[0][-1] < 1e-10
    f = run(problem, HParams(rule="const", eta=0.51), start)[0]
    assert f[-1] > f[0]


def test_deficient_factors_are_undefined_until_a_warm_up():
    start = COSINE.init(KEY)
    assert not np.any(start.B)
    for refactor in ("full", "simple"):
        for warm_up, defined in ((0, False), (1, True)):
            f = run(COSINE, HParams(refactor, warm_up=warm_up), start)[0]
            assert np.isfinite(f[-1]) == defined
    x, _ = pairs(0)
    assert np.all(np.isnan(balanced(Adapter(x.B.at[:, 2].set(x.B[:, 1]), x.A)).B))


@pytest.mark.parametrize(
    "hp",
    [
        HParams(refactor="half"),
        HParams(rule="adam"),
        HParams(c=0.0),
        HParams(c=1.1),
        HParams(eta=0.0),
        HParams(warm_up=-1),
    ],
)
def test_impossible_settings_are_refused(hp):
    with pytest.raises(InvalidSetting):
        reflora.algorithm.prepare(hp)
