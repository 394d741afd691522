"""Figures about unlearning: how near it gets to the retrained model, who approaches it, and what audits can tell.

Cost is the fraction K/T of the learning steps that unlearning takes again. Bands are 10-90 % over runs.
"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.approach import approach_figure
from results.audit_table import audit_table
from results.schema import CLAIM, Group
from results.settings import evenly
from results.style import (
    BROKEN_COLOUR,
    HELD_COLOUR,
    INK,
    band,
    blank,
    grid,
    headline,
    legend_below,
    logarithmic,
    spread,
    title,
)
from results.style import short as cut
from results.tables import lines_of
from results.unlearning import DISTANCE, ends

__all__ = ["approach_figure", "audit_figure", "distance_figure"]

MOST_PANELS, MOST_AUDITS = 8, 24
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
COST = "cost: K / T"
ROUNDING = 1e-13  # share of the largest distance on a problem that is 0 up to rounding


def best_settings(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the lanes of the setting with the smallest median at each K/T: every method at its best."""
    rows = rows.loc[rows[value].notna()]
    medians: Any = rows.groupby(["fraction", "number"])[value].transform("median")
    return rows.loc[medians == medians.groupby(rows["fraction"]).transform("min")]


def distance_figure(groups: list[Group]) -> Figure | None:
    """Return the distance to the retrained model against K/T, a panel a problem, a line a method; None without K.

    Problems with most methods first, at most eight. Distances of rounding size count as 0 and are drawn hollow.
    """
    rows = ends(groups)
    rows = rows.loc[rows["fraction"].notna() & rows[DISTANCE].notna()]
    several: Any = rows.groupby(["problem", "algorithm"])["fraction"].transform("nunique")
    rows = rows.loc[several > 1]
    if rows.empty:
        return None
    methods, by_problem = sorted(rows["algorithm"].unique()), rows.groupby("problem")["algorithm"].nunique().to_dict()
    problems = sorted(by_problem, key=lambda problem: (-by_problem[problem], problem))
    shown = problems[:MOST_PANELS]
    looks: dict[str, tuple[Any, str]] = dict(
        zip(methods, zip(sns.color_palette("colorblind", len(methods)), MARKERS * 4, strict=False), strict=True)
    )
    figure, axes = grid(len(shown))
    for axis, problem in zip(axes, shown, strict=True):
        _distance_panel(axis, rows.loc[rows["problem"] == problem], looks)
        title(axis, str(problem))
    legend_below(figure, [Line2D([], [], color=c, marker=m, ms=4.5, label=name) for name, (c, m) in looks.items()])
    notes = "median and 10–90 % over runs; hollow: 0 up to rounding"
    notes += f"; {len(shown)} of {len(problems)} problems" if len(shown) < len(problems) else ""
    headline(figure, f"Distance to the retrained model, before noise, each method at its best setting ({notes})")
    return figure


def _distance_panel(axis: Axes, rows: pd.DataFrame, looks: dict[str, tuple[Any, str]]) -> None:
    finite = rows[DISTANCE].to_numpy(float)
    finite = finite[np.isfinite(finite)]
    resolved = finite[finite > ROUNDING * finite.max(initial=0.0)]
    zero = resolved.min() / 4 if len(resolved) else 0.0
    for name, (colour, marker) in looks.items():
        chosen = rows.loc[rows["algorithm"] == name]
        if len(chosen):
            band(axis, spread(best_settings(chosen, DISTANCE), DISTANCE), colour, zero, marker=marker)
    axis.set(xlabel=COST, ylabel="distance to retrained")
    if zero > 0:
        logarithmic(axis)


def audit_figure(groups: list[Group], table: pd.DataFrame) -> Figure | None:
    """Return what audits reveal beside the certified epsilon, a line a setting of an audited theorem; None without."""
    audited = audit_table(groups, table)
    if audited.empty:
        return None
    audited = audited.sort_values(["role", "algorithm", "theorem", "problem", "epsilon"], kind="stable")
    audited = audited.iloc[evenly(list(range(len(audited))), MOST_AUDITS)].iloc[::-1]
    figure, (axis,) = blank(9.0, 1.9 + 0.32 * max(len(audited), 2))
    for y, row in enumerate(lines_of(audited)):
        colour = HELD_COLOUR if row.role == CLAIM else BROKEN_COLOUR
        axis.barh(y, row.lower_bound, 0.5, color=colour, alpha=0.35)
        axis.plot([row.lower_bound] * 2, [y - 0.25, y + 0.25], lw=2.5, color=colour)
        axis.plot(row.estimate if np.isfinite(row.estimate) else np.nan, y, "o", ms=4, color=colour)
        axis.plot(row.true_epsilon, y, "D", ms=5, mfc="white", mec=INK)
        axis.plot([row.epsilon] * 2, [y - 0.42, y + 0.42], color=INK, lw=1.6)
    parts = [(row.theorem, row.problem, row.setting or row.why) for row in lines_of(audited)]
    names = [cut(" · ".join(part for part in named if part), 80) for named in parts]
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set(xlabel="epsilon", ylim=(-0.7, len(names) - 0.3), xlim=(0, None))
    axis.grid(axis="y", visible=False)
    figure.legend(handles=AUDIT_KEYS, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    headline(figure, "Audits against certificates: a bar that passes its black line refutes the certificate")
    return figure


BAR = {"lw": 7, "alpha": 0.4}
AUDIT_KEYS = [
    Line2D([], [], color=INK, lw=1.6, label="epsilon certified"),
    Line2D([], [], color=HELD_COLOUR, label="audit: epsilon is at least this (95 %)", **BAR),
    Line2D([], [], color=BROKEN_COLOUR, label="the same of a control, which must pass", **BAR),
    Line2D([], [], color=INK, marker="D", mfc="white", ms=5, ls="", label="true epsilon, where known"),
    Line2D([], [], color=HELD_COLOUR, marker="o", ms=4, ls="", label="estimate of the same event"),
]
