"""Rewinding and descending in one lane: points as of the single methods, findings that are seen and can fail."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.deletion import HParams as DeletionHParams
from algorithms.unlearning import descent_to_delete, rewind_or_descend, rewind_to_delete
from algorithms.unlearning.rewind_or_descend import (
    BETWEEN,
    DESCENDED,
    ORIGINAL,
    ORIGINAL_GAP,
    REWOUND,
    REWOUND_GAP,
    HParams,
    algorithm,
)
from problems.constants import Constants
from problems.convex import logistic_regression, tight_deletion
from problems.nonconvex import double_well, robust_regression

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
T = 40
SHARES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])


def logistic(key, l2=0.0):
    return logistic_regression.make(key, n=60, d=5, l2=l2)


def robust(key):
    return robust_regression.make(key, n=60, d=5)


@cache
def made(make):
    """Return an instance and its start."""
    return once(lambda key: ((problem := make(key)), problem.init(key)))(KEY)


@partial(once, static_argnums=0)
def advanced(method, problem, hp, x0, steps):
    """Return the state of a method after `steps` steps (traced)."""
    start = method.init(problem, x0, KEY, hp)
    return jax.lax.fori_loop(0, steps, lambda _, state: method.step(problem, state, KEY, hp), start)


def ending(problem, hp, x0):
    """Return the state when all four points stand still."""
    return advanced(rewind_or_descend, problem, algorithm.prepare(hp), x0, 2 * T + 3)


def measured(make, eta, shares=SHARES, steps=T, seeds=11):
    """Return every metric and bound at the end, (seed, share of K in T), on an instance a seed."""

    def lane(key, K):
        problem = make(key)
        hp = HParams(eta=eta / problem.constants.L_max, K=K, T=float(steps))
        state = algorithm.init(problem, problem.init(key), key, hp)
        state = jax.lax.fori_loop(0, 2 * steps, lambda _, s: algorithm.step(problem, s, key, hp), state)
        metrics = {m.name: m.measure(problem, state.x, state) for m in algorithm.metrics}
        bounds = {}
        for theorem in algorithm.theorems:
            if theorem.assumes in problem.family.regularity:
                given = [metric.measure(problem, state.x, state) for metric in theorem.given]
                bound = theorem.bound(2.0 * steps, problem.constants, hp, *given)
                bounds[theorem.name] = jnp.where(theorem.admits(problem.constants, hp), bound, jnp.nan)
        return metrics, bounds

    keys, Ks = jax.random.split(KEY, seeds), jnp.round(jnp.asarray(shares) * steps)
    return jax.tree.map(np.asarray, once(jax.vmap(jax.vmap(lane, (None, 0)), (0, None)))(keys, Ks))


@pytest.mark.parametrize("K", [0.0, 1.0, 15.0, 40.0])
def test_the_points_are_those_of_the_single_methods(K):
    problem, x0 = made(logistic)
    eta = 1 / problem.constants.L_max
    state = ending(problem, HParams(eta=eta, K=K, T=float(T)), x0)
    for method, field in ((rewind_to_delete, "x"), (descent_to_delete, "descended")):
        hp = method.algorithm.prepare(DeletionHParams(eta=eta, K=K, T=float(T)))
        single = advanced(method, problem, hp, x0, 2 * T)
        np.testing.assert_allclose(getattr(state, field), single.x, rtol=1e-12)
        np.testing.assert_allclose(state.retrained, single.retrained, rtol=1e-12)
    x = once(lambda: jax.lax.fori_loop(0, T, lambda _, x: x - eta * problem.grad(x), x0))()
    np.testing.assert_allclose(state.original, x, rtol=1e-12)


def test_no_step_is_the_original_and_all_steps_are_retraining():
    problem, x0 = made(robust)
    eta = 1 / problem.constants.L_max
    none = ending(problem, HParams(eta=eta, K=0.0, T=float(T)), x0)
    assert jnp.array_equal(none.x, none.original)
    assert jnp.array_equal(none.descended, none.original)
    whole = ending(problem, HParams(eta=eta, K=float(T), T=float(T)), x0)
    np.testing.assert_allclose(whole.x, whole.retrained, rtol=1e-14)
    assert DESCENDED.measure(problem, whole.x, whole) > 1e-3


@pytest.mark.parametrize("K", [1.0, 10.0, 40.0])
def test_how_close_rewinding_is_to_descending_is_exact_in_one_dimension(K):
    problem, hp = made(tight_deletion.make)[0], HParams(eta=0.05, K=K, T=float(T))
    state = ending(problem, hp, jnp.full(1, 3.0))
    bound = rewind_or_descend.close.bound(2.0 * T, problem.constants, hp, state.start_gradient)
    np.testing.assert_allclose(BETWEEN.measure(problem, state.x, state), bound, rtol=1e-9)
    closed_form = 0.95**T * (1 - 0.95**K) * state.start_gradient
    np.testing.assert_allclose(bound, closed_form, rtol=1e-12)
    wrong = replace(problem.constants, mu_min=2 * problem.constants.mu_min)
    assert bound > 2 * rewind_or_descend.close.bound(2.0 * T, wrong, hp, state.start_gradient)


def test_nothing_is_claimed_before_both_have_unlearned():
    hp = HParams(eta=0.05, K=10.0, T=float(T))
    constants = replace(made(tight_deletion.make)[0].constants, basins=jnp.ones(()))
    for theorem in algorithm.theorems:
        given = [jnp.ones(())] * len(theorem.given)
        assert jnp.isnan(theorem.bound(T + 9.0, constants, hp, *given)), theorem.name
        assert jnp.isfinite(theorem.bound(T + 10.0, constants, hp, *given)), theorem.name


@pytest.mark.parametrize("eta", [1e-3, 0.3, 1.5])
@pytest.mark.parametrize("mu", [1e-4, 0.1, 0.3])
@pytest.mark.parametrize(("K", "steps"), [(0, 1), (1, 100), (60, 100), (100, 100), (5, 2000)])
def test_rewinding_never_has_the_larger_proven_bound(eta, mu, K, steps):
    c = Constants(L_max=1.0, mu_min=mu, G=1.0, n=200.0, forgotten=10.0)
    hp = DeletionHParams(eta=eta, K=float(K), T=float(steps))
    rewound = rewind_to_delete.strongly_convex.bound(float(steps), c, hp)
    descended = descent_to_delete.sensitivity(hp.K, c, hp, 2.0)
    g, a = 1 - eta * mu, 2 * eta * 10 / 200
    S = (1 - g**K) / (eta * mu)
    assert rewound <= descended
    np.testing.assert_allclose(descended - rewound, g**steps * S * (a + eta * 2.0), rtol=1e-9, atol=1e-12 * descended)


@pytest.mark.parametrize("make", [logistic, robust])
def test_outside_strong_convexity_rewinding_approaches_and_descending_does_not(make):
    metrics, bounds = measured(make, eta=0.5)
    original, rewound, descended = (metrics[m.name] for m in (ORIGINAL, REWOUND, DESCENDED))
    ratio = np.median(rewound / original, axis=0)
    assert np.all(np.diff(ratio) < 0)
    assert ratio[-1] < 0.2
    assert np.median(descended / original, axis=0)[-1] > 1.5
    for metric, theorem in (
        (REWOUND, rewind_or_descend.approaches),
        (ORIGINAL, rewind_or_descend.stays_away),
        (REWOUND, rewind_or_descend.no_farther),
        (REWOUND_GAP, rewind_or_descend.forgets),
    ):
        bound = bounds[theorem.name]
        judged = ~np.isnan(bound).any(axis=0)
        assert judged.sum() == (1 if theorem is rewind_or_descend.stays_away else len(SHARES)), theorem.name
        assert np.all(np.median(metrics[metric.name] / bound, axis=0)[judged] <= 1), theorem.name
    assert np.all(metrics[REWOUND_GAP.name][:, -1] <= metrics[ORIGINAL_GAP.name][:, -1])


def test_in_strongly_convex_problems_both_approach_and_rewinding_is_nearer_for_long_rewinds():
    metrics, bounds = measured(lambda key: logistic(key, l2=0.03), eta=1.0, steps=30)
    original, rewound, descended = (metrics[m.name] for m in (ORIGINAL, REWOUND, DESCENDED))
    assert np.all(descended[:, -1] < 0.1 * original[:, -1])
    assert np.all(np.isnan(bounds["descending_does_not_approach"]))
    assert np.all(rewound[:, -2:] < descended[:, -2:])
    assert np.all(metrics[BETWEEN.name] <= bounds["rewinding_is_as_close_in_strongly_convex"] * (1 + 1e-9) + 1e-13)


def test_on_a_concave_loss_rewinding_keeps_more_than_the_arc_allows():
    metrics, bounds = measured(lambda key: tight_deletion.make(key, curvature=-1.0), eta=0.1, steps=100, seeds=2)
    assert all(np.all(np.isnan(bounds[name])) for name in ("rewinding_approaches_retraining",))
    share = metrics[REWOUND.name] / metrics[ORIGINAL.name]
    assert np.all(share[:, 3] > 1.2 * np.sqrt(1 - SHARES[3] ** 2))


def test_where_descending_crosses_the_retrained_point_it_can_be_the_nearer_one():
    metrics, _ = measured(lambda key: tight_deletion.make(key, curvature=1.0), eta=0.02, steps=100, seeds=2)
    assert np.all(metrics[REWOUND.name][:, 1] > 10 * metrics[DESCENDED.name][:, 1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"K": 41.0}, "K = 41"),
        ({"K": -1.0}, "K = -1"),
        ({"K": 0.5}, "K = 0.5"),
        ({"eta": 0.0}, "eta = 0"),
        ({"eta": np.nan}, "eta = nan"),
        ({"T": 2.5}, "T = 2.5"),
    ],
)
def test_impossible_settings_are_refused(wrong, said):
    with pytest.raises(InvalidSetting, match=said):
        algorithm.prepare(HParams(**{"eta": 0.1, "K": 10.0, "T": float(T), **wrong}))


def test_findings_leave_out_what_they_do_not_speak_of():
    hp = HParams(eta=0.1, K=36.0, T=float(T))
    plain = Constants(L_max=1.0, dimension=5.0)
    for theorem in (rewind_or_descend.approaches, rewind_or_descend.no_farther, rewind_or_descend.forgets):
        assert theorem.admits(plain, hp)
        assert not theorem.admits(replace(plain, basins=2.0), hp)
        assert not theorem.admits(replace(plain, spread=1.0), hp)
        assert not theorem.admits(replace(plain, dimension=1.0), hp)
        assert theorem.admits(replace(plain, dimension=None), hp)
        assert not theorem.admits(plain, replace(hp, K=0.0))
    admits = rewind_or_descend.stays_away.admits
    assert admits(plain, hp)
    assert not admits(plain, replace(hp, K=35.0))
    assert not admits(plain, replace(hp, eta=1.0))
    assert not admits(replace(plain, mu_min=0.1), hp)
    assert not admits(replace(plain, dimension=None), hp)
    assert admits(replace(plain, L_max=None), hp)
    assert not admits(replace(plain, L_max=None), replace(hp, eta=1.0))


def test_rewinding_stays_in_the_basin_until_it_reaches_the_start():
    metrics, bounds = measured(double_well.make, eta=0.5, shares=np.array([0.1, 0.5, 0.9, 1.0]), steps=100, seeds=5)
    rewound, basin = metrics[REWOUND.name], bounds["basin_chosen_before_rewinding"]
    np.testing.assert_allclose(rewound[:, :3], basin[:, :3], rtol=0.05)
    assert np.all(np.isnan(basin[:, 3]))
    assert np.all(rewound[:, 3] < 1e-12)
    np.testing.assert_allclose(metrics[DESCENDED.name], basin[0, 0], rtol=0.05)
    assert np.all(np.isnan(bounds["rewinding_approaches_retraining"]))


@pytest.mark.parametrize("wrong", [{"K": 91.0}, {"eta": 1.1}, {"eta": 0.4}])
def test_the_law_of_basins_leaves_out_what_it_does_not_speak_of(wrong):
    constants, hp = made(double_well.make)[0].constants, HParams(eta=0.5, K=90.0, T=100.0)
    assert rewind_or_descend.basin.admits(constants, hp)
    assert not rewind_or_descend.basin.admits(constants, replace(hp, **wrong))
    assert not rewind_or_descend.basin.admits(replace(constants, forgotten=40.0), hp)
