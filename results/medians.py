"""Medians over seeds with their 95 % interval, from a percentile bootstrap that draws the same numbers every time."""

import numpy as np

RESAMPLES = 1000
ENDS = (0.025, 0.975)


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median and its 95 % interval; infinite values count as larger than all, a single one has no interval.

    No value is interpolated, so that infinite ones do no harm.
    """
    values = np.asarray(values, float)
    middle = float(np.quantile(values, 0.5, method="inverted_cdf"))
    if len(values) < 2:
        return middle, np.nan, np.nan
    drawn = values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))]
    medians = np.sort(drawn, axis=1)[:, (len(values) - 1) // 2]
    low, high = (float(np.quantile(medians, end, method="inverted_cdf")) for end in ENDS)
    return middle, low, high


def median_range(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median, the least and the largest of the values."""
    values = np.asarray(values, float)
    return float(np.median(values)), float(values.min()), float(values.max())
