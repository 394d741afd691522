"""Strict saddles as tables: when each method leaves one, how that time grows, when a second-order point is reached."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import (
    algorithm_of,
    claims_of,
    family_of,
    lanes_by_setting,
    law_of,
    numbers,
    parameter,
    problem_of,
    static,
    without,
)
from results.medians import median_interval
from results.schema import Group
from results.tables import parts_of

NEAR, SHORT = "sum_near_saddle", "sum_short_of_second_order"
SECOND_ORDER_LAW = "gpomdp_second_order"
HIDDEN = "bilinear_logit"  # the saddle where every score vanishes
AXES = {  # what a method's time to leave is measured against, and its sign in the table
    "truncated_policy_gradient": ("batch_size", "B"),
    "truncated_exact_policy_gradient": ("horizon", "H"),
    "softmax_policy_gradient": ("start", "v·x₀"),
    "perturbed_policy_gradient": ("s_iso", "s"),
    "actor_critic": ("inner_steps", "N"),
}
NOISELESS = ("truncated_exact_policy_gradient", "softmax_policy_gradient")
WITHIN, WITHIN_INNER, STANDARD_ERRORS = 0.05, 0.25, 3
NORMAL = 1.96  # standard errors in half a 95 % interval
MEDIAN_SPREAD = 1.166  # standard deviation of the median of log |N(0, 1)|, times sqrt n
UNITS = {"batch_size": "decade of B", "horizon": "step of H", "start": "decade of 1/(v·x₀)",
         "s_iso": "decade of 1/s", "inner_steps": "factor 4 of N"}  # fmt: skip
CITED = 4.5  # exponent of 1/eps in the trajectories of Yang, Zheng & Pan (2020)


def curvature(group: Group) -> float:
    """Return lam, the top eigenvalue of the Hessian at the saddle: gamma c/(8 n), or 1/4 on the bilinear logit."""
    if family_of(group) == HIDDEN:
        return 0.25
    copies = parameter(group, "n") if family_of(group) == "multi_saddle" else 1.0
    return parameter(group, "gamma") * parameter(group, "c") / (8 * copies)


def _law(group: Group, lanes: np.ndarray) -> tuple[float, bool]:
    """Return the law's steps at the end (NaN where none speaks) and whether it is for the median over seeds."""
    for theorem in group.theorems:
        values = law_of(group, theorem.name)[lanes, -1] if theorem.metric == NEAR else np.array([np.nan])
        if np.isfinite(values).any():
            return float(np.nanmedian(values)), theorem.holds == "in median"
    return np.nan, False


def _within(times: np.ndarray, median: float, law: float, in_median: bool, growth: float) -> bool:
    """Return whether the times agree with the law: the median within 5 % and three standard errors, or each to a step.

    Infinite stands for a lane that never left, and for a law that says so.
    """
    if np.isinf(law):
        return bool(np.isinf(times).all())
    if not in_median:
        return bool(np.max(np.abs(times - law)) <= 1)
    error = MEDIAN_SPREAD / (np.sqrt(len(times)) * growth)
    return abs(median - law) <= WITHIN * law + STANDARD_ERRORS * error


def _escapes(group: Group) -> list[dict[str, Any]]:
    algorithm, end, rows = algorithm_of(group), int(group.checkpoints[-1]), []
    axis, _ = AXES.get(algorithm, ("", ""))
    if not axis or NEAR not in group.metrics:
        return rows
    words = [name for name in group.runs if name.startswith("hp_") and name != f"hp_{axis}"]
    near = np.asarray(group.metrics[NEAR][:, -1], float)
    for lanes in lanes_by_setting(group).values():
        eta = float(numbers(group, "eta")[lanes[0]])
        left = near[lanes] <= end  # NaN: diverged, and never seen to leave
        times = np.where(left, near[lanes], np.inf)
        law, in_median = _law(group, lanes)
        law = np.inf if law > end else law
        growth = float(np.log1p(eta * curvature(group)))
        median, low, high = median_interval(times)
        at = parameter(group, "start") if axis == "start" else numbers(group, axis)[lanes[0]]
        rows.append({"problem": without(problem_of(group), "start"), "family": family_of(group), "eta": eta,
                     "algorithm": algorithm, "axis": axis, "at": float(at), "growth": growth, "seeds": len(lanes),
                     "gamma": parameter(group, "gamma"), "steps": end, "left": int(left.sum()), "median": median,
                     "low": low, "high": high, "law": law,
                     "within": not np.isnan(law) and _within(times, median, law, in_median, growth),
                     "others": str(group.runs.loc[lanes[0], words].to_dict())})  # fmt: skip
    return rows


def escapes(groups: list[Group]) -> pd.DataFrame:
    """Return the steps until each method leaves a strict saddle, one row a problem x method x setting.

    `median` with `low` and `high` its 95 % interval over seeds, infinite where most never left; `law` infinite where
    the law says that the run is too short, NaN where none speaks; `at` is what the time is measured against.
    """
    table = pd.DataFrame([row for group in claims_of(groups) for row in _escapes(group)])
    if table.empty:
        return table
    table = table.sort_values("steps", kind="stable")
    table = table.drop_duplicates(["algorithm", "problem", "others", "at"], keep="last")
    order = [list(AXES).index(name) for name in table["algorithm"]]
    return table.assign(order=order).sort_values(["order", "problem", "eta", "others", "at"], ignore_index=True)


def _scale(axis: str, at: np.ndarray, growth: float, gamma: float) -> tuple[np.ndarray, float]:
    """Return the abscissa of a method's slope, and the slope that the law has there."""
    if axis == "horizon":
        return at, -np.log(gamma) / growth
    if axis == "inner_steps":
        return np.log(at) / np.log(4), np.log(2) / growth
    sign, power = (1, 2) if axis == "batch_size" else (-1, 1)
    return sign * np.log10(at), np.log(10) / (power * growth)


def slopes(groups: list[Group]) -> pd.DataFrame:
    """Return how the time to leave grows, one row a problem x method x step size, beside the law's slope.

    Least squares through the settings whose median is finite; against the horizon, where the law is linear only in
    the end, from a quarter of the largest on. `half` is half the slope's 95 % interval by the law's spread of a median
    over seeds, NaN where nothing is drawn.
    """
    table, rows = escapes(groups), []
    keys = ["order", "algorithm", "problem", "axis", "eta", "others"]
    for key, there in parts_of(table, keys):
        axis, fit = there["axis"].iloc[0], there.loc[np.isfinite(there["median"]) & (there["at"] > 0)]
        fit = fit.loc[fit["at"] >= fit["at"].max() / 4] if axis == "horizon" else fit
        if len(fit) < 2:
            continue
        x, law = _scale(axis, fit["at"].to_numpy(float), fit["growth"].iloc[0], fit["gamma"].iloc[0])
        fitted = float(np.polyfit(x, fit["median"].to_numpy(float), 1)[0])
        bar = WITHIN_INNER if axis == "inner_steps" else WITHIN
        error = MEDIAN_SPREAD / (fit["growth"].iloc[0] * np.sqrt(fit["seeds"].min() * np.sum((x - x.mean()) ** 2)))
        rows.append({**dict(zip(keys, key, strict=True)), "unit": UNITS[axis], "points": len(fit), "fitted": fitted,
                     "half": np.nan if there["algorithm"].iloc[0] in NOISELESS else NORMAL * error,
                     "law": law, "off": abs(fitted / law - 1), "bar": bar, "least": fit["at"].min(),
                     "most": fit["at"].max()})  # fmt: skip
    return pd.DataFrame(rows)


def _second_order(group: Group) -> list[dict[str, Any]]:
    rows, short = [], np.asarray(group.metrics[SHORT], float)
    law = law_of(group, SECOND_ORDER_LAW)
    for lanes in lanes_by_setting(group).values():
        reached = short[lanes, -1] <= group.checkpoints[-1]
        median, low, high = median_interval(np.where(reached, short[lanes, -1], np.inf))
        eps, batch = (float(numbers(group, name)[lanes[0]]) for name in ("accuracy", "batch_size"))
        bound = law[lanes, -1]
        rows.append({"problem": problem_of(group), "eta": float(numbers(group, "eta")[lanes[0]]), "eps": eps,
                     "batch": batch, "seeds": len(lanes), "reached": int(reached.sum()), "median": median, "low": low,
                     "high": high, "bound": float(np.median(bound)), "trajectories": median * batch,
                     "draws": static(group, "draws")})  # fmt: skip
    return rows


def second_order(groups: list[Group]) -> pd.DataFrame:
    """Return steps that are short of an (eps, sqrt(rho eps))-second-order point, one row a problem x eta x eps."""
    rows = [row for group in claims_of(groups) if SHORT in group.metrics and "hp_accuracy" in group.runs
            for row in _second_order(group)]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.drop_duplicates(["problem", "eta", "eps"])
    return table.sort_values(["problem", "eta", "eps"], ascending=[True, True, False], ignore_index=True)


def second_order_exponents(groups: list[Group]) -> pd.DataFrame:
    """Return the exponents of 1/eps of steps and of trajectories, one row a problem x eta of three eps at least."""
    table, rows = second_order(groups), []
    for (problem, eta), there in parts_of(table, ["problem", "eta"]):
        fit = there.loc[np.isfinite(there["median"])]
        if len(fit) >= 3:
            x = -np.log(fit["eps"])
            steps, trajectories = (float(np.polyfit(x, np.log(fit[name]), 1)[0]) for name in ("median", "trajectories"))
            rows.append({"problem": problem, "eta": eta, "steps": steps, "trajectories": trajectories})
    return pd.DataFrame(rows)
