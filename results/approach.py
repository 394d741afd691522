"""The figure of who approaches the retrained model as K grows: rewinding, descending, both or neither.

A panel is a shape of problem; its title says in words what the medians over runs say.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.schema import CLAIM, Group
from results.settings import evenly
from results.store import merge
from results.style import (
    BROKEN_COLOUR,
    HELD_COLOUR,
    INK,
    QUIET,
    band,
    grid,
    headline,
    legend_below,
    logarithmic,
    short,
    spread,
    title,
)
from results.unlearning import DISTANCES, last

STYLES = ("-", (0, (4, 2)), (0, (1, 1.5)))
ROUNDING = 1e-13  # share of the distance before unlearning that is 0 up to rounding
NONCONVEX, CONVEX, OTHER, BASINS = "Nonconvex", "Convex", "Not strongly convex", "Double well"
STRONGLY_CONVEX, STRONG = "Strongly convex", "strongly_convex"
BEFORE = "original_distance"
RUNS = {"descended_distance": ("no rewind, K more steps on the data that stay", BROKEN_COLOUR, 3.4),
        "rewound_distance": ("rewind K steps, then K steps on the data that stay", HELD_COLOUR, 1.5)}  # fmt: skip
OUTCOMES = {
    (False, True): "rewinding approaches retraining, descending does not",
    (True, True): "both approach retraining",
    (False, False): "neither approaches retraining",
    (True, False): "descending approaches retraining, rewinding does not",
}
NEITHER, BOTH = OUTCOMES[False, False], OUTCOMES[True, True]
ENDINGS = {
    (BASINS, NEITHER): " before the rewind reaches the choice of basin",
    (STRONGLY_CONVEX, BOTH): ", geometrically in K",
}
NEAR = 0.5  # of the distance before: what counts as approaching, at the largest K short of T


def speaking(group: Group) -> list[str]:
    """Return the names of the theorems that admit some lane of the group."""
    return [theorem.name for theorem in group.theorems if np.any(group.admitted[theorem.name])]


def shape(groups: list[Group]) -> str:
    """Return the shape of a problem: what is proven of it, or else what the theorems tell that admit runs on it."""
    proven = {word.strip() for group in groups for word in str(group.description.get("proven", "")).split("|")} - {""}
    spoken = [name for group in groups for name in speaking(group)]
    if "TWO_BASINS" in proven or any("basin" in name for name in spoken):
        return BASINS
    if "RETAINS_STRONG_CONVEXITY" in proven or any(STRONG in name for name in spoken):
        return STRONGLY_CONVEX
    if "CONVEX" in proven or any(name.endswith("_convex") for name in spoken):
        return CONVEX
    return NONCONVEX if proven else OTHER


def shapes(groups: list[Group]) -> dict[str, str]:
    """Return the shape of each problem."""
    about: dict[str, list[Group]] = {}
    for group in groups:
        about.setdefault(str(group.runs["problem"].iloc[0]), []).append(group)
    return {problem: shape(there) for problem, there in about.items()}


def approaches(groups: list[Group]) -> pd.DataFrame:
    """Return one row a lane of the runs that carry both: K/T, and distances as shares of that before unlearning.

    Only lanes that ran T + K steps, on problems of which some theorem of theirs speaks; of several (T, eta) on a
    problem that with most K.
    """
    pieces = [pd.DataFrame(columns=pd.Index(["problem", "K", "T", "eta", "fraction", *RUNS]))]
    for group in merge(groups):
        if group.role != CLAIM or not {BEFORE, *RUNS} <= set(group.metrics) or (group.theorems and not speaking(group)):
            continue
        runs, before = group.runs, last(group, BEFORE)
        columns = {name: runs[f"hp_{name}"].to_numpy(float) for name in ("K", "T", "eta")}
        with np.errstate(divide="ignore", invalid="ignore"):
            columns |= {"fraction": columns["K"] / columns["T"]} | {name: last(group, name) / before for name in RUNS}
        piece = pd.DataFrame({"problem": runs["problem"].to_numpy(), **columns})
        pieces.append(piece.loc[(piece["K"] + piece["T"]).to_numpy() <= runs["steps"].to_numpy(float)])
    rows = pd.concat([piece for piece in pieces if len(piece)] or pieces, ignore_index=True)
    many: Any = rows.groupby(["problem", "T", "eta"])["K"].transform("nunique")
    return rows.loc[many == many.groupby(rows["problem"]).transform("max")]


def promised(groups: list[Group], problem: str, rows: pd.DataFrame) -> pd.Series:
    """Return the least proven bound on the distance at each K/T (index), as a share of that at the smallest K.

    From the runs on `problem` with the T and eta of `rows` of which a strongly convex theorem speaks; empty without.
    """
    T, eta, found = rows["T"].iloc[0], rows["eta"].iloc[0], [pd.DataFrame(columns=pd.Index(["fraction", "bound"]))]
    for group in merge(groups):
        runs = group.runs
        if not {"hp_K", "hp_T", "hp_eta"} <= set(runs.columns) or str(runs["problem"].iloc[0]) != problem:
            continue
        same = ((runs["hp_T"] == T) & np.isclose(runs["hp_eta"].to_numpy(float), eta)).to_numpy()
        for theorem in group.theorems:
            if theorem.metric in DISTANCES and STRONG in theorem.name and np.any(same & group.admitted[theorem.name]):
                bound = np.asarray(group.bounds[theorem.name], float)[same, -1]
                found.append(pd.DataFrame({"fraction": runs["hp_K"].to_numpy(float)[same] / T, "bound": bound}))
    bounds: Any = pd.concat([piece for piece in found if len(piece)] or found)
    bounds = bounds.loc[bounds["bound"] > 0].groupby("fraction")["bound"].min()
    return bounds / bounds.iloc[0] if len(bounds) else bounds


def outcome(rows: pd.DataFrame, problems: list[str]) -> str:
    """Return what the medians of the problems of one panel say, where they agree."""
    found = set()
    for problem in problems:
        partial = rows.loc[(rows["problem"] == problem) & (rows["fraction"] < 1)]
        there = partial.loc[partial["fraction"] == partial["fraction"].max()]
        found.add(tuple(bool(there[name].median() <= NEAR) for name in RUNS if len(there)))
    return OUTCOMES.get(found.pop(), "too few K") if len(found) == 1 else "not the same on every problem"


def approach_figure(groups: list[Group]) -> Figure | None:
    """Return who approaches the retrained model as K grows, a panel a shape of problem; None where no run carries both.

    At most three problems a panel, each with its own line style; strongly convex on a logarithmic axis, where a
    straight line is a rate gamma^K. Titles say what the medians say.
    """
    rows = approaches(groups)
    if rows.empty:
        return None
    kinds = shapes([group for group in merge(groups) if group.role == CLAIM])
    panels: dict[str, list[str]] = {kind: [] for kind in (NONCONVEX, OTHER, CONVEX, BASINS, STRONGLY_CONVEX)}
    for problem in sorted(rows["problem"].unique()):
        panels[kinds[problem]].append(problem)
    panels = {kind: evenly(problems, len(STYLES)) for kind, problems in panels.items() if problems}
    figure, axes = grid(len(panels), 4.3, 3.5)
    for axis, (kind, problems) in zip(axes, panels.items(), strict=True):
        promises = {p: promised(groups, p, rows.loc[rows["problem"] == p]) for p in problems if kind == STRONGLY_CONVEX}
        _approach_panel(axis, rows, kind, problems, promises)
    handles = [Line2D([], [], color=colour, lw=width, label=words) for words, colour, width in RUNS.values()]
    legend_below(figure, [*handles[::-1], Line2D([], [], color=QUIET, lw=1.2, ls=":", label="before unlearning")])
    headline(
        figure,
        "Rewind or descend? Distance to the model retrained without the deleted data, as a share of the distance "
        "before unlearning: 1 = nothing gained, 0 = retrained (median and 10–90 % over runs)",
    )
    return figure


def _promise(axis: Axes, rows: pd.DataFrame, promise: pd.Series) -> None:
    """Draw the proven decay from where the measured one starts."""
    if not len(promise):
        return
    start = spread(rows.loc[rows["fraction"] >= promise.index[0]], "rewound_distance")[0.5].iloc[0]
    x, y = promise.index.to_numpy(float), start * promise.to_numpy(float)
    axis.plot(x, y, color=INK, lw=1, ls=(0, (5, 1, 1, 1)), zorder=5)
    middle = len(x) // 2
    near: dict[str, Any] = {"xytext": (4, 3), "textcoords": "offset points", "ha": "left", "va": "bottom"}
    axis.annotate("proven rate γᴷ", (x[middle], y[middle]), fontsize=8, **near)


def _approach_panel(
    axis: Axes, rows: pd.DataFrame, kind: str, problems: list[str], promises: dict[str, pd.Series]
) -> None:
    keys = []
    for problem, style in zip(problems, STYLES, strict=False):
        there = rows.loc[rows["problem"] == problem]
        values = there[list(RUNS)].to_numpy(float)
        resolved = values[np.isfinite(values) & (values > ROUNDING)]
        zero = resolved.min() / 4 if kind == STRONGLY_CONVEX and len(resolved) else 0.0
        for name, (_, colour, width) in RUNS.items():
            band(axis, spread(there, name), colour, zero, ls=style, lw=width, ms=3 * width**0.7)
        _promise(axis, there, promises.get(problem, pd.Series(dtype=float)))
        keys.append(Line2D([], [], color=INK, ls=style, lw=1.3, label=short(problem, 44)))
    axis.axhline(1, color=QUIET, lw=1.2, ls=":")
    axis.set(xlabel="K / T, share of the learning steps taken again", ylabel="distance to the retrained model")
    if kind == STRONGLY_CONVEX:
        logarithmic(axis)
    said = outcome(rows, problems)
    where = f" ({problems[0]})" if len(problems) == 1 else ""
    title(axis, f"{kind}: {said}{ENDINGS.get((kind, said), '')}{where}")
    if len(keys) > 1:
        axis.legend(handles=keys, loc="best", fontsize=7, handlelength=2.4, framealpha=0.75, edgecolor="none")
