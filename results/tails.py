"""P-values over the seeds of each cell: columns are cells, rows seeds, NaN where a seed is not judged.

In expectation two tests share the level, half each: Student's t, corrected for skewness (Hall 1992), and the betting
test (Waudby-Smith & Ramdas 2024). In median and with a probability: the exact binomial tail of the seeds beyond.
"""

import numpy as np

BETS = (0.2, 0.5, 1.0)
LEAST_SKEWNESS = -2.0  # an exponential's, against us: few seeds cannot show how skewed they are
FEWEST_FOR_T = 10  # with fewer seeds t rejects far too often for skewed values, whatever the correction
SAME = 1e-12  # relative spread below which values are equal but for rounding, and a t-test has no scale


def masked_mean(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the mean of each column, of which `count` entries are not NaN."""
    return np.nansum(values, axis=0) / count


def varies(values: np.ndarray) -> np.ndarray:
    """Return whether the entries of each column differ by more than rounding: else nothing scales a t-test."""
    centred = values - masked_mean(values, np.sum(~np.isnan(values), axis=0))
    return np.nanmax(np.abs(centred), axis=0) > SAME * np.nanmax(np.abs(values), axis=0)


def t_tail(excess: np.ndarray) -> np.ndarray:
    """Return the p-value of `mean of each column <= 0`, NaN entries left out; 1 where it cannot be tested."""
    from scipy.special import stdtr

    n = np.sum(~np.isnan(excess), axis=0)
    centred = excess - masked_mean(excess, n)
    variance = np.nansum(centred**2, axis=0) / (n - 1)
    statistic = masked_mean(excess, n) / np.sqrt(variance / n)
    skewness = np.minimum(masked_mean((centred / np.sqrt(variance)) ** 3, n), LEAST_SKEWNESS)
    a = skewness / np.sqrt(n)
    corrected = ((1 + a * statistic / 3) ** 3 - 1) / a + a / 6
    p = stdtr(n - 1, -np.minimum(statistic, corrected))
    spread = variance > (SAME * np.nanmax(np.abs(excess), axis=0)) ** 2
    return np.where((n >= FEWEST_FOR_T) & spread, p, 1.0)


def betting_tail(credited: np.ndarray) -> np.ndarray:
    """Return the p-value of `mean of each column <= 1` for non-negative entries, NaN left out; 1 elsewhere."""
    wealth = [np.nansum(np.log1p(bet * (credited - 1)), axis=0) for bet in BETS]
    log_wealth = np.logaddexp.reduce(wealth, axis=0) - np.log(len(BETS))
    possible = np.all(np.isnan(credited) | (credited >= 0), axis=0)
    return np.where(possible, np.exp(-np.maximum(log_wealth, 0)), 1.0)


def mean_tails(ratio: np.ndarray, allowed: np.ndarray, two_sided: bool) -> np.ndarray:
    """Return the p-value of `mean of each column <= 1 + allowed` (two-sided: and >= 1 - allowed)."""
    above = np.minimum(1.0, 2 * np.minimum(t_tail(ratio - 1 - allowed), betting_tail(ratio / (1 + allowed))))
    return np.minimum(1.0, 2 * np.minimum(above, t_tail(1 - allowed - ratio))) if two_sided else above


def binomial_tail(excess: np.ndarray, rate: float) -> np.ndarray:
    """Return the p-value of `entries of each column are positive with probability at most rate`, NaN left out."""
    from scipy.special import bdtrc

    n = np.sum(~np.isnan(excess), axis=0)
    positive = np.sum(excess > 0, axis=0)
    return np.where(positive == 0, 1.0, bdtrc(np.maximum(positive - 1, 0), np.maximum(n, 1), rate))


def share_tails(ratio: np.ndarray, allowed: np.ndarray, two_sided: bool, rate: float) -> np.ndarray:
    """Return the p-value of `at most a share rate of each column is above 1 + allowed` (two-sided: nor below)."""
    above = binomial_tail(ratio - 1 - allowed, rate)
    if not two_sided:
        return above
    return np.minimum(1.0, 2 * np.minimum(above, binomial_tail(1 - allowed - ratio, rate)))
