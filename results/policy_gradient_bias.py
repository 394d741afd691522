"""The bias of a return cut after H steps as tables: against the horizon, and where ascent on such a return ends."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import algorithm_of, claims_of, lanes_by_setting, law_of, numbers, parameter, problem_of, widest
from results.medians import median_range
from results.schema import Group
from results.tables import parts_of

METHOD, BIAS, GRADIENT = "truncated_exact_policy_gradient", "truncation_bias", "gradient_norm"
BIAS_LAW, BIAS_BOUND, FLOOR_LAW = "truncation_bias_limit", "truncation_bias", "truncation_floor"
ROUNDING = 1e-12  # below which a bias is not fitted
SLOPE_WITHIN, CONSTANT_WITHIN, LEVEL_WITHIN = 0.01, 0.005, 0.02
FEWEST = 3  # horizons of a slope


def _cut(groups: list[Group], metric: str, law: str) -> list[Group]:
    """Return the groups that cut a discounted return at several horizons, one a problem."""
    return widest([
        group for group in claims_of(groups)
        if algorithm_of(group) == METHOD and metric in group.metrics and law in group.bounds
        and 0 < parameter(group, "gamma") < 1 and len(np.unique(numbers(group, "horizon"))) >= 2
    ])  # fmt: skip


def biases(groups: list[Group]) -> pd.DataFrame:
    """Return the bias at the start beside its law and its bound, one row a problem x instance x horizon."""
    rows = []
    for group in _cut(groups, BIAS, BIAS_LAW):
        law, bound = law_of(group, BIAS_LAW)[:, 0], law_of(group, BIAS_BOUND)[:, 0]
        rows.append(pd.DataFrame({
            "problem": problem_of(group), "gamma": parameter(group, "gamma"), "instance": group.runs["seed"],
            "horizon": numbers(group, "horizon"), "bias": group.metrics[BIAS][:, 0], "law": law, "bound": bound,
        }))  # fmt: skip
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    return table.sort_values(["problem", "instance", "horizon"], ignore_index=True) if rows else table


def _fit(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the slope over the larger half of the horizons above rounding, and bias/gamma^H at the last of them."""
    seen = rows.loc[rows["bias"] >= ROUNDING]
    found = dict.fromkeys(("slope", "constant", "law", "fitted_from", "fitted_to"), np.nan)
    fitted = seen.loc[seen["horizon"] >= seen["horizon"].max() / 2]
    if len(fitted) >= FEWEST:
        found["slope"] = np.polyfit(fitted["horizon"], np.log(fitted["bias"]), 1)[0]
        found |= {"fitted_from": fitted["horizon"].min(), "fitted_to": fitted["horizon"].max()}
    if len(seen):
        last = seen.iloc[-1]
        scale = last["gamma"] ** last["horizon"]
        found |= {"constant": last["bias"] / scale, "law": last["law"] / scale}
    return found | {"ratio": float((rows["bias"] / rows["bound"]).max())}


def _worst(values: np.ndarray) -> float:
    """Return the largest of the values that are known, NaN for none."""
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def bias_fits(groups: list[Group]) -> pd.DataFrame:
    """Return slope and constant of the bias against the horizon, one row a problem.

    `slope`, `constant` and `law` are (median, least, largest) over instances; `off_slope` and `off_constant` the
    largest relative difference from log gamma and from the law, `ratio` the largest bias / bound, of any instance.
    """
    table, rows = biases(groups), []
    for (problem, gamma), there in parts_of(table, ["problem", "gamma"]):
        found = [_fit(one) for _, one in parts_of(there, ["instance"])]
        fits = {name: np.array([one[name] for one in found], float) for name in found[0]}
        if not np.isfinite(fits["slope"]).all():
            continue
        rows.append({
            "problem": problem, "gamma": gamma, "instances": len(found), "log_gamma": float(np.log(gamma)),
            "slope": median_range(fits["slope"]), "constant": median_range(fits["constant"]),
            "law": median_range(fits["law"]), "off_slope": _worst(np.abs(fits["slope"] / np.log(gamma) - 1)),
            "off_constant": _worst(np.abs(fits["constant"] / fits["law"] - 1)), "ratio": _worst(fits["ratio"]),
            "fitted_from": fits["fitted_from"].min(), "fitted_to": fits["fitted_to"].max(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _levels(group: Group) -> list[dict[str, Any]]:
    """Return |grad J|/gamma^H at the end, a row a horizon, beside the law where that speaks."""
    gamma, before, rows = parameter(group, "gamma"), None, []
    ends, laws = group.metrics[GRADIENT][:, -1], law_of(group, FLOOR_LAW)[:, -1]
    floors = np.broadcast_to(np.asarray(group.floors.get(FLOOR_LAW, 0.0), float), len(ends))
    by_horizon = {float(numbers(group, "horizon")[lanes[0]]): lanes for lanes in lanes_by_setting(group).values()}
    for horizon, lanes in sorted(by_horizon.items()):
        if not (ends[lanes] > floors[lanes]).all():
            continue
        levels, law = ends[lanes] / gamma**horizon, laws[lanes] / gamma**horizon
        off = np.abs(levels / law - 1)
        change = np.nan if before is None or len(before) != len(levels) else float(np.max(np.abs(levels / before - 1)))
        rows.append({"problem": problem_of(group), "gamma": gamma, "horizon": horizon, "instances": len(lanes),
                     "level": median_range(levels), "spoken": int(np.isfinite(law).sum()), "off": _worst(off),
                     "change": change, "steps": int(group.checkpoints[-1])})  # fmt: skip
        before = levels
    return [row | {"last": row is rows[-1]} for row in rows]


def floors(groups: list[Group]) -> pd.DataFrame:
    """Return where ascent on the cut return ends, one row a problem x horizon.

    `level` is |grad J|/gamma^H (median, least, largest over instances), `change` its largest relative difference from
    the horizon before, `off` that from the law in the `spoken` instances where it speaks.
    """
    return pd.DataFrame([row for group in _cut(groups, GRADIENT, FLOOR_LAW) for row in _levels(group)])
