"""Trajectory figures: the band of measured values over seeds against the bound and the rounding floor."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from results.schema import CLAIM, CONTROL, Group
from results.settings import evenly, labels
from results.store import merge
from results.style import INK, QUIET, blank, headline, short, title
from results.verdicts import Part, rows_of, settings_of

MOST_SETTINGS, MOST_PANELS = 6, 6
DRAWABLE = 1e-150, 1e150  # an axis of more decades overflows while it is laid out


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values) & (values > 0), np.clip(values, *DRAWABLE), np.nan)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Return 10 %, 50 %, 90 % of each column of the finite values, NaN where a column has none."""
    known = np.where(np.isfinite(values), values, np.nan)
    result = np.full((3, values.shape[1]), np.nan)
    some = ~np.isnan(known).all(0)
    result[:, some] = np.nanquantile(known[:, some], (0.1, 0.5, 0.9), axis=0)
    return result


def _band(axis: Axes, part: Part, lanes: np.ndarray, colour: str) -> None:
    group, theorem = part.group, part.theorem
    seen = group.checkpoints >= 1
    t = group.checkpoints[seen]
    low, middle, high = _quantiles(group.metrics[theorem.metric][lanes][:, seen])
    axis.plot(t, _positive(middle), color=colour, lw=1.6)
    axis.fill_between(t, _positive(low), _positive(high), color=colour, alpha=0.18, lw=0)
    bound = _quantiles(group.bounds[theorem.name][lanes][:, seen])[1]
    axis.plot(t, _positive(bound), color=colour, lw=1.3, ls=(0, (4, 2)))


def _panel(axis: Axes, parts: list[Part], problem: str) -> bool:
    """Draw one problem; return whether settings were left out."""
    choices = [(part, index, lanes) for part in parts for index, lanes in settings_of(part).items()]
    if not choices:
        choices = [
            (part, int(index), np.flatnonzero(part.group.runs["setting"] == index))
            for part in parts
            for index in part.group.runs["setting"].unique()
        ]
    shown = evenly(choices, MOST_SETTINGS)
    colours = sns.color_palette("colorblind", len(shown)).as_hex()
    for (part, _, lanes), colour in zip(shown, colours, strict=True):
        _band(axis, part, lanes, colour)
    floor = np.median(np.concatenate([part.group.floors[part.theorem.name] for part in parts]))
    axis.set(xscale="log", yscale="log", xlabel="step t", ylabel=parts[0].theorem.metric)
    title(axis, short(problem))
    _frame(axis, float(floor))
    names = [short(labels(part.group)[index], 30) for part, index, _ in shown]
    handles = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in zip(names, colours, strict=True)]
    corner = "lower left" if parts[0].group.role == CLAIM else "upper left"
    axis.legend(handles=handles, loc=corner, handlelength=1.2, fontsize=8, framealpha=0.75, edgecolor="none")
    return len(shown) < len(choices)


def _frame(axis: Axes, floor: float) -> None:
    """Let the y axis hold what matters: at most 8 decades above the start, and the floor where curves come near it."""
    drawn = [np.asarray(line.get_ydata(), float) for line in axis.get_lines()]
    drawn = [values[np.isfinite(values)] for values in drawn if np.isfinite(values).any()]
    if not drawn:
        axis.set(xscale="linear", yscale="linear", xticks=[], yticks=[])
        axis.text(
            0.5, 0.5, "no finite positive value after the start", transform=axis.transAxes, ha="center", color=QUIET
        )
        return
    lowest, highest = min(values.min() for values in drawn), max(values.max() for values in drawn)
    highest = min(highest, 1e8 * max(values[0] for values in drawn))
    near = floor > 0 and lowest < 1e4 * floor
    lowest = min(max(lowest, floor / 10), floor / 3) if near else lowest
    axis.set_ylim(min(lowest, highest) / 2, highest * 3)
    if np.isfinite(floor) and floor > 0:
        axis.axhline(floor, color=QUIET, lw=1.1, ls=":")
    axis.yaxis.set_major_locator(LogLocator(numticks=7))
    axis.minorticks_off()


KEYS = [
    Line2D([], [], color=INK, lw=1.6, label="median over seeds, band 10–90 %"),
    Line2D([], [], color=INK, lw=1.3, ls=(0, (4, 2)), label="bound"),
    Line2D([], [], color=QUIET, lw=1.1, ls=":", label="rounding floor"),
]


def trajectories(groups: list[Group], theorem: str, algorithm: str, role: str = CLAIM) -> Figure:
    """Return measured bands against the bound of `theorem`, one panel a problem, of claims or of controls.

    At most six problems and six settings a problem are drawn, chosen evenly; the title says so where some are left out.
    """
    rows = {
        key: parts
        for key, parts in rows_of(merge(groups)).items()
        if (key[0], key[1], key[3]) == (role, algorithm, theorem)
    }
    shown = evenly(list(rows), MOST_PANELS)
    columns = min(3, len(shown))
    height = -(-len(shown) // columns)
    figure, axes = blank(4.1 * max(columns, 1.4), 3.1 * height + 0.8, height, columns)
    omitted = [_panel(axis, rows[key], key[2]) for axis, key in zip(axes, shown, strict=False)]
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    notes = ["controls"] if role == CONTROL else []
    notes += [f"{len(shown)} of {len(rows)} problems"] if len(shown) < len(rows) else []
    notes += [f"{MOST_SETTINGS} settings of each, chosen evenly"] if any(omitted) else []
    first = rows[shown[0]][0].theorem
    headline(figure, f"{algorithm}: {theorem}" + (f" ({'; '.join(notes)})" if notes else ""), first.statement)
    figure.legend(handles=KEYS, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
