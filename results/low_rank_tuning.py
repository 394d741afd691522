"""Equal tuning of step rules of LoRA: what each rule ends at with each step size of its grid. Reported, no bar."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import claims_of, lanes_by_setting, problem_of, static
from results.low_rank import THEORY, gap_of
from results.schema import Group
from results.sheets import mean_half

NEAR = 0.15  # gap that counts as a good step size
PARAMETERS = {"const": "eta", "adapt": "alpha", "adapt2": "alpha", "norm": "alpha", "selfnorm": "c", "selfnorm_bt": "c"}
FEWEST_TUNED = 3  # settings that make a grid
THEORY_C = 0.5
SHOWN = ("value", "gap", "half")


def _tuned(group: Group, gap: np.ndarray) -> list[dict[str, Any]]:
    rows, rule = [], static(group, "rule")
    name = PARAMETERS.get(rule, "")
    for lanes in lanes_by_setting(group).values():
        value = float(group.runs[f"hp_{name}"].iloc[lanes[0]]) if f"hp_{name}" in group.runs else np.nan
        ends = np.where(np.isfinite(gap[lanes, -1]), gap[lanes, -1], np.inf)
        rose = np.diff(gap[lanes], axis=1)
        mean, half = mean_half(ends)
        others = {key: word for key, word in (group.description.get("static") or {}).items() if key != "rule"}
        rows.append({"problem": problem_of(group), "rule": rule, "static": str(sorted(others.items())),
                     "parameter": name, "value": value, "gap": mean, "half": half, "seeds": len(lanes),
                     "diverged": int(np.isinf(ends).sum()), "steps": int(group.checkpoints[-1]),
                     "start": float(np.mean(gap[lanes, 0])), "rose": float(np.mean(~(rose <= 0)))})  # fmt: skip
    return rows


def tuning(groups: list[Group]) -> pd.DataFrame:
    """Return the gap at the end for every step size tried, one row a problem x rule x setting of LoRA.

    `gap` is the mean over seeds, `half` half its 95 % interval (infinite gap where a lane diverged), `start` the gap
    at the start, `rose` the share of the spans between checkpoints over which the gap rose. Only problems on which two
    rules ran, one of them with at least three step sizes; of several lengths of runs, batch sizes and norms those with
    most settings.
    """
    found = []
    for group in claims_of(groups):
        gap, algorithm = gap_of(group), str(group.runs["algorithm"].iloc[0])
        found += _tuned(group, gap) if algorithm == "lora_gradient_descent" and gap is not None else []
    table = pd.DataFrame(found)
    if table.empty:
        return table
    table = table.sort_values("seeds", ascending=False, kind="stable")
    table = table.drop_duplicates(["problem", "steps", "rule", "static", "value"])
    sizes: Any = table.groupby(["problem", "steps", "static"], as_index=False).agg(size=("rule", "size"))
    sizes = sizes.sort_values(["size", "steps"], kind="stable").drop_duplicates("problem", keep="last")
    table = table.merge(sizes.drop(columns="size"), on=["problem", "steps", "static"])
    rules: Any = table.groupby("problem")["rule"].transform("nunique")
    grids: Any = table.groupby(["problem", "rule"])["value"].transform("nunique")
    most = grids.where(~table["rule"].isin(THEORY), 0).groupby(table["problem"]).transform("max")
    table = table.loc[(rules > 1) & (most >= FEWEST_TUNED)]
    return table.drop(columns="static").sort_values(["problem", "rule", "value"], ignore_index=True)


def _rule(rows: pd.DataFrame) -> dict[str, Any]:
    rule, best = rows["rule"].iloc[0], rows.loc[rows["gap"].idxmin()]
    usual = rows.loc[rows["value"] == THEORY_C] if len(rows) > 1 else rows
    theory = (usual if len(usual) else rows).iloc[0] if rule in THEORY else None
    good = rows.loc[rows["gap"] < NEAR, "value"]
    row = {name: best[name] for name in ("problem", "rule", "parameter", "seeds", "steps", "rose")}
    row |= {f"theory_{name}": np.nan if theory is None else theory[name] for name in SHOWN}
    row |= {f"best_{name}": best[name] for name in SHOWN}
    return row | {"tried": len(rows), "good_from": good.min(), "good_to": good.max(), "least": rows["value"].min(),
                  "most": rows["value"].max(), "diverged": int((rows["diverged"] > 0).sum())}  # fmt: skip


def tuned(groups: list[Group]) -> pd.DataFrame:
    """Return one row a problem x rule: the theory step (c = 1/2 where a rule has a c) beside the best of its grid.

    `good_from` and `good_to` are the least and the largest step size of gap below 0.15, `least` and `most` the ends of
    the grid, `diverged` counts the step sizes with a lane that diverged, `rose` is that of the best.
    """
    table = tuning(groups)
    rules: Any = table.groupby(["problem", "rule"]) if len(table) else ()
    return pd.DataFrame([_rule(rows) for _, rows in rules])
