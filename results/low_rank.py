"""Slow instances of LoRA as tables: the exponents of the escape family, the horizon-dependent worst case.

Each table reads the claims among the groups, one row a line of a sheet; it is empty where its data are not there.
"""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import claims_of, family_of, lanes_by_setting, parameter, static
from results.schema import Group
from results.settings import evenly, labels

ESCAPE, HORIZON = "escape_family", "worst_horizon"
ESCAPE_LAW, RATE = "lora_gradient_descent_escape", "lora_gradient_descent_rate"
GRADIENT, GAP = "gradient_norm_sq", "weight_gap"
GAPS, INVERSE_GAP = (GAP, "suboptimality"), "inverse_suboptimality"
DECADES, POINTS, LEAST = 2, 60, 8  # of the window that an exponent is fitted to
NEGLIGIBLE = 1e-26  # share of the largest |grad|^2 below which it is rounding
CLOSE = 0.01  # between a measured exponent and the promised one
TIGHT = (0.33, 0.40)  # where measured / bound lies on the worst case
THEORY = ("selfnorm", "selfnorm_bt", "mk_theory")
SLOWER = (*THEORY, "adapt", "adapt2")  # eta ~ 1/|V|^2 on the escape family


def gap_of(group: Group) -> np.ndarray | None:
    """Return the gap of the loss in every lane, (lane, checkpoint), None where it is not recorded, nor its inverse."""
    for name in GAPS:
        if name in group.metrics:
            return np.asarray(group.metrics[name], float)
    if INVERSE_GAP not in group.metrics:
        return None
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(group.metrics[INVERSE_GAP], float)


def running_minimum(group: Group) -> np.ndarray | None:
    """Return min_{s<=t} |grad J|^2 of every lane, over the steps where that is recorded, else over the checkpoints."""
    if f"best_{GRADIENT}" in group.metrics:
        return group.metrics[f"best_{GRADIENT}"]
    return np.minimum.accumulate(group.metrics[GRADIENT], axis=1) if GRADIENT in group.metrics else None


def slope(steps: np.ndarray, curve: np.ndarray) -> tuple[float, float, int]:
    """Return slope of log curve over log t, half its 95 % interval, and points: least squares, last two decades.

    At most 60 of the checkpoints, chosen evenly; the interval is that of the residuals. NaN for fewer than 8 points.
    """
    known = np.isfinite(curve) & (curve > 0)
    known[known] = curve[known] >= NEGLIGIBLE * curve[known].max(initial=0.0)
    chosen = np.flatnonzero(known & (steps >= 1) & (steps >= steps[-1] / 10**DECADES))
    chosen = np.asarray(evenly(list(chosen), POINTS), int)
    if len(chosen) < LEAST:
        return np.nan, np.nan, len(chosen)
    from scipy.stats import linregress, t

    fit: Any = linregress(np.log(steps[chosen]), np.log(curve[chosen]))
    return float(fit.slope), float(t.ppf(0.975, len(chosen) - 2) * fit.stderr), len(chosen)


def known_exponent(p: float, rule: str) -> float:
    """Return the exponent of |grad J|^2 on the escape family: v' = -eta J'(v), J ~ v^(-2p); NaN for other rules."""
    if rule in SLOWER:
        return -(2 * p + 1) / (p + 2)
    return -(2 * p + 1) / (p + 1) if rule == "const" else np.nan


def _geometric(curves: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.log(np.asarray(curves, float)).mean(axis=0))


def _exponent(group: Group, lanes: np.ndarray, curves: np.ndarray) -> dict[str, Any]:
    steps, p, rule = group.checkpoints, parameter(group, "p"), static(group, "rule")
    measured, half, points = slope(steps, _geometric(curves[lanes]))
    law = group.bounds[ESCAPE_LAW][lanes] if ESCAPE_LAW in group.bounds else np.full((1, len(steps)), np.nan)
    promised = slope(steps, _geometric(law))[0]
    promised = promised if np.isfinite(promised) else known_exponent(p, rule)
    return {"p": p, "rule": rule, "measured": measured, "half": half, "promised": promised, "points": points,
            "difference": measured - promised, "steps": int(steps[-1])}  # fmt: skip


def exponents(groups: list[Group]) -> pd.DataFrame:
    """Return measured and promised exponents on the escape family, one row a p x rule x setting, its longest run.

    The promise is the same fit to the bound of `lora_gradient_descent_escape`, where that is not recorded the exponent
    that the rule is known to have there.
    """
    rows = []
    for group in claims_of(groups):
        curves = running_minimum(group)
        if family_of(group) != ESCAPE or "hp_rule" not in group.runs or curves is None:
            continue
        names = labels(group) if group.runs["setting"].nunique() > 1 else {}
        for index, lanes in lanes_by_setting(group).items():
            rows.append({**_exponent(group, lanes, curves), "setting": names.get(index, "")})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.loc[table["measured"].notna()].sort_values(["steps"], kind="stable")
    table = table.drop_duplicates(["p", "rule", "setting"], keep="last")
    return table.sort_values(["rule", "p", "setting"], ascending=[True, False, True]).reset_index(drop=True)


def _at_the_end_of_the_slope(group: Group, metric: str) -> list[dict[str, Any]]:
    T, rows = parameter(group, "T"), []
    there = np.flatnonzero((group.checkpoints >= 1) & (group.checkpoints <= T))
    admitted = np.asarray(group.admitted[RATE], bool)
    for lanes in lanes_by_setting(group).values():
        chosen = lanes[admitted[lanes]]
        if len(there) and len(chosen):
            measured, bound = (float(curves[chosen, there[-1]].max()) for curves in (group.metrics[metric],
                                                                                    group.bounds[RATE]))  # fmt: skip
            c = float(group.runs["hp_c"].iloc[chosen[0]]) if "hp_c" in group.runs else np.nan
            rows.append({"T": T, "step": int(group.checkpoints[there[-1]]), "rule": static(group, "rule"), "c": c,
                         "measured": measured, "bound": bound, "ratio": measured / bound})  # fmt: skip
    return rows


def worst_case(groups: list[Group]) -> pd.DataFrame:
    """Return measured / (A2) where the slope of the worst case ends, one row a T x rule x setting that is admitted."""
    rows = []
    for group in claims_of(groups):
        if family_of(group) == HORIZON:
            rows += [row for theorem in group.theorems if theorem.name == RATE
                     for row in _at_the_end_of_the_slope(group, theorem.metric)]  # fmt: skip
    table = pd.DataFrame(rows)
    return table.sort_values(["rule", "c", "T"], ignore_index=True) if rows else table
