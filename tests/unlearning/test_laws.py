"""Full-batch unlearning where it is exact: distances, noise, steps, risk and scores, and what breaks each law."""

from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deletion_curves import curves, misstated
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from algorithms.algorithm import InvalidSetting
from algorithms.audit import RETRAINED_LOSS, RETRAINED_PROJECTION, UNLEARNED_LOSS, UNLEARNED_PROJECTION
from algorithms.deletion import PRIVACY_SPENT, SENSITIVITY, SIGMA, HParams
from algorithms.deletion_risk import NOISE_SQ, PUBLISHED_RISK, RISK
from algorithms.sensitivity import rewinding_steps, source_sensitivity, tightest_sensitivity
from algorithms.unlearning import descent_to_delete, estimated_rewind_to_delete, rewind_to_delete, rewind_to_target
from algorithms.unlearning.estimated_rewind_to_delete import G_SEEN, L_SEEN
from algorithms.unlearning.rewind_to_target import REWINDING_STEPS
from problems.convex import logistic_regression, overparameterised_deletion, tight_deletion
from problems.nonconvex import spiked_deletion, tilted_sine

KEY = jax.random.key(0)
T = 60
REWINDS = np.array([0.0, 1, 10, 30, 59])
R2D, D2D, TARGET = rewind_to_delete.algorithm, descent_to_delete.algorithm, rewind_to_target.algorithm
CURVATURES = (1.0, 0.0, -1.0)


def tight(curvature=1.0, **chosen):
    return tight_deletion.make(KEY, curvature=curvature, **chosen)


@cache
def logistic():
    return jax.jit(lambda key: logistic_regression.make(key, n=60, d=5, l2=0.05))(KEY)


TWO_STEP_SIZES = {"eta": np.repeat([1.0, 5.0], 5), "K": np.tile(REWINDS, 2)}  # on logistic regression


def settings(**chosen):
    return HParams(**{"eta": 0.05, "K": REWINDS, "T": float(T), **chosen})


def share(seen, theorem):
    """Return measured / bound where the theorem claims more than rounding."""
    value, bound = seen[theorem.metric.name], seen["bound"]
    claimed = bound > 1e-12
    return value[claimed] / bound[claimed]


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("chosen", [{}, {"forgotten": 60, "G": 3.0}])
def test_the_distance_is_exactly_the_law_at_every_step_and_rewind(curvature, chosen):
    theorem = rewind_to_delete.attained
    seen = curves(R2D, tight(curvature, **chosen), settings(eta=np.full(5, 0.1)), T + 5, theorem)
    assert np.all(seen["bound"][:, 1:] > 0)
    np.testing.assert_allclose(share(seen, theorem), 1.0, atol=1e-9)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_decay_in_rewound_steps_is_that_of_the_class(curvature):
    eta, T = 0.05, 400 if curvature > 0 else 60
    K = np.linspace(0, 50, 6)
    distance = curves(R2D, tight(curvature), settings(eta=eta, K=K, T=float(T)), T, None, SENSITIVITY)["sensitivity"]
    if curvature > 0:
        slope = np.polyfit(K, np.log(distance[:, -1]), 1)[0]
        assert slope == pytest.approx(np.log1p(-eta), rel=1e-5)  # but for g^T
    elif curvature == 0:
        np.testing.assert_allclose(distance[:, -1] / (T - K), 2 * eta * 10 / 200, rtol=1e-10)
    else:
        np.testing.assert_allclose(distance[:, -1] / (1.05**T - 1.05**K), 2 * 10 / 200, rtol=1e-10)


@pytest.mark.parametrize(("algorithm", "name"), [(R2D, "rewind_to_delete"), (D2D, "descent_to_delete")])
def test_what_a_request_adds_decays_at_least_like_the_contraction(algorithm, name):
    theorem = next(t for t in algorithm.theorems if t.name == f"{name}_contraction")
    for problem, hp in ((tight(), settings()), (logistic(), settings(**TWO_STEP_SIZES))):
        assert np.all(theorem.admits(problem.constants, hp))
        seen = curves(algorithm, problem, hp, 2 * T, theorem)
        assert np.all(share(seen, theorem) <= 1 + 1e-9) and share(seen, theorem).size > 50
    wrong = misstated(tight(), theorem.control)
    assert share(curves(algorithm, wrong, settings(), 2 * T, theorem), theorem).max() > 1.5


def test_descending_against_the_minimiser_is_exact_on_the_tight_instance():
    theorem = descent_to_delete.optimum
    seen = curves(D2D, tight(), settings(), 2 * T, theorem)
    np.testing.assert_allclose(share(seen, theorem), 1.0, atol=1e-9)
    seen = curves(D2D, logistic(), settings(**TWO_STEP_SIZES), 2 * T, theorem)
    assert np.all(share(seen, theorem) <= 1 + 1e-9)
    assert share(curves(D2D, misstated(tight(), theorem.control), settings(), 2 * T, theorem), theorem).max() > 2


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_noise_spends_exactly_delta(curvature):
    theorem = rewind_to_delete.noise_exact
    grid = np.array([(e, d) for e in (0.1, 1.0, 10.0) for d in (1e-10, 1e-5, 0.1)])
    hp = settings(K=10.0, epsilon=grid[:, 0], delta=grid[:, 1])
    assert np.all(theorem.admits(tight(curvature).constants, hp))
    seen = curves(R2D, tight(curvature), hp, T, theorem)
    np.testing.assert_array_equal(seen["bound"][:, -1], grid[:, 1])
    np.testing.assert_allclose(share(seen, theorem), 1.0, atol=theorem.tolerance)


def test_the_spent_delta_is_not_judged_below_rounding():
    hp = HParams(eta=0.5, K=30.0, T=100.0)
    seen = curves(R2D, tight(), hp, 100, rewind_to_delete.noise_exact, SENSITIVITY)
    assert 0 < seen["sensitivity"][0, -1] < 1e-9 and np.isnan(seen["bound"]).all()


@pytest.mark.parametrize(
    ("epsilon", "delta", "scale", "excess"),
    [(10, 1e-10, 0.998, 1.09), (10, 1e-5, 0.969, 2.3), (10, 1e-2, 0.888, 4.1), (10, 0.1, 0.798, 4.1)],
)
def test_the_classic_formula_overspends_by_known_factors(epsilon, delta, scale, excess):
    classic = np.sqrt(2 * np.log(1.25 / delta)) / epsilon
    hp = R2D.prepare(settings(K=10.0, epsilon=float(epsilon), delta=delta))
    assert classic / hp.noise_multiplier == pytest.approx(scale, abs=6e-4)
    hp = replace(hp, noise_scale=classic / hp.noise_multiplier)
    spent = curves(R2D, tight(), hp, T, None, PRIVACY_SPENT)["privacy_spent"][0, -1]
    assert spent / delta == pytest.approx(excess, rel=0.03)


def closed_form(tau, T, g):
    return np.ceil((1 - tau) * T) if g == 1 else np.ceil(np.log(tau + (1 - tau) * g**T) / np.log(g))


@pytest.mark.parametrize(
    ("growth", "shares"),
    [
        (0.1, (0.51, 0.90, 0.99)),
        (1, (0.62, 0.93, 0.994)),
        (5, (0.86, 0.98, 0.998)),
        (20, (0.965, 0.995, 0.9995)),
    ],
)
def test_rewinding_a_nonconvex_loss_takes_the_tabulated_share_of_learning(growth, shares):
    T, problem = 100_000, tight(-1.0)
    for tau, expected in zip((0.5, 0.1, 0.01), shares, strict=True):
        hp = rewind_to_target.HParams(eta=growth / T, tau=tau, T=T)
        steps, _ = rewind_to_target.steps_to_target(problem, hp)
        assert steps / T == pytest.approx(expected, abs=0.006 if growth <= 5 else 0.0006)
        assert abs(steps - closed_form(tau, T, 1 + growth / T)) <= 1


@partial(jax.jit, static_argnums=0)
def least_steps(curvature, eta, T, tau):
    """Return K(target), the target, and the sensitivities after K and K - 1 steps."""

    def sensitivity(learned, unlearned):
        return tightest_sensitivity(tight(curvature), HParams(eta=eta), learned, unlearned)

    target = tau * sensitivity(T, 0.0)
    K = rewinding_steps(sensitivity, T, target)
    return K, target, sensitivity(T - K, K), sensitivity(T - K + 1, K - 1)


@given(
    curvature=st.sampled_from(CURVATURES),
    eta=st.floats(1e-3, 0.9),
    T=st.integers(0, 300),
    tau=st.sampled_from([0.0, 0.003, 0.1, 0.5, 1.0]),
)
def test_no_fewer_steps_reach_a_target(curvature, eta, T, tau):
    K, target, reached, before = least_steps(curvature, eta, float(T), tau)
    assert 0 <= K <= T and reached <= target
    assert K == 0 or before > target
    if 0 < tau < 1 and T > 0:
        assert abs(K - closed_form(tau, T, 1 - eta * curvature)) <= 1


def test_in_a_strongly_convex_loss_the_steps_do_not_depend_on_learning():
    T = np.array([200.0, 1000.0, 10_000.0])
    hp = rewind_to_target.HParams(eta=np.full(3, 0.05), tau=0.01, T=T)
    steps = [rewind_to_target.steps_to_target(tight(), jax.tree.map(lambda a, i=i: np.ravel(a)[i % np.size(a)], hp))[0]
             for i in range(3)]  # fmt: skip
    assert steps == [90, 90, 90] == [closed_form(0.01, 1e6, 0.95)] * 3
    assert rewind_to_target.steps_whatever_T(0.0, tight().constants, rewind_to_target.HParams(eta=0.05, tau=0.01)) == 90


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_target_is_reached_and_missed_with_one_step_fewer(curvature):
    tau = np.array([0.1, 0.3, 0.5])
    hp = rewind_to_target.HParams(eta=0.05, tau=tau, T=float(T))
    enough = curves(TARGET, tight(curvature), hp, T, rewind_to_target.reached, PRIVACY_SPENT, REWINDING_STEPS)
    assert np.all(share(enough, rewind_to_target.reached) <= 1 + 1e-9)
    assert np.all(enough["privacy_spent"][:, -1] <= 1e-5) and np.all(enough["privacy_spent"][:, -1] > 1e-12)
    np.testing.assert_array_equal(
        enough["rewinding_steps"][:, 0], [closed_form(s, T, 1 - 0.05 * curvature) for s in tau]
    )
    hp = replace(hp, skipped=1)
    fewer = curves(TARGET, tight(curvature), hp, T, rewind_to_target.reached, PRIVACY_SPENT, REWINDING_STEPS)
    assert np.all(share(fewer, rewind_to_target.reached) > 1 + 1e-6)
    assert np.all(fewer["privacy_spent"][:, -1] > 1e-5)
    assert not np.any(rewind_to_target.certificate.admits(tight().constants, hp))


@pytest.mark.parametrize("setting", [{"tau": -0.1}, {"tau": 1.5}, {"tau": float("nan")}, {"skipped": -1}, {"eta": 0.0}])
def test_targets_without_meaning_are_refused(setting):
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        TARGET.prepare(rewind_to_target.HParams(**{"eta": 0.1, **setting}))


def test_the_risk_bound_is_attained_by_learning_to_the_end_on_the_tight_instance():
    theorem = rewind_to_delete.risk
    seen = curves(R2D, tight(), settings(eta=0.05, T=500.0, K=np.array([0.0, 5, 20])), 500, theorem)
    ends = (seen["risk"] / seen["bound"])[:, -1]
    np.testing.assert_allclose(ends, 0.95 ** np.array([0, 5, 20]), rtol=1e-6)  # values contract with g^2


@pytest.mark.parametrize("module", [overparameterised_deletion, tilted_sine])
def test_the_risk_bound_holds_without_strong_convexity(module):
    theorem = rewind_to_delete.risk
    make = jax.jit(module.make)
    for seed in range(4):
        problem = make(jax.random.key(seed))
        hp = settings(eta=np.repeat([0.3, 1.0], 5) / problem.constants.L_max, K=np.tile(REWINDS, 2))
        assert np.all(theorem.admits(problem.constants, hp))
        seen = curves(R2D, problem, hp, T, theorem, seed=seed)
        assert np.all(share(seen, theorem) <= 1 + 1e-9) and np.isfinite(seen["bound"]).all()


def test_the_risk_bound_needs_the_gradient_bound():
    theorem = rewind_to_delete.risk
    seen = curves(R2D, misstated(tight(), theorem.control), settings(T=200.0, K=0.0), 200, theorem)
    assert share(seen, theorem).max() > 50


def test_publishing_costs_half_L_sigma_squared_a_parameter():
    trials = 4000
    hp = settings(eta=0.05, K=np.full(trials, 20.0))
    seen = curves(R2D, tight(), hp, T, None, RISK, PUBLISHED_RISK, NOISE_SQ)
    risk, published, noise = (seen[name][:, -1] for name in ("risk", "published_risk", "noise_sq"))
    excess = published - risk
    assert abs(excess.mean() - noise[0] / 2) <= 4 * excess.std() / trials**0.5
    assert NOISE_SQ.measure(tight(), jnp.zeros(5), SimpleNamespace(sigma=2.0)) == 20


def test_the_published_risk_is_bounded_in_the_mean_and_only_with_the_right_gradients():
    theorem = rewind_to_delete.published_risk
    hp = settings(K=np.full(400, 0.0), T=200.0)
    for problem, holds in ((tight(), True), (misstated(tight(), theorem.control), False)):
        seen = curves(R2D, problem, hp, 200, theorem)
        ratio = (seen["published_risk"] / seen["bound"])[:, -1]
        error = ratio.std() / len(ratio) ** 0.5
        assert ratio.mean() - 5 * error <= 1 if holds else ratio.mean() - 5 * error > 1


SCORES = (UNLEARNED_PROJECTION, RETRAINED_PROJECTION, UNLEARNED_LOSS, RETRAINED_LOSS)
TRIALS = 20_000


@cache
def scores_of(noise_scale=1.0, curvature=1.0):
    """Return the scores of many trials at the end, and |u - v| and sigma."""
    hp = HParams(eta=0.05, K=np.full(TRIALS, 5.0), T=20.0, epsilon=1.0, delta=0.01, noise_scale=noise_scale)
    seen = curves(R2D, tight(curvature), hp, 20, None, *SCORES, SENSITIVITY, SIGMA)
    return {name: values[:, -1] for name, values in seen.items()}


@pytest.mark.parametrize("curvature", [1.0, -1.0])
def test_scores_are_two_normals_as_far_apart_as_the_models(curvature):
    seen = scores_of(curvature=curvature)
    s = seen["sensitivity"][0] / seen["sigma"][0]
    middle = seen["retrained_projection"].mean()
    unlearned, retrained = (
        (seen[f"{which}_projection"] - middle) / seen["sigma"] for which in ("unlearned", "retrained")
    )
    assert stats.kstest(unlearned - s, "norm").pvalue > 1e-3
    assert stats.kstest(retrained, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(unlearned, retrained)[0, 1]) < 5 / TRIALS**0.5  # noises of their own
    losses = np.concatenate([seen["unlearned_loss"], seen["retrained_loss"]])
    projections = np.concatenate([seen["unlearned_projection"], seen["retrained_projection"]])
    np.testing.assert_allclose(losses, 2 * projections, rtol=1e-9, atol=1e-12)  # linear: 2 G of it


def told_apart(seen, score, threshold, delta=0.01):
    """Return log((P(unlearned > threshold) - delta)/P(retrained > threshold)), the epsilon that one event shows."""
    hit, alarm = ((seen[f"{which}_{score}"] > threshold).mean() for which in ("unlearned", "retrained"))
    return np.log((hit - delta) / alarm)


@pytest.mark.parametrize("score", ["projection", "loss"])
def test_scores_reveal_epsilon_and_more_with_half_the_noise(score):
    for noise_scale, most, least in ((1.0, 1.0, 0.8), (0.5, 2.53, 1.9)):
        seen = scores_of(noise_scale)
        thresholds = np.quantile(seen[f"retrained_{score}"], np.linspace(0.5, 0.98, 25))
        shown = max(told_apart(seen, score, threshold) for threshold in thresholds)
        assert least < shown < most + 0.15  # 0.15: the largest of 25 estimates from 400 and more alarms


def test_audits_are_claimed_where_the_certificate_is_and_noise_is_left():
    for theorem in (rewind_to_delete.audit, rewind_to_delete.black_box_audit):
        c = tight().constants
        admitted = theorem.admits(c, settings(K=np.array([0.0, 30, 60]), noise_scale=np.array([1.0, 0.5, 1.0])))
        np.testing.assert_array_equal(admitted, [True, False, False])
        bounds = [theorem.bound(t, c, settings(K=5.0, epsilon=2.0)) for t in (T - 1.0, float(T))]
        np.testing.assert_array_equal(bounds, [np.nan, 2.0])


def test_scores_of_a_regularised_loss_are_free_of_the_regulariser():
    problem, x = logistic(), jnp.full(5, 2.0)
    margins = problem.data.design.A @ x
    loss, kept = np.logaddexp(0, -margins), np.asarray(problem.data.kept)
    expected = loss[kept > 0].mean() - loss[kept == 0].mean()
    assert UNLEARNED_LOSS.measure(problem, x, None) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_noise_grows_with_the_forgotten_and_falls_with_the_records_and_the_rewind(curvature):
    def sigma(**chosen):
        return curves(R2D, tight(curvature, **chosen), settings(), 0, None, SIGMA)["sigma"][:, 0]

    one = sigma(n=200, forgotten=1)
    np.testing.assert_allclose(sigma(n=200, forgotten=7), 7 * one, rtol=1e-12)
    np.testing.assert_allclose(sigma(n=1000, forgotten=1), one / 5, rtol=1e-12)
    assert np.all(np.diff(one) < 0)  # in K


def test_the_source_form_grows_slightly_more_than_linearly_with_the_forgotten():
    hp = settings(eta=0.02, K=20.0)
    per_record = [source_sensitivity(tight(-1.0, n=200, forgotten=m).constants, hp) / m for m in (1, 2, 5, 10, 20)]
    assert np.all(np.diff(per_record) > 0) and per_record[-1] < 1.2 * per_record[0]


ESTIMATED = estimated_rewind_to_delete.algorithm


@pytest.mark.parametrize(
    ("d", "seen_share", "least", "most"), [(1, 1.0, 0.40, 0.42), (10, 0.758, 2, 8), (100, 0.273, 100, 400)]
)
def test_estimated_constants_miss_a_steep_direction(d, seen_share, least, most):
    hp = estimated_rewind_to_delete.HParams(eta=0.05, K=np.full(60, 100.0), T=200.0, batch_size=1)
    theorem = estimated_rewind_to_delete.falls_short
    problem = spiked_deletion.make(KEY, d=d)
    seen = curves(ESTIMATED, problem, hp, 200, theorem, L_SEEN, G_SEEN, SENSITIVITY, PRIVACY_SPENT)
    L, G, distance, estimate, spent = (
        seen[name][:, -1] for name in ("L_seen", "G_seen", "sensitivity", "estimated_sensitivity", "privacy_spent")
    )
    assert np.median(L) == pytest.approx(seen_share, abs=0.04) and np.all(L <= 1 + 1e-9)
    assert np.median(G) == pytest.approx(1.9, rel=1e-9)  # a forgotten record at the saddle: |-G - G (n - 2m)/n|
    law = rewind_to_delete.attained.bound(200.0, problem.constants, hp)
    np.testing.assert_allclose(distance, law, rtol=1e-9)
    assert least < np.median(distance / estimate) < most  # in one dimension there is enough noise
    assert np.median(spent) > 1000 * 1e-5 if d > 1 else np.median(spent) < 1e-5
    assert np.all(theorem.admits(problem.constants, hp)) == (d > 1)
    assert np.isnan(seen["bound"][:, :200]).all()


@pytest.mark.parametrize(("setting", "message"), [({"K": 201.0}, "K <= T"), ({"batch_size": 0}, "batch_size")])
def test_estimating_from_nothing_is_refused(setting, message):
    with pytest.raises(InvalidSetting, match=message):
        ESTIMATED.prepare(estimated_rewind_to_delete.HParams(**{"eta": 0.1, "K": 1.0, "T": 200.0, **setting}))
