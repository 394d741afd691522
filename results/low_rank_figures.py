"""Figures about low-rank adaptation: exponents, the worst case, ScaledGD on its recursion, methods, starts, tuning."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.low_rank import CLOSE, THEORY, TIGHT, exponents, worst_case
from results.low_rank_methods import GENERIC, NYSTROM, counterexamples, imbalance, scaled
from results.low_rank_tuning import NEAR, tuning
from results.schema import Group
from results.settings import evenly
from results.style import (
    DASHES,
    HELD_COLOUR,
    INK,
    QUIET,
    blank,
    grid,
    headline,
    keys_of,
    legend_below,
    logarithmic,
    looks_of,
    plain_ticks,
    positive,
    short,
    title,
)
from results.tables import lines_of, number

MOST_PANELS, MOST_LINES = 4, 7
BESIDE = 1.07  # factor between dots of one p, which would hide each other
CLIMB = 5  # times the gap at the start that a figure shows
RISE = 100  # the same where runs diverge
LOWEST = 1e-17  # share of the largest value below which nothing is drawn


def exponent_figure(groups: list[Group]) -> Figure | None:
    """Return measured exponents against the promised ones, and their differences against p; None without any."""
    table = exponents(groups)
    table = table.loc[table["promised"].notna()] if len(table) else table
    if table.empty:
        return None
    looks = looks_of(list(dict.fromkeys(table["rule"])))
    figure, (left, right) = blank(9.6, 4.0, 1, 2)
    for number_of, (rule, (colour, marker)) in enumerate(looks.items()):
        rows = table.loc[table["rule"] == rule]
        beside = BESIDE ** (number_of - (len(looks) - 1) / 2)
        dots: dict[str, Any] = {"fmt": marker, "color": colour, "ms": 6, "mec": "white", "mew": 0.6}
        left.errorbar(rows["promised"], rows["measured"], yerr=rows["half"], **dots)
        right.errorbar(rows["p"] * beside, rows["difference"], yerr=rows["half"], **dots)
    span = [min(table[["promised", "measured"]].min()) - 0.1, max(table[["promised", "measured"]].max()) + 0.1]
    left.plot(span, span, color=QUIET, lw=1, ls="--", zorder=0)
    left.set(xlabel="promised exponent", ylabel="measured exponent", xlim=span, ylim=span)
    title(left, "on the dashed line: as promised")
    right.axhspan(-CLOSE, CLOSE, color=HELD_COLOUR, alpha=0.1, lw=0)
    right.axhline(0, color=QUIET, lw=1, ls="--", zorder=0)
    reach = 1.15 * max(1.2 * CLOSE, (table["difference"].abs() + table["half"]).max())
    right.set(xlabel="power p of the loss", ylabel="measured − promised", ylim=(-reach, reach), xscale="log")
    plain_ticks(right, sorted(table["p"].unique()))
    title(right, "band: within 0.01")
    legend_below(figure, keys_of(looks, ls=""))
    headline(figure, "Where adapters escape: exponent of the running minimum of |grad J|², last two decades of steps")
    return figure


def worst_case_figure(groups: list[Group]) -> Figure | None:
    """Return measured / (A2) at the end of the worst case's slope against the horizon; None for fewer than two."""
    table = worst_case(groups)
    if len(table) < 2:
        return None
    figure, (axis,) = blank(6.4, 3.6)
    looks = looks_of(list(dict.fromkeys(zip(table["rule"], table["c"], strict=True))))  # type: ignore[arg-type]
    for (rule, c), (colour, marker) in looks.items():  # type: ignore[misc]
        rows = table.loc[(table["rule"] == rule) & (table["c"] == c)]
        axis.plot(rows["T"], rows["ratio"], color=colour, marker=marker, ms=5, lw=1.5)
    axis.axhspan(*TIGHT, color=HELD_COLOUR, alpha=0.1, lw=0)
    low, high = min(table["ratio"].min(), TIGHT[0]), max(table["ratio"].max(), TIGHT[1])
    axis.set(xscale="log", xlabel="horizon T", ylabel="measured / bound", ylim=(low - 0.05, high + 0.05))
    axis.minorticks_off()
    legend_below(figure, keys_of({f"{rule}, c = {number(c)}": look for (rule, c), look in looks.items()}, lw=1.5))  # type: ignore[misc]
    headline(figure, "Worst case: measured / bound against the horizon; level means that the rate 1/√T is attained")
    return figure


SCALED_TITLES = {
    ("one factor", NYSTROM): "one factor, Nystrom start: max |u − 1| on its recursion",
    ("one factor", GENERIC): "one factor, generic start: the part off the range, (1 − η)ᵗ",
    ("two factors", NYSTROM): "two factors, Nystrom start: |BA − M| on its recursion",
    ("two factors", GENERIC): "two factors, generic start: |BA − M|, in the end (1 − η)ᵗ",
}


def scaled_figure(groups: list[Group]) -> Figure | None:
    """Return ScaledGD (dots) on its laws (lines), a panel a start, a colour a condition number, one run each; or None.

    Of several step sizes that nearest 1/2; of several problems of one condition number the first.
    """
    table = scaled(groups)
    if table.empty:
        return None
    table = table.loc[(table["eta"] - 0.5).abs() == (table["eta"] - 0.5).abs().min()]
    table = table.drop_duplicates(["factors", "start", "kappa"])
    kappas = evenly(sorted(table["kappa"].unique()), MOST_LINES)
    looks = looks_of([f"κ = {number(kappa)}" for kappa in kappas])
    panels = [key for key in SCALED_TITLES if ((table["factors"] == key[0]) & (table["start"] == key[1])).any()]
    figure, axes = grid(len(panels), 4.4 if len(panels) < 3 else 3.5, 3.4)
    for axis, (factors, start) in zip(axes, panels, strict=True):
        rows = table.loc[(table["factors"] == factors) & (table["start"] == start)]
        for row in lines_of(rows.loc[rows["kappa"].isin(kappas)]):
            _scaled_line(axis, row, *looks[f"κ = {number(row.kappa)}"])
        axis.set(xlabel="step t", ylabel=rows["metric"].iloc[0].replace("_", " "))
        logarithmic(axis)
        title(axis, SCALED_TITLES[factors, start])
    law = Line2D([], [], color=INK, lw=1.3, label="law")
    legend_below(figure, [*keys_of(looks, ls=""), law])
    eta = number(table["eta"].iloc[0])
    headline(
        figure, f"ScaledGD: measured (dots) on its exact laws (lines), η = {eta}; only the start makes it quadratic"
    )
    return figure


def _scaled_line(axis: Axes, row: Any, colour: str, marker: str) -> None:
    least = max(row.floor, LOWEST * np.nanmax(row.values))
    measured = np.where(row.values >= least / 10, positive(row.values), np.nan)
    axis.plot(row.times, measured, marker=marker, ms=4.5, ls="" if np.isfinite(row.law).any() else ":", color=colour)
    axis.plot(row.times, np.where(row.law >= least, positive(row.law), np.nan), color=colour, lw=1.3)


def method_figure(groups: list[Group]) -> Figure | None:
    """Return the gap of low-rank methods against steps on the counter-examples, each at its best setting; or None."""
    table = counterexamples(groups)
    if table.empty:
        return None
    problems = evenly(list(dict.fromkeys(table["problem"])), MOST_PANELS)
    looks = looks_of(list(dict.fromkeys(table["method"])))
    figure, axes = grid(len(problems), 4.6, 3.6)
    for axis, problem in zip(axes, problems, strict=True):
        best = table.loc[table["problem"] == problem].drop_duplicates("method")
        for row in lines_of(best):
            _method_line(axis, row, *looks[row.method])
        axis.set(xscale="log", xlabel="step t", ylabel="gap of the loss")
        logarithmic(axis)
        axis.set_ylim(top=min(axis.get_ylim()[1], RISE * best["start"].max()))
        title(axis, short(problem, 110))
    lost = table.groupby("method")[["diverged", "seeds"]].sum()
    said = {name: f" ({number(lost.loc[name, 'diverged'])} of {number(lost.loc[name, 'seeds'])} runs diverged)"
            if lost.loc[name, "diverged"] else "" for name in looks}  # fmt: skip
    figure.legend(handles=keys_of({name + said[name]: look for name, look in looks.items()}), frameon=False, fontsize=8,
                  loc="outside lower center", ncols=2 if len(problems) > 1 or len(looks) > 3 else 1)  # fmt: skip
    notes = "median and range over seeds; diverged runs are those of all its settings"
    headline(figure, f"Low-rank steps on the counter-examples to LoRA, each method at its best setting ({notes})")
    return figure


def _method_line(axis: Axes, row: Any, colour: str, marker: str) -> None:
    """Draw the median and the range over lanes; rounding below 1e-17 of the start is left out."""
    seen = row.times >= 1
    curves = np.where(np.isfinite(row.curves), row.curves, np.inf)[:, seen]
    low, middle, high = (positive(np.quantile(curves, q, axis=0, method="lower")) for q in (0, 0.5, 1))
    least = LOWEST * row.start
    middle, low = (np.where(values > least, values, np.nan) for values in (middle, low))
    every = max(1, int(seen.sum()) // 12)
    axis.plot(row.times[seen], middle, color=colour, marker=marker, ms=4.5, markevery=every, lw=1.6)
    axis.fill_between(row.times[seen], low, high, color=colour, alpha=0.12, lw=0)


def imbalance_figure(groups: list[Group]) -> Figure | None:
    """Return iterations to 1e-12 of the gap against the imbalance of the start, a line a method; or None.

    Each method at its best setting; where it does not get there, hollow at the end of the run.
    """
    table = imbalance(groups)
    if table.empty:
        return None
    methods: Any = table.groupby("problem")["method"].transform("nunique")
    table = table.loc[methods == methods.max()]  # a panel compares
    problems = evenly(list(dict.fromkeys(table["problem"])), MOST_PANELS)
    looks = looks_of(list(dict.fromkeys(table["method"])))
    figure, axes = grid(len(problems), 5.2 if len(problems) == 1 else 4.4, 3.4)
    for axis, problem in zip(axes, problems, strict=True):
        there = table.loc[table["problem"] == problem]
        for method, (colour, marker) in looks.items():
            rows = _best_setting(there.loc[there["method"] == method])
            reached = np.isfinite(rows["iterations"].to_numpy(float))
            heights = np.where(reached, rows["iterations"], rows["steps"])
            axis.plot(rows["imbalance"], heights, color=colour, marker=marker, ms=5, lw=1.5)
            axis.plot(rows["imbalance"][~reached], heights[~reached], ls="", marker=marker, mfc="white", mec=colour,
                      ms=6, zorder=3)  # fmt: skip
        highest = axis.dataLim.ymax if np.isfinite(axis.dataLim.ymax) else 1.0
        axis.set(xscale="log", ylim=(0, 1.1 * highest), xlabel="imbalance of the start", ylabel="iterations to 1e-12")
        plain_ticks(axis, sorted(there["imbalance"].unique()))
        title(axis, short(problem, 110))
    legend_below(figure, keys_of(looks, lw=1.5))
    notes = "median over seeds, each method at its best setting; hollow: not reached when the run ended"
    headline(figure, f"Imbalance of the start against iterations until the gap is 1e-12 of its start ({notes})")
    return figure


def _best_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the setting that takes the fewest iterations, summed over the imbalances."""
    if rows.empty:
        return rows
    cost = rows["iterations"].where(np.isfinite(rows["iterations"]), 2 * rows["steps"]).groupby(rows["setting"]).sum()
    return rows.loc[rows["setting"] == cost.idxmin()].sort_values("imbalance")


def tuning_figure(groups: list[Group]) -> Figure | None:
    """Return the gap at the end against the step size, a line a rule, a panel a problem; or None.

    Rules with a proven step have thick dashes and stand at their c; step sizes with a lane that diverged are left out.
    """
    table = tuning(groups)
    if table.empty:
        return None
    problems = evenly(list(dict.fromkeys(table["problem"])), MOST_PANELS)
    looks = looks_of(list(dict.fromkeys(table["rule"])))
    figure, axes = grid(len(problems), 5.4 if len(problems) == 1 else 4.6, 3.8)
    for axis, problem in zip(axes, problems, strict=True):
        there = table.loc[(table["problem"] == problem) & np.isfinite(table["gap"])]
        highest = RISE * CLIMB * there["start"].max()  # far above what is drawn
        there = there.assign(gap=there["gap"].clip(upper=highest), half=there["half"].clip(upper=highest))
        for rule, look in looks.items():
            _tuning_line(axis, there.loc[there["rule"] == rule], rule, *look)
        axis.axhline(NEAR, color=QUIET, lw=1.1, ls=":")
        axis.set(xscale="log", xlabel="step size: η, α or c of the rule", ylabel="gap of the loss at the end")
        logarithmic(axis)
        axis.set_ylim(top=min(axis.get_ylim()[1], CLIMB * there["start"].max()))
        title(axis, f"{problem}, {number(there['steps'].iloc[0])} steps")
    near = Line2D([], [], color=QUIET, lw=1.1, ls=":", label=f"gap {NEAR}")
    legend_below(figure, [*keys_of(looks, lw=1.5), near])
    notes = f"mean over seeds, 95 % band; dashed: proven steps; gaps up to {CLIMB} times the start; reported, no bar"
    headline(figure, f"Equal tuning of step rules: gap at the end for every step size tried ({notes})")
    return figure


def _tuning_line(axis: Axes, rows: pd.DataFrame, rule: str, colour: str, marker: str) -> None:
    theory, values = rule in THEORY, rows["value"].to_numpy(float)
    gap, half = rows["gap"].to_numpy(float), np.nan_to_num(rows["half"].to_numpy(float))
    if not np.isfinite(values).any():
        for height in gap:
            axis.axhline(height, color=colour, ls=DASHES, lw=1.5)
        return
    axis.plot(values, gap, color=colour, marker=marker, ms=4.5, ls=DASHES if theory else "-", lw=2 if theory else 1.4)
    axis.fill_between(values, positive(np.maximum(gap - half, gap / 10)), gap + half, color=colour, alpha=0.13, lw=0)
