"""The section on low-rank adaptation: tables, sheets and figures of any subset of methods, on curves made by hand."""

import inspect
from importlib import import_module

import numpy as np
import pytest
from synthetic import LONG, group, made

from results import low_rank_figures, report
from results.figures import figures
from results.labels import LOW_RANK, parameter, read_label, without
from results.low_rank import exponents, known_exponent, slope, worst_case
from results.low_rank_methods import counterexamples, imbalance, scaled, steps_to
from results.low_rank_section import low_rank_section
from results.low_rank_tuning import tuned, tuning
from results.verdicts import verdicts

STEPS = LONG
FEW = np.arange(40)


def escaping(exponent, problem="escape_family[p=0.5]", rule="selfnorm", **changes):
    """Return a run on the escape family whose squared gradient falls like t^exponent in the last two decades."""
    t = np.maximum(STEPS, 1).astype(float)
    early = np.where(t < STEPS[-1] / 100, (STEPS[-1] / 100 / t) ** 0.3, 1.0)
    return made(t**exponent * early, problem, hyper={"rule": rule, "c": 0.5}, **changes)


def test_a_problem_s_parameters_are_read_from_its_label_or_are_the_family_s_defaults():
    assert read_label("escape_family[p=0.5]") == ("escape_family", {"p": "0.5"})
    assert read_label("escape_family") == ("escape_family", {})
    assert without("matrix_factorization[imbalance=3.0,m=30]", "imbalance") == "matrix_factorization[m=30]"
    assert without("matrix_factorization[imbalance=3.0]", "imbalance") == "matrix_factorization"
    assert parameter(escaping(-1.0), "p") == 0.5
    assert parameter(escaping(-1.0, "escape_family"), "p") == 2.0
    assert np.isnan(parameter(escaping(-1.0), "q"))
    for family, told in LOW_RANK.items():
        known = inspect.signature(import_module(f"problems.low_rank.{family}").make).parameters
        assert told == {name: str(known[name].default) for name in told}, family


def test_an_exponent_is_fitted_to_the_last_two_decades_and_knows_its_interval():
    t = np.maximum(STEPS, 1).astype(float)
    value, half, points = slope(STEPS, 3 * t**-0.8)
    assert (value, half, points) == (pytest.approx(-0.8, abs=1e-12), pytest.approx(0, abs=1e-10), 60)
    bent = np.where(t < 1000, t**-2.0, 1e-6 * (t / 1000) ** -0.8)
    assert slope(STEPS, bent)[0] == pytest.approx(-0.8, abs=1e-12)
    noise = np.random.default_rng(0).normal(size=(200, len(t))) * 0.1
    fits = np.array([slope(STEPS, t**-0.8 * np.exp(row))[:2] for row in noise])
    assert 0.9 <= np.mean(np.abs(fits[:, 0] + 0.8) <= fits[:, 1]) <= 0.99
    assert np.isnan(slope(STEPS[:5], t[:5])[0])
    assert slope(STEPS, np.where(t > 5e4, 1e-40, t**-0.8))[0] == pytest.approx(-0.8, abs=1e-12)  # rounding is dropped


def test_measured_exponents_stand_beside_the_rule_s_or_the_recorded_law_s():
    assert known_exponent(0.5, "selfnorm") == pytest.approx(-0.8)
    assert known_exponent(0.5, "const") == pytest.approx(-4 / 3)
    assert np.isnan(known_exponent(0.5, "norm"))
    law = np.maximum(STEPS, 1.0) ** -0.7
    groups = [escaping(-0.805), escaping(-1.5, "escape_family[p=1.0]", "const"), escaping(-1.0, control="broken"),
              escaping(-0.71, rule="adapt", name="lora_gradient_descent_escape", bound=law)]  # fmt: skip
    table = exponents(groups).set_index("rule")
    assert list(table.index) == ["adapt", "const", "selfnorm"]
    assert table.loc["selfnorm", "difference"] == pytest.approx(-0.005, abs=1e-9)
    assert table.loc["const", ["promised", "difference"]].tolist() == pytest.approx([-1.5, 0], abs=1e-9)
    assert table.loc["adapt", ["promised", "difference"]].tolist() == pytest.approx([-0.7, -0.01], abs=1e-9)
    (sheet,) = low_rank_section([groups[0], escaping(-0.82, rule="adapt2")], set())
    assert [row[-2] for row in sheet.rows if len(row) > 1] == ["no", "yes"]
    assert exponents([made(np.ones(len(STEPS)), "quadratic")]).empty


def test_of_several_runs_the_longest_counts_and_the_minimum_runs():
    long, short_run = escaping(-0.8), made(np.ones(100), "escape_family[p=0.5]", steps=STEPS[:100], hyper={"rule": "x"})
    short_run.runs["hp_rule"] = "selfnorm"
    rises = escaping(-0.8)
    rises.metrics["gradient_norm_sq"][:, -1] = 1e9
    assert len(exponents([long, short_run])) == 1
    assert exponents([rises]).loc[0, "measured"] == pytest.approx(-0.8, abs=0.01)


def slowest(T, ratio, **changes):
    """Return a run on the worst case with this ratio to the bound at step T, and nonsense after it."""
    measured = np.where(STEPS <= T, ratio * 2.0, 1e-9)
    words = {"name": "lora_gradient_descent_rate", "bound": 2.0, "hyper": {"rule": "selfnorm", "c": 0.5}} | changes
    return made(measured, f"worst_horizon[T={T}.0]", metric="best_gradient_norm_sq", **words)


def test_the_worst_case_is_read_where_its_slope_ends_and_only_where_the_bound_speaks():
    groups = [slowest(1000, 0.38), slowest(10000, 0.5), slowest(100, 0.36, admitted=False)]
    table = worst_case(groups)
    assert table[["T", "ratio"]].values.tolist() == [[1000, pytest.approx(0.38)], [10000, pytest.approx(0.5)]]
    (sheet,) = low_rank_section(groups, set())
    assert [row[-1] for row in sheet.rows[1:]] == ["yes", "no"]


def test_steps_to_an_accuracy_are_exact_for_geometric_decay_whatever_the_checkpoints():
    steps = np.array([0, 1, 10, 100, 1000])
    curves = np.stack([5 * 0.9**steps, np.ones(5), np.full(5, np.nan), np.array([1, 1, -1e-16, 0, 0.0])])
    found = steps_to(steps, curves, 1e-6)
    assert found[0] == pytest.approx(np.log(1e-6) / np.log(0.9))
    assert np.isinf(found[1:3]).all() and 1 <= found[3] <= 10
    assert steps_to(steps, curves, 1e-6, interpolate=False)[[0, 3]].tolist() == [1000, 10]


def start(factor, ratio, algorithm="reflora", **hyper):
    label = f"matrix_factorization[imbalance={factor},init=imbalanced]"
    label = "matrix_factorization[init=imbalanced]" if factor == 1 else label
    return made(ratio ** STEPS[:80].astype(float), label, algorithm, steps=STEPS[:80], metric="weight_gap", hyper=hyper)


def test_imbalance_is_told_in_iterations_and_what_all_reach_where_some_do_not():
    groups = [start(s, 0.9, refactor="full") for s in (1, 3.0, 10.0)] + [start(1, 0.8, refactor="simple")]
    table = imbalance(groups)
    assert table["iterations"].tolist() == pytest.approx(
        [np.log(1e-12) / np.log(0.9)] * 3 + [np.log(1e-12) / np.log(0.8)]
    )
    assert table["method"].tolist() == ["RefLoRA (full)"] * 3 + ["RefLoRA-S (simple)"]
    slow = start(3.0, 0.995, "lora_gradient_descent", rule="selfnorm")
    table = imbalance([*groups, slow]).set_index("method")
    last = 0.995 ** float(STEPS[79])
    assert table.loc["LoRA", "accuracy"] == pytest.approx(10 ** np.ceil(np.log10(last)))
    assert np.isinf(table.loc["LoRA", "iterations"]) and np.isfinite(table.loc["LoRA", "common"])
    (sheet,) = low_rank_section([*groups, slow], set())
    assert sheet.rows[1][:3] == ("LoRA", "", "1e-12") and f"> {STEPS[79]}" in sheet.rows[1]
    assert imbalance(groups[:1]).empty


def newton(kappa, off=0.0, **changes):
    """Return ScaledGD of one factor on its recursion, `off` it by that share, from an error that grows with kappa."""
    u, law = kappa**0.5, []
    for _ in FEW:
        law.append(abs(u - 1))
        u = 0.5 * (u + 1 / u)
    words = {"name": "symmetric_scaled_gradient_descent_recursion", "bound": np.array(law), "floor": 1e-12,
             "hyper": {"eta": 0.5}, "steps": FEW, "metric": "spread_error"} | changes  # fmt: skip
    problem = f"symmetric_factorization[kappa={kappa}]"
    return made(np.array(law) * (1 + off) + 1e-13, problem, "symmetric_scaled_gradient_descent", **words)


def test_scaled_gradient_descent_stands_on_its_law_beyond_rounding():
    table = scaled([newton(4.0), newton(100.0, 0.01)])
    assert table["deviation"].tolist() == [0, pytest.approx(0.01, rel=1e-3)]
    assert table["iterations"].tolist() == [5, 7]
    problem = "matrix_factorization[init=gaussian]"
    generic = made(0.5**FEW, problem, "scaled_gradient_descent", steps=FEW, metric="value", hyper={"eta": 0.5})
    row = scaled([generic]).iloc[0]
    assert (row["start"], row["kappa"], row["iterations"]) == ("generic", 10, np.inf)  # half the decades of the loss
    assert np.isnan(row["deviation"])


def chain(K, eta, curves):
    return made(curves, "weighted_quadratic", "chain_of_lora", steps=FEW, metric="suboptimality", name="floor",
                hyper={"K": K, "eta": eta, "redraw": "random"})  # fmt: skip


def test_methods_are_compared_on_the_counter_examples_and_divergence_is_said():
    stuck, gone = np.full(40, 0.5), np.where(FEW < 20, 1.0, np.nan)
    groups = [chain([np.inf], 0.1, np.stack([stuck, 2 * stuck, gone])),
              chain([10.0], 1.0, np.stack([gone, stuck, gone])),
              made(0.5**FEW, "weighted_quadratic", "rac_lora", steps=FEW, metric="suboptimality", hyper={"gamma": 0.1}),
              made(stuck, "cosine", "rac_lora", steps=FEW, metric="suboptimality")]  # fmt: skip
    table = counterexamples(groups).set_index("method")
    assert table.loc["LoRA: never merged", ["end", "low", "high", "diverged"]].tolist() == [1.0, 0.5, np.inf, 1]
    assert table.loc["chain of LoRA, K = 10", ["end", "diverged"]].tolist() == [np.inf, 2]
    (sheet,) = low_rank_section(groups, set())
    assert [row[5] for row in sheet.rows[1:3]] == ["1 of 3 runs diverged", "none diverged"]
    with np.errstate(invalid="ignore"):
        inverse = made(1 / np.where(np.isnan(gone), np.inf, gone), "weighted_quadratic", "asymmetric_lora", steps=FEW,
                       metric="inverse_suboptimality")  # fmt: skip
    assert counterexamples([*groups, inverse]).set_index("method").loc["asymmetric LoRA", "diverged"] == 1
    assert set(table["problem"]) == {"weighted_quadratic"} and counterexamples(groups[2:]).empty


def grid(rule, name, ends, problem="softmax_adapter", **hyper):
    """Return runs of a rule, a step size for each item of `ends` = {step size: gaps over seeds}."""
    gaps = np.array(list(ends.values()), float).T.ravel()
    curves = np.stack([np.full(len(gaps), 1.0), 0.9 + 0 * gaps, gaps], axis=1)
    return made(curves, problem, steps=np.array([0, 10, 1500]), metric="weight_gap",
                hyper={"rule": rule, name: list(ends), **hyper})  # fmt: skip


GRIDS = [
    grid("const", "eta", {0.01: (0.5, 0.7), 0.1: (0.1, 0.12), 1.0: (0.02, 0.04), 10.0: (0.02, np.nan)}, batch_size="0"),
    grid("selfnorm", "c", {0.25: (0.2, 0.2), 0.5: (0.16, 0.16), 1.0: (0.12, 0.1)}, batch_size="0"),
    grid("mk_theory", "c", {0.5: (0.6, 0.5)}, batch_size="0"),
    grid("adapt", "alpha", {1.0: (0.95, 0.95), 3.0: (0.95, 0.97)}, batch_size="0"),
]


def test_tuning_sets_the_theory_step_beside_the_best_of_the_same_budget():
    other = grid("const", "eta", {0.2: (0.0, 0.0)}, batch_size="32")
    assert 0.2 not in tuning([*GRIDS, other])["value"].tolist()
    table = tuned([*GRIDS, other]).set_index("rule")
    assert table.loc["const", ["best_value", "best_gap"]].tolist() == [1.0, pytest.approx(0.03)]
    assert table.loc["const", "best_half"] == pytest.approx(12.706 * 0.01, rel=1e-3)  # Student's t, two seeds
    assert table.loc["const", ["good_from", "good_to", "tried", "diverged"]].tolist() == [0.1, 1.0, 4, 1]
    assert table.loc["selfnorm", ["theory_value", "theory_gap", "best_value"]].tolist() == [0.5, pytest.approx(0.16), 1]
    assert np.isnan(table.loc["const", "theory_gap"])
    assert (table.loc["adapt", "rose"], table.loc["const", "rose"]) == (0.5, 0)
    (sheet,) = low_rank_section(GRIDS, set())
    cells = {row[0]: row for row in sheet.rows if len(row) > 1}
    assert cells["const"][1:4] == ("–", "0.03 ± 0.13 at eta = 1", "0.1 – 1")
    assert cells["mk_theory"][1:4] == ("0.55 ± 0.64", "–", "–")
    assert cells["adapt"][3:] == ("none", "1 – 3", "2", "50 %")
    assert tuning(GRIDS[1:]).empty and tuning(GRIDS[:1]).empty


def everything():
    escape = [escaping(known_exponent(p, rule), f"escape_family[p={p}]", rule) for p in (0.1, 0.5, 1.0)
              for rule in ("selfnorm", "const", "adapt")]  # fmt: skip
    horizons = [slowest(T, 0.35) for T in (1000, 10000)]
    starts = [start(s, 0.9 + s / 200, refactor=kind) for s in (1, 3.0, 10.0) for kind in ("full", "simple")]
    methods = [chain([np.inf], 0.1, np.full((2, 40), 0.5)), chain([10.0], 1.0, np.full((2, 40), np.nan)),
               made(0.5**FEW, "weighted_quadratic", "rac_lora", steps=FEW, metric="suboptimality")]  # fmt: skip
    return [*escape, *horizons, *starts, *methods, newton(1.5), newton(1e4), *GRIDS]


HEADINGS = ["Exponents where adapters escape", "The rate 1/√T is attained", "ScaledGD and its start",
            "Low-rank steps beside LoRA on the counter-examples", "Imbalance of the start",
            "Equal tuning of step rules"]  # fmt: skip


def test_the_report_holds_the_sheets_that_there_are_data_for_with_their_figures(monkeypatch):
    monkeypatch.setattr(report, "_picture", lambda figure: "")  # drawn, not painted
    groups = everything()
    names = [name for name, _ in figures(groups, verdicts(groups)) if name.startswith("low_rank")]
    sheets = low_rank_section(groups, set(names))
    assert [sheet.heading for sheet in sheets] == HEADINGS
    assert [name for sheet in sheets for name in sheet.figures] == names
    assert all(len(row) in (1, len(sheet.head)) for sheet in sheets for row in sheet.rows)
    text = report.html(groups)
    assert all(text.count(f'alt="{name.replace("_", " ")}"') == 1 for name in names)
    assert text.index("<h2>Low-rank adaptation</h2>") < text.index(HEADINGS[0]) < text.index("<h2>Rates</h2>")
    assert low_rank_section([group(np.ones((3, 24)), 2.0)], set()) == []
    assert "Low-rank adaptation" not in report.html([group(np.ones((3, 24)), 2.0)])


@pytest.mark.parametrize("name", ["exponent", "worst_case", "scaled", "method", "imbalance", "tuning"])
def test_every_figure_can_be_painted_and_is_none_without_its_data(tmp_path, name):
    draw = getattr(low_rank_figures, f"{name}_figure")
    figure = draw(everything())
    figure.savefig(tmp_path / "figure.png", dpi=50)  # warnings are errors
    assert (tmp_path / "figure.png").stat().st_size > 3000
    assert draw([group(np.ones((3, 24)), 2.0)]) is None
