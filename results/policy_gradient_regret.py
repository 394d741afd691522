"""Regret of policies in a KL-regularised bandit as tables: plug-in beside transfer, its law, the coverage."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import algorithm_of, claims_of, law_of, parameter, problem_of
from results.schema import Group
from results.sheets import mean_half

PLUG_IN, TRANSFER = "plug_in_policy", "transfer_policy"
REGRET, TOTAL, TWIN, COVERAGE = "regret", "cumulative_regret", "plug_in_cumulative_regret", "chi_square"
LAW, CONSTANT_WITHIN = "plug_in_regret", 0.05
COVERAGES = ("plug_in_coverage", "plug_in_coverage_by_ratio")
EARLY = 1000  # rounds until which transfer should be ahead


def transfers(groups: list[Group]) -> pd.DataFrame:
    """Return the cumulative regret of transfer and of the plug-in policy on the same rounds, one row a group.

    `own` and `plug_in` are means over seeds at `times`, `own_half` and `plug_in_half` halves of their 95 % intervals;
    `ahead` the last round until which transfer has the smaller mean, infinite where it never loses the lead; `early`
    the largest ratio of the two means from round 1 to 1000.
    """
    rows = []
    for group in claims_of(groups):
        if algorithm_of(group) != TRANSFER or TOTAL not in group.metrics or TWIN not in group.metrics:
            continue
        own, twin = ([mean_half(column) for column in group.metrics[name].T] for name in (TOTAL, TWIN))
        (own, own_half), (twin, twin_half) = np.array(own).T, np.array(twin).T
        t = group.checkpoints
        behind = np.flatnonzero((own > twin) & (t >= 1))
        early = (t >= 1) & (t <= EARLY)
        rows.append({"problem": problem_of(group), "instances": group.runs["instance"].nunique(),
                     "seeds": len(group.runs), "times": t, "own": own, "own_half": own_half, "plug_in": twin,
                     "plug_in_half": twin_half, "ahead": float(t[behind[0] - 1]) if len(behind) else np.inf,
                     "early": float(np.max(own[early] / twin[early])), "steps": int(t[-1])})  # fmt: skip
    table = pd.DataFrame(rows)
    return table.sort_values(["problem", "instances"], ignore_index=True) if rows else table


def plug_in(groups: list[Group]) -> pd.DataFrame:
    """Return t regret_t of the plug-in policy beside S (A-1) sd^2/(2 beta), one row a problem on which the law speaks.

    `value` is the mean over seeds at the end with half its 95 % interval, `law` that of the bound.
    """
    rows = []
    for group in claims_of(groups):
        law, t = law_of(group, LAW)[:, -1], int(group.checkpoints[-1])
        if REGRET not in group.metrics or not np.isfinite(law).any():
            continue
        spoken = np.isfinite(law)
        mean, half = mean_half(t * group.metrics[REGRET][spoken, -1])
        S, A, sd, beta = (parameter(group, name) for name in ("S", "A", "sd", "beta"))
        promised = float(np.median(t * law[spoken]))
        rows.append({"problem": problem_of(group), "S": S, "A": A, "sd": sd, "beta": beta, "seeds": int(spoken.sum()),
                     "steps": t, "value": mean, "half": half, "law": promised,
                     "formula": S * (A - 1) * sd**2 / (2 * beta), "off": abs(mean / promised - 1)})  # fmt: skip
    return pd.DataFrame(rows)


def _covered(group: Group) -> dict[str, Any]:
    values = group.metrics[COVERAGE]
    row = {"problem": problem_of(group), "beta": parameter(group, "beta"), "seeds": len(values),
           "largest": float(np.max(values)), "steps": int(group.checkpoints[-1])}  # fmt: skip
    for name in COVERAGES:
        bound = law_of(group, name)
        known = np.isfinite(bound) & (bound > 0)
        row[name] = float(np.max(values[known] / bound[known])) if known.any() else np.nan
    return row


def coverage(groups: list[Group]) -> pd.DataFrame:
    """Return the largest chi^2(pi* | pi) over its bounds along the plug-in policy's runs, one row a problem."""
    rows = [_covered(group) for group in claims_of(groups)
            if COVERAGE in group.metrics and any(name in group.bounds for name in COVERAGES)]  # fmt: skip
    table = pd.DataFrame(rows)
    return table.sort_values("beta", ignore_index=True) if rows else table
