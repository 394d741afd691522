"""One theorem against one group of lanes: where it is judged, by how much it is missed, and how sure that is.

A cell is a setting at a checkpoint. It is judged where its lane is admitted (in a control: always) and its bound is
finite and above the rounding floor. Measured values are credited that floor, so a ratio of 1 is a bound just met.

- every run: each lane by itself, nothing is left to chance.
- in expectation: the mean over seeds of value / bound against 1. Two tests share the level of a cell, half each.
  From 10 seeds on Student's t, corrected (Hall 1992) for a skewness against us of at least an exponential's. For
  non-negative values the betting test: prod_i (1 - lambda + lambda r_i) has mean at most 1 for independent r_i >= 0 of
  mean at most 1 (Waudby-Smith & Ramdas 2024), so one over it is a valid p-value for any number of seeds and any tail.
- in median: the sign test, which is the order-statistics interval of the median read backwards.
- with probability p: the exact binomial tail of the number of seeds beyond the bound, of rate 1 - p. The ratio of a
  cell is the p-quantile over seeds, the ceil(p n)-th smallest of n: above 1 where a share above 1 - p is beyond.
- audited: each setting is one cell, its epsilon bounded from below by samples of scores (`results.audited`).
Cells of one theorem and group share the level by Bonferroni, exact and asymptotic laws use both sides.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from results.audited import AUDITED, admitted_lanes, judge_audit
from results.schema import DIVERGED, Group, TheoremRecord
from results.tails import FEWEST_FOR_T, SAME, masked_mean, mean_tails, share_tails, varies

EVERY_RUN, IN_EXPECTATION, IN_MEDIAN = "every run", "in expectation", "in median"
WITH_PROBABILITY = "with probability"
ONE_SIDED, ASYMPTOTIC = ("upper bound", "finding"), "asymptotic law"
RELATIVE_ROUNDING = 1e-9
RESAMPLES, TAILS = 1000, (0.025, 0.975)


@dataclass(frozen=True)
class Cells:
    """Lanes x checkpoints: `ratio` is value / bound, NaN where not judged, `allowed` the leeway above 1."""

    ratio: np.ndarray
    allowed: np.ndarray
    rounding: np.ndarray
    two_sided: bool

    def size(self, ratio: np.ndarray, rounding: np.ndarray) -> np.ndarray:
        """Return how far off a ratio is after its rounding credit: 1 is just met, for a law from either side."""
        above = np.maximum(ratio - rounding, 0)
        if not self.two_sided:
            return above
        return np.fmax(above, 1 / np.maximum(ratio + rounding, 0))


@dataclass(frozen=True)
class Finding:
    """What one group says of one theorem. `p_value` is of the worst cell, `cells` how many share the level.

    `broken` is a violation beyond chance, `doubtful` a point estimate beyond the bound or too few trials, `seeds` the
    most in a cell, `least_p` the smallest p-value that so many can give from both sides. `slack_at_end` is
    bound / value of each judged lane at its last judged checkpoint (audited: of each setting).
    """

    lanes: int
    judged: int
    not_admitted: int
    diverged: int
    broken: bool
    doubtful: bool
    p_value: float
    cells: int
    seeds: int
    least_p: float
    max_ratio: float
    low: float
    high: float
    at_step: float
    at_lane: int
    slack_at_end: np.ndarray


def cells_of(group: Group, theorem: TheoremRecord) -> tuple[Cells, np.ndarray]:
    """Return the cells of `theorem` in `group`, and which lanes it admits."""
    value = np.asarray(group.metrics[theorem.metric], float)
    bound = np.asarray(group.bounds[theorem.name], float)
    floor = np.asarray(group.floors[theorem.name], float)[:, None]
    admitted = admitted_lanes(group, theorem)
    live = admitted[:, None] & np.isfinite(bound) & (bound > floor)
    if theorem.kind == ASYMPTOTIC:
        live[:, :-1] = False
    divisor = np.where(live, bound, np.nan)
    # a bound promises a finite number, so anything else is infinitely far off
    ratio = np.where(live & ~np.isfinite(value), np.inf, value / divisor)
    rounding = floor / divisor
    two_sided = theorem.kind not in ONE_SIDED
    leeway = np.maximum(theorem.tolerance, theorem.slack / divisor) if two_sided else 0.0
    return Cells(ratio, RELATIVE_ROUNDING + rounding + leeway, rounding, two_sided), admitted


def _masked_median(values: np.ndarray) -> np.ndarray:
    """Return the median of each column without NaN entries, which sort last; infinities count as values."""
    n = np.sum(~np.isnan(values), axis=0)
    ordered = np.sort(values, axis=0)
    columns = np.arange(values.shape[1])
    low, high = ordered[np.maximum(n - 1, 0) // 2, columns], ordered[np.minimum(n // 2, len(values) - 1), columns]
    return np.where(low == high, low, (low + high) / 2)


def _centre(values: np.ndarray, theorem: TheoremRecord) -> np.ndarray:
    """Return the mean, median or quantile of each column that the theorem speaks of."""
    n = np.sum(~np.isnan(values), axis=0)
    if theorem.holds == IN_MEDIAN:
        return _masked_median(values)
    if theorem.holds == WITH_PROBABILITY:
        rank = np.ceil(n * theorem.probability * (1 - SAME)).astype(int)
        return np.sort(values, axis=0)[rank - 1, np.arange(values.shape[1])]
    return masked_mean(values, n)


def _every_run(cells: Cells, seeds: np.ndarray) -> tuple[tuple[int, int], float, float, float]:
    """Return the worst place and ratio, and the bootstrap interval of the worst over seeds.

    The largest of n seeds drawn with replacement is at most the k-th smallest with probability (k/n)^n: no need to
    draw.
    """
    size = cells.size(cells.ratio, cells.rounding)
    lane, step = np.unravel_index(np.nanargmax(size), size.shape)
    worst = np.fmax.reduce(size, axis=1)
    known = ~np.isnan(worst)
    ranks = np.unique(seeds[known], return_inverse=True)[1]
    by_seed = np.zeros(ranks.max() + 1)
    np.maximum.at(by_seed, ranks, worst[known])
    by_seed.sort()
    n = len(by_seed)
    low, high = (by_seed[min(n - 1, int(np.ceil(n * tail ** (1 / n))) - 1)] for tail in TAILS)
    return (int(lane), int(step)), float(size[lane, step]), float(low), float(high)


def _over_seeds(cells: Cells, lanes: np.ndarray, step: int, theorem: TheoremRecord) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the ratio of one cell."""
    ratio, rounding = cells.ratio[lanes, step], cells.rounding[lanes, step]
    live = ~np.isnan(ratio)
    ratio, rounding = ratio[live], rounding[live].mean()
    if not np.isfinite(ratio).all():
        return np.nan, np.nan
    draws = ratio[np.random.default_rng(0).integers(len(ratio), size=(RESAMPLES, len(ratio)))]
    low, high = np.quantile(cells.size(_centre(draws.T, theorem), rounding), TAILS, method="inverted_cdf")
    return float(low), float(high)


def _tested(
    ratio: np.ndarray, allowed: np.ndarray, two_sided: bool, theorem: TheoremRecord
) -> tuple[np.ndarray, float]:
    """Return the p-value of each cell, and the smallest that so many seeds can give."""
    most = int(np.sum(~np.isnan(ratio), axis=0).max())
    if theorem.holds == IN_EXPECTATION:
        # an infinite value is a broken promise anyway, which `broken` says
        return mean_tails(np.where(np.isinf(ratio), 1.0, ratio), allowed, two_sided), float(most < FEWEST_FOR_T)
    rate = 0.5 if theorem.holds == IN_MEDIAN else 1 - theorem.probability
    return share_tails(ratio, allowed, two_sided, rate), (1 + two_sided) * rate**most


def _combined(cells: Cells, lanes: np.ndarray, theorem: TheoremRecord) -> dict[str, Any] | None:
    """Return what the seeds of one setting say together, None where nothing of it is judged."""
    judged = np.flatnonzero(~np.isnan(cells.ratio[lanes]).all(0))
    if not len(judged):
        return None
    block = np.ix_(lanes, judged)
    ratio, allowed = cells.ratio[block], cells.allowed[block]
    seeds = np.sum(~np.isnan(ratio), axis=0)
    p_values, least_p = _tested(ratio, allowed, cells.two_sided, theorem)
    beyond = _centre(ratio - 1 - allowed, theorem) > 0
    if cells.two_sided:
        beyond |= _centre(1 - allowed - ratio, theorem) > 0
    if theorem.holds == IN_EXPECTATION and np.any(beyond & ~varies(ratio)):
        least_p = 1.0  # seeds that agree have no spread: no number of them makes a test
    size = cells.size(_centre(ratio, theorem), masked_mean(cells.rounding[block], seeds))
    return {
        "p_value": float(p_values.min()),
        "least_p": least_p,
        "cells": len(judged),
        "seeds": int(seeds.max()),
        "doubtful": bool(beyond.any()),
        "max_ratio": float(size.max()),
        "step": int(judged[size.argmax()]),
        "lanes": lanes,
    }


def _statistical(cells: Cells, setting: np.ndarray, theorem: TheoremRecord) -> dict[str, Any]:
    """Return the fields of a `Finding` that come from the seeds of each setting together."""
    said = [_combined(cells, np.flatnonzero(setting == chosen), theorem) for chosen in np.unique(setting)]
    known = [one for one in said if one is not None]
    worst = max(known, key=lambda one: one["max_ratio"])
    lanes, step = worst["lanes"], worst["step"]
    low, high = _over_seeds(cells, lanes, step, theorem)
    farthest = np.nanargmax(cells.size(cells.ratio[lanes, step], cells.rounding[lanes, step]))
    return {
        "p_value": min(one["p_value"] for one in known),
        "least_p": min(one["least_p"] for one in known),
        "cells": sum(one["cells"] for one in known),
        "seeds": max(one["seeds"] for one in known),
        "doubtful": any(one["doubtful"] for one in known),
        "max_ratio": worst["max_ratio"],
        "low": low,
        "high": high,
        "at_step": step,
        "at_lane": int(lanes[farthest]),
        "broken": theorem.holds == IN_EXPECTATION and bool(np.isinf(cells.ratio).any()),
    }


def _slack_at_end(ratio: np.ndarray, judged: np.ndarray) -> np.ndarray:
    last = ratio.shape[1] - 1 - np.argmax(~np.isnan(ratio[:, ::-1]), axis=1)
    return (1 / np.maximum(ratio[np.arange(len(ratio)), last], 0))[judged]


def _after_the_start(cells: Cells, checkpoints: np.ndarray) -> Cells:
    """Return the cells after step 0 where there are any: at the start most bounds hold with equality by definition."""
    later = cells.ratio.copy()
    later[:, checkpoints == 0] = np.nan
    return replace(cells, ratio=later) if not np.isnan(later).all() else cells


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # a diverged lane is a finding, not a mishap
def judge(group: Group, theorem: TheoremRecord) -> Finding:
    """Return what `group` says of `theorem`; the verdict itself needs the level that a whole report shares."""
    if theorem.holds == AUDITED:
        return Finding(**judge_audit(group, theorem))
    cells, admitted = cells_of(group, theorem)
    judged = np.any(~np.isnan(cells.ratio), axis=1)
    counts = {
        "lanes": len(judged),
        "judged": int(judged.sum()),
        "not_admitted": int((~admitted).sum()),
        "diverged": int((group.runs["status"] == DIVERGED).sum()),
        "slack_at_end": _slack_at_end(cells.ratio, judged),
    }
    silent = {"p_value": np.nan, "cells": 0, "seeds": 0, "least_p": 0.0, "doubtful": False, "broken": False}
    if not judged.any():
        nowhere = {"max_ratio": np.nan, "low": np.nan, "high": np.nan, "at_step": np.nan, "at_lane": -1}
        return Finding(**counts, **silent, **nowhere)
    if theorem.holds == EVERY_RUN:
        missed = cells.ratio > 1 + cells.allowed
        if cells.two_sided:
            missed |= cells.ratio < 1 - cells.allowed
        silent["broken"] = bool(missed.any())
        shown = cells if missed[:, 0].any() else _after_the_start(cells, group.checkpoints)
        (lane, step), worst, low, high = _every_run(shown, group.runs["seed"].to_numpy())
        found = {"max_ratio": worst, "low": low, "high": high, "at_step": step, "at_lane": lane, **silent}
    else:
        found = _statistical(cells, group.runs["setting"].to_numpy(), theorem)
    found["at_step"] = float(group.checkpoints[int(found["at_step"])])
    return Finding(**counts, **found)
