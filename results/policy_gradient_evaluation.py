"""TD(0) by its exact moments, and the critic's bias, as tables: starts, small steps, stability, inner steps."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import claims_of, lanes_by_setting, law_of, numbers, problem_of, static
from results.medians import median_range
from results.schema import Group

TD = "temporal_difference_moments"
ERROR, STATIONARY, SCALED = "mean_square_error", "stationary_mean_square_error", "scaled_mean_square_error"
GROWTH, FACTOR, MEAN_FACTOR, SLOPE = "growth", "difference_factor", "mean_difference_factor", "steady_slope"
SAME, FACTOR_WITHIN, SLOPE_WITHIN, GROWTH_WITHIN = 1e-7, 1e-3, 0.005, 1e-6
EXCESS, MEAN_BIAS, FLOOR = "bias_excess", "mean_bias_sq", "bias_floor"
DECAY = (-1.3, -0.7)  # of E|b|^2 - floor against N
FLOOR_WITHIN = 0.03
DECADES = 1  # of N that the decay is fitted to
NO_FLOOR = 1e-20  # |b|^2 that is rounding


def _moments(groups: list[Group], metric: str) -> list[Group]:
    """Return the groups that follow the exact moments of TD(0) and record the metric."""
    return [group for group in claims_of(groups)
            if str(group.runs["algorithm"].iloc[0]) == TD and metric in group.metrics]  # fmt: skip


def _by_step(group: Group) -> dict[float, np.ndarray]:
    """Return the lanes that start at a state, of each constant step size."""
    eta, constant = numbers(group, "eta"), np.nan_to_num(numbers(group, "decay")) == 0
    chosen = constant & (numbers(group, "start") >= 0)
    return {float(step): np.flatnonzero(chosen & (eta == step)) for step in np.unique(eta[chosen])}


def _factor(group: Group, lanes: np.ndarray) -> dict[str, float]:
    law = law_of(group, f"{TD}_{FACTOR}")[lanes, -1]
    values = group.metrics[FACTOR][lanes, -1] if FACTOR in group.metrics else np.full(len(lanes), np.nan)
    known = np.isfinite(law) & np.isfinite(values)
    if not known.any():
        return {"factor": np.nan, "factor_law": np.nan, "factor_off": np.nan}
    off = np.abs(values[known] / law[known] - 1)
    return {"factor": float(np.median(values[known])), "factor_law": float(law[known][0]),
            "factor_off": float(off.max())}  # fmt: skip


def _started(group: Group, eta: float, lanes: np.ndarray) -> dict[str, Any]:
    errors, limit = group.metrics[ERROR][lanes], float(law_of(group, f"{TD}_limit")[lanes[0], -1])
    stationary = group.metrics.get(STATIONARY, np.full(group.metrics[ERROR].shape, np.nan))[lanes]
    ratios, bounds = errors / stationary, law_of(group, f"{TD}_change_of_measure")[lanes] / stationary
    return {"problem": problem_of(group), "sampling": static(group, "sampling"), "eta": eta, "starts": len(lanes),
            "steps": int(group.checkpoints[-1]), "limit": limit, "apart": float(np.ptp(errors[:, -1]) / limit),
            "ratio": float(ratios.max()), "most": float(bounds[:, -1].max()), "times": group.checkpoints,
            "curves": errors, "first": numbers(group, "start")[lanes], **_factor(group, lanes)}  # fmt: skip


def starts(groups: list[Group]) -> pd.DataFrame:
    """Return how TD(0) forgets its first state, one row a problem x step size that several states start from.

    `apart` is the largest difference between starts at the end over the limit, `ratio` the largest mean-square error
    over that of a stationary start, `most` 1/rho_min; `times` and `curves` are the mean-square errors, `first` the
    states that they start from.
    """
    rows = [_started(group, eta, lanes) for group in _moments(groups, ERROR)
            for eta, lanes in _by_step(group).items()
            if len(lanes) > 1 and np.isfinite(law_of(group, f"{TD}_limit")[lanes, -1]).all()]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.sort_values("starts", kind="stable").drop_duplicates(["problem", "sampling", "eta"], keep="last")
    return table.sort_values(["problem", "sampling", "eta"], ignore_index=True)


def _steady(group: Group) -> list[dict[str, Any]]:
    sampling, eta = static(group, "sampling"), numbers(group, "eta")
    wanted, other = ("long_run", "white_noise") if sampling == "markov" else ("white_noise", "long_run")
    law, settled = law_of(group, f"{TD}_{wanted}")[:, 0], law_of(group, f"{TD}_limit")[:, -1]
    unasked = group.bounds.get(f"{TD}_{other}")
    rows = []
    for lanes in lanes_by_setting(group).values():
        lane = lanes[0]
        if np.nan_to_num(numbers(group, "decay"))[lane] == 0:
            rows.append({"problem": problem_of(group), "sampling": sampling, "eta": float(eta[lane]),
                         "scaled": settled[lane] / eta[lane], "slope": float(group.metrics[SLOPE][lane, 0]),
                         "law": float(law[lane]),
                         "other": np.nan if unasked is None else float(unasked[lane, 0])})  # fmt: skip
    return rows


def steady(groups: list[Group]) -> pd.DataFrame:
    """Return what small steps leave of TD(0)'s error, one row a problem x sampling x step size.

    `scaled` is the limit of E|x_t - x_star|^2/eta (NaN where the run is too short for it), `slope` its extrapolation
    to eta = 0, `law` what the noise along this sampling promises of it and `other` what the other covariance would.
    """
    table = pd.DataFrame([row for group in _moments(groups, SLOPE) for row in _steady(group)])
    if table.empty:
        return table
    table = table.sort_values("scaled", kind="stable").drop_duplicates(["problem", "sampling", "eta"])
    laws = table.dropna(subset=["law"]).drop_duplicates(["problem", "sampling"])
    laws = laws.assign(sampling=np.where(laws["sampling"] == "markov", "iid", "markov"))
    found = table.merge(laws[["problem", "sampling", "law"]], on=["problem", "sampling"], how="left")["law_y"]
    table = table.assign(other=table["other"].to_numpy(float))
    table["other"] = table["other"].where(table["other"].notna(), found.to_numpy(float))
    return table.sort_values(["problem", "sampling", "eta"], ascending=[True, False, False], ignore_index=True)


def _when(group: Group, metric: str, law: np.ndarray, lane: int, *, last: bool) -> tuple[float, float, float]:
    """Return a metric, its law and the step at the last or first checkpoint where both are finite; NaN for none."""
    values = np.asarray(group.metrics.get(metric, np.full(law.shape, np.nan)), float)[lane]
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(law[lane]))
    if not len(known):
        return np.nan, np.nan, np.nan
    at = known[-1] if last else known[0]
    return float(values[at]), float(law[lane, at]), float(group.checkpoints[at])


def thresholds(groups: list[Group]) -> pd.DataFrame:
    """Return which constant steps are stable, one row a problem x sampling x step size.

    `growth` is E|x_t - x_star|^2 over the one before, where it was last finite, and `growth_law` max(1, r2); `mean` the
    factor of what the start changes of the mean where the law first speaks, `mean_law` max(r1, |lambda_2|).
    """
    rows = []
    for group in _moments(groups, GROWTH):
        law, mean_law = law_of(group, f"{TD}_threshold"), law_of(group, f"{TD}_mean_factor")
        for eta, lanes in _by_step(group).items():
            lane = lanes[0]
            growth, promised, t = _when(group, GROWTH, law, lane, last=True)
            mean, mean_promised, _ = _when(group, MEAN_FACTOR, mean_law, lane, last=False)
            rows.append({"problem": problem_of(group), "sampling": static(group, "sampling"), "eta": eta, "step": t,
                         "growth": growth, "growth_law": promised, "off": abs(growth / promised - 1), "mean": mean,
                         "mean_law": mean_promised})  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.dropna(subset=["growth"]).drop_duplicates(["problem", "sampling", "eta"])
    return table.sort_values(["problem", "sampling", "eta"], ignore_index=True)


def _decay(times: np.ndarray, excess: np.ndarray) -> float:
    """Return the slope of log excess against log N over the last decade of N, NaN for fewer than three points."""
    with np.errstate(invalid="ignore"):
        chosen = (times > 0) & (times >= times[-1] / 10**DECADES) & (excess > 0) & np.isfinite(excess)
    if chosen.sum() < 3:
        return np.nan
    return float(np.polyfit(np.log(times[chosen]), np.log(excess[chosen]), 1)[0])


def _critic(group: Group, lanes: np.ndarray) -> dict[str, Any]:
    times, bias, excess = group.checkpoints, group.metrics[MEAN_BIAS][lanes], group.metrics[EXCESS][lanes]
    floor = group.metrics[FLOOR][lanes, -1] if FLOOR in group.metrics else np.zeros(len(lanes))
    floor = np.where(floor > NO_FLOOR, floor, 0.0)
    over = np.abs(bias[floor > 0, -1] / floor[floor > 0] - 1)
    return {"problem": problem_of(group), "rank": static(group, "rank"), "instances": len(lanes),
            "restart": float(numbers(group, "restart")[lanes[0]]), "steps": int(times[-1]),
            "decay": median_range(np.array([_decay(times, one) for one in excess])), "floor": median_range(floor),
            "end": median_range(bias[:, -1]), "over": float(over.max()) if len(over) else np.nan, "times": times,
            "bias": bias[0], "excess": excess[0], "floor_shown": float(floor[0]),
            "law": law_of(group, "critic_bias_decay")[lanes[0]]}  # fmt: skip


def critic_bias(groups: list[Group]) -> pd.DataFrame:
    """Return the bias of the actor that TD(0)'s critic causes, one row a problem x rank x setting.

    `decay` is the exponent of E|b|^2 - floor in the inner steps N, `floor` and `end` the floor and E|b|^2 at the last
    N (median, least, largest over instances), `over` the largest relative difference of the two; `times`, `bias`,
    `excess`, `floor_shown` and `law` (of the excess) are the curves of the first instance.
    """
    rows = [_critic(group, lanes) for group in claims_of(groups)
            if EXCESS in group.metrics and MEAN_BIAS in group.metrics
            for lanes in lanes_by_setting(group).values()]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.sort_values("steps", kind="stable").drop_duplicates(["problem", "rank", "restart"], keep="last")
    return table.sort_values(["problem", "restart", "rank"], ignore_index=True)
