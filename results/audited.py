"""An audited theorem against one group: its epsilon beside what samples of scores reveal, one cell a setting.

All lanes of a setting, in the order of seeds, are trials: `metric` is the score of one published model, `against` that
of the other. They are judged at the last checkpoint where the bound, epsilon, is finite; delta is the hyper-parameter
of that name, 0 without. Where lanes of a setting were promised different numbers, the weakest promise is judged. A
ratio is lower bound / epsilon, its `low` that lower bound (95 %), its `high` the estimate of the same event without
confidence: not an upper limit of epsilon, as another event may tell more. NaN scores count as told apart
(`results.audit`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from results.audit import Audit, epsilon_lower_bound, p_value
from results.schema import CONTROL, DIVERGED, Group, TheoremRecord

AUDITED = "audited"
FEWEST_TRIALS = 1000  # of fewer even a large epsilon shows as nothing: at 1000 an exact epsilon of 1 as about 0.2
NOTHING = {"broken": False, "doubtful": False, "p_value": np.nan, "cells": 0, "seeds": 0, "max_ratio": np.nan,
           "low": np.nan, "high": np.nan, "at_step": np.nan, "at_lane": -1}  # fmt: skip


@dataclass(frozen=True)
class AuditedSetting:
    """What the `lanes` of one setting reveal at the checkpoint `at` about a promise of (epsilon, delta)."""

    setting: int
    lanes: np.ndarray
    at: int
    epsilon: float
    delta: float
    event: Audit
    p_value: float


def admitted_lanes(group: Group, theorem: TheoremRecord) -> np.ndarray:
    """Return which lanes the theorem admits; in a control all."""
    return np.asarray(group.admitted[theorem.name], bool) | (group.role == CONTROL)


def _audit(group: Group, theorem: TheoremRecord, setting: int, lanes: np.ndarray) -> AuditedSetting | None:
    promised = np.isfinite(np.asarray(group.bounds[theorem.name], float)[lanes])
    if not promised.any():
        return None
    at = int(np.flatnonzero(promised.any(0))[-1])
    lanes = lanes[promised[:, at]]
    epsilon = float(np.max(group.bounds[theorem.name][lanes, at]))
    delta = float(group.runs["hp_delta"].to_numpy(float)[lanes].max()) if "hp_delta" in group.runs else 0.0
    scores, others = (np.asarray(group.metrics[name], float)[lanes, at] for name in (theorem.metric, theorem.against))
    event = epsilon_lower_bound(scores, others, delta)
    return AuditedSetting(setting, lanes, at, epsilon, delta, event, p_value(event, epsilon, delta))


def audits(group: Group, theorem: TheoremRecord) -> list[AuditedSetting]:
    """Return the audit of each setting in which the theorem promises something to some lane."""
    setting, admitted = group.runs["setting"].to_numpy(), admitted_lanes(group, theorem)
    chosen = [(int(index), np.flatnonzero(admitted & (setting == index))) for index in np.unique(setting)]
    found = [_audit(group, theorem, index, lanes) for index, lanes in chosen if len(lanes)]
    return [one for one in found if one is not None]


def _per_promise(number: float, epsilon: float) -> float:
    """Return number / epsilon; where nothing may be revealed (epsilon = 0), 0 or infinity."""
    return number / epsilon if epsilon else float(np.inf if number else 0.0)


def _together(found: list[AuditedSetting], checkpoints: np.ndarray) -> dict[str, Any]:
    ratios = [_per_promise(one.event.lower_bound, one.epsilon) for one in found]
    ratio, worst = max(ratios), found[int(np.argmax(ratios))]
    few = any(len(one.lanes) < FEWEST_TRIALS for one in found)
    return {
        "broken": False,
        "doubtful": few or ratio > 1,
        "p_value": min(one.p_value for one in found),
        "cells": len(found),
        "seeds": max(len(one.lanes) for one in found),
        "max_ratio": ratio,
        "low": ratio,
        "high": _per_promise(worst.event.estimate, worst.epsilon),
        "at_step": float(checkpoints[worst.at]),
        "at_lane": int(worst.lanes[0]),
    }


@np.errstate(divide="ignore", invalid="ignore")  # a bound of nothing has infinite slack
def judge_audit(group: Group, theorem: TheoremRecord) -> dict[str, Any]:
    """Return the fields of a `Finding` of `results.checks`; doubtful below `FEWEST_TRIALS` trials in some setting."""
    found = audits(group, theorem)
    return {
        "lanes": len(group.runs),
        "judged": sum(len(one.lanes) for one in found),
        "not_admitted": int((~admitted_lanes(group, theorem)).sum()),
        "diverged": int((group.runs["status"] == DIVERGED).sum()),
        "slack_at_end": np.array([np.float64(one.epsilon) / one.event.lower_bound for one in found]),
        "least_p": 0.0,
        **(_together(found, group.checkpoints) if found else NOTHING),
    }
