"""Sheets of a report's section: a table of text with what it says above it, and the words that sheets share."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from results.tables import number

CONFIDENCE = 0.95
MOST_ROWS = 40  # beyond which a sheet is folded
SAME = 1e-9  # relative half length at or below which an interval is rounding


@dataclass(frozen=True)
class Sheet:
    """A table of text with what it says above it; `figures` are the names of the figures that go with it.

    A row of one cell is a heading. `marks` stand beside the cells of their columns: who says so.
    """

    heading: str
    caption: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    folded: bool = False


def plural(count: int, what: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{count} {what}" + ("s" if count != 1 else "")


def under_headings(rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the rows without their first cell, which stands above those that share it."""
    found: list[tuple[str, ...]] = []
    for previous, row in zip([("",), *rows], rows, strict=False):
        found += [(row[0],)] if row[0] != previous[0] else []
        found.append(row[1:])
    return tuple(found)


def plus_minus(mean: float, half: float) -> str:
    """Return `mean ± half`, the mean alone where its interval is rounding or unknown."""
    return number(mean) + (f" ± {number(half, 2)}" if np.isfinite(half) and half > SAME * abs(mean) else "")


def yes(passes: Any) -> str:
    """Return `yes` or `no`."""
    return "yes" if passes else "no"


def bar(value: float, most: float) -> str:
    """Return whether a value is at most its bar, a dash where it is not known."""
    return "–" if np.isnan(value) else yes(value <= most)


def spread(three: tuple[float, float, float], digits: int = 4) -> str:
    """Return `median [least, largest]`, the median alone where all are equal."""
    texts = [f"{value:.{digits}g}" for value in three]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def share(value: float) -> str:
    """Return a relative difference in per cent, `< 1e-6 %` where it is next to nothing."""
    if np.isnan(value):
        return "–"
    return "< 1e-6 %" if value < 1e-8 else f"{number(100 * value, 2)} %"


def mean_half(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over seeds and half the length of its 95 % interval (Student's t; NaN for one seed)."""
    from scipy.stats import t

    values = np.asarray(values, float)
    n = len(values)
    with np.errstate(invalid="ignore", over="ignore"):  # lanes that diverged
        half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
        return float(np.mean(values)), float(half)
