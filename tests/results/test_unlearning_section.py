"""The section on unlearning: tables and figures of any subset of methods and metrics, and whose numbers they are."""

import numpy as np
import pytest
from synthetic import FRACTIONS, SEEDS, STEPS, deletion, group, theorem, three

from results import report, tables
from results.approach import approach_figure
from results.costs import front
from results.figures import figures
from results.published_unlearning import EPSILONS, accuracies_beside_ours, models_beside_ours
from results.unlearning import certificate_counts, comparison, ends, front_table, mean_half
from results.unlearning_figures import audit_figure, distance_figure
from results.unlearning_section import unlearning_section
from results.verdicts import verdicts

QUALITIES = {
    "forget_accuracy": lambda fraction: 1 - 0.1 * fraction,
    "forget_loss": lambda fraction: 0.1 + 0.2 * fraction,
    "unseen_accuracy": lambda fraction: 0.8 + 0.05 * fraction,
    "membership_auc": lambda fraction: 0.7 - 0.05 * fraction,
    "retained_accuracy": lambda fraction: 0.95,
}


def rewinding(**changes):
    return deletion(lambda f: 1 - f, metrics=QUALITIES, algorithm="rewind_to_delete", problem="digits", **changes)


def descending(**changes):
    worse = QUALITIES | {"forget_accuracy": lambda fraction: 0.99}
    words = {"algorithm": "descent_to_delete", "problem": "digits"} | changes
    return deletion(lambda f: 1 + f, fractions=FRACTIONS[:4], metrics=worse, **words)


def noisy(epsilon):
    """Return a method that publishes with noise, the more accurate the larger epsilon."""
    accuracy = {"unseen_accuracy": lambda fraction: 0.1 * epsilon + 0.5 * fraction}
    hyper = {"epsilon": epsilon, "noise_scale": 1.0}
    words = {"algorithm": "rewind_to_delete", "problem": "digits", "fractions": FRACTIONS[:4]}
    return deletion(lambda f: 1 - f, metrics=accuracy, hyper=hyper, **words)


def test_a_lane_s_reference_is_the_model_that_ended_at_the_retrained_one():
    lanes = ends([rewinding(), descending()])
    assert set(lanes["fraction"]) == set(FRACTIONS)
    assert lanes["reference"].sum() == SEEDS  # rewinding with K = T
    assert np.allclose(lanes["retrained_forget_accuracy"], 0.9)
    assert np.allclose(lanes["retrained_membership_auc"], 0.65)
    own = rewinding()
    own.metrics["retrained_forget_loss"] = np.full((len(own.runs), 3), 0.123)
    assert np.allclose(ends([own])["retrained_forget_loss"], 0.123)
    assert np.isnan(ends([descending()])["retrained_forget_loss"]).all()


def test_models_that_did_not_finish_learning_and_controls_are_left_out():
    made = rewinding()
    made.runs["steps"] = 99
    assert ends([made]).empty
    assert ends([rewinding(control="half the noise")]).empty
    assert ends([group(np.ones((3, 24)), 2.0)]).empty


def test_every_quality_stands_beside_the_retrained_model_s_with_its_interval():
    table = comparison([rewinding(), descending()])
    assert list(table["algorithm"][:5]) == ["descent_to_delete"] * 4 + ["rewind_to_delete"]
    line = table[(table["algorithm"] == "descent_to_delete") & (table["fraction"] == 0.9)].iloc[0]
    assert (line["forget_accuracy"], line["forget_accuracy_retrained"]) == (pytest.approx(0.99), pytest.approx(0.9))
    assert line["distance"] == pytest.approx(1.9 * 1.025)
    mean, half = mean_half(1.9 * (1 + np.arange(SEEDS) / 100))
    assert (line["distance"], line["distance_half"]) == (pytest.approx(mean), pytest.approx(half))
    assert half == pytest.approx(2.5706 * 1.9 * np.std(np.arange(6) / 100, ddof=1) / np.sqrt(6), rel=1e-4)
    assert mean_half(np.array([2.0]))[0] == 2.0 and np.isnan(mean_half(np.array([2.0]))[1])
    assert comparison([group(np.ones((3, 24)), 2.0)]).empty


def test_a_method_that_ran_without_noise_is_compared_without():
    table = comparison([rewinding(), noisy(1.0)])
    assert np.allclose(table.loc[table["fraction"] == 0, "unseen_accuracy"], 0.8)
    assert np.allclose(comparison([noisy(1.0)]).loc[0, "unseen_accuracy"], 0.1)


def test_the_front_has_a_line_an_epsilon_and_its_references():
    groups = [rewinding(), noisy(0.5), noisy(4.0)]
    table = front_table(groups).set_index("epsilon")
    assert list(table.index) == [0.5, 4.0, np.inf]
    assert table.loc[4.0, 0.5] == pytest.approx(0.65)
    assert np.allclose(table["retrained"], 0.85)  # of rewinding without noise, K = T
    (axis,) = [axis for axis in front(groups).axes if axis.get_visible()]
    texts = [text.get_text() for text in front(groups).legends[0].get_texts()]
    assert texts == ["ε = 0.5", "ε = 1", "ε = 4", "without noise", "retrained model"]
    assert axis.get_ylabel() == "unseen accuracy"
    assert front([rewinding()]) is None and front_table([rewinding()]).empty


def test_baselines_stand_in_the_distance_figure_at_their_best_setting():
    tuned = deletion(lambda f: 3.0, fractions=FRACTIONS[:4], algorithm="fine_tuning", problem="digits",
                     records={"metric": "distance_to_retrained"})  # fmt: skip
    figure = distance_figure([rewinding(), descending(), tuned])
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "descent_to_delete", "fine_tuning", "rewind_to_delete",
    }  # fmt: skip
    better = deletion(lambda f: 0.25, fractions=FRACTIONS[:4], algorithm="fine_tuning", problem="digits",
                      records={"metric": "distance_to_retrained"}, hyper={"eta": 2.0})  # fmt: skip
    better.description["settings"] = [{"K": 100 * f, "eta": 2} for f in FRACTIONS[:4]]
    (axis,) = distance_figure([tuned, better]).axes
    assert np.nanmax(axis.get_lines()[0].get_ydata()) == pytest.approx(0.25 * 1.025)
    assert distance_figure([group(np.ones((3, 24)), 2.0)]) is None


def test_certificates_are_counted_by_what_they_say():
    refused = descending()
    refused.runs["certificate"] = "uncertified: RETAINS_CONVEXITY is not proven for this problem"
    table = certificate_counts([rewinding(), refused]).set_index("algorithm")
    assert list(table["certified"]) == [False, True]
    assert table.loc["rewind_to_delete", ["says", "settings", "runs"]].tolist() == [
        "deletion of m records, n -> n - m", 5, 30,
    ]  # fmt: skip
    assert certificate_counts([group(np.ones((3, 24)), 2.0)]).empty


def test_published_models_stand_beside_ours_and_each_says_which():
    table = models_beside_ours([rewinding(), descending()])
    ours = table[table["origin"] == "ours"].set_index("method")
    assert set(table["origin"]) == {"published", "ours"}
    assert ours.loc["rewind_to_delete", "fraction"] == 0.9  # nearest to 0.74
    assert ours.loc["rewind_to_delete", "change"] == pytest.approx(0.91 - (1 + 0.99) / 2)
    accuracies = accuracies_beside_ours([rewinding(), noisy(0.5)])
    assert accuracies.loc[accuracies["origin"] == "ours", 0.5].tolist() == [pytest.approx(0.1)]
    assert len(EPSILONS) == 6 and accuracies.loc[accuracies["origin"] == "ours", 5.0].isna().all()
    assert set(models_beside_ours([])["origin"]) == {"published"}


def headings(groups):
    """Return the headings of the section, its own figures drawn."""
    table = verdicts(groups)
    drawn = {
        "unlearning_approach": approach_figure(groups),
        "unlearning_distance": distance_figure(groups),
        "unlearning_front": front(groups),
        "unlearning_audit": audit_figure(groups, table),
    }
    there = {name for name, figure in drawn.items() if figure is not None}
    return [sheet.heading for sheet in unlearning_section(groups, table, there)]


def test_the_section_shows_what_there_is_and_nothing_else():
    assert headings([group(np.ones((3, 24)), 2.0)]) == []
    assert headings([deletion(lambda f: 1 - f)]) == ["Who approaches the retrained model", "Certificates"]
    whole = headings([rewinding(), descending(), noisy(0.5), *three()])
    assert whole == [
        "Who approaches the retrained model", "Privacy, utility, complexity", "What unlearning leaves behind",
        "Certificates", "Published models beside ours", "Published accuracies beside ours",
    ]  # fmt: skip
    noise = deletion(lambda f: 1 - f, hyper={"sigma": 0.03})
    assert headings([noise])[-1] == "Published costs beside ours"


@pytest.mark.parametrize(
    ("metric", "column"),
    [("unseen_accuracy", "hp_K"), ("forget_accuracy", "hp_T"), ("forget_loss", "hp_epsilon"),
     ("membership_auc", "hp_noise_scale"), ("retained_accuracy", "certificate")],
)  # fmt: skip
def test_no_subset_of_metrics_and_columns_stops_the_section(metric, column):
    groups = [rewinding(), descending()]
    for made in groups:
        del made.runs[column], made.metrics[metric]
    broken = noisy(0.5)
    broken.metrics["unseen_accuracy"][3:5] = np.nan
    broken.metrics["sensitivity"][:] = np.nan
    assert "What unlearning leaves behind" in headings(groups)
    assert "What unlearning leaves behind" in headings([*groups, broken])
    assert headings([broken])[-1] == "Published accuracies beside ours"


def test_the_report_holds_the_section_its_figures_and_who_says_what(monkeypatch):
    monkeypatch.setattr(report, "_picture", lambda figure: "")  # drawn, not painted
    groups = [rewinding(), descending(), noisy(0.5), *three(), deletion(lambda f: 1 - f, hyper={"sigma": 0.1})]
    text = report.html(groups)
    for expected in ("not 0.5", '886 <span class="small quiet">published', '584 <span class="small quiet">ours',
                     'alt="unlearning approach"', 'alt="unlearning distance"', 'alt="unlearning front"'):  # fmt: skip
        assert text.count(expected) == 1, expected
    assert text.index("<h2>Unlearning</h2>") < text.index("unlearning approach") < text.index("<h2>Rates</h2>")
    assert "<h2>Unlearning</h2>" not in report.html([group(np.ones((3, 24)), 2.0)])


def test_the_figures_of_the_section_can_be_painted(tmp_path):
    groups = [rewinding(), descending(), noisy(0.5), *three(), scored()]
    drawn = [approach_figure(groups), distance_figure(groups), front(groups), audit_figure(groups, verdicts(groups))]
    for number, figure in enumerate(drawn):
        figure.savefig(tmp_path / f"{number}.png", dpi=50)  # warnings are errors
        assert (tmp_path / f"{number}.png").stat().st_size > 3000


def scored(control=""):
    record = theorem(name="audit", holds="audited", metric="score", against="other")
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(size=(2000, 1)), 3, axis=1)
    made = group(
        scores + 3, 1.0, record, checkpoints=STEPS, more_metrics={"other": scores[::-1].copy()}, control=control
    )
    made.runs["certificate"], made.runs["hp_delta"] = "certified: deletion", 0.01
    return made


def test_audits_have_a_figure_and_a_sheet_and_no_trajectory():
    groups = [scored(), scored("too little noise")]
    table = verdicts(groups)
    names = [name for name, _ in figures(groups, table)]
    assert "unlearning_audit" in names
    assert not any("trajectory" in name for name in names)
    assert tables.rates_table(groups).empty
    (sheet,) = [one for one in unlearning_section(groups, table, set(names)) if one.heading.startswith("Audits")]
    assert [row[3] for row in sheet.rows] == ["claim", "control: too little noise"]
    assert [row[-1] for row in sheet.rows] == ["violated", "violated"]
    assert audit_figure([rewinding()], verdicts([rewinding()])) is None
