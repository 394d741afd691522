"""Uncertified unlearning: what a baseline is without its extras, and what its steps are where they can be computed."""

from dataclasses import fields, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from algorithms import tuning
from algorithms.algorithm import InvalidSetting
from algorithms.deletion import HParams as DeletionHParams
from algorithms.unlearning import descent_to_delete, fine_tuning, influence_newton, negative_gradient_plus, scrub
from problems.convex import logistic_regression, tight_deletion
from problems.oracles import Oracle
from problems.records import kept_mask

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
T, K = 30, 12
BASELINES = (fine_tuning, negative_gradient_plus, scrub, influence_newton)


def two_classes(data, x):
    """Return the scores of `right` and `wrong`: the margin against 0."""
    return jnp.stack([data.design.A @ x, jnp.zeros(len(data.weight))], axis=1)


@cache
def logistic():
    """Return logistic regression whose scores may be asked for."""
    problem = once(lambda key: logistic_regression.make(key, n=60, d=5, l2=0.01))(KEY)
    return replace(problem, family=replace(problem.family, scores=two_classes))


def setting(method, **chosen):
    known = {field.name for field in fields(method.HParams)}
    usual = {"eta": 1.0, "eta_tune": 0.5, "K": float(K), "T": float(T)}
    return method.algorithm.prepare(method.HParams(**{k: v for k, v in usual.items() if k in known} | chosen))


@partial(once, static_argnums=(0, 3))
def run(method, problem, hp, steps=T + K + 5):
    """Return the states before every step, the last one included, along the first axis."""

    def record(state, t):
        return method.step(problem, state, jax.random.fold_in(KEY, t), hp), state

    start = method.init(problem, problem.init(KEY), KEY, hp)
    return jax.lax.scan(record, start, jnp.arange(steps + 1))[1]


@cache
def tight():
    return once(lambda key: tight_deletion.make(key, curvature=1.0))(KEY)


@pytest.mark.parametrize("method", BASELINES)
def test_a_run_learns_on_all_tunes_and_stands_still_beside_retraining(method):
    problem = logistic()
    states = run(method, problem, setting(method))
    w, v = (once(lambda on: jax.lax.fori_loop(0, T, lambda _, x: x - on.grad(x), on.init(KEY)))(on)
            for on in (problem, problem.retained()))  # fmt: skip
    np.testing.assert_allclose(states.x[T], w, rtol=1e-12)
    np.testing.assert_allclose(states.learned[-1], w, rtol=1e-12)
    np.testing.assert_allclose(states.retrained[-1], v, rtol=1e-12)
    assert np.ptp(states.x[T : T + K + 1], axis=0).max() > 0
    assert np.ptp(states.x[T + K :], axis=0).max() == 0


@pytest.mark.parametrize("method", BASELINES)
def test_no_tuning_step_is_the_original(method):
    states = run(method, logistic(), setting(method, K=0.0))
    assert np.array_equal(states.x[-1], states.learned[-1])
    assert np.array_equal(states.x[-1], states.x[T])


@pytest.mark.parametrize(
    ("method", "neutral"),
    [(negative_gradient_plus, {"ascent": 0.0}), (scrub, {"ascents": 0, "alpha": 0.0, "gamma": 1.0})],
)
def test_without_its_extras_a_baseline_is_fine_tuning(method, neutral):
    problem = logistic()
    plain = run(fine_tuning, problem, setting(fine_tuning))
    np.testing.assert_allclose(run(method, problem, setting(method, **neutral)).x, plain.x, rtol=1e-12)
    assert np.max(np.abs(run(method, problem, setting(method)).x - plain.x)) > 1e-4


def test_fine_tuning_is_descent_to_delete_where_all_retained_records_agree():
    problem = tight()
    tuned = run(fine_tuning, problem, setting(fine_tuning, eta=0.1, eta_tune=0.1, batch_size=3)).x[-1]
    hp = descent_to_delete.algorithm.prepare(DeletionHParams(eta=0.1, K=float(K), T=float(T)))
    np.testing.assert_allclose(tuned, run(descent_to_delete, problem, hp).x[-1], rtol=1e-12)


def test_negative_gradient_plus_solves_the_difference_of_the_two_losses():
    problem = tight()
    hp = setting(negative_gradient_plus, eta=0.1, eta_tune=0.1, ascent=0.5, K=600.0)
    states = run(negative_gradient_plus, problem, hp, steps=T + 600)
    np.testing.assert_allclose(states.x[-1], -3.0, rtol=1e-9)  # x + G - 0.5 (x - G) = 0


def newton_step(problem, w, damping):
    """Return w - (H + damping I)^{-1} g of the retained records, by dense linear algebra."""
    retained = problem.retained()
    H = jax.hessian(retained.value)(w) + damping * jnp.eye(len(w))
    return w - jnp.linalg.solve(H, retained.grad(w))


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_conjugate_gradients_take_the_newton_step_in_as_many_steps_as_dimensions(damping):
    problem = logistic()
    states = run(influence_newton, problem, setting(influence_newton, damping=damping))
    expected = newton_step(problem, states.learned[-1], damping)
    np.testing.assert_allclose(states.x[T + 5], expected, rtol=1e-7)
    np.testing.assert_allclose(states.x[-1], expected, rtol=1e-10)
    assert np.max(np.abs(states.x[T + 1] - expected)) > 1e-5


def test_on_a_quadratic_the_newton_step_is_the_minimiser_of_the_retained_records():
    states = run(influence_newton, tight(), setting(influence_newton, eta=0.1))
    np.testing.assert_allclose(states.x[T + 1 :], -1.0, rtol=1e-12)


def test_without_positive_curvature_there_is_no_newton_step():
    problem = once(lambda key: tight_deletion.make(key, curvature=-1.0))(KEY)
    states = run(influence_newton, problem, setting(influence_newton, eta=0.1))
    assert np.array_equal(states.x[-1], states.learned[-1])


@pytest.mark.parametrize(("draw", "kept"), [(tuning.retained_rows, 1.0), (tuning.forgotten_rows, 0.0)])
def test_minibatches_hold_only_records_of_their_side_and_all_of_them(draw, kept):
    problem = tight_deletion.make(KEY, n=12, forgotten=4)
    labelled = replace(problem, data=replace(problem.data, c=jnp.arange(12.0)))
    drawn = draw(labelled, KEY, 500).data
    assert np.all(drawn.kept == kept)
    assert set(np.asarray(drawn.c)) == set(np.flatnonzero(kept_mask(12, 4) == kept))
    np.testing.assert_allclose(drawn.weight, 1 / 500)


def test_divergence_is_the_mean_relative_entropy_at_a_temperature():
    problem = logistic()
    w, u = jnp.ones(5), jnp.arange(5.0)
    p, q = (softmax(np.asarray(problem.scores(x)) / 4.0, axis=1) for x in (w, u))
    expected = 16.0 * rel_entr(p, q).sum(axis=1).mean()
    np.testing.assert_allclose(scrub.divergence(problem, w, u, jnp.asarray(4.0)), expected, rtol=1e-10)
    assert scrub.divergence(problem, w, w, jnp.asarray(4.0)) == 0


def test_scrub_climbs_on_even_steps_only_and_not_at_all_from_its_teacher():
    problem = logistic()
    hp = setting(scrub, ascents=3, gamma=0.0, alpha=1.0, eta_tune=0.1, batch_size=200)
    start = tuning.State(
        x=problem.init(KEY), learned=jnp.zeros(5), retrained=jnp.zeros(5), t=jnp.asarray(T), start_gradient=jnp.ones(())
    )

    @once
    def divergences(t, x):
        state = scrub.step(problem, replace(start, t=t, x=x), KEY, hp)
        return [scrub.divergence(side, start.learned, y, hp.temperature)
                for side in (tuning.forgotten_rows(problem, jax.random.fold_in(KEY, 1), 200),
                             tuning.retained_rows(problem, KEY, 200))
                for y in (x, state.x)]  # fmt: skip

    for t in range(T, T + 8):
        forgotten_before, forgotten_after, retained_before, retained_after = divergences(t, start.x)
        if t in (T, T + 2, T + 4):
            assert forgotten_after > forgotten_before
        else:
            assert retained_after < retained_before
    assert np.all(np.asarray(divergences(T, start.learned)) == 0)


def test_a_family_without_scores_does_not_offer_them():
    assert Oracle.SCORES in logistic().family.oracles
    assert Oracle.SCORES not in tight_deletion.make(KEY).family.oracles


@pytest.mark.parametrize(
    ("method", "wrong", "said"),
    [
        (fine_tuning, {"eta_tune": 0.0}, "eta_tune = 0"),
        (fine_tuning, {"eta": -1.0}, "eta = -1"),
        (fine_tuning, {"batch_size": 0}, "batch_size = 0"),
        (fine_tuning, {"K": 1.5}, "K = 1.5"),
        (negative_gradient_plus, {"ascent": -0.1}, "ascent = -0.1"),
        (scrub, {"temperature": 0.0}, "temperature = 0"),
        (scrub, {"alpha": -1.0}, "alpha = -1"),
        (scrub, {"ascents": -1}, "ascents = -1"),
        (influence_newton, {"damping": -1.0}, "damping = -1"),
        (influence_newton, {"K": -1.0}, "K = -1"),
    ],
)
def test_impossible_settings_are_refused(method, wrong, said):
    with pytest.raises(InvalidSetting, match=said):
        setting(method, **wrong)


def test_metrics_compare_with_retraining_and_with_the_original():
    problem = logistic()
    states = run(negative_gradient_plus, problem, setting(negative_gradient_plus))
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    measured = {metric.name: metric.measure(problem, last.x, last) for metric in tuning.METRICS}
    forgotten = problem.forgotten()
    np.testing.assert_allclose(measured["distance_to_retrained"], jnp.linalg.norm(last.x - last.retrained))
    np.testing.assert_allclose(measured["original_distance"], jnp.linalg.norm(last.learned - last.retrained))
    np.testing.assert_allclose(
        measured["forgotten_gap"], abs(forgotten.value(last.x) - forgotten.value(last.retrained))
    )
