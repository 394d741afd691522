"""Methods beside each other as tables: exact recursions of ScaledGD, counter-examples to LoRA, imbalanced starts."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import claims_of, family_of, lanes_by_setting, parameter, problem_of, static, told, without
from results.low_rank import THEORY, gap_of
from results.schema import Group
from results.settings import labels
from results.tables import lines_of

ACCURACY = 1e-12  # of the gap, as a share of the gap at the start
SMALL = 1e-8  # of an error, as a share of the error at the start: above the rounding of all kappa up to 1e4
COUNTEREXAMPLE = "weighted_quadratic"
IMBALANCED = ("imbalanced", "spectral")  # random, near the solution
NYSTROM, GENERIC = "Nystrom", "generic"
SCALED = {  # method and start: how many factors, the metric, the exact law where there is one
    ("symmetric_scaled_gradient_descent", NYSTROM): (
        "one factor", "spread_error", "symmetric_scaled_gradient_descent_recursion"),
    ("symmetric_scaled_gradient_descent", GENERIC): (
        "one factor", "off_range", "symmetric_scaled_gradient_descent_off_range"),
    ("scaled_gradient_descent", NYSTROM): ("two factors", "residual", "scaled_gradient_descent_nystrom"),
    ("scaled_gradient_descent", GENERIC): ("two factors", "residual", ""),
}  # fmt: skip


def start_of(group: Group) -> str:
    """Return whether the start is Nystrom's (or NoRA's) and stays in the range of the target, or any other."""
    ranged = told(group, "init") in ("nystrom", "nora") and parameter(group, "off_range") == 0
    return NYSTROM if ranged else GENERIC


def _deviation(values: np.ndarray, laws: np.ndarray, floors: np.ndarray) -> float:
    """Return the largest |measured - law| / law beyond the rounding floor, NaN where the law is silent."""
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.maximum(np.abs(values - laws) - floors[:, None], 0) / laws
    off = off[np.isfinite(laws) & (laws > floors[:, None])]
    return float(np.max(np.where(np.isfinite(off), off, np.inf))) if off.size else np.nan


def _error(group: Group, metric: str) -> np.ndarray | None:
    """Return the error that a law of ScaledGD speaks of; |B A - M| where only its square / 2, the loss, is recorded."""
    if metric == "residual" and metric not in group.metrics and "value" in group.metrics:
        return np.sqrt(2 * np.maximum(group.metrics["value"], 0))
    return group.metrics.get(metric)


def _scaled(group: Group) -> list[dict[str, Any]]:
    start, rows = start_of(group), []
    factors, metric, law = SCALED.get((str(group.runs["algorithm"].iloc[0]), start), ("", "", ""))
    errors = _error(group, metric)
    if not factors or errors is None:
        return rows
    laws = group.bounds.get(law, np.full(errors.shape, np.nan))
    floors = np.asarray(group.floors.get(law, np.zeros(len(errors))), float)
    admitted = np.asarray(group.admitted.get(law, np.ones(len(errors), bool)), bool)
    for lanes in lanes_by_setting(group).values():
        chosen = lanes[admitted[lanes]]
        if len(chosen):
            first, values = chosen[0], errors[chosen]
            reached = steps_to(group.checkpoints, values, SMALL, interpolate=False)
            rows.append({"factors": factors, "start": start, "metric": metric, "problem": problem_of(group),
                         "kappa": parameter(group, "kappa"), "eta": float(group.runs["hp_eta"].iloc[first]),
                         "seeds": len(chosen), "deviation": _deviation(values, laws[chosen], floors[chosen]),
                         "iterations": float(np.median(reached)), "times": group.checkpoints, "values": values[0],
                         "law": laws[first], "floor": floors[first]})  # fmt: skip
    return rows


def scaled(groups: list[Group]) -> pd.DataFrame:
    """Return ScaledGD beside its laws, one row a problem x step size: Nystrom's start, on its recursion, and any other.

    `values` and `law` are the curves of one run at `times`; `deviation` is the largest relative difference between the
    two in all runs, beyond rounding; `iterations` the median over seeds of the first checkpoint at 1e-8 of the start.
    """
    rows = [row for group in claims_of(groups) for row in _scaled(group)]
    order = ["factors", "start", "eta", "kappa", "problem"]
    table = pd.DataFrame(rows)
    return table.sort_values(order, ascending=True, ignore_index=True) if rows else table


def _sketch_method(group: Group, lane: int) -> str:
    """Return what a reader calls the method of a lane; empty for methods that are not compared here."""
    algorithm = str(group.runs["algorithm"].iloc[0])
    if algorithm == "chain_of_lora":
        K, steps = float(group.runs["hp_K"].iloc[lane]), group.checkpoints[-1]
        fixed = ", the same start every time" if static(group, "redraw") == "fixed" else ""
        return "LoRA: never merged" if steps <= K else f"chain of LoRA, K = {K:g}{fixed}"
    return {"rac_lora": "RAC-LoRA", "asymmetric_lora": "asymmetric LoRA"}.get(algorithm, "")


def _sketched(group: Group, gap: np.ndarray) -> list[dict[str, Any]]:
    rows, names = [], labels(group)
    for index, lanes in lanes_by_setting(group).items():
        method = _sketch_method(group, lanes[0])
        known = np.where(np.isfinite(gap[lanes]), gap[lanes], np.inf)
        ends = np.where(np.isfinite(known).all(axis=1), known[:, -1], np.inf)
        if method:
            rows.append({"problem": problem_of(group), "method": method, "setting": names[index], "seeds": len(lanes),
                         "start": float(np.median(gap[lanes, 0])), "least": float(known.min()),
                         "end": float(np.quantile(ends, 0.5, method="lower")), "low": ends.min(), "high": ends.max(),
                         "diverged": int(np.isinf(ends).sum()), "steps": int(group.checkpoints[-1]),
                         "times": group.checkpoints, "curves": gap[lanes]})  # fmt: skip
    return rows


def counterexamples(groups: list[Group]) -> pd.DataFrame:
    """Return low-rank methods in W beside each other on the counter-examples, one row a problem x method x setting.

    `end` is the median over seeds of the gap at the end, `low` and `high` its extremes (a lane that diverged counts as
    infinite), `least` the smallest gap that any lane ever has. A chain that is never merged is LoRA itself.
    """
    rows = []
    for group in claims_of(groups):
        gap = gap_of(group)
        rows += _sketched(group, gap) if family_of(group) == COUNTEREXAMPLE and gap is not None else []
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    several: Any = table.groupby("problem")["method"].transform("nunique")
    return table.loc[several > 1].sort_values(["problem", "method", "end"], kind="stable", ignore_index=True)


def steps_to(steps: np.ndarray, curves: np.ndarray, level: float, *, interpolate: bool = True) -> np.ndarray:
    """Return where each curve (lane, checkpoint) first is at most `level` times its start, infinite where it never is.

    Between checkpoints the logarithm of a curve is interpolated linearly, which is exact for a geometric decay.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(np.maximum(curves, 0) / curves[:, :1]) - np.log(level)
    reached = share <= 0
    at = np.argmax(reached, axis=1)
    rows, before = np.arange(len(curves)), np.maximum(at - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = share[rows, before] / (share[rows, before] - np.maximum(share[rows, at], -1e3))
    part = np.where(np.isfinite(part) & interpolate, part, 1.0)
    found = steps[before] + part * (steps[at] - steps[before])
    return np.where(reached.any(axis=1), found, np.inf)


def method_of(group: Group) -> str:
    """Return what a reader calls the method, with the variant that is the same in the whole group."""
    algorithm, variant = str(group.runs["algorithm"].iloc[0]), static(group, "refactor")
    if algorithm == "reflora":
        return "RefLoRA-S (simple)" if variant == "simple" else "RefLoRA (full)"
    return "LoRA" if algorithm == "lora_gradient_descent" else algorithm


def _imbalanced(group: Group) -> list[dict[str, Any]]:
    gap, rows, many = gap_of(group), [], group.runs["setting"].nunique() > 1
    if gap is None or told(group, "init") not in IMBALANCED:
        return []
    rule, T = static(group, "rule"), int(group.checkpoints[-1])
    for index, lanes in lanes_by_setting(group).items():
        words = [f"rule={rule}"] * (rule not in ("", THEORY[0])) + [labels(group)[index]] * many
        rows.append({"problem": without(problem_of(group), "imbalance"), "method": method_of(group),
                     "setting": ", ".join(words), "imbalance": parameter(group, "imbalance"), "steps": T,
                     "times": group.checkpoints, "curves": gap[lanes]})  # fmt: skip
    return rows


def _best(curves: np.ndarray) -> float:
    """Return the median over lanes of the smallest share of the start that the gap reaches."""
    with np.errstate(invalid="ignore"):
        share = curves / curves[:, :1]
    return float(np.median(np.min(np.where(np.isfinite(share), share, 1.0), axis=1)))


def imbalance(groups: list[Group]) -> pd.DataFrame:
    """Return iterations from imbalanced starts, one row a problem x method x setting x imbalance.

    `iterations` is the median over seeds until the gap is 1e-12 of its start, infinite where most never get there;
    `common` until the least accuracy that every row of the problem reaches, which is `accuracy`, a power of ten.
    """
    found = [row for group in claims_of(groups) for row in _imbalanced(group)]
    table = pd.DataFrame(found)
    several: Any = table.groupby("problem")["imbalance"].transform("nunique") if found else None
    if several is None or not (several > 1).any():
        return pd.DataFrame()
    table = table.loc[several > 1].reset_index(drop=True)
    reached: Any = table["curves"].map(_best).groupby(table["problem"]).transform("max")
    table["accuracy"] = 10.0 ** np.ceil(np.log10(np.maximum(reached, ACCURACY)) - 1e-9)
    for name, level in (("iterations", ACCURACY), ("common", None)):
        table[name] = [float(np.median(steps_to(row.times, row.curves, level or row.accuracy)))
                       for row in lines_of(table)]  # fmt: skip
    return table.drop(columns=["times", "curves"]).sort_values(["problem", "method", "setting", "imbalance"],
                                                              ignore_index=True)  # fmt: skip
