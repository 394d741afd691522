"""Figures about cost: the performance profile of the methods, and what unlearning pays for privacy and utility."""

import itertools

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, ScalarFormatter

from results.schema import CLAIM, CONTROL, Group
from results.store import merge
from results.style import blank, headline, title

COST_METRIC, SENSITIVITY, UTILITY = "suboptimality", "sensitivity", ("suboptimality", "value", "gradient_norm_sq")
MOST_COLUMNS = 4


def costs_to_reach(groups: list[Group], metric: str, accuracy: float) -> pd.DataFrame:
    """Return oracle calls until `metric` is at most `accuracy` times its start, one row a lane of the claims.

    `cost` is infinite where the accuracy is never reached; `setting` is the group's and setting's number.
    """
    pieces = []
    for number, group in enumerate(groups):
        if metric not in group.metrics or group.role == CONTROL:
            continue
        values = group.metrics[metric]
        reached = values <= accuracy * values[:, :1]
        first = group.checkpoints[np.argmax(reached, axis=1)].astype(float) * group.calls_per_step
        piece = group.runs[["algorithm", "problem", "seed"]].assign(
            setting=[f"{number}.{setting}" for setting in group.runs["setting"]],
            cost=np.where(reached.any(1), np.maximum(first, 1), np.inf),
        )
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()


def performance_profile(groups: list[Group], metric: str = COST_METRIC, accuracy: float = 1e-3) -> Figure | None:
    """Return the Dolan-More profile of the algorithms, None where no two share a problem.

    A task is a problem x seed; each algorithm runs at its best setting on the problem (smallest median cost). The curve
    is the fraction of the tasks that the algorithm was given on which it needs at most tau times the fewest calls.
    """
    costs = costs_to_reach(merge(groups), metric, accuracy)
    if costs.empty:
        return None
    several = costs.drop_duplicates(["problem", "algorithm"])["problem"].value_counts() > 1
    costs = costs.loc[costs["problem"].isin(several.index[several])]
    if costs.empty:
        return None
    with np.errstate(invalid="ignore"):
        medians = costs.groupby(["algorithm", "problem", "setting"])["cost"].median().reset_index(name="median")
    best = medians.sort_values("median", kind="stable").drop_duplicates(["algorithm", "problem"])
    costs = costs.merge(best[["algorithm", "problem", "setting"]])
    fewest = costs.groupby(["problem", "seed"])["cost"].transform("min")
    costs = costs[np.isfinite(fewest)].assign(tau=lambda rows: rows["cost"] / fewest[np.isfinite(fewest)])
    if costs.empty:
        return None
    return _profile_figure(costs, metric, accuracy)


def _profile_figure(costs: pd.DataFrame, metric: str, accuracy: float) -> Figure:
    figure, (axis,) = blank(6.4, 4.0)
    names = sorted(costs["algorithm"].unique())
    finite = costs["tau"][np.isfinite(costs["tau"])]
    end = max(2.0, float(finite.max()) * 1.3)
    styles = ["-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1, 1, 1))]
    colours = sns.color_palette("colorblind", 10)
    solved = {name: np.isfinite(costs.loc[costs["algorithm"] == name, "tau"]).mean() for name in names}
    for index, name in enumerate(sorted(names, key=lambda name: -solved[name])):
        tau = np.sort(costs.loc[costs["algorithm"] == name, "tau"].to_numpy(float))
        share = np.arange(1, len(tau) + 1) / len(tau)
        x = np.concatenate([[1], tau[np.isfinite(tau)], [end]])
        y = np.concatenate([[np.mean(tau <= 1)], share[np.isfinite(tau)], [np.mean(np.isfinite(tau))]])
        axis.step(x, y, where="post", color=colours[index % 10], ls=styles[index // 10 % 4], lw=1.6, label=name)
    axis.set(
        xscale="log", xlim=(1, end), ylim=(-0.02, 1.04), xlabel="calls / fewest calls, τ", ylabel="fraction of tasks"
    )
    headline(figure, f"Oracle calls to bring {metric} to {accuracy:g} of its start, best setting of each method")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def _front_rows(group: Group, metric: str) -> pd.DataFrame:
    """Return the last values of `metric` with the rewind fraction K/T (T of the setting, or the steps of the run)."""
    runs = group.runs
    T = runs["hp_T"] if "hp_T" in runs else runs["steps"]
    return pd.DataFrame(
        {
            "algorithm": runs["algorithm"],
            "problem": runs["problem"],
            "fraction": runs["hp_K"].astype(float) / T.astype(float),
            "value": group.metrics[metric][:, -1],
        }
    )


def front(groups: list[Group]) -> Figure | None:
    """Return privacy and utility against cost for unlearning methods, None where none records `sensitivity` and K.

    Cost is the rewind fraction K/T, privacy the distance to the retrained model (the smaller, the less noise hides it),
    utility the first of suboptimality, value and gradient norm that is recorded of the published model. A column a
    problem, those with most methods first; median and 10-90 % over lanes.
    """
    speaking = [g for g in merge(groups) if SENSITIVITY in g.metrics and "hp_K" in g.runs and g.role == CLAIM]
    if not speaking:
        return None
    useful = next((name for name in UTILITY if any(name in group.metrics for group in speaking)), None)
    metrics = [SENSITIVITY, *([useful] if useful else [])]
    rows = pd.concat(
        [_front_rows(g, metric).assign(metric=metric) for g in speaking for metric in metrics if metric in g.metrics]
    )
    pairs = sorted(set(zip(rows["problem"], rows["algorithm"], strict=True)))
    methods = sorted({algorithm for _, algorithm in pairs})
    by_methods = sorted({problem for problem, _ in pairs}, key=lambda name: -sum(name == p for p, _ in pairs))
    problems = by_methods[:MOST_COLUMNS]
    colours = dict(zip(methods, sns.color_palette("colorblind", len(methods)), strict=True))
    figure, axes = blank(3.4 * max(len(problems), 1.6), 3.1 * len(metrics), len(metrics), len(problems))
    for axis, (metric, problem) in zip(axes, itertools.product(metrics, problems), strict=True):
        _front_panel(axis, rows.loc[(rows["metric"] == metric) & (rows["problem"] == problem)], colours)
        side = "privacy" if metric == SENSITIVITY else "utility"
        axis.set(xlabel="cost: rewind fraction K / T", ylabel=f"{side}: {metric}")
        title(axis, problem)
    marks = [Line2D([], [], color=colour, marker="o", ms=4, label=name) for name, colour in colours.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=8)
    headline(figure, "Unlearning: what rewinding buys (median and 10–90 % over runs)")
    return figure


def _front_panel(axis: Axes, rows: pd.DataFrame, colours: dict[str, tuple[float, float, float]]) -> None:
    rows = rows.loc[np.isfinite(rows[["value", "fraction"]].to_numpy()).all(1)]
    for algorithm, colour in colours.items():
        chosen = rows[rows["algorithm"] == algorithm]
        spread = pd.DataFrame({q: chosen.groupby("fraction")["value"].quantile(q) for q in (0.1, 0.5, 0.9)})
        axis.plot(spread.index, spread[0.5], "o-", color=colour, ms=4, lw=1.5)
        axis.fill_between(spread.index, spread[0.1], spread[0.9], color=colour, alpha=0.18, lw=0)
    values = rows["value"].to_numpy()
    if len(values) and (values > 0).all():
        axis.set_yscale("log")
