"""Tables, sheets and figures on TD(0), the critic's bias and regret, on curves made by hand."""

import numpy as np
import pytest
from synthetic import beside, group, made, theorem

from results import policy_gradient_evaluation_figures
from results.policy_gradient_evaluation import critic_bias, starts, steady, thresholds
from results.policy_gradient_regret import coverage, plug_in, transfers
from results.policy_gradient_section import policy_gradient_section

TD = "temporal_difference_moments"


def chain_error(eta=0.5, factor=0.9, count=3, apart=0.0):
    """Return the error from each state: limit 2 eta, what the start changes decays by a factor."""
    t = np.array([0, 1, 10, 100, 1000])
    decay = factor ** np.minimum(t, 500)
    values = 2 * eta * (1 + np.outer(np.arange(count), decay)) + apart * np.arange(count)[:, None]
    runs = made(values, "markov_reward_process", TD, steps=t, metric="mean_square_error", name=f"{TD}_limit",
                bound=np.where(t == 1000, 2 * eta, np.nan), seeds=[0],
                hyper={"eta": eta, "decay": 0.0, "start": list(range(count)), "sampling": "markov"})  # fmt: skip
    stationary = 2 * eta * np.ones((count, 5))
    more = {"stationary_mean_square_error": stationary, "difference_factor": np.full((count, 5), factor * 1.01)}
    record = theorem(name=f"{TD}_change_of_measure", metric="mean_square_error")
    runs = beside(runs, record, 10 * stationary, more)
    return beside(runs, theorem(name=f"{TD}_difference_factor", metric="difference_factor"), factor)


def test_starts_of_td_are_compared_at_the_end_and_along_the_run():
    table = starts([chain_error(), chain_error(0.1, apart=0.01)])
    assert table["apart"].tolist() == pytest.approx([0.1, 0], abs=1e-12)
    assert table[["ratio", "most", "factor_off"]].iloc[1].tolist() == pytest.approx([3, 10, 0.01])
    (_, sheet) = policy_gradient_section([chain_error()], set())
    passes = dict(zip(sheet.head, sheet.rows[1], strict=True))
    assert [passes[name] for name in ("at most 1e-7", "within 1e-3", "at most 1/ρ_min")] == ["yes", "no", "yes"]


def small_steps(sampling, law):
    name = f"{TD}_{'long_run' if sampling == 'markov' else 'white_noise'}"
    runs = made(np.full((2, 2), law * 1.001), "markov_reward_process", TD, steps=np.array([0, 9]), name=name,
                metric="steady_slope", bound=law, seeds=[0],
                hyper={"eta": [0.1, 0.01], "decay": 0.0, "sampling": sampling})  # fmt: skip
    return beside(runs, theorem(name=f"{TD}_limit", metric="steady_slope"), np.array([[0.1 * law], [np.nan]]))


def test_small_steps_of_td_stand_beside_both_predictions():
    table = steady([small_steps("markov", 3.0), small_steps("iid", 2.0)])
    assert table["law"].tolist() == [3, 3, 2, 2] and table["other"].tolist() == [2, 2, 3, 3]
    assert table["scaled"].tolist()[::2] == pytest.approx([3, 2]) and table["scaled"].isna().sum() == 2
    (_, sheet) = policy_gradient_section([small_steps("markov", 3.0)], set())
    assert sheet.rows[1][4:6] == ("0.1 %", "yes") and sheet.rows[1][-2:] == ("–", "–")


def growing():
    """Return steps below and beyond stability, of which the second overflows."""
    t = np.array([0, 10, 100, 1000])
    law = np.array([[1.0], [1.5]]) * np.where(t > 10, 1.0, np.nan)
    runs = made([[1, 1, 1, 1], [1, 1.4, 1.5, np.nan]], "markov_reward_process", TD, steps=t, metric="growth",
                name=f"{TD}_threshold", bound=law, seeds=[0],
                hyper={"eta": [0.5, 2.0], "decay": 0.0, "start": 0, "sampling": "markov"})  # fmt: skip
    mean = np.array([[0.8, 0.8, 0.8, 0.8], [0.9, 0.9, 0.9, 1.5]])
    return beside(runs, theorem(name=f"{TD}_mean_factor", metric="mean_difference_factor"), mean[:, 1:2] + 0 * law,
                  {"mean_difference_factor": mean})  # fmt: skip


def test_stability_is_read_before_overflow():
    table = thresholds([growing()])
    assert table["growth"].tolist() == [1, 1.5] and table["mean"].tolist() == [0.8, 0.9]
    (_, sheet) = policy_gradient_section([growing()], set())
    assert [(row[4], row[5], row[-1]) for row in sheet.rows[1:]] == [("converges", "yes", "converges"),
                                                                   ("diverges", "yes", "converges")]  # fmt: skip


def critic(rank="2", power=-1.0, floor=0.1):
    N = np.array([0, 1, 10, 100, 200, 500, 1000])
    excess = np.maximum(N, 1.0) ** power
    runs = made(excess, "garnet[spread=0.0]", "critic_moments", steps=N, metric="bias_excess", name="critic_bias_decay",
                bound=excess, hyper={"rank": rank, "restart": 0.1})  # fmt: skip
    metrics = {"mean_bias_sq": (floor + excess)[None], "bias_floor": np.full((1, 7), floor)}
    return beside(runs, theorem(name="critic_bias_floor", metric="mean_bias_sq"), floor, metrics)


def test_the_critic_s_bias_decays_to_its_floor():
    table = critic_bias([critic(), critic("0", -0.5, 0.0)]).set_index("rank")
    assert table.loc["2", "decay"] == pytest.approx([-1] * 3) and table.loc["2", "over"] == pytest.approx(0.01)
    assert table.loc["0", "decay"] == pytest.approx([-0.5] * 3) and np.isnan(table.loc["0", "over"])
    (_, sheet) = policy_gradient_section([critic(), critic("0", -0.5, 0.0)], set())
    assert [(row[3], row[6], row[7]) for row in sheet.rows[1:]] == [("no", "no floor", "–"), ("yes", "1 %", "yes")]


ROUNDS = np.array([0, 1, 50, 1000, 5000])


def transferring(late=1.0):
    """Return regret t/2 against t, at the end `late` times as much."""
    own = np.outer([0.9, 1.1], ROUNDS * 0.5)
    own[:, -1] *= late
    more = {"plug_in_cumulative_regret": np.outer([1, 1], ROUNDS)}
    return made(own, "kl_bandit", "transfer_policy", steps=ROUNDS, metric="cumulative_regret",
                name="transfer_early_gain", bound=9e9, more_metrics=more)  # fmt: skip


def plugging():
    values = np.outer([0.98, 1.06], 2 / np.maximum(ROUNDS, 1))
    law = np.where(ROUNDS >= 1000, 2 / np.maximum(ROUNDS, 1), np.nan)
    runs = made(values, "kl_bandit[A=5,beta=1.0]", "plug_in_policy", steps=ROUNDS, metric="regret",
                name="plug_in_regret", bound=law)  # fmt: skip
    record = theorem(name="plug_in_coverage", metric="chi_square")
    return beside(runs, record, 3.0, {"chi_square": np.full((2, 5), 1.5)})


def test_regret_of_transfer_plug_in_s_law_and_coverage():
    assert np.isinf(transfers([transferring()])["ahead"].iloc[0])
    row = transfers([transferring(3.0)]).iloc[0]
    assert (row["ahead"], row["early"]) == (1000, pytest.approx(0.5)) and row["own"][3] == pytest.approx(500)
    row = plug_in([plugging()]).iloc[0]
    assert (row["value"], row["law"], row["formula"], row["off"]) == pytest.approx((2.04, 2, 2, 0.02))
    assert coverage([plugging()])["plug_in_coverage"].tolist() == [0.5]
    headings = [sheet.heading for sheet in policy_gradient_section([transferring(), plugging()], set())]
    assert headings[1:] == ["Regret of transfer against plug-in", "Regret of the plug-in policy",
                            "Coverage of the plug-in policy"]  # fmt: skip


@pytest.mark.parametrize("name", ["starts", "critic", "regret"])
def test_every_figure_can_be_painted_and_is_none_without_its_data(tmp_path, name):
    groups = [chain_error(), critic(), critic("0", -1.0, 0.0), transferring(3.0), plugging()]
    draw = getattr(policy_gradient_evaluation_figures, f"{name}_figure")
    draw(groups).savefig(tmp_path / "figure.png", dpi=40)  # warnings are errors
    assert (tmp_path / "figure.png").stat().st_size > 3000
    assert draw([group(np.ones((3, 24)), 2.0)]) is None
    sheets = policy_gradient_section(groups, {f"policy_gradient_{name}"})
    assert sum(f"policy_gradient_{name}" in sheet.figures for sheet in sheets) == 1
    assert all(len(row) in (1, len(sheet.head)) for sheet in sheets for row in sheet.rows)
