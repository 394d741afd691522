"""Figures about cost: the performance profile of the methods, and what unlearning pays for privacy and utility."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, ScalarFormatter

from results.schema import CONTROL, Group
from results.store import merge
from results.style import INK, QUIET, band, blank, grid, headline, legend_below, spread, title
from results.unlearning import RETRAINED, UTILITIES, ends, published_noisily

COST_METRIC = "suboptimality"
MOST_PANELS, FEW_PANELS = 8, 4
COST = "cost: K / T"


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


def front(groups: list[Group]) -> Figure | None:
    """Return utility of the published model against K/T, a line an epsilon; None where no method publishes with noise.

    Utility is the first of `UTILITIES` recorded on a problem; where some problem records an accuracy, those alone are
    shown. Dashed is without noise (`noise_scale` 0), dotted the retrained model. A panel a problem and method.
    """
    rows = ends(groups)
    rows = rows.loc[rows["fraction"].notna() & rows["epsilon"].notna()]
    rows = rows.loc[published_noisily(rows)] if len(rows) else rows
    panels = []
    for (problem, algorithm), there in list[Any](rows.groupby(["problem", "algorithm"])):
        utility = next((name for name in UTILITIES if there[name].notna().any()), None)
        if utility and there["fraction"].nunique() > 1:
            panels.append((UTILITIES.index(utility), -there["epsilon"].nunique(), problem, algorithm, there))
    panels = sorted(panels, key=lambda panel: panel[:4])
    panels = [panel for panel in panels if panel[0] == 0][:MOST_PANELS] or panels[:FEW_PANELS]
    if not panels:
        return None
    epsilons = sorted({epsilon for *_, there in panels for epsilon in there["epsilon"]})
    colours = dict(zip(epsilons, sns.color_palette("crest", len(epsilons)), strict=True))
    figure, axes = grid(len(panels))
    for axis, (index, _, problem, algorithm, there) in zip(axes, panels, strict=True):
        _front_panel(axis, there, UTILITIES[index], colours)
        title(axis, f"{algorithm} on {problem}")
    handles = [Line2D([], [], color=c, marker="o", ms=4.5, label=f"ε = {e:g}") for e, c in colours.items()]
    handles += [Line2D([], [], color=INK, ls=(0, (4, 2)), marker="o", ms=3, label="without noise")]
    legend_below(figure, [*handles, Line2D([], [], color=QUIET, ls=":", lw=1.6, label="retrained model")])
    headline(
        figure, "Privacy, utility, complexity: the published model against the cost of unlearning (median, 10–90 %)"
    )
    return figure


def _front_panel(axis: Axes, rows: Any, utility: str, colours: dict[float, Any]) -> None:
    noisy, quiet = rows.loc[rows["noise_scale"] != 0], rows.loc[rows["noise_scale"] == 0]
    retrained = rows[RETRAINED + utility].mean()
    if np.isfinite(retrained):
        axis.axhline(retrained, color=QUIET, ls=":", lw=1.6)
    band(axis, spread(quiet, utility), INK, ls=(0, (4, 2)), ms=3)
    for epsilon, colour in colours.items():
        band(axis, spread(noisy.loc[noisy["epsilon"] == epsilon], utility), colour)
    axis.set(xlabel=COST, ylabel=utility.replace("_", " "))
    values = rows[utility].to_numpy(float)
    values = values[np.isfinite(values)]
    if utility != UTILITIES[0] and len(values) and 0 < 100 * values.min() < values.max():
        axis.set_yscale("log")
