"""The section on policy gradients and TD(0): tables, sheets and figures of any subset, on curves made by hand."""

import inspect
from importlib import import_module

import numpy as np
import pytest
from synthetic import beside, group, made, theorem

from results import policy_gradient_figures, report
from results.figures import figures
from results.labels import DECISION
from results.medians import median_interval
from results.policy_gradient_bias import bias_fits, floors
from results.policy_gradient_rates import estimators, sharp
from results.policy_gradient_saddles import curvature, escapes, second_order, second_order_exponents, slopes
from results.policy_gradient_section import policy_gradient_section
from results.verdicts import verdicts

HORIZONS = [1, 2, 5, 10, 15, 20, 40, 50, 60, 80]
MEDIAN = {"holds": "in median", "kind": "exact law"}
CUT = "truncated_exact_policy_gradient"


def make_of(family):
    return import_module(f"problems.decision.{family}").make


def test_the_defaults_of_a_label_are_those_of_the_families():
    for family in DECISION:
        known = inspect.signature(make_of(family)).parameters
        assert DECISION[family] == {name: str(known[name].default) for name in DECISION[family]}, family


@pytest.mark.parametrize("label", ["delay_saddle[gamma=0.8]", "multi_saddle[n=2]", "bilinear_logit"])
def test_the_curvature_of_a_saddle_is_that_of_its_family(label):
    import jax

    family, _, body = label.removesuffix("]").partition("[")
    words = {name: float(value) if "." in value else int(value) for name, value in
             (piece.split("=") for piece in body.split(",") if piece)}  # fmt: skip
    known = jax.jit(lambda key: make_of(family)(key, **words).constants.curvature)(jax.random.key(0))
    assert curvature(left([[1.0]], label, eta=1.0)) == pytest.approx(float(known), rel=1e-12)


def test_a_median_s_interval_covers_it_and_bears_runs_that_never_left():
    rng = np.random.default_rng(1)
    found = [median_interval(rng.normal(size=60)) for _ in range(100)]
    assert 0.88 <= np.mean([low <= 0 <= high for _, low, high in found]) <= 1
    middle, low, high = median_interval(np.array([1.0, 2, 3, np.inf, np.inf, np.inf, np.inf]))
    assert np.isinf(middle) and low in (2, 3) and np.isinf(high)
    assert np.isnan(median_interval(np.array([4.0]))[1])


def cut(gamma=0.9, factor=1.0, bound=5.0, label="garnet", steps=(0, 10)):
    """Return two instances of a bias c gamma^H, c = 1/2 and 1, that differs from its law by a factor."""
    scale = np.outer([0.5, 1.0], gamma ** np.array(HORIZONS, float)).ravel()[:, None] * np.ones(len(steps))
    result = made(factor * scale, label, CUT, steps=np.array(steps), name="truncation_bias", metric="truncation_bias",
                  bound=bound * scale, hyper={"eta": 1.0, "horizon": HORIZONS})  # fmt: skip
    law = np.where(np.tile(HORIZONS, 2)[:, None] >= 20, scale, np.nan)
    return beside(result, theorem(name="truncation_bias_limit", metric="truncation_bias"), law)


def test_the_bias_is_fitted_above_rounding_beside_its_law_and_its_bound():
    table = bias_fits([cut(), cut(0.5, 1.01, bound=0.8, label="garnet[gamma=0.5]")]).set_index("problem")
    assert table.loc["garnet", "slope"] == pytest.approx([np.log(0.9)] * 3)
    assert table.loc["garnet", "constant"] == pytest.approx((0.75, 0.5, 1.0))
    assert table.loc["garnet", ["off_constant", "ratio", "fitted_from", "fitted_to"]].tolist() == pytest.approx(
        [0, 0.2, 40, 80], abs=1e-12
    )
    coarse = table.loc["garnet[gamma=0.5]", ["fitted_to", "off_constant", "ratio"]]
    assert coarse.tolist() == pytest.approx([20, 0.01, 1.01 / 0.8])
    section = policy_gradient_section([cut(factor=1.01, bound=0.8)], set())
    assert [sheet.heading for sheet in section] == ["What is claimed", "Bias against the horizon"]
    (row,) = section[1].rows
    assert row[5] == "yes" and row[-3:] == ("no", "1.26", "no")
    assert "exponents are not claimed" in section[0].caption.replace("\n", " ")


def test_the_floor_is_level_where_the_last_two_horizons_agree():
    levels = np.array([[0.2, 0.101, 0.1], [0.4, 0.2, 0.2]])
    ends = (levels * 0.9 ** np.array([10, 20, 40.0])).ravel()[:, None] * np.ones(2)
    law = np.where(np.arange(6)[:, None] == 2, ends, np.nan)
    result = made(ends, "garnet[l2=0.1]", CUT, steps=np.array([0, 99]), name="truncation_floor",
                  metric="gradient_norm", bound=law, hyper={"eta": 1.0, "horizon": [10, 20, 40]})  # fmt: skip
    table = floors([result])
    assert table["change"].tolist()[1:] == pytest.approx([0.5, 1 - 0.1 / 0.101], rel=1e-6)
    assert table["spoken"].tolist() == [0, 0, 1] and table["off"].iloc[-1] == pytest.approx(0, abs=1e-12)
    (_, sheet) = policy_gradient_section([result], set())
    assert [row[3] for row in sheet.rows[1:]] == ["", "", "yes"]


def left(times, label, algorithm="truncated_policy_gradient", *, law=np.nan, end=300, **hyper):
    """Return runs (seeds x settings) near a saddle for these numbers of steps, 301 where they never left."""
    times = np.asarray(times, float)
    values = np.stack([np.ones(times.size), times.ravel()], axis=1)
    bound = np.stack([np.ones(times.size), np.broadcast_to(law, times.shape).ravel()], axis=1)
    words = MEDIAN if len(times) > 1 else {"kind": "exact law"}
    return made(values, label, algorithm, steps=np.array([0, end]), metric="sum_near_saddle", name="escapes",
                bound=bound, hyper=hyper, words=words)  # fmt: skip


def noisy(batches=(1, 10, 100), off=1.0, seeds=101, eta=0.2):
    """Return escapes whose medians grow by the law's log(10)/(2 log(1 + eta lam)) a decade of the batch."""
    law = 50 + np.log10(batches) * np.log(10) / (2 * np.log1p(eta * 0.9 / 8))
    spread = np.linspace(-20, 20, seeds)[:, None]
    return left(off * law + spread, "delay_saddle[kappa=0.0]", law=law, eta=eta, batch_size=list(batches))


def test_times_to_leave_stand_beside_the_law_and_runs_that_never_left_are_counted():
    table = escapes([noisy()])
    assert table["median"].tolist() == pytest.approx(table["law"].tolist()) and table["within"].all()
    assert not escapes([noisy(off=1.6)])["within"].any()
    law = [7.0, 12.0, 301.0]
    exact = left([[7.0, 10.0, 301.0]], "delay_saddle", CUT, law=law, eta=1.0, horizon=[5, 10, 20])
    table = escapes([exact])
    assert table["within"].tolist() == [True, False, True] and table["left"].tolist() == [1, 1, 0]
    rows = policy_gradient_section([exact], set())[1].rows
    assert rows[3] == ("H = 20", "0 of 1", "never in 300", "never in 300", "yes")
    hidden = left([[301.0]], "bilinear_logit", law=301.0, eta=0.2, batch_size=1)
    assert [sheet.heading for sheet in policy_gradient_section([hidden], set())][1:] == ["Noise that the saddle hides"]
    assert escapes([left([[1.0]], "bilinear_logit", "softmax_policy_gradient", eta=1.0)])["median"].tolist() == [1]


def test_slopes_of_the_time_to_leave_are_fitted_per_decade_per_step_and_per_factor_four():
    horizons = [5, 10, 20, 40, 80]
    grows = np.log1p(0.9 / 8)
    times = [301.0, *(np.array(horizons[1:]) * -np.log(0.9) / grows)]
    cutting = left([times], "delay_saddle", CUT, eta=1.0, horizon=horizons)
    near = [left([[20 - np.log(start) / grows]], f"delay_saddle[start={start}]", "softmax_policy_gradient", eta=1.0)
            for start in (1e-2, 1e-6)]  # fmt: skip
    inner = left([[10.0, 10 + 1.3 * np.log(2) / grows]], "delay_saddle", "actor_critic", eta=1.0, inner_steps=[10, 40])
    table = slopes([noisy(), cutting, *near, inner]).set_index("axis")
    assert table["off"].to_dict() == pytest.approx(
        {"batch_size": 0, "horizon": 0, "start": 0, "inner_steps": 0.3}, abs=1e-9
    )
    assert table["points"].to_dict() == {"batch_size": 3, "horizon": 3, "start": 2, "inner_steps": 2}
    assert table.loc["inner_steps", "bar"] == 0.25 and table.loc["start", "law"] == pytest.approx(np.log(10) / grows)


def accurate(exponent=1.0):
    eps = np.array([0.04, 0.02, 0.01])
    short = np.tile(4 * eps**-exponent, (3, 1)).ravel()
    return made(np.stack([np.ones(9), short], axis=1), "delay_saddle[kappa=0.0]", "truncated_policy_gradient",
                steps=np.array([0, 1000]), metric="sum_short_of_second_order", name="gpomdp_second_order", bound=1e4,
                hyper={"eta": 1.0, "accuracy": list(eps), "batch_size": [32, 128, 512]})  # fmt: skip


def test_exponents_of_second_order_points_are_fitted():
    fit = second_order_exponents([accurate()]).iloc[0]
    assert (fit["steps"], fit["trajectories"]) == (pytest.approx(1), pytest.approx(3))
    assert second_order([accurate()])["reached"].tolist() == [3, 3, 3]
    assert second_order([accurate(2.0)])["reached"].tolist() == [0, 0, 0]  # 2500 steps and more of 1000


def test_sharp_constants_are_read_where_the_law_speaks():
    t, eta = np.array([0, 1000]), 2.0
    law = np.array([2.5, np.nan, 2.5])[:, None] / (eta * np.maximum(t, 1))
    values = np.array([2.5, 9.0, 2.55])[:, None] / (eta * np.maximum(t, 1))
    runs = made(values, "garnet", "softmax_policy_gradient", steps=t, metric="suboptimality",
                name="softmax_policy_gradient_sharp_constant", bound=law, hyper={"eta": eta})  # fmt: skip
    (row,) = sharp([runs]).to_dict("records")
    assert (row["judged"], row["instances"], row["off"]) == (2, 3, pytest.approx(0.02))
    assert row["measured"] == pytest.approx((2.525, 2.5, 2.55)) and row["promised"] == pytest.approx((2.5, 2.5, 2.5))


def estimates(algorithm, prefix, variance, batch=2):
    """Return runs of an estimator whose mean is 1 in the square, with this one-trajectory variance."""
    squares = 1 + variance / batch + np.array([-0.1, 0.1, 0.0])
    runs = made(np.stack([np.zeros(3), squares], axis=1), "garnet[gamma=0.8]", algorithm, steps=np.array([0, 1]),
                metric="estimate_sq", name=f"{prefix}_second_moment", bound=1 + variance / batch,
                hyper={"eta": 1.0, "batch_size": batch, "horizon": 100})  # fmt: skip
    return beside(runs, theorem(name=f"{prefix}_mean", metric="along"), 1.0, {"along": np.ones((3, 2))})


def test_the_price_of_no_bias_is_the_variance_of_one_trajectory():
    groups = [estimates("truncated_policy_gradient", "gpomdp", 2.0),
              estimates("roulette_policy_gradient", "roulette", 6.0),
              estimates("random_horizon_policy_gradient", "random_horizon", 5.0)]  # fmt: skip
    table = estimators(groups)
    assert table["promised"].tolist() == pytest.approx([2, 6, 5])
    assert table["variance"].tolist() == pytest.approx([2, 6, 5])
    (_, sheet) = policy_gradient_section(groups, set())
    assert [row[-2:] for row in sheet.rows[1:]] == [("1", ""), ("3", "no"), ("2.5", "")]
    assert estimators(groups[:1]).empty


def everything():
    inner = left([[10.0, 16.0], [11.0, 17.0]], "delay_saddle", "actor_critic", law=[10.0, 16.0], eta=1.0,
                 inner_steps=[10, 40])  # fmt: skip
    return [cut(), noisy(), inner]


def test_the_report_holds_the_section_with_its_figures_each_once(monkeypatch):
    monkeypatch.setattr(report, "_picture", lambda figure: "")  # drawn, not painted
    groups = everything()
    table = verdicts(groups)
    names = [name for name, _ in figures(groups, table) if name.startswith("policy_gradient")]
    assert names == ["policy_gradient_bias", "policy_gradient_saddle", "policy_gradient_critic"]
    sheets = policy_gradient_section(groups, set(names))
    assert [name for sheet in sheets for name in sheet.figures] == names
    assert all(len(row) in (1, len(sheet.head)) for sheet in sheets for row in sheet.rows)
    text = report.html(groups, table)
    assert all(text.count(f'alt="{name.replace("_", " ")}"') == 1 for name in names)
    assert (
        text.index("<h2>Policy gradient and TD(0)</h2>") < text.index("What is claimed") < text.index("<h2>Rates</h2>")
    )
    assert policy_gradient_section([group(np.ones((3, 24)), 2.0)], set()) == []


@pytest.mark.parametrize("name", ["bias", "saddle"])
def test_every_figure_can_be_painted_and_is_none_without_its_data(tmp_path, name):
    draw = getattr(policy_gradient_figures, f"{name}_figure")
    draw(everything()).savefig(tmp_path / "figure.png", dpi=40)  # warnings are errors
    assert (tmp_path / "figure.png").stat().st_size > 3000
    assert draw([group(np.ones((3, 24)), 2.0)]) is None
