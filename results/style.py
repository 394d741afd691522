"""How every figure looks: a quiet grid, small type, a palette for the colour-blind."""

import textwrap

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, QUIET = "#22303c", "#8a949c"
HELD_COLOUR, BROKEN_COLOUR = "#0173b2", "#d55e00"
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
    width = axis.get_position().width * axis.figure.get_figwidth()  # type: ignore[union-attr]
    axis.set_title("\n".join(textwrap.wrap(text, int(15 * width))), loc="left", fontsize=9.5, color=INK)


def headline(figure: Figure, *lines: str) -> None:
    """Put left-aligned lines above all axes, each wrapped to the figure's width."""
    width = int(figure.get_figwidth() * 15)
    wrapped = [part for line in lines for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(wrapped), fontsize=9.5, x=0.01, ha="left", color=INK)
