"""Figures about policy evaluation: TD(0) from every start, the critic's bias and noise, regret of transfer."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.labels import claims_of, without
from results.policy_gradient_evaluation import critic_bias, starts
from results.policy_gradient_figures import escape_panel
from results.policy_gradient_regret import LAW, REGRET, plug_in, transfers
from results.policy_gradient_saddles import escapes
from results.schema import Group
from results.settings import evenly
from results.style import (
    DASHES,
    HELD_COLOUR,
    INK,
    QUIET,
    grid,
    headline,
    keys_of,
    legend_below,
    logarithmic,
    looks_of,
    positive,
    short,
    title,
)
from results.tables import lines_of, number

MOST_PANELS, MOST_STARTS, MOST_LINES = 3, 12, 5
VISIBLE = 1e-3  # relative difference from the limit that a figure can show
TRANSFER_COLOUR, PLUG_IN_COLOUR = HELD_COLOUR, "#de8f05"


def starts_figure(groups: list[Group]) -> Figure | None:
    """Return the mean-square error of TD(0) against t, a line a first state, on one limit; None without any."""
    rows = evenly(lines_of(starts(groups)), MOST_PANELS)
    if not rows:
        return None
    figure, axes = grid(len(rows), 4.6, 3.6)
    looks: dict[str, tuple[Any, str]] = {}
    for axis, row in zip(axes, rows, strict=True):
        seen = row.times >= 1
        chosen = evenly(list(range(len(row.first))), MOST_STARTS)
        looks |= looks_of([f"from state {number(row.first[index])}" for index in chosen])
        for index, (colour, _) in zip(chosen, looks_of([str(index) for index in chosen]).values(), strict=True):
            axis.plot(row.times[seen], row.curves[index][seen] / row.limit, color=colour, lw=1.2, alpha=0.9)
        axis.axhline(1, color=INK, lw=1.6, ls=DASHES, zorder=1)
        apart = np.flatnonzero(np.max(np.abs(row.curves / row.limit - 1), axis=0) > VISIBLE)
        last = row.times[min(apart[-1] + 1, len(row.times) - 1)] if len(apart) else row.times[-1]
        axis.set(xscale="log", xlabel="step t", ylabel="E|x − x*|² over its limit", xlim=(1, 10 * last))
        axis.set_ylim(0, None)
        title(axis, f"{row.problem}, η = {number(row.eta)}: limit {number(row.limit)}")
    limit = Line2D([], [], color=INK, lw=1.6, ls=DASHES, label="limit of the exact recursion")
    handles = [Line2D([], [], color=colour, lw=1.2, label=name) for name, (colour, _) in looks.items()]
    legend_below(figure, [*handles, limit])
    headline(figure, "TD(0) from every first state, by its exact second moments: one limit, whatever the start")
    return figure


def critic_figure(groups: list[Group]) -> Figure | None:
    """Return the bias that a critic of N steps causes, its excess over the floor, and the time to leave; or None."""
    bias, left = critic_bias(groups), escapes(groups)
    left = left.loc[(left["axis"] == "inner_steps") & np.isfinite(left["median"])] if len(left) else left
    panels = 2 * bool(len(bias)) + bool(len(left))
    if not panels:
        return None
    figure, axes = grid(panels, 3.6 if panels > 1 else 5.0, 3.5)
    if len(bias):
        looks = _critic_panels(axes[0], axes[1], evenly(lines_of(bias), MOST_LINES))
        law = [Line2D([], [], color=INK, lw=1.2, ls=DASHES, label="floor |b(ω*)|²"),
               Line2D([], [], color=INK, lw=1.2, label="law of the excess, constant/(l + N)")]  # fmt: skip
        legend_below(figure, [*keys_of(looks, ls=""), *law])
    if len(left):
        escape_panel(axes[-1], left)
        title(axes[-1], "a saddle left by critic noise; line: law")
    headline(
        figure, "Actor-critic: bias after N inner steps of TD(0), exact; its critic's noise leaves a saddle, sampled"
    )
    return figure


def _critic_panels(left: Axes, right: Axes, rows: list[Any]) -> dict[str, tuple[Any, str]]:
    names = [f"{without(row.problem, 'spread')}, " + ("one feature a state" if row.rank == "0" else f"rank {row.rank}")
             for row in rows]  # fmt: skip
    looks = looks_of([short(name, 70) for name in names])
    for row, (colour, marker) in zip(rows, looks.values(), strict=True):
        seen = row.times >= 1
        dots: dict[str, Any] = {"color": colour, "marker": marker, "ms": 4.5, "ls": "", "mec": "white", "mew": 0.5}
        left.plot(row.times[seen], positive(row.bias[seen]), **dots)
        right.plot(row.times[seen], positive(row.excess[seen]), **dots)
        right.plot(row.times[seen], positive(row.law[seen]), color=colour, lw=1.2, zorder=1)
        if row.floor_shown > 0:
            left.axhline(row.floor_shown, color=colour, lw=1.2, ls=DASHES, zorder=1)
    for axis, label in ((left, "E|b|²"), (right, "| E|b|² − floor |")):
        axis.set(xscale="log", xlabel="inner steps N", ylabel=label)
        logarithmic(axis)
    title(left, "bias of the actor, first instance")
    title(right, "above the floor: slope −1")
    return looks


def regret_figure(groups: list[Group]) -> Figure | None:
    """Return cumulative regret of transfer and of plug-in, and t regret_t of plug-in on its law; None without any."""
    rows, law = evenly(lines_of(transfers(groups)), 2), plug_in(groups)
    panels = len(rows) + bool(len(law))
    if not panels:
        return None
    figure, axes = grid(panels, 4.4, 3.6)
    handles = []
    for axis, row in zip(axes, rows, strict=False):
        _regret_panel(axis, row)
        handles = [Line2D([], [], color=TRANSFER_COLOUR, lw=1.6, label="transfer"),
                   Line2D([], [], color=PLUG_IN_COLOUR, lw=1.6, ls=DASHES, label="plug-in")]  # fmt: skip
    if len(law):
        _law_panel(axes[panels - 1], groups)
    if handles:
        legend_below(figure, handles)
    headline(figure, "Regret in KL-regularised bandits: mean over seeds with its 95 % interval")
    return figure


def _regret_panel(axis: Axes, row: Any) -> None:
    seen = row.times >= 1
    for name, colour, dashes in (("own", TRANSFER_COLOUR, "-"), ("plug_in", PLUG_IN_COLOUR, DASHES)):
        mean, half = getattr(row, name)[seen], np.nan_to_num(getattr(row, f"{name}_half")[seen])
        axis.plot(row.times[seen], positive(mean), color=colour, ls=dashes, lw=1.6)
        low = positive(np.maximum(mean - half, mean / 10))
        axis.fill_between(row.times[seen], low, positive(mean + half), color=colour, alpha=0.15, lw=0)
    if np.isfinite(row.ahead):
        axis.axvline(row.ahead, color=QUIET, lw=1, ls=":")
    axis.set(xscale="log", xlabel="round t", ylabel="cumulative regret")
    logarithmic(axis)
    drawn = "a bandit a seed" if row.instances > 1 else "one bandit"
    ahead = "transfer ahead to the end" if np.isinf(row.ahead) else f"transfer ahead until {number(row.ahead)}"
    title(axis, f"{row.problem}, {drawn}: {ahead}")


def _law_panel(axis: Axes, groups: list[Group]) -> None:
    """Draw the mean of t regret_t over what the law promises of it."""
    shown = [group for group in claims_of(groups) if LAW in group.bounds and REGRET in group.metrics]
    looks = looks_of([str(group.runs["problem"].iloc[0]) for group in shown])
    promised = {row.problem: row.law for row in lines_of(plug_in(groups))}
    for group, (name, (colour, marker)) in zip(shown, looks.items(), strict=False):
        t, seen = group.checkpoints, group.checkpoints >= 1
        scaled = (t * group.metrics[REGRET]).mean(axis=0) / promised.get(name, np.nan)
        axis.plot(t[seen], scaled[seen], color=colour, marker=marker, ms=4, lw=1.2)
    axis.axhline(1, color=INK, lw=1.2, ls=DASHES)
    axis.set(xscale="log", xlabel="round t", ylabel="t (J* − J) / law")
    axis.legend(handles=keys_of(looks, lw=1.2), frameon=False, fontsize=7.5, loc="lower right")
    title(axis, "plug-in: t (J* − J) over S(A−1)sd²/(2β), which it tends to")
