"""Sharp constants of exact policy gradients, and what the estimators' variance is, as tables."""

from typing import Any

import numpy as np
import pandas as pd

from results.labels import algorithm_of, claims_of, lanes_by_setting, law_of, numbers, parameter, problem_of
from results.medians import median_range
from results.schema import Group
from results.sheets import mean_half

SHARP = {  # law: what is read, the metric, its bar
    "softmax_policy_gradient_sharp_constant": ("t η (J* − J)", "suboptimality", 0.01),
    "natural_policy_gradient_sharp_rate": ("log of the gap's decrease", "log_decrease", 0.005),
}
ESTIMATE = "estimate_sq"
ESTIMATORS = {  # name, law of E|g|^2, law of |E g|^2, whether unbiased for the whole return
    "truncated_policy_gradient": ("GPOMDP", "gpomdp_second_moment", "gpomdp_mean", False),
    "roulette_policy_gradient": ("roulette", "roulette_second_moment", "roulette_mean", True),
    "random_horizon_policy_gradient": ("two random horizons", "random_horizon_second_moment", "random_horizon_mean",
                                       True),
    "reinforce_policy_gradient": ("REINFORCE", "reinforce_second_moment", "reinforce_mean", False),
}  # fmt: skip
NAMES = tuple(name for name, *_ in ESTIMATORS.values())


def _sharp(group: Group, law: str) -> list[dict[str, Any]]:
    what, metric, bar = SHARP[law]
    end = int(group.checkpoints[-1])
    scale = end * numbers(group, "eta") if metric == "suboptimality" else 1.0
    laws, values = law_of(group, law)[:, -1] * scale, group.metrics[metric][:, -1] * scale
    judged = np.flatnonzero(np.isfinite(laws))
    if not len(judged):
        return []
    off = float(np.max(np.abs(values[judged] / laws[judged] - 1)))
    return [{"what": what, "law": law, "problem": problem_of(group), "judged": len(judged), "instances": len(laws),
             "measured": median_range(values[judged]), "promised": median_range(laws[judged]), "off": off, "bar": bar,
             "steps": end}]  # fmt: skip


def sharp(groups: list[Group]) -> pd.DataFrame:
    """Return what the sharp laws promise and what is measured at the end, one row a law x problem, longest run."""
    rows = [row for group in claims_of(groups) for law, (_, metric, _) in SHARP.items()
            if law in group.bounds and metric in group.metrics for row in _sharp(group, law)]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.sort_values("steps", kind="stable").drop_duplicates(["law", "problem"], keep="last")
    return table.sort_values(["law", "problem"], ascending=[False, True], ignore_index=True)


def _estimated(group: Group) -> list[dict[str, Any]]:
    name, square_law, mean_law, unbiased = ESTIMATORS[algorithm_of(group)]
    squares, means = law_of(group, square_law)[:, -1], law_of(group, mean_law)[:, -1]
    found, horizons = [], np.nan_to_num(numbers(group, "horizon"))
    for lanes in lanes_by_setting(group).values():
        batch = numbers(group, "batch_size")[lanes[0]]
        mean, half = mean_half(group.metrics[ESTIMATE][lanes, -1] - means[lanes])
        found.append({"problem": problem_of(group), "gamma": parameter(group, "gamma"), "estimator": name,
                      "unbiased": unbiased, "batch": batch, "horizon": horizons[lanes[0]], "seeds": len(lanes),
                      "variance": batch * mean, "half": batch * half,
                      "promised": batch * float(np.mean(squares[lanes] - means[lanes]))})  # fmt: skip
    return [row for row in found if np.isfinite(row["promised"])]


def estimators(groups: list[Group]) -> pd.DataFrame:
    """Return the one-trajectory variance of each estimator beside its exact value, one row a problem x estimator.

    Of several horizons the longest, of several batch sizes the smallest; `variance` is the mean over seeds of
    B (|g|^2 - |E g|^2), each at its own point, with half its 95 % interval. Only problems on which an estimator of
    random length is compared with another.
    """
    rows = [row for group in claims_of(groups) if algorithm_of(group) in ESTIMATORS and ESTIMATE in group.metrics
            for row in _estimated(group)]  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table = table.sort_values(["horizon", "batch"], ascending=[False, True], kind="stable")
    table = table.drop_duplicates(["problem", "estimator"])
    several: Any = table.groupby("problem")["estimator"].transform("nunique")
    random: Any = table.groupby("problem")["unbiased"].transform("any")
    order = [NAMES.index(name) for name in table["estimator"]]
    table = table.assign(order=order).loc[(several > 1) & random]
    return table.sort_values(["gamma", "problem", "order"], ignore_index=True)
