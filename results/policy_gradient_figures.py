"""Figures about policy gradients: the bias of a cut return against its horizon, times to leave a saddle."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.policy_gradient_bias import biases
from results.policy_gradient_saddles import AXES, escapes
from results.policy_gradient_sheets import TITLES
from results.schema import Group
from results.settings import evenly
from results.style import (
    DASHES,
    INK,
    blank,
    headline,
    keys_of,
    logarithmic,
    looks_of,
    plain_ticks,
    positive,
    short,
    title,
)
from results.tables import lines_of, number

MOST_LINES = 6
LABELS = {"batch_size": "batch size B", "horizon": "horizon H", "start": "start v·x₀", "s_iso": "noise s",
          "inner_steps": "inner steps N"}  # fmt: skip


def bias_figure(groups: list[Group]) -> Figure | None:
    """Return the bias against the horizon, a colour a problem, between its law and its bound; None without any.

    Dots: median over instances, the band their range; dashed: the law's constant times gamma^H, drawn for every H
    though it speaks of large ones; dotted: the bound. Medians over instances.
    """
    table = biases(groups)
    if table.empty:
        return None
    problems = evenly(sorted(table["problem"].unique()), MOST_LINES)
    looks = looks_of(problems)
    figure, (axis,) = blank(7.6, 4.6)
    for problem, look in looks.items():
        _bias_line(axis, table.loc[table["problem"] == problem], *look)
    axis.set(xlabel="horizon H", ylabel="|grad J − grad J_H| at the start")
    logarithmic(axis)
    words = [Line2D([], [], color=INK, lw=1.2, ls=DASHES, label="law: γ^H |grad h|/(1−γ)"),
             Line2D([], [], color=INK, lw=1.2, ls=":", label="bound")]  # fmt: skip
    named = {short(problem, 60): look for problem, look in looks.items()}
    handles = [*keys_of(named, ls=""), *words]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    headline(figure, "Truncation bias against the horizon: median and range over instances (dots, band), on the law")
    return figure


def _bias_line(axis: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    by_horizon = rows.groupby("horizon")
    horizons = np.array(sorted(rows["horizon"].unique()))
    gamma, spoken = rows["gamma"].iloc[0], rows.dropna(subset=["law"])
    constant = (spoken["law"] / gamma ** spoken["horizon"]).median()
    low, middle, high = (positive(getattr(by_horizon["bias"], name)()) for name in ("min", "median", "max"))
    axis.fill_between(horizons, low, high, color=colour, alpha=0.15, lw=0)
    axis.plot(horizons, middle, color=colour, marker=marker, ms=5, ls="", mec="white", mew=0.5, zorder=3)
    axis.plot(horizons, constant * gamma**horizons, color=colour, lw=1.2, ls=DASHES)
    axis.plot(horizons, positive(by_horizon["bound"].median()), color=colour, lw=1.2, ls=":")


def saddle_figure(groups: list[Group]) -> Figure | None:
    """Return steps until a strict saddle is left, a panel a method, over the law; None without any.

    The critic's noise has its place in the figure on actor-critic.
    """
    table = escapes(groups)
    table = table.loc[np.isfinite(table["median"]) & (table["axis"] != "inner_steps")] if len(table) else table
    several: Any = table.groupby("algorithm")["at"].transform("nunique") if len(table) else None
    if several is None or not (several > 1).any():
        return None
    table = table.loc[several > 1]
    panels = [name for name in AXES if (table["algorithm"] == name).any()]
    rows, columns = (2, 2) if len(panels) == 4 else (1, len(panels))
    figure, axes = blank((4.6 if columns < 3 else 3.5) * max(columns, 1.4), 3.6 * rows, rows, columns)
    for axis, algorithm in zip(axes, panels, strict=True):
        escape_panel(axis, table.loc[table["algorithm"] == algorithm])
        title(axis, TITLES[algorithm])
    law = Line2D([], [], color=INK, lw=1.3, label="law")
    figure.legend(handles=[law, Line2D([], [], color=INK, ls="", marker="o", ms=4.5, label="measured")], frameon=False,
                  fontsize=8, loc="outside lower center", ncols=2)  # fmt: skip
    headline(figure, "Steps until a strict saddle is left: median over seeds, 95 % interval (dots) on the law (lines)")
    return figure


def escape_panel(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the time to leave of one method against what it is measured against, a colour a problem and step size."""
    rows = rows.assign(name=[f"{row.problem}, η = {number(row.eta)}" for row in lines_of(rows)])
    looks = looks_of(evenly(list(dict.fromkeys(rows["name"])), MOST_LINES))
    for name, (colour, marker) in looks.items():
        there = rows.loc[rows["name"] == name].sort_values("at")
        steps, low, high = (there[column].to_numpy(float) for column in ("median", "low", "high"))
        known = np.isfinite(low) & np.isfinite(high)
        ends = [np.where(known, steps - low, 0), np.where(known, high - steps, 0)]
        law = np.where(np.isfinite(there["law"]), there["law"], np.nan)
        axis.plot(there["at"], law, color=colour, lw=1.3, zorder=1)
        axis.errorbar(there["at"], steps, yerr=ends, fmt=marker, color=colour, ms=5, mec="white", mew=0.6, capsize=2.5,
                      elinewidth=1, zorder=3)  # fmt: skip
    axis_name = rows["axis"].iloc[0]
    axis.set(xlabel=LABELS[axis_name], ylabel="steps until it is left")
    if axis_name != "horizon":
        axis.set_xscale("log")
        axis.minorticks_off()
    if axis_name == "inner_steps":
        plain_ticks(axis, sorted(rows["at"].unique()))
    axis.set_ylim(0, None)
    place: Any = "upper left" if axis_name in ("batch_size", "horizon", "inner_steps") else "upper right"
    axis.legend(handles=keys_of({short(name, 44): look for name, look in looks.items()}, ls=""), frameon=False,
                fontsize=7.5, loc=place)  # fmt: skip
