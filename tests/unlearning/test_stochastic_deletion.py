"""Coupled minibatches have the right laws; unlearned against retrained, means and tails are as proven, or attained."""

from dataclasses import replace
from functools import cache, partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import hypergeom

from algorithms.algorithm import InvalidSetting
from algorithms.deletion import PRIVACY_SPENT, SENSITIVITY
from algorithms.recursions import projected
from algorithms.sensitivity import nonconvex_sensitivity, strongly_convex_sensitivity
from algorithms.stochastic_deletion import HParams, coupled_minibatches
from algorithms.stochastic_sensitivity import expected, hits, surely, tail
from algorithms.unlearning import descent_to_delete, rewind_to_delete
from algorithms.unlearning import stochastic_descent_to_delete as d2d
from algorithms.unlearning import stochastic_rewind_to_delete as r2d
from problems.convex import logistic_regression, tight_deletion

KEY = jax.random.key(0)
ONCE = {"xla_backend_optimization_level": 0}  # programs that run once: compiling them is most of the time
T = 60


@cache
def logistic():
    make = partial(logistic_regression.make, n=40, d=3, l2=0.05, forgotten=4)
    return jax.jit(make, compiler_options=ONCE)(KEY)


def setting(algorithm, eta=0.05, K=20.0, mechanism="worst_case", batch_size=8, **others):
    hp = HParams(eta=eta, K=K, T=float(T), mechanism=mechanism, batch_size=batch_size, **others)
    return algorithm.prepare(hp)


@partial(jax.jit, static_argnames=("algorithm", "seeds", "metric"), compiler_options=ONCE)
def traced_run(algorithm, problem, hp, x0, seeds, steps, metric):
    def lane(key):
        def advance(state, t):
            state = algorithm.step(problem, state, jax.random.fold_in(key, t), hp)
            return state, metric.measure(problem, algorithm.readout(state), state)

        return jax.lax.scan(advance, algorithm.init(problem, x0, key, hp), steps)

    return jax.vmap(lane)(jax.random.split(KEY, seeds))


def run(algorithm, problem, hp, x0, seeds=200, steps=T, metric=SENSITIVITY):
    """Return the last state of every seed, and its metric (seeds, steps) after each step."""
    states, values = traced_run(algorithm, problem, hp, x0, seeds, jnp.arange(steps), metric)
    return states, np.asarray(values)


@partial(jax.jit, static_argnames="theorem", compiler_options=ONCE)
def traced_bound(theorem, constants, hp, t):
    return jax.vmap(lambda t: theorem.bound(t, constants, hp))(t)


def bound(theorem, problem, hp, steps=T):
    """Return the bound (steps,) after each step."""
    return np.asarray(traced_bound(theorem, problem.constants, hp, jnp.arange(1.0, steps + 1)))


def minibatches(n, forgotten, b, sampling, draws=40_000):
    problem = tight_deletion.make(KEY, n=n, forgotten=forgotten)
    hp = HParams(batch_size=b, sampling=sampling)
    draw = jax.jit(jax.vmap(lambda key: coupled_minibatches(problem, key, hp)), compiler_options=ONCE)
    return [np.asarray(batch) for batch in draw(jax.random.split(KEY, draws))]


@pytest.mark.parametrize(("n", "forgotten", "b"), [(6, 2, 3), (6, 2, 4)])
def test_both_minibatches_are_uniform_subsets_that_differ_in_the_forgotten_alone(n, forgotten, b):
    of_d, of_retained = minibatches(n, forgotten, b, "subsets")
    for batch, records in ((of_d, n), (of_retained, n - forgotten)):
        subsets = {chosen: np.mean(np.all(batch == chosen, axis=1)) for chosen in combinations(range(records), b)}
        share = 1 / len(subsets)
        assert np.sum(list(subsets.values())) == pytest.approx(1)
        assert np.all(
            np.abs(np.array(list(subsets.values())) - share) <= 4.5 * np.sqrt(share * (1 - share) / len(batch))
        )
    kept = [
        set(d) - set(range(n - forgotten, n)) <= set(r) for d, r in zip(of_d[:2000], of_retained[:2000], strict=True)
    ]
    assert all(kept)
    j = np.sum(of_d >= n - forgotten, axis=1)
    law = hypergeom(n, forgotten, b)
    assert abs(np.mean(j) - law.mean()) <= 4.5 * law.std() / np.sqrt(len(j))
    np.testing.assert_allclose(np.var(j), law.var(), rtol=0.05)


def test_independent_minibatches_redraw_the_forgotten_alone():
    of_d, of_retained = minibatches(6, 2, 3, "independent")
    assert np.all(of_retained < 4)
    assert np.all((of_d == of_retained) | (of_d >= 4))
    for batch, records in ((of_d, 6), (of_retained, 4)):
        counts = np.bincount(batch.ravel(), minlength=records) / batch.size
        np.testing.assert_allclose(counts, 1 / records, atol=4.5 * np.sqrt(0.19 / batch.size))


@pytest.mark.parametrize(
    ("stochastic", "full", "steps"),
    [(r2d.algorithm, rewind_to_delete.algorithm, T), (d2d.algorithm, descent_to_delete.algorithm, T + 20)],
)
def test_the_whole_of_d_without_projection_is_the_full_batch_method(stochastic, full, steps):
    problem = logistic()
    x0 = problem.init(KEY)
    hp = setting(stochastic, eta=0.5, batch_size=0)
    plain = full.prepare(full.hparams(eta=0.5, K=20.0, T=float(T)))
    state, reference = (run(a, problem, h, x0, 1, steps)[0] for a, h in ((stochastic, hp), (full, plain)))
    np.testing.assert_array_equal(state.x, reference.x)
    np.testing.assert_array_equal(state.retrained, reference.retrained)
    if stochastic is r2d.algorithm:
        np.testing.assert_allclose(state.sigma, reference.sigma, rtol=1e-12)


def test_rewinding_to_the_start_is_retraining_and_nothing_to_hide():
    problem = logistic()
    state, distances = run(r2d.algorithm, problem, setting(r2d.algorithm, K=float(T)), problem.init(KEY))
    assert np.all(distances == 0)
    assert np.all(state.sigma == 0)


def test_retraining_does_not_know_when_unlearning_begins():
    problem, settings = logistic(), [setting(r2d.algorithm, eta=0.5, K=K) for K in (50.0, 0.0)]
    early, late = (run(r2d.algorithm, problem, hp, problem.init(KEY))[0] for hp in settings)
    np.testing.assert_array_equal(early.retrained, late.retrained)
    assert not np.any(early.x == late.x)


@pytest.mark.parametrize(("curvature", "decay", "sampling"), [(0.0, 1.0, "subsets"), (-1.0, 0.97, "independent")])
def test_mean_and_tail_on_the_tight_instance(curvature, decay, sampling):
    problem = tight_deletion.make(KEY, curvature=curvature)
    hp = setting(r2d.algorithm, decay=decay, sampling=sampling)
    _, distances = run(r2d.algorithm, problem, hp, jnp.zeros(1), seeds=4000)
    mean = bound(r2d.attained, problem, hp)
    assert bool(r2d.attained.admits(problem.constants, hp))
    error = distances.std(axis=0) / np.sqrt(len(distances))
    assert np.all(np.abs(distances.mean(axis=0) - mean) <= 4.5 * error)
    radius = bound(r2d.tail_nonconvex if curvature < 0 else r2d.tail_convex, problem, hp)
    beyond = np.mean(distances > radius * (1 + 1e-9), axis=0)
    assert np.all(beyond <= 0.05)
    assert np.quantile(distances[:, -1], 0.95) >= 0.8 * radius[-1]


@pytest.mark.parametrize("curvature", [1.0, -1.0])
@pytest.mark.parametrize("decay", [0.97, 1.0])
def test_a_schedule_on_the_whole_of_d_attains_its_recursion(curvature, decay):
    problem = tight_deletion.make(KEY, curvature=curvature)
    hp = setting(r2d.algorithm, decay=decay, batch_size=0)
    _, distances = run(r2d.algorithm, problem, hp, jnp.zeros(1), seeds=1)
    np.testing.assert_allclose(distances[0], bound(r2d.schedule, problem, hp), rtol=1e-9)


def test_recursions_are_the_closed_forms_of_constant_steps():
    c = tight_deletion.make(KEY, curvature=1.0).constants
    hp = setting(r2d.algorithm)
    for rate, closed in ((-1.0, strongly_convex_sensitivity), (1.0, nonconvex_sensitivity)):
        found = expected(r2d.course(jnp.asarray(float(T)), hp, rate), c, hp)
        np.testing.assert_allclose(found, closed(c, hp, jnp.asarray(T - 20.0), jnp.asarray(20.0)), rtol=1e-12)
    grown = replace(hp, eta=10.0, T=400.0, radius=3.0)
    assert expected(r2d.course(jnp.asarray(400.0), grown, 1.0), c, grown) == 6
    assert tail(r2d.course(jnp.asarray(400.0), grown, 1.0), c, grown, 0.05) == 6


@pytest.mark.parametrize("sampling", ["subsets", "independent"])
@pytest.mark.parametrize("rate", [-1.0, 1.0])
def test_the_tail_is_chernoff_s(sampling, rate):
    c = tight_deletion.make(KEY, curvature=1.0).constants
    hp = setting(r2d.algorithm, decay=0.98, sampling=sampling, batch_size=20)
    count, q = (10, 20 / 200) if sampling == "subsets" else (20, 10 / 200)
    steps = 0.05 * 0.98 ** np.arange(T)
    after = np.append(np.cumprod((1 + steps * rate)[:0:-1])[::-1], 1.0)
    jumps = (2 / 20 * steps * after)[: T - 20]

    def objective(log_s):
        s = np.exp(log_s)
        return (count * np.log1p(q * np.expm1(s * jumps)).sum() - np.log(0.05)) / s

    best = minimize_scalar(objective, bounds=(-5, 6), method="bounded").fun
    found = float(tail(r2d.course(jnp.asarray(float(T)), hp, rate), c, hp, 0.05))
    assert best <= found <= 1.002 * best
    worst = float(surely(r2d.course(jnp.asarray(float(T)), hp, rate), c, hp))
    np.testing.assert_allclose(worst, count * jumps.sum(), rtol=1e-12)
    law = hits(c, hp)
    np.testing.assert_allclose([float(law.count), float(law.probability)], [count, q])


def test_bounds_hold_on_logistic_regression_in_and_out_of_a_ball():
    problem = logistic()
    x0 = problem.init(KEY)
    for radius in (0.5, np.inf):
        hp = setting(r2d.algorithm, eta=1.0, K=5.0, radius=radius, decay=0.99)
        state, distances = run(r2d.algorithm, problem, hp, x0)
        assert np.all(np.linalg.norm(state.x, axis=1) <= radius * (1 + 1e-12))
        assert np.all(distances <= 2 * radius)
        for theorem in (r2d.strongly_convex, r2d.convex, r2d.nonconvex):
            assert np.all(distances.mean(axis=0) <= bound(theorem, problem, hp))
        assert np.all(distances <= bound(r2d.worst_case, problem, hp))
        for theorem in (r2d.tail_convex, r2d.tail_nonconvex):
            assert np.all(np.mean(distances > bound(theorem, problem, hp), axis=0) <= 0.05)


def test_projection_leaves_the_ball_s_points_alone():
    x = jnp.array([3.0, 4.0])
    assert all(jnp.all(projected(x, radius) == x) for radius in (5.0, 7.0, jnp.inf))
    np.testing.assert_allclose(projected(x, 1.0), [0.6, 0.8])
    assert projected(jnp.zeros(2), 1.0).tolist() == [0, 0]


@pytest.mark.parametrize(("decay", "K"), [(1.0, 20.0), (0.98, 20.0), (1.0, 80.0)])
def test_descent_in_a_ball_contracts_from_its_diameter_in_every_run(decay, K):
    problem, radius = logistic(), 1.5
    hp = setting(d2d.algorithm, eta=1.0, K=K, radius=radius, decay=decay)
    _, distances = run(d2d.algorithm, problem, hp, 10 * problem.init(KEY), steps=2 * T + 20)
    sure, mean = (bound(theorem, problem, hp, 2 * T + 20) for theorem in (d2d.every_run, d2d.mean))
    assert np.all(np.isnan(sure[: T - 1]))
    assert np.all(distances[:, T - 1 :] <= sure[T - 1 :] * (1 + 1e-12))
    assert np.all(distances[:, T - 1 :].mean(axis=0) <= mean[T - 1 :])
    shared = 1.0 * decay ** np.arange(max(T - K, 0), T)
    diameter = 2 * radius * np.prod(1 - 0.05 * shared)
    if decay < 1 or K > T:
        np.testing.assert_allclose([sure[-1], mean[-1]], diameter, rtol=1e-9)
    assert mean[-1] <= sure[-1] <= diameter * (1 + 1e-12)


def test_a_small_ball_hides_that_descent_fails_on_a_convex_loss():
    problem = tight_deletion.make(KEY, curvature=0.0)
    for radius, hidden in ((0.5, True), (100.0, False)):
        hp = setting(d2d.algorithm, K=float(T), radius=radius)
        state, distances = run(d2d.algorithm, problem, hp, jnp.zeros(1), steps=2 * T)
        assert np.all(state.sigma == 0)
        assert np.all((distances[:, -1] < 1e-12) == hidden)
        assert np.all((distances[:, -1] > 2 * distances[:, 0]) != hidden)


@pytest.mark.parametrize("mechanism", ["chernoff", "mean_plugged_in"])
def test_chernoff_stays_within_delta_and_the_mean_plugged_in_does_not(mechanism):
    problem = tight_deletion.make(KEY, curvature=0.0)
    hp = r2d.prepare(HParams(eta=0.05, K=0.0, T=10.0, delta=1e-2, batch_size=1, mechanism=mechanism))
    _, spent = run(r2d.algorithm, problem, hp, jnp.zeros(1), 1000, 10, PRIVACY_SPENT)
    certified = bool(r2d.certificate.admits(problem.constants, hp))
    assert certified == (mechanism != "mean_plugged_in")
    assert (spent[:, -1].mean() <= 1e-2) == certified
    if not certified:
        assert spent[:, -1].mean() > 5e-2


def start(algorithm, problem, hp):
    init = jax.jit(lambda problem, hp: algorithm.init(problem, problem.init(KEY), KEY, hp), compiler_options=ONCE)
    return init(problem, hp)


def test_no_noise_is_published_where_nothing_is_proven():
    problem = logistic()
    for hp in (setting(d2d.algorithm), setting(d2d.algorithm, eta=100.0, radius=2.0)):
        assert start(d2d.algorithm, problem, hp).sigma == 0
        assert not bool(d2d.certificate.admits(problem.constants, hp))


def test_a_minibatch_that_d_prime_cannot_fill_is_refused_or_marked():
    problem = tight_deletion.make(KEY, n=20, forgotten=5)
    with pytest.raises(InvalidSetting, match="batch_size = 20"):
        start(r2d.algorithm, problem, setting(r2d.algorithm, batch_size=20))
    for b, fits in ((15, True), (16, False)):
        hp = setting(r2d.algorithm, batch_size=b)
        assert np.all(np.isfinite(start(r2d.algorithm, problem, hp).x)) == fits
        assert bool(r2d.certificate.admits(problem.constants, hp)) == fits
    replaced = setting(r2d.algorithm, batch_size=16, sampling="independent")
    assert bool(r2d.certificate.admits(problem.constants, replaced))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"radius": float("nan")}, "radius"),
        ({"decay": 0.0}, "decay"),
        ({"decay": 1.1}, "decay"),
        ({"batch_size": -1}, "batch_size"),
        ({"sampling": "permutation"}, "fewer minibatches an epoch"),
        ({"sampling": "poisson"}, "sampling"),
        ({"mechanism": "classic"}, "mechanism"),
        ({"p": 1e-5}, "p >= delta"),
        ({"eta": -1.0}, "eta"),
        ({"K": -1.0}, "K"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    for algorithm in (r2d.algorithm, d2d.algorithm):
        with pytest.raises(InvalidSetting, match=message):
            setting(algorithm, **wrong)
    with pytest.raises(InvalidSetting, match="0 <= K <= T"):
        setting(r2d.algorithm, K=T + 1.0)
