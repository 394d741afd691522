"""Audits: lower bounds that are calibrated and tell, from any direction, whatever the scores are; verdicts on them."""

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import beta
from sklearn.metrics import roc_auc_score
from synthetic import group, theorem

from results.audit import auc, audit_p_value, epsilon_lower_bound, p_value, tpr_at_fpr
from results.audit_table import audit_table, gaussian_epsilon
from results.audited import audits
from results.verdicts import verdicts

DELTA = 0.01
AUDITED = theorem(name="audit", holds="audited", metric="unlearned_score", against="retrained_score")


def gaussian_delta(epsilon, s):
    return ndtr(s / 2 - epsilon / s) - np.exp(epsilon) * ndtr(-s / 2 - epsilon / s)


def distance_of(epsilon, delta=DELTA):
    return brentq(lambda s: gaussian_delta(epsilon, s) - delta, 1e-3, 20)


EXACT = distance_of(1.0)


def pair(rng, trials, distance=EXACT):
    return distance + rng.normal(size=trials), rng.normal(size=trials)


def bounds(trials, distance=EXACT, repeats=40, key=0):
    rng = np.random.default_rng(key)
    return np.array([epsilon_lower_bound(*pair(rng, trials, distance), DELTA).lower_bound for _ in range(repeats)])


@pytest.mark.parametrize("confidence", [0.95, 0.7])
def test_of_a_pair_exactly_at_epsilon_the_bound_exceeds_it_at_most_at_its_level(confidence):
    rng, repeats = np.random.default_rng(1), 300
    found = [epsilon_lower_bound(*pair(rng, 2000), DELTA, confidence).lower_bound for _ in range(repeats)]
    level = 1 - confidence
    assert np.mean(np.array(found) > 1) <= level + 2.5 * np.sqrt(level * (1 - level) / repeats)
    assert np.median(found) > 0.35  # it is not calibrated by saying nothing


def test_p_values_of_a_true_promise_are_at_most_uniform_and_of_a_broken_one_small():
    rng, repeats = np.random.default_rng(2), 200
    null = np.array([audit_p_value(*pair(rng, 2000), 1.0, DELTA) for _ in range(repeats)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(null <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / repeats)
    assert audit_p_value(*pair(rng, 40000, EXACT / 0.5), 1.0, DELTA) < 1e-6


@pytest.mark.parametrize(("trials", "median"), [(1000, 0.206), (4000, 0.579), (16000, 0.744)])
def test_more_trials_come_nearer_to_the_true_epsilon(trials, median):
    assert np.median(bounds(trials, repeats=150)) == pytest.approx(median, abs=0.1)


@pytest.mark.parametrize(("noise", "median"), [(0.8, 1.15), (0.5, 2.14), (0.25, 4.84)])
def test_too_little_noise_is_found_by_every_audit(noise, median):
    found = bounds(40000, EXACT / noise, repeats=8)
    assert found.min() > 1
    assert np.median(found) == pytest.approx(median, rel=0.1)


def test_the_bound_is_that_of_clopper_and_pearson_on_the_second_half():
    a, b = pair(np.random.default_rng(3), 5000, 2.0)
    found = epsilon_lower_bound(a, b, DELTA)
    inside, outside = (a, b) if found.role == "a" else (b, a)
    hits = inside[1::2] > found.threshold if found.above else inside[1::2] <= found.threshold
    alarms = outside[1::2] > found.threshold if found.above else outside[1::2] <= found.threshold
    assert (found.false_negatives, found.positives) == (np.sum(~hits), 2500)
    assert (found.false_positives, found.negatives) == (np.sum(alarms), 2500)
    fnr, fpr = (beta.ppf(0.975, k + 1, 2500 - k) for k in (found.false_negatives, found.false_positives))
    assert found.lower_bound == pytest.approx(np.log((1 - fnr - DELTA) / fpr), rel=1e-12)
    assert found.lower_bound < found.estimate


def test_threshold_and_direction_are_chosen_on_the_first_half_alone():
    a, b = pair(np.random.default_rng(4), 4000, 2.0)
    other_a, other_b = a.copy(), b.copy()
    other_a[1::2], other_b[1::2] = b[1::2], a[1::2]
    first, second = epsilon_lower_bound(a, b, DELTA), epsilon_lower_bound(other_a, other_b, DELTA)
    assert (first.threshold, first.above, first.role) == (second.threshold, second.above, second.role)
    assert second.lower_bound == 0 < first.lower_bound


def rarely_low(rng, trials):
    """Return scores on [0, 1], those of the second sample almost never below 0.2: epsilon ln 100, or 0.22 swapped."""
    everywhere, rare = rng.random(trials), 0.2 + 0.8 * rng.random(trials)
    low = rng.random(trials) < 0.002
    return everywhere, np.where(low, 0.2 * rng.random(trials), rare)


def test_the_role_that_tells_more_is_chosen_and_the_order_does_not_matter():
    low, rare = rarely_low(np.random.default_rng(5), 40000)
    found, swapped = epsilon_lower_bound(low, rare, 0.0), epsilon_lower_bound(rare, low, 0.0)
    assert (found.role, swapped.role) == ("a", "b")
    assert found.lower_bound == swapped.lower_bound > 3.5
    assert not found.above
    mirrored = epsilon_lower_bound(-low, -rare, 0.0)
    assert mirrored.above
    assert mirrored.lower_bound == pytest.approx(found.lower_bound, rel=0.05)


def test_ties_are_one_event():
    rng = np.random.default_rng(6)
    a, b = (rng.random(20000) < 0.5).astype(float), (rng.random(20000) < 0.05).astype(float)
    found = epsilon_lower_bound(a, b, 0.0)
    assert (found.threshold, found.above, found.role) == (0.0, True, "a")
    assert 2.1 < found.lower_bound < np.log(10) + 0.1


@pytest.mark.parametrize("trials", [0, 1, 2, 5])
def test_of_few_trials_nothing_follows(trials):
    assert epsilon_lower_bound(np.arange(trials), 100 + np.arange(trials), DELTA).lower_bound == 0
    assert audit_p_value(np.zeros(trials), np.ones(trials), 0.1, DELTA) > 0.05


def test_equal_scores_tell_nothing():
    found = epsilon_lower_bound(np.ones(3000), np.ones(3000), DELTA)
    assert found.lower_bound == 0
    assert audit_p_value(np.ones(3000), np.ones(3000), 0.0, DELTA) == 1


def test_a_nan_score_never_lowers_the_bound_and_is_never_dropped():
    rng = np.random.default_rng(7)
    a, b = pair(rng, 4000, 2.0)
    before = epsilon_lower_bound(a, b, DELTA).lower_bound
    for sample in (a, b):
        for _ in range(20):
            sample[1 + 2 * rng.integers(2000)] = np.nan  # of the half that is counted
            after = epsilon_lower_bound(a, b, DELTA)
            assert after.lower_bound >= before
            assert (after.positives, after.negatives) == (2000, 2000)
            before = after.lower_bound
    diverged = np.full(4000, np.nan)
    assert epsilon_lower_bound(diverged, b, DELTA).lower_bound > 4
    assert epsilon_lower_bound(diverged, diverged, DELTA).lower_bound > 4
    assert epsilon_lower_bound(np.full(4000, np.inf), pair(rng, 4000)[1], DELTA).lower_bound > 4


def test_a_p_value_is_the_level_at_which_the_bound_is_epsilon():
    a, b = pair(np.random.default_rng(8), 20000, EXACT / 0.8)
    found = epsilon_lower_bound(a, b, DELTA)
    level = p_value(found, 1.1, DELTA)
    assert 1e-6 < level < 1
    assert epsilon_lower_bound(a, b, DELTA, confidence=1 - level).lower_bound == pytest.approx(1.1, abs=1e-5)
    levels = [p_value(found, epsilon, DELTA) for epsilon in (0.2, 0.8, 1.1, 1.3, 9.0)]
    assert levels == sorted(levels)
    assert levels[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((np.ones(4), np.ones(4), 1.0), "delta"), ((np.ones(4), np.ones(4), -0.1), "delta"),
     ((np.ones((2, 2)), np.ones(4), 0.1), "shape"), ((np.ones(4), np.ones(4), 0.1, 1.0), "confidence")],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        epsilon_lower_bound(*arguments)


def test_descriptive_numbers_against_scikit_learn():
    rng = np.random.default_rng(9)
    a, b = np.round(pair(rng, 3000, 1.0), 1)
    truth = np.repeat([1, 0], 3000)
    assert auc(a, b) == pytest.approx(roc_auc_score(truth, np.concatenate([a, b])), rel=1e-12)
    scores = np.arange(100.0)
    assert tpr_at_fpr(scores + 99, scores, 0.01) == pytest.approx(1.0)
    assert tpr_at_fpr(scores, scores, 0.1) == pytest.approx(0.1)
    assert tpr_at_fpr(scores, scores, 0.0) == 0
    assert np.isnan(auc(np.array([np.nan]), b)) and np.isnan(tpr_at_fpr(a, np.array([])))


def test_an_independent_auditor_finds_the_same_bound_at_the_same_threshold():
    auditing = pytest.importorskip("jax_privacy.auditing")
    a, b = pair(np.random.default_rng(10), 20000, 1.5)
    found = epsilon_lower_bound(a, b, DELTA)
    sign = 1 if found.above else -1
    inside, outside = (a, b) if found.role == "a" else (b, a)
    theirs = auditing.CanaryScoreAuditor(sign * inside[1::2], sign * outside[1::2]).epsilon_clopper_pearson(
        0.05, DELTA, threshold_strategy=auditing.Explicit(sign * found.threshold)
    )
    assert found.lower_bound == pytest.approx(theirs, rel=1e-9)


def audited_group(distance, trials=4000, *, epsilon=1.0, key=0, settings=(0.5,), **changes):
    """Return a group whose second checkpoint of three holds the scores; at the last nothing is promised any more."""
    rng, lanes = np.random.default_rng(key), trials * len(settings)
    score, other = (np.repeat(s[:, None], 3, axis=1) for s in pair(rng, lanes, distance))
    score[:, [0, 2]] += 50.0
    made = group(
        score, [np.nan, epsilon, np.nan], AUDITED, settings=settings, checkpoints=[0, 10, 20],
        more_metrics={"retrained_score": other}, **changes,
    )  # fmt: skip
    made.runs["hp_delta"] = DELTA
    return made


def row(*groups):
    table = verdicts(list(groups))
    assert len(table) == 1
    return table.iloc[0]


def test_an_audit_is_held_violated_or_inconclusive():
    held = row(audited_group(EXACT))
    assert (held.verdict, held.judged, held.at_step) == ("held", 4000, 10)
    assert 0 < held.max_ratio == held.max_ratio_low < held.max_ratio_high
    assert np.isnan(held.rate)
    broken = row(audited_group(EXACT / 0.5))
    assert broken.verdict == "violated"
    assert broken.max_ratio > 1.5
    assert row(audited_group(EXACT, 999)).verdict == "inconclusive"
    assert row(audited_group(EXACT / 0.25, 999)).verdict == "violated"  # few trials can still refute
    assert row(audited_group(EXACT, admitted=False)).verdict == "not admitted"
    caught = row(audited_group(EXACT / 0.5, admitted=False, control="half the noise"))
    assert (caught.verdict, caught.expected) == ("violated", "violated")


def test_nothing_promised_is_nothing_judged():
    found = row(audited_group(EXACT, epsilon=np.nan))
    assert (found.verdict, found.judged) == ("inconclusive", 0)


def test_all_blocks_of_seeds_of_a_setting_are_one_audit():
    whole = audited_group(EXACT / 0.4, 2100)
    blocks = []
    for first in range(0, 2100, 700):
        part = slice(first, first + 700)
        blocks.append(
            replace(
                whole, runs=whole.runs.iloc[part], calls_per_step=whole.calls_per_step[part],
                description=whole.description | {"seeds": [first, first + 699]},
                **{name: {key: value[part] for key, value in getattr(whole, name).items()}
                   for name in ("metrics", "bounds", "admitted", "floors")},
            )
        )  # fmt: skip
    together, alone = row(*blocks[::-1]), row(blocks[0])
    assert (together.judged, alone.judged) == (2100, 700)
    assert together.p_value == row(whole).p_value < alone.p_value
    assert together.verdict == "violated"
    exact = [replace(block, metrics=audited_group(EXACT, 700, key=key).metrics) for key, block in enumerate(blocks)]
    assert [row(*exact).verdict, row(exact[0]).verdict] == ["held", "inconclusive"]


def test_settings_and_rows_share_the_level():
    weak = [audited_group(EXACT / 0.8, 16000, key=key, problem=f"p{key}") for key in range(3)]
    alone = verdicts(weak[:1])["p_value"].iloc[0]
    assert verdicts(weak)["p_value"].max() >= alone
    two = audited_group(EXACT, 2000, settings=(0.5, 1.0))
    (first, second) = audits(two, AUDITED)
    assert (len(first.lanes), len(second.lanes)) == (2000, 2000)
    assert row(two).p_value == min(1.0, 2 * min(first.p_value, second.p_value))


def test_delta_is_the_hyper_parameter_and_zero_without():
    made = audited_group(EXACT / 0.5)
    assert audits(made, AUDITED)[0].delta == DELTA
    made.runs["hp_delta"] = 0.2
    assert audits(made, AUDITED)[0].event.lower_bound < 1
    del made.runs["hp_delta"]
    assert audits(made, AUDITED)[0].delta == 0


def test_forty_thousand_trials_are_judged_in_about_a_second():
    made = audited_group(EXACT, 40000)
    start = time.process_time()
    assert verdicts([made])["verdict"].iloc[0] == "held"
    assert time.process_time() - start < 2


def test_the_table_of_audits_knows_the_true_epsilon_of_two_gaussians():
    assert gaussian_epsilon(1.0, DELTA, DELTA) == pytest.approx(1.0, rel=1e-9)
    half = distance_of(1.0) / 0.5
    assert gaussian_delta(gaussian_epsilon(1.0, gaussian_delta(1.0, half), DELTA), half) == pytest.approx(
        DELTA, rel=1e-8
    )
    assert gaussian_epsilon(1.0, 0.0, DELTA) == 0
    assert gaussian_epsilon(1.0, 1.0, DELTA) == np.inf
    made = audited_group(EXACT / 0.5, control="half the noise")
    made.metrics["privacy_spent"] = np.full((4000, 3), gaussian_delta(1.0, half))
    (line,) = audit_table([made], verdicts([made])).to_dict("records")
    assert line["true_epsilon"] == pytest.approx(2.523, abs=0.001)
    assert (line["trials"], line["verdict"], line["why"]) == (4000, "violated", "half the noise")
    made.metrics["privacy_spent"][0] *= 2  # trials that differ have no epsilon in common
    assert np.isnan(audit_table([made], verdicts([made]))["true_epsilon"].iloc[0])
