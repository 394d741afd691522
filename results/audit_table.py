"""Audits beside certificates: what is promised, what the scores reveal, and what the pair's true epsilon is."""

import math
from typing import Any

import numpy as np
import pandas as pd

from results.audited import AUDITED, AuditedSetting, audits
from results.schema import Group
from results.settings import labels
from results.store import merge
from results.verdicts import rows_of

TRUE_EPSILON, SPENT = "true_epsilon", "privacy_spent"
SAME = 1e-9  # relative: trials whose exact delta differs by more have no epsilon in common


def gaussian_epsilon(epsilon: float, spent: float, delta: float) -> float:
    """Return the epsilon at `delta` of two Gaussians that spend the delta `spent` at `epsilon` (Balle & Wang 2018).

    delta(eps, s) = Phi(s/2 - eps/s) - e^eps Phi(-s/2 - eps/s) gives their distance s in standard deviations, then eps.
    """
    from scipy.optimize import brentq

    from results.sequential_unlearning import gaussian_log_delta

    def root(miss: Any, low: float, high: float) -> float:
        found: Any = brentq(lambda x: max(miss(x), -1e6), low, high)
        return float(found)

    if not 0 < spent < 1:
        return np.inf if spent >= 1 else 0.0
    s = root(lambda s: gaussian_log_delta(epsilon, s) - math.log(spent), 1e-3, 100)
    known = gaussian_log_delta(0, s) > math.log(delta)
    return root(lambda eps: gaussian_log_delta(eps, s) - math.log(delta), 0, 1e4) if known else 0.0


def true_epsilon(group: Group, one: AuditedSetting) -> float:
    """Return the pair's own epsilon, NaN where not known: recorded, or from the exact delta if all trials have one."""
    if TRUE_EPSILON in group.metrics:
        return float(np.mean(np.asarray(group.metrics[TRUE_EPSILON], float)[one.lanes, one.at]))
    if SPENT not in group.metrics or not one.delta:
        return np.nan
    spent = np.asarray(group.metrics[SPENT], float)[one.lanes, one.at]
    same = bool(np.isfinite(spent).all()) and np.ptp(spent) <= SAME * spent.max()
    return gaussian_epsilon(one.epsilon, float(spent[0]), one.delta) if same else np.nan


def audit_table(groups: list[Group], table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a setting of each audited theorem, claims and controls; `table` is that of `verdicts`.

    `trials` are scores of each model, half of which choose the event; `lower_bound` has 95 % confidence by itself,
    `p_value` is of the setting alone; `verdict` and `expected` are of the theorem on this problem, at the report's
    level. `setting` is empty where there is one alone; `why` says of a control why it must fail.
    """
    concluded = table.set_index(["role", "algorithm", "problem", "theorem"])[["verdict", "expected"]]
    rows = []
    for key, parts in rows_of(merge(groups)).items():
        for part in parts if parts[0].theorem.holds == AUDITED else ():
            names, found = labels(part.group), audits(part.group, part.theorem)
            for one in found:
                rows.append(
                    dict(zip(("role", "algorithm", "problem", "theorem"), key, strict=True))
                    | {"setting": names[one.setting] if len(found) > 1 else "", "why": part.group.control}
                    | {"trials": len(one.lanes), "epsilon": one.epsilon, "delta": one.delta, "p_value": one.p_value}
                    | {"lower_bound": one.event.lower_bound, "estimate": one.event.estimate}
                    | {"true_epsilon": true_epsilon(part.group, one)}
                    | {name: concluded.loc[key, name] for name in ("verdict", "expected")}
                )
    return pd.DataFrame(rows)
