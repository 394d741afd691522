"""The table of theorems: one row a theorem x algorithm x problem x role, with its verdict and the evidence.

`held`          no judged cell is beyond the bound (for a law: its interval meets the band that the law allows).
`violated`      a lane is beyond the bound (every run), or the mean, median or quantile over seeds is, at the report's
                level.
`inconclusive`  a mean, median, quantile or audit is beyond the bound but not significantly, or the seeds are too few
                to tell (of an audit fewer than 1000), or nothing was above the rounding floor.
`not admitted`  every lane breaks the theorem's conditions.
All statistical rows of one table, claims and controls, share one family-wise error level `alpha` by Holm's method:
a row is violated where `p_value`, already corrected for the cells and the rows, is at most `alpha`. How a
single theorem is judged stands in `results.checks`.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from results import rates
from results.audited import AUDITED, admitted_lanes
from results.checks import EVERY_RUN, IN_EXPECTATION, ONE_SIDED, Finding, judge
from results.schema import CLAIM, CONTROL, Group, TheoremRecord
from results.settings import labels
from results.store import merge

HELD, VIOLATED, INCONCLUSIVE, NOT_ADMITTED = "held", "violated", "inconclusive", "not admitted"
ALPHA = 0.05
COUNTS = ("judged", "not_admitted", "diverged")


@dataclass(frozen=True)
class Verdict:
    """One row. Ratios are measured / bound after the rounding credit, for laws the larger of that and its inverse;
    of an audit, what epsilon is at least / epsilon, with the estimate of the same event as `max_ratio_high`.

    `judged`, `not_admitted` and `diverged` count lanes. `at_lane` is the lane of `runs_frame(merge(groups))`,
    `at_setting` its setting. `slack_at_end` is the median over lanes of bound / measured at the last judged
    checkpoint. The rates are those of `rate_setting`, the setting whose bound falls furthest; `window` is their range
    of steps.
    """

    theorem: str
    algorithm: str
    problem: str
    source: str
    role: str
    verdict: str
    expected: str
    max_ratio: float
    at_step: float
    rate: float
    rate_low: float
    rate_high: float
    promised_rate: float
    judged: int
    not_admitted: int
    diverged: int
    statement: str
    metric: str
    condition: str
    holds: str
    kind: str
    rate_model: str
    window: str
    rate_setting: str
    rate_interval: str
    slack_at_end: float
    max_ratio_low: float
    max_ratio_high: float
    at_lane: int
    at_seed: int
    at_setting: str
    p_value: float
    alpha: float
    why: str


COLUMNS = [field.name for field in fields(Verdict)]


@dataclass(frozen=True)
class Part:
    """A group that speaks of a row's theorem, and the number of its first lane."""

    group: Group
    theorem: TheoremRecord
    first_lane: int


def rows_of(groups: list[Group]) -> dict[tuple[str, str, str, str], list[Part]]:
    """Return the parts of each (role, algorithm, problem, theorem); a control speaks of its own theorem only."""
    rows: dict[tuple[str, str, str, str], list[Part]] = {}
    first_lane = 0
    for group in groups:
        algorithm, problem = (str(group.runs[name].iloc[0]) for name in ("algorithm", "problem"))
        only = group.description.get("control_of") if group.role == CONTROL else None
        for theorem in group.theorems:
            if only and theorem.name != only:
                continue
            key = group.role, algorithm, problem, theorem.name
            rows.setdefault(key, []).append(Part(group, theorem, first_lane))
        first_lane += len(group.runs)
    return dict(sorted(rows.items()))


def average_of(theorem: TheoremRecord) -> str:
    """Return which curve over the seeds the theorem speaks of, for `results.rates`."""
    return rates.MEAN if theorem.holds == IN_EXPECTATION else rates.GEOMETRIC_MEAN


def rate_of(part: Part, lanes: np.ndarray) -> tuple[rates.Rate, float]:
    """Return the rate measured on `lanes` and the promised one: the same fit on the bound's own curve."""
    group, theorem = part.group, part.theorem
    average, bounds = average_of(theorem), group.bounds[theorem.name][lanes]
    rate = rates.fit(
        group.checkpoints,
        group.metrics[theorem.metric][lanes],
        group.floors[theorem.name][lanes],
        average=average,
        bounds=bounds,
    )
    return rate, rates.promised(rate, group.checkpoints, bounds, average)


def settings_of(part: Part) -> dict[int, np.ndarray]:
    """Return the judged lanes (in a control all) of each setting that has some."""
    group = part.group
    admitted = admitted_lanes(group, part.theorem)
    setting = group.runs["setting"].to_numpy()
    return {int(index): np.flatnonzero(admitted & (setting == index)) for index in np.unique(setting[admitted])}


def _fall(part: Part, lanes: np.ndarray) -> float:
    """Return log of bound at the end over bound at its first step, averaged over lanes; infinity where silent."""
    bound = np.asarray(part.group.bounds[part.theorem.name], float)[lanes]
    bound = bound[:, (np.isfinite(bound) & (bound > 0)).all(0)]
    return float(np.log(bound[:, -1] / bound[:, 0]).mean()) if bound.shape[1] else np.inf


def _headline_rate(parts: list[Part]) -> dict[str, Any]:
    scores = parts[0].theorem.holds == AUDITED  # of models, which have no rate
    choices = [] if scores else [(part, *chosen) for part in parts for chosen in settings_of(part).items()]
    rate, promise, setting = rates.NO_RATE, np.nan, ""
    if choices:
        part, index, lanes = min(choices, key=lambda choice: _fall(choice[0], choice[2]))
        rate, promise = rate_of(part, lanes)
        setting = labels(part.group)[index]
    return {
        "rate": rate.value,
        "rate_low": rate.low,
        "rate_high": rate.high,
        "promised_rate": promise,
        "rate_model": rate.model,
        "window": f"{rate.window[0]}-{rate.window[1]}" if rate.points else "",
        "rate_setting": setting,
        "rate_interval": rate.interval,
    }


def _place(part: Part, finding: Finding) -> dict[str, Any]:
    if finding.at_lane < 0:
        return {"at_lane": -1, "at_seed": -1, "at_setting": ""}
    run = part.group.runs.iloc[finding.at_lane]
    setting = labels(part.group)[int(run["setting"])]
    return {"at_lane": part.first_lane + finding.at_lane, "at_seed": int(run["seed"]), "at_setting": setting}


def _row_p(findings: list[Finding]) -> float:
    """Return the p-value of a row, corrected for its cells; NaN where nothing is left to chance."""
    known = [finding for finding in findings if finding.cells]
    if not known:
        return np.nan
    return min(1.0, min(finding.p_value for finding in known) * sum(finding.cells for finding in known))


def _conclusion(theorem: TheoremRecord, findings: list[Finding], p_value: float, alpha: float, rows: int) -> str:
    if any(finding.broken for finding in findings) or p_value <= alpha:
        return VIOLATED
    judged = [finding for finding in findings if finding.judged]
    if not judged:
        refused = all(finding.not_admitted == finding.lanes for finding in findings)
        return NOT_ADMITTED if refused else INCONCLUSIVE
    if theorem.holds == EVERY_RUN:
        return HELD
    if all(finding.seeds < 2 for finding in judged):
        return INCONCLUSIVE  # one seed has neither mean, median nor quantile
    if not any(finding.doubtful for finding in judged):
        return HELD
    cells = sum(finding.cells for finding in judged) * rows
    bounded = all(finding.least_p * cells <= alpha for finding in judged)
    return HELD if theorem.kind not in ONE_SIDED and bounded else INCONCLUSIVE


def _holm(p_values: list[float], alpha: float) -> list[float]:
    known = np.flatnonzero(~np.isnan(p_values))
    adjusted = np.full(len(p_values), np.nan)
    if len(known):
        from statsmodels.stats.multitest import multipletests

        adjusted[known] = multipletests(np.asarray(p_values)[known], alpha=alpha, method="holm")[1]
    return adjusted.tolist()


def _verdict(parts: list[Part], findings: list[Finding], p_value: float, alpha: float, rows: int) -> Verdict:
    theorem, role, runs = parts[0].theorem, parts[0].group.role, parts[0].group.runs
    judged = [index for index, finding in enumerate(findings) if finding.judged]
    worst = max(judged, key=lambda index: findings[index].max_ratio) if judged else 0
    slack = np.concatenate([finding.slack_at_end for finding in findings])
    return Verdict(
        theorem=theorem.name,
        algorithm=str(runs["algorithm"].iloc[0]),
        problem=str(runs["problem"].iloc[0]),
        role=role,
        verdict=_conclusion(theorem, findings, p_value, alpha, rows),
        expected=VIOLATED if role == CONTROL else HELD,
        max_ratio=findings[worst].max_ratio,
        max_ratio_low=findings[worst].low,
        max_ratio_high=findings[worst].high,
        at_step=findings[worst].at_step,
        slack_at_end=float(np.median(slack)) if len(slack) else np.nan,
        p_value=p_value,
        alpha=alpha,
        why=parts[0].group.control,
        **{name: getattr(theorem, name) for name in ("source", "statement", "metric", "condition", "holds", "kind")},
        **{name: sum(getattr(finding, name) for finding in findings) for name in COUNTS},
        **_place(parts[worst], findings[worst]),
        **_headline_rate(parts),
    )


def verdicts(groups: list[Group], alpha: float = ALPHA) -> pd.DataFrame:
    """Return the verdict on every theorem, claims first, with the columns of `Verdict`; `alpha` is family-wise."""
    rows = list(rows_of(merge(groups)).values())
    findings = [[judge(part.group, part.theorem) for part in parts] for parts in rows]
    adjusted = _holm([_row_p(row) for row in findings], alpha)
    tested = sum(not np.isnan(p) for p in adjusted)
    table = [
        asdict(_verdict(parts, found, p, alpha, tested))
        for parts, found, p in zip(rows, findings, adjusted, strict=True)
    ]
    return pd.DataFrame(table, columns=pd.Index(COLUMNS))


def all_as_expected(table: pd.DataFrame) -> bool:
    """Return whether no claim is violated and every control is: what `bench verify` says by its exit status."""
    claims, controls = table[table["role"] == CLAIM], table[table["role"] == CONTROL]
    return bool((claims["verdict"] != VIOLATED).all() and (controls["verdict"] == VIOLATED).all())
