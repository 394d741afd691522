"""Going back: a closed form where it exists, bounds attained and never broken, rounding's horizon in two precisions."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.unlearning import checkpoint_reconstruction, rewind_to_delete
from algorithms.unlearning.checkpoint_reconstruction import HParams, algorithm, backward
from problems.convex import logistic_regression, quadratic, tight_deletion
from problems.nonconvex import robust_regression

KEY, STARTS = jax.random.key(0), jax.random.key(1)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


def settings(problem, **others):
    return algorithm.prepare(HParams(**{"L": problem.constants.L, **others}))


@once
def states(problem, hp, steps, keys):
    """Return the last states, (start, setting), of runs from the starts that the keys draw."""

    def lane(key, one):
        start = algorithm.init(problem, problem.init(key), key, one)
        return jax.lax.fori_loop(0, steps, lambda _, s: algorithm.step(problem, s, key, one), start)

    return jax.vmap(jax.vmap(lane, (None, 0)), (0, None))(keys, hp)


def run(problem, K, steps=None, starts=1, **others):
    """Return the settings, one for each K, and the last states after T + 2K steps of the largest K."""
    hp = settings(problem, K=np.asarray(K), **others)
    steps = int(np.max(hp.T) + 2 * max(K)) if steps is None else steps
    hp = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (len(K),)), hp)
    return hp, states(problem, hp, steps, jax.random.split(STARTS, starts))


@partial(once, static_argnames="theorem")
def both_sides(theorem, problem, hp, state):
    def one(state, hp):
        given = [metric.measure(problem, state.x, state) for metric in theorem.given]
        bound = theorem.bound(jnp.asarray(state.t, float), problem.constants, hp, *given)
        return theorem.metric.measure(problem, state.x, state), bound

    return jax.vmap(jax.vmap(one), (0, None))(state, hp)


def sides(theorem, problem, hp, state):
    """Return the theorem's value and bound, (start, setting)."""
    return [np.asarray(side) for side in both_sides(theorem, problem, hp, state)]


@cache
def logistic():
    return once(lambda key: logistic_regression.make(key, n=60, d=5, l2=0.05))(KEY)


@cache
def robust():
    return once(robust_regression.make)(KEY)


def concave():
    return tight_deletion.make(KEY, curvature=-1.0)


def stiff_and_flat():
    return once(lambda key: quadratic.make(key, d=20, kappa=100.0))(KEY)


@pytest.mark.parametrize("make", [logistic, stiff_and_flat, robust])
def test_a_backward_step_undoes_a_step(make):
    problem = make()
    hp = settings(problem, eta_L=0.5)

    @once
    def there_and_back(problem, hp):
        x = problem.init(STARTS)
        ahead = x - hp.eta * problem.grad(x)
        inner = jnp.array([hp.inner, 1], jnp.int32)
        return x, ahead + hp.eta * problem.grad(ahead), jax.vmap(lambda i: backward(problem, ahead, hp, i))(inner)

    x, once_back, (back, left) = there_and_back(problem, hp)
    np.testing.assert_allclose(back[0], x, rtol=1e-12)
    np.testing.assert_allclose(back[1], once_back, rtol=1e-12)
    assert left[0] < 1e-11
    assert left[1] > 1e-6


def test_inner_iterations_follow_from_the_share_of_their_error_that_may_stay():
    problem = stiff_and_flat()
    assert settings(problem, eta_L=0.1, tol=1e-6).inner == 6
    assert settings(problem, eta_L=0.5).inner == 57
    assert settings(problem, eta_L=0.5, inner=3.0).inner == 3
    np.testing.assert_allclose(settings(problem, eta_L=0.5, L=4.0).eta, 0.125)


@pytest.mark.parametrize("inner", [1, 3, 6])
def test_error_of_few_inner_gradients_in_closed_form_attains_the_bound(inner):
    problem, K, a, T = tight_deletion.make(KEY, curvature=1.0), [1, 5, 20, 30], 0.3, 30
    hp, state = run(problem, K, eta_L=a, T=T, inner=float(inner))
    k, far = np.asarray(K), abs(float(problem.x_star[0]))
    exact = far * (1 - a) ** (T - k) * (1 - (1 - a ** (inner + 1)) ** k)
    error, bound = sides(checkpoint_reconstruction.error, problem, hp, state)
    np.testing.assert_allclose(error[0], exact, rtol=1e-6)
    assert np.all(error <= bound)
    np.testing.assert_allclose(bound[0, :3], exact[:3], rtol=1e-4)  # at K = T rounding's credit shows


@pytest.mark.parametrize("make", [logistic, stiff_and_flat, robust, concave])
def test_error_is_never_above_its_bound(make):
    problem, K = make(), [1, 1, 5, 5, 20, 20, 40, 40]
    hp, state = run(problem, K, eta_L=0.4, T=40, inner=np.tile([3.0, 60.0], 4), starts=3)
    error, bound = sides(checkpoint_reconstruction.error, problem, hp, state)
    assert np.all(error <= bound)
    assert np.all(error[:, -2:] > 0)


@pytest.mark.parametrize(("eta_L", "K"), [(0.3, [55, 60, 65, 70]), (0.5, [28, 32, 36, 40]), (0.9, [8, 9, 10, 12])])
def test_rounding_grows_by_a_backward_step(eta_L, K):
    problem, law = stiff_and_flat(), -np.log10(1 - eta_L)
    hp, state = run(problem, K, eta_L=eta_L, T=max(K), starts=8)
    slopes = [np.polyfit(K, np.log10(error), 1)[0] for error in np.asarray(state.error)]
    np.testing.assert_allclose(slopes, law, rtol=0.1)  # each run, and in median
    np.testing.assert_allclose(np.median(slopes), law, rtol=0.02)
    lost, bound = sides(checkpoint_reconstruction.digits, problem, hp, state)
    np.testing.assert_allclose(np.median(lost, axis=0), bound[0], rtol=0.05)
    assert np.all(checkpoint_reconstruction.digits.admits(problem.constants, hp))
    assert np.all(np.isfinite(bound))


def horizon(problem, K):
    """Return at which K the median error reaches a thousandth of the point, at eta L = 1/2 and K = T."""
    state = run(problem, K, eta_L=0.5, T=max(K), starts=8)[1]
    size = np.linalg.norm(np.asarray(state.checkpoint), axis=-1)
    reached = np.median(np.asarray(state.error) / size, axis=0)
    return float(np.interp(-3, np.log10(reached), K))


def test_single_precision_loses_the_same_digits_sooner():
    double = horizon(stiff_and_flat(), [30, 36, 42, 48])
    with jax.enable_x64(False):
        single = horizon(stiff_and_flat(), [8, 12, 16, 20])
        told = HParams(eta_L=0.5, L=1.0, T=100, K=np.array([13, 14]), inner=60.0)
        np.testing.assert_array_equal(checkpoint_reconstruction.is_reversible(stiff_and_flat().constants, told), [1, 0])
    sooner = np.log2(np.finfo(np.float32).eps / np.finfo(np.float64).eps)
    assert abs((double - single) / sooner - 1) < 0.15


def test_on_a_converged_run_going_back_looks_perfect():
    problem = once(lambda key: quadratic.make(key, kappa=2.0))(KEY)
    hp, state = run(problem, [28, 32, 36, 40], eta_L=0.5, T=300, starts=8)
    assert np.all(state.error < 1e-14 * np.linalg.norm(state.checkpoint, axis=-1))
    assert not np.any(checkpoint_reconstruction.digits.admits(problem.constants, hp))
    lost, bound = sides(checkpoint_reconstruction.digits, problem, hp, state)
    assert np.all(lost < 0.5 * bound)


@pytest.mark.parametrize(
    ("curvature", "theorem"),
    [(1.0, checkpoint_reconstruction.strongly_convex), (-1.0, checkpoint_reconstruction.nonconvex)],
)
def test_sensitivity_after_reconstruction_is_attained(curvature, theorem):
    problem, K = tight_deletion.make(KEY, curvature=curvature), [1, 5, 10, 20]
    hp, state = run(problem, K, eta_L=0.1, T=30)
    value, bound = sides(theorem, problem, hp, state)
    np.testing.assert_allclose(value / bound, 1.0, rtol=1e-9)


@pytest.mark.parametrize("inner", [2.0, 60.0])
def test_a_reconstructed_rewind_is_a_rewind_but_for_its_error(inner):
    problem, K, T = logistic(), 10, 30
    hp, state = run(problem, [K], eta_L=0.5, T=T, inner=inner)
    told = rewind_to_delete.algorithm.prepare(rewind_to_delete.HParams(eta=hp.eta[0], K=K, T=T))

    @once
    def rewind(problem, told):
        x0 = problem.init(jax.random.split(STARTS, 1)[0])
        start = rewind_to_delete.algorithm.init(problem, x0, KEY, told)
        return jax.lax.fori_loop(0, T, lambda _, s: rewind_to_delete.algorithm.step(problem, s, KEY, told), start)

    rewound = rewind(problem, told)
    apart = float(jnp.linalg.norm(state.x[0, 0] - rewound.x))
    assert apart <= float((1 - hp.eta[0] * problem.constants.mu_min) ** K * state.error[0, 0]) + 1e-14
    np.testing.assert_allclose(state.retrained[0, 0], rewound.retrained, rtol=1e-12)
    for theorem in (checkpoint_reconstruction.strongly_convex, checkpoint_reconstruction.nonconvex):
        value, bound = sides(theorem, problem, hp, state)
        assert value[0, 0] <= bound[0, 0]


def test_nothing_is_claimed_before_it_is_there():
    problem, K = tight_deletion.make(KEY, curvature=1.0), [2, 3, 4, 5]
    for steps, claimed in ((34, (False, False)), (35, (True, False)), (39, (True, False)), (40, (True, True))):
        hp, state = run(problem, K, steps=steps, eta_L=0.3, T=30)
        found = [
            bool(np.isfinite(sides(theorem, problem, hp, state)[1][0, -1]))
            for theorem in (checkpoint_reconstruction.error, checkpoint_reconstruction.strongly_convex)
        ]
        assert tuple(found) == claimed


def test_a_problem_without_records_has_nothing_to_delete():
    problem = stiff_and_flat()
    _, state = run(problem, [0, 5, 10, 15], eta_L=0.5, T=20, starts=8)
    np.testing.assert_allclose(state.x, state.retrained, rtol=1e-7, atol=1e-9)
    assert np.all(state.error[:, 0] == 0)


def test_understated_smoothness_is_caught():
    problem = tight_deletion.make(KEY, curvature=1.0)
    hp, state = run(problem, [5, 10, 15, 20], eta_L=0.3, L=0.4, T=20, inner=3.0)
    assert not np.any(checkpoint_reconstruction.error.admits(problem.constants, hp))
    error, bound = sides(checkpoint_reconstruction.error, problem, hp, state)
    assert error[0, -1] > 100 * bound[0, -1]


def test_beyond_the_precision_nothing_is_admitted():
    problem = stiff_and_flat()
    admitted = checkpoint_reconstruction.error.admits(problem.constants, settings(problem, K=np.array([40, 60]), T=60))
    np.testing.assert_array_equal(admitted, [True, False])


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"eta_L": 1.0}, "0 < eta L < 1"),
        ({"eta_L": 1.7}, "0 < eta L < 1"),
        ({"eta_L": 0.0}, "0 < eta L < 1"),
        ({"K": 41}, "K <= T"),
        ({"K": -1}, "K <= T"),
        ({"L": 0.0}, "smoothness"),
        ({"tol": 1.0}, "tol"),
        ({"inner": 0.0}, "at least one gradient"),
    ],
)
def test_what_cannot_be_undone_is_refused(chosen, said):
    with pytest.raises(InvalidSetting, match=said):
        settings(stiff_and_flat(), **chosen)
