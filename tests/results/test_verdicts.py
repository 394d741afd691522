"""Verdicts: each one on data made for it, the counting of lanes, and false alarms at most at their level."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binom
from synthetic import CHECKPOINTS, decays, group, theorem

from algorithms.first_order.gradient_descent import algorithm
from algorithms.theorem import Holds, Kind
from bench.commands.info import theorem_lines
from bench.group import record_of
from results import checks
from results.schema import TheoremRecord
from results.verdicts import COLUMNS, all_as_expected, verdicts

MEAN, MEDIAN = theorem(holds="in expectation"), theorem(holds="in median")
NINE_TENTHS = theorem(holds="with probability", probability=0.9)
T = len(CHECKPOINTS)
BINDING = ["theorem", "algorithm", "problem", "source", "role", "verdict", "expected", "max_ratio", "at_step", "rate",
           "rate_low", "rate_high", "promised_rate", "judged", "not_admitted", "diverged"]  # fmt: skip


def row(*groups):
    table = verdicts(list(groups))
    assert len(table) == 1
    return table.iloc[0]


def noisy(mean, seeds=40, key=0):
    return mean * np.random.default_rng(key).exponential(size=(seeds, T))


def test_columns_are_the_binding_ones():
    assert set(BINDING) <= set(COLUMNS)
    value, bound = decays()
    assert list(verdicts([group(value, bound)]).columns) == COLUMNS
    assert list(verdicts([]).columns) == COLUMNS
    assert all_as_expected(verdicts([]))


def test_every_run_held_with_the_rates_beside():
    value, bound = decays(20)
    found = row(group(value, bound))
    assert (found.verdict, found.expected, found.role) == ("held", "held", "claim")
    assert (found.judged, found.not_admitted, found.diverged) == (20, 0, 0)
    assert found.max_ratio == pytest.approx((value / bound)[:, 1:].max())  # at t = 0 both are 1 by definition
    assert found.at_step == 1
    assert found.rate < found.promised_rate == pytest.approx(0.98)
    assert found.rate_low <= found.rate <= found.rate_high
    assert found.slack_at_end > 1


def test_every_run_is_violated_by_one_lane_at_one_checkpoint():
    value, bound = decays(20)
    value[7, 5] = 1.5 * bound[7, 5]
    found = row(group(value, bound))
    assert (found.verdict, found.at_lane, found.at_seed, found.at_step) == ("violated", 7, 7, CHECKPOINTS[5])
    assert found.max_ratio == pytest.approx(1.5)


def test_a_bound_just_met_is_held_and_rounding_forgiven():
    _, bound = decays(5)
    assert row(group(bound * (1 + 5e-10), bound)).verdict == "held"
    assert row(group(bound * (1 + 5e-10), bound, NINE_TENTHS)).verdict == "held"
    assert row(group(bound * (1 + 1e-6), bound)).verdict == "violated"


def test_bounds_below_the_floor_are_not_judged():
    value, bound = decays(5)
    value = np.maximum(value, 1e-6)
    assert row(group(value, bound, floor=1e-9)).verdict == "violated"
    assert row(group(value, bound, floor=1e-6)).verdict == "held"
    nothing = row(group(value, bound, floor=10.0))
    assert (nothing.verdict, nothing.judged, nothing.not_admitted) == ("inconclusive", 0, 0)


def test_lanes_that_break_the_conditions_are_counted_never_judged():
    value, bound = decays(10)
    value[3:] *= 100
    found = row(group(value, bound, admitted=np.arange(10) < 3))
    assert (found.verdict, found.judged, found.not_admitted) == ("held", 3, 7)
    nobody = row(group(value, bound, admitted=False))
    assert (nobody.verdict, nobody.judged, nobody.not_admitted) == ("not admitted", 0, 10)
    assert np.isnan(nobody.max_ratio)


@pytest.mark.parametrize("record", [theorem(), MEAN], ids=["every run", "in expectation"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_breaks_a_finite_bound_and_is_counted(record, bad):
    value, bound = decays(12)
    value[2, 8:] = bad
    found = row(group(value, bound, record))
    assert (found.verdict, found.diverged, found.max_ratio) == ("violated", 1, np.inf)
    spared = row(group(value, bound, record, admitted=np.arange(12) != 2))
    assert (spared.verdict, spared.diverged, spared.not_admitted) == ("held", 1, 1)


def test_no_claim_is_no_judgement():
    value, bound = decays(5)
    silent = np.where(CHECKPOINTS < 100, np.nan, bound)
    value[:, CHECKPOINTS < 100] = 50
    assert row(group(value, silent)).verdict == "held"


def test_controls_are_judged_as_if_admitted_and_must_be_violated():
    value, bound = decays(5)
    caught = group(value, bound / 2, admitted=False, control="the bound is halved")
    missed = group(value, bound, admitted=False, control="nothing is wrong here", problem="other")
    table = verdicts([caught, missed, group(value, bound)]).set_index(["role", "problem"])
    assert table.loc[("control", "quadratic[d=20]"), "verdict"] == "violated"
    assert table.loc[("control", "quadratic[d=20]"), "expected"] == "violated"
    assert table.loc[("control", "quadratic[d=20]"), "judged"] == 5
    assert table.loc[("control", "other"), "verdict"] == "held"
    assert all_as_expected(verdicts([caught, group(value, bound)]))
    assert not all_as_expected(verdicts([missed]))
    assert not all_as_expected(verdicts([group(value, bound / 2)]))


@pytest.mark.parametrize("record", [MEAN, MEDIAN], ids=["mean", "median"])
def test_a_mean_or_median_is_held_inconclusive_or_violated(record):
    value = noisy(1.0)
    assert row(group(value, 2.0, record)).verdict == "held"
    assert row(group(value, 0.1, record)).verdict == "violated"
    centre = 1.0 if record is MEAN else np.log(2)
    assert row(group(value, 0.97 * centre, record)).verdict == "inconclusive"
    assert row(group(value[:1], 2.0, record)).verdict == "inconclusive"


def test_single_lanes_beyond_the_bound_do_not_break_an_expectation():
    value = noisy(1.0)
    assert (value > 2.0).any()
    assert row(group(value, 2.0, MEAN)).verdict == "held"
    assert row(group(value, 2.0)).verdict == "violated"


def test_few_diverging_seeds_already_break_an_expectation():
    value = np.exp(0.1 * CHECKPOINTS) * np.array([[0.3], [1.0], [2.0], [5.0]])
    assert row(group(value, 1.0, MEAN, control="diverges")).verdict == "violated"


def test_a_median_tolerates_a_diverged_minority():
    value = noisy(1.0)
    value[:4, 3:] = np.nan
    found = row(group(value, 2.0, MEDIAN))
    assert (found.verdict, found.diverged) == ("held", 4)


def within(seeds, beyond, worse=2.0):
    """Return values of a half, but for `beyond` seeds that are `worse` at one checkpoint."""
    value = np.full((seeds, T), 0.5)
    value[:beyond, 5] = worse
    return value


@pytest.mark.parametrize(
    ("probability", "seeds", "beyond", "verdict"),
    [(0.9, 40, 0, "held"), (0.9, 40, 4, "held"), (0.9, 40, 5, "inconclusive"), (0.9, 40, 13, "violated"),
     (0.9, 10, 1, "held"), (0.9, 4, 1, "inconclusive"), (0.9, 1, 0, "inconclusive"), (1.0, 40, 1, "violated")],
)  # fmt: skip
def test_a_probability_is_judged_by_the_number_of_seeds_beyond(probability, seeds, beyond, verdict):
    found = row(group(within(seeds, beyond), 1.0, replace(NINE_TENTHS, probability=probability)))
    assert (found.verdict, found.judged) == (verdict, seeds)
    assert found.p_value == pytest.approx(min(1, T * binom.sf(beyond - 1, seeds, 1 - probability)))


def test_the_ratio_of_a_probability_is_its_quantile_over_seeds():
    value = np.full((20, T), 0.5)
    value[:, 5] = np.random.default_rng(0).permutation(np.arange(1, 21)) / 20
    found = row(group(value, 1.0, NINE_TENTHS))
    assert (found.max_ratio, found.at_step) == (pytest.approx(0.9), CHECKPOINTS[5])  # the 18th smallest of 20
    assert found.max_ratio_low < found.max_ratio < found.max_ratio_high


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_seed_counts_as_one_beyond_a_probable_bound(bad):
    many, few = (row(group(within(40, beyond, bad), 1.0, NINE_TENTHS)) for beyond in (13, 4))
    assert (many.verdict, many.diverged, many.max_ratio) == ("violated", 13, np.inf)
    assert many.p_value == row(group(within(40, 13), 1.0, NINE_TENTHS)).p_value
    assert (few.verdict, few.diverged, few.max_ratio) == ("held", 4, pytest.approx(0.5))


def test_the_probability_of_a_theorem_is_kept_and_printed(capsys):
    probable = replace(algorithm.theorems[0], holds=Holds.WITH_PROBABILITY, probability=0.95)
    assert (record_of(probable).holds, record_of(probable).probability) == ("with probability", 0.95)
    theorem_lines(probable, Console())
    assert "with probability 0.95, upper bound" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"probability": 0.0}, {"probability": 1.1}, {"kind": Kind.EXACT}])
def test_a_probability_that_is_none_or_of_a_law_is_refused(changes):
    with pytest.raises(ValueError, match=r"probability must be in \(0, 1\]|only an upper bound holds with probability"):
        replace(algorithm.theorems[0], holds=Holds.WITH_PROBABILITY, **changes)


def test_exact_laws_are_tested_from_both_sides():
    _, law = decays(6)
    exact = theorem(kind="exact law", tolerance=0.01)
    assert row(group(1.005 * law, law, exact)).verdict == "held"
    low = row(group(0.9 * law, law, exact))
    assert (low.verdict, low.max_ratio) == ("violated", pytest.approx(1 / 0.9, rel=1e-6))
    assert row(group(1.1 * law, law, exact)).verdict == "violated"
    counts = theorem(kind="exact law", slack=1.0)
    assert row(group(np.full((4, T), 21.0), 20.5, counts)).verdict == "held"
    assert row(group(np.full((4, T), 22.0), 20.5, counts)).verdict == "violated"


def test_asymptotic_laws_are_judged_at_the_last_checkpoint():
    law = np.ones((4, T))
    value = 1 + 5 / np.maximum(CHECKPOINTS, 1) + 0 * law
    record = theorem(kind="asymptotic law", tolerance=0.02)
    held = row(group(value, law, record))
    assert (held.verdict, held.at_step) == ("held", CHECKPOINTS[-1])
    assert row(group(value, law, theorem(kind="asymptotic law", tolerance=0.001))).verdict == "violated"


@pytest.mark.parametrize("holds", ["in expectation", "in median"])
def test_statistical_laws_hold_where_their_interval_meets_the_band(holds):
    exact = theorem(holds=holds, kind="exact law", tolerance=0.05)
    centre = 1.0 if holds == "in expectation" else np.log(2)
    value = noisy(1.0, 60)
    assert row(group(value, centre, exact)).verdict == "held"
    assert row(group(value, 0.2, exact)).verdict == "violated"
    assert row(group(value, 5.0, exact)).verdict == "violated"
    assert row(group(value[:3], centre, exact)).verdict == "inconclusive"


def test_blocks_of_seeds_are_judged_together():
    value = noisy(1.0)
    blocks = [group(value[a : a + 10], 0.1, MEAN, seeds=np.arange(a, a + 10)) for a in range(0, 40, 10)]
    whole, parts = row(group(value, 0.1, MEAN)), row(*blocks)
    assert parts.judged == 40
    assert parts.p_value == whole.p_value


def test_all_rows_share_one_level_by_holm():
    value = noisy(1.0, 40)
    alone = row(group(value, 0.5, MEAN)).p_value
    crowd = [group(noisy(1.0, 40, key), 2.0, MEAN, problem=f"p{key}") for key in range(9)]
    together = verdicts([group(value, 0.5, MEAN), *crowd]).set_index("problem").loc["quadratic[d=20]", "p_value"]
    assert together == pytest.approx(10 * alone)


def test_the_interval_of_the_worst_ratio_is_over_seeds():
    value = noisy(1.0, 200)
    found = row(group(value, 1.0, MEAN))
    assert found.max_ratio_low < found.max_ratio < found.max_ratio_high


DISTRIBUTIONS = {
    "normal": (lambda rng, size: 1 + 0.3 * rng.standard_normal(size), 1.0, 1.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0, np.log(2)),
    "lognormal": (lambda rng, size: np.exp(rng.standard_normal(size) - 0.5), 1.0, np.exp(-0.5)),
    "left-skewed": (lambda rng, size: 1.2 * rng.beta(5, 1, size), 1.0, 1.2 * 0.5**0.2),
}


@pytest.mark.parametrize("seeds", [4, 10, 30])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("kind", ["upper bound", "exact law"])
@pytest.mark.parametrize("holds", ["in expectation", "in median"])
def test_false_alarms_are_at_most_at_their_level(holds, kind, name, seeds):
    draw, mean, median = DISTRIBUTIONS[name]
    record: TheoremRecord = theorem(holds=holds, kind=kind)
    bound = mean if holds == "in expectation" else median
    rng, studies, alarms = np.random.default_rng(3), 150, 0
    for _ in range(studies):
        finding = checks.judge(group(draw(rng, (seeds, T)), bound, record), record)
        alarms += finding.p_value * finding.cells <= 0.05
    # 0.05 plus 2.3 standard errors of the share of 150 studies
    assert alarms / studies <= 0.09


@pytest.mark.parametrize("seeds", [4, 20, 100])
@pytest.mark.parametrize("probability", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("checkpoints", [CHECKPOINTS[:1], CHECKPOINTS], ids=["one cell", "many cells"])
def test_false_alarms_about_a_probability_are_at_most_at_their_level(checkpoints, probability, seeds):
    record = theorem(holds="with probability", probability=probability)
    rng, studies, alarms = np.random.default_rng(7), 150, 0
    for _ in range(studies):
        value = rng.random((seeds, len(checkpoints)))  # beyond `probability` with probability 1 - probability
        finding = checks.judge(group(value, probability, record, checkpoints=checkpoints), record)
        alarms += finding.p_value * finding.cells <= 0.05
    assert alarms / studies <= 0.09


def test_a_whole_report_of_true_theorems_raises_few_alarms():
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(20):
        report = [
            group(rng.exponential(size=(20, T)), 1.0 if record is MEAN else np.log(2), record, problem=f"p{problem}")
            for problem in range(3)
            for record in (MEAN, MEDIAN)
        ]
        alarms += (verdicts(report)["verdict"] == "violated").any()
    assert alarms <= 3
