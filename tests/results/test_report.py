"""Tables, figures and the report: complete, readable by machines, and one file that refers to nothing outside it."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from synthetic import CHECKPOINTS, decays, group, theorem

from results import figures, store, tables
from results.report import html, write_report
from results.verdicts import verdicts

SETTINGS = tuple(np.linspace(0.1, 1.9, 9))


def groups():
    value, bound = decays(8, SETTINGS)
    diverged = value.copy()
    diverged[0, 5:] = np.nan
    reached = np.exp(-0.02 * CHECKPOINTS) * np.ones((8, 1))
    rewinds = group(value[:8], 2.0, theorem(name="sensitivity_theorem", metric="sensitivity"),
                    algorithm="rewind_to_delete", problem="<logistic>")  # fmt: skip
    rewinds.runs["hp_K"] = np.arange(8) * 100
    return [
        group(value, bound, settings=SETTINGS, more_metrics={"suboptimality": value}),
        group(reached, 1.0, algorithm="nesterov", more_metrics={"suboptimality": reached}),
        group(diverged, bound / 3, settings=SETTINGS, control="the bound is a third of the true one", admitted=False),
        group(value, bound, theorem(name="refused"), settings=SETTINGS, admitted=False, problem="other"),
        group(value, 1.1, theorem(name="mean", holds="in expectation"), settings=SETTINGS, problem="third",
              description={"skipped": [{"algorithm": "svrg", "reason": "svrg needs SAMPLE"}]}),
        rewinds,
    ]  # fmt: skip


def test_records_are_json_without_nan():
    rows = tables.records(verdicts(groups()))
    text = json.dumps(rows, allow_nan=False)
    refused = next(row for row in json.loads(text) if row["theorem"] == "refused")
    assert refused["max_ratio"] is None
    assert refused["verdict"] == "not admitted"
    control = next(row for row in rows if row["role"] == "control")
    assert control["max_ratio"] is None  # infinite
    assert isinstance(control["judged"], int)


def test_terminal_tables_fit_120_columns():
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=False)
    console.print(tables.verdict_terminal(verdicts(groups())))
    console.print(tables.rates_terminal(tables.rates_table(groups())))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 120
    assert any("quadratic[d=20]" in line and "violated" in line for line in lines)


def test_markdown_has_a_line_a_row():
    table, rates = verdicts(groups()), tables.rates_table(groups())
    assert tables.verdict_markdown(table).count("\n| ") == len(table) + 1
    assert tables.rates_markdown(rates).count("\n| ") == len(rates) + 1
    assert (rates.groupby(["theorem", "problem", "role", "algorithm"]).size() <= 6).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.999, "0.999"), (0.98765432, "0.98765"), (1 + 1e-12, "1"), (1234567, "1.23e+06"), (12345.6, "12346"),
     (999.9999, "1000"), (1e-8, "1.00e-08"), (np.nan, "–"), (np.inf, "∞"), (3.14159, "3.14"), (None, "–"), (7, "7")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert tables.number(value) == text


def test_figures_have_stable_names_and_controls_stand_apart(tmp_path):
    names = {path.name for path in figures.save_all(groups(), tmp_path)}
    assert names == {
        "tightness.png",
        "rates.png",
        "performance_profile.png",
        "unlearning_distance.png",
        "trajectory_gradient_descent_gap_theorem.png",
        "control_trajectory_gradient_descent_gap_theorem.png",
        "trajectory_gradient_descent_mean.png",
        "trajectory_gradient_descent_refused.png",
        "trajectory_nesterov_gap_theorem.png",
        "trajectory_rewind_to_delete_sensitivity_theorem.png",
    }
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


def test_a_figure_shows_at_most_six_settings_and_says_so():
    drawn = figures.trajectories(groups()[:1], "gap_theorem", "gradient_descent")
    assert len(drawn.axes[0].get_legend().get_texts()) == 6
    assert "6 settings" in drawn.get_suptitle()


def test_the_report_is_one_file_that_opens_offline(tmp_path):
    path = write_report(groups(), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert "http" not in without_pictures
    assert not re.search(r"<(script|link|iframe)", without_pictures)
    assert set(re.findall(r'src="([^"]*)"', without_pictures)) == {""}
    assert without_pictures.count("<img") == 10
    for expected in ("the bound is a third of the true one", "svrg needs SAMPLE", "0.05", "not admitted",
                     "Author (2020), Theorem 1", "&#34;seeds&#34;", "&lt;logistic&gt;"):  # fmt: skip
        assert expected in without_pictures


def test_a_report_of_controls_alone_or_of_nothing_still_opens():
    assert "1 / 1" in html(groups()[2:3])
    assert "No claim in these results" in html([])


def test_an_unwritable_report_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(store.CannotWrite, match="cannot be written"):
        write_report(groups()[1:2], tmp_path / "file" / "report.html")


def test_verdicts_come_without_plotting_or_jax():
    code = (
        "import sys; import results.schema, results.store, results.verdicts\n"
        "heavy = {'jax', 'matplotlib', 'seaborn', 'scipy', 'statsmodels'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
