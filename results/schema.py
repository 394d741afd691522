"""The words of what is kept: a group of lanes, and the two tables made of groups.

A *group* is the unit of computing and of storage: one algorithm on one problem, a block of seeds times all settings of
one tree structure, one parquet file. On disk and in memory a group is wide (one row a lane, one list column a curve);
the two tables that users see are tidy:

`runs`, one row a lane
    suite, role (`claim` or `control`), algorithm, problem, instance, seed, setting, lane, hp_* columns, certificate,
    status, steps, dtype, device, chunk, compile_s, run_s, group.
`traces`, one row a lane x checkpoint x metric (x theorem about that metric)
    lane, group, step, oracle_calls, metric, value, theorem, bound, admitted, floor.

`lane` numbers the lanes of one loaded frame and joins both tables. `status` is `ok`, or `diverged` where any metric
at any checkpoint is NaN or infinite. A bound is NaN where its theorem claims nothing. `floor` is 100 eps times the
magnitude of the numbers that the metric subtracts: bounds at or below it are not judged. `certificate` says against
what an unlearning run is certified (`certified: ...`) or why it is not (`uncertified: ...`).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

CLAIM, CONTROL = "claim", "control"
OK, DIVERGED = "ok", "diverged"


@dataclass(frozen=True)
class TheoremRecord:
    """What verdicts need to know of a theorem, without the code that states it.

    `holds` is `every run`, `in expectation`, `in median` or `with probability`: then the bound holds at each checkpoint
    with at least `probability` over seeds; or `audited`: `metric` and `against` are scores of published models, the
    bound is the epsilon that they may reveal. `kind` is `upper bound`, `finding` (an upper bound observed, not proven),
    `exact law` or `asymptotic law`; `tolerance` (relative) and `slack` (absolute) are what a law itself allows.
    """

    name: str
    statement: str
    source: str
    metric: str
    holds: str
    kind: str
    condition: str
    tolerance: float = 0.0
    slack: float = 0.0
    probability: float = 1.0
    against: str = ""


@dataclass(frozen=True)
class Group:
    """One block of lanes, wide: arrays are (lane, checkpoint), or (lane,) where they do not change along the run.

    `runs` has a row a lane in the order of the arrays. `description` is the canonical, order-free text of what was run;
    its hash names the file. `control` says of a control why it must be violated, and is empty for a claim.
    """

    runs: pd.DataFrame
    checkpoints: np.ndarray
    metrics: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    admitted: dict[str, np.ndarray]
    floors: dict[str, np.ndarray]
    theorems: tuple[TheoremRecord, ...]
    calls_per_step: np.ndarray
    description: dict[str, Any]
    control: str = ""
    system: dict[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """Return `claim` or `control`."""
        return CONTROL if self.control else CLAIM
