"""How every figure looks: a quiet grid, small type, a palette for the colour-blind."""

import re
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from results.settings import evenly

INK, QUIET = "#22303c", "#8a949c"
HELD_COLOUR, BROKEN_COLOUR = "#0173b2", "#d55e00"
QUANTILES = (0.1, 0.5, 0.9)
MOST_COLUMNS = 4
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = (0, (4, 2))
MARGIN = 0.75  # inches of a column that labels take
STYLE = {
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "grid.color": "#e6e9eb",
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def blank(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `rows` x `columns` white-grid axes, sizes in inches; pyplot's global state is not touched."""
    with sns.axes_style("whitegrid", rc=STYLE), sns.plotting_context("paper", rc=STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        sns.despine(ax=axis)
    return figure, list(axes.flat)


def short(text: str, most: int = 46) -> str:
    """Return the text, cut with an ellipsis beyond `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def title(axis: Axes, text: str) -> None:
    """Put a left-aligned title above the axes, wrapped to about their width."""
    place = axis.get_subplotspec()
    width = axis.figure.get_figwidth() / (place.get_gridspec().ncols if place else 1) - MARGIN  # type: ignore[union-attr]
    axis.set_title("\n".join(wrapped(text, int(14 * width))), loc="left", fontsize=9.5, color=INK)


def wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most `width` characters, where words let it; names break before `[` and after a comma."""
    lines = [""]
    for piece in re.split(r"(?<=[\s,])|(?=\[)", text):
        if len(lines[-1]) + len(piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def headline(figure: Figure, *lines: str) -> None:
    """Put left-aligned lines above all axes, each wrapped to the figure's width."""
    width = int(figure.get_figwidth() * 13)
    parts = [part for line in lines for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(parts), fontsize=9.5, x=0.01, ha="left", color=INK)


def spread(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the 10 %, 50 % and 90 % quantiles (columns) of the finite values at each K/T (index)."""
    rows = rows.loc[np.isfinite(rows[value].to_numpy(float)) & np.isfinite(rows["fraction"].to_numpy(float))]
    by_fraction = rows.groupby("fraction")[value]
    return pd.DataFrame({q: by_fraction.quantile(q) for q in QUANTILES})


def band(axis: Axes, quantiles: pd.DataFrame, colour: Any, zero: float = 0.0, **line: Any) -> None:
    """Draw the median and the band between the quantiles; values at most `zero` stand there, hollow."""
    if quantiles.empty:
        return
    low, middle, high = (np.maximum(quantiles[q].to_numpy(float), zero) for q in QUANTILES)
    x = quantiles.index.to_numpy(float)
    axis.plot(x, middle, color=colour, **{"marker": "o", "ms": 4.5, "lw": 1.6, **line})
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    there = quantiles[0.5].to_numpy(float) <= zero
    if zero > 0 and there.any():
        axis.plot(x[there], middle[there], "o", ms=6, mfc="white", mec=colour, ls="", zorder=4, clip_on=False)


def legend_below(figure: Figure, handles: list[Line2D]) -> None:
    """Put a legend below all axes, as many columns as the figure is wide for."""
    columns = min(len(handles), max(2, int(figure.get_figwidth() / 2.1)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def grid(panels: int, width: float = 3.5, height: float = 3.1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `panels` axes, each of the size in inches, at most four in a row."""
    columns = min(panels, MOST_COLUMNS if panels != 6 else 3)
    rows = -(-panels // columns)
    figure, axes = blank(width * max(columns, 1.8), height * rows + 0.6, rows, columns)
    for axis in axes[panels:]:
        axis.set_visible(False)
    return figure, axes[:panels]


def logarithmic(axis: Axes) -> None:
    """Let the axis be logarithmic and hold two ticks at least."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high < 100 * low:
        axis.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
    axis.yaxis.set_major_locator(LogLocator(numticks=7))
    axis.minorticks_off()


def looks_of(names: list[str]) -> dict[str, tuple[Any, str]]:
    """Return a colour and a marker for each name."""
    palette = sns.color_palette("colorblind", max(len(names), 1)).as_hex()
    return dict(zip(names, zip(palette, MARKERS * 4, strict=False), strict=False))


def keys_of(looks: dict[str, tuple[Any, str]], **line: Any) -> list[Line2D]:
    """Return the lines of a legend."""
    return [Line2D([], [], color=c, marker=m, ms=4.5, label=name, **line) for name, (c, m) in looks.items()]


def positive(values: Any) -> np.ndarray:
    """Return the values, NaN where a logarithmic axis has no place for them."""
    values = np.asarray(values, float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def plain_ticks(axis: Axes, values: list[float], most: int = 8) -> None:
    """Let a logarithmic x axis have its ticks where the values are, written out."""
    axis.xaxis.set_major_locator(FixedLocator(evenly(values, most)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
