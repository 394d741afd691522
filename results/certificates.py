"""Which unlearning runs are certified: one row a setting, as the lanes' `certificate` column says."""

import numpy as np
import pandas as pd

from results.schema import CLAIM, Group
from results.settings import labels
from results.store import merge

COLUMNS = ["algorithm", "problem", "setting", "certificate", "epsilon", "delta", "sigma", "runs"]


def certificates(groups: list[Group]) -> pd.DataFrame:
    """Return the certificate of every setting of the unlearning methods, claims only, with the columns `COLUMNS`.

    `certificate` is `certified: against what` or `uncertified: why`; a setting whose seeds differ in that has a row
    each. epsilon and delta are what was asked for (NaN where uncertified), sigma the mean noise scale (NaN where the
    method does not record it), `runs` counts seeds.
    """
    rows = []
    for group in merge(groups):
        if group.role != CLAIM or "certificate" not in group.runs or not group.runs["certificate"].any():
            continue
        names, runs = labels(group), group.runs
        last = group.metrics["sigma"][:, -1] if "sigma" in group.metrics else np.full(len(runs), np.nan)
        for (setting, text), lanes in runs.groupby(["setting", "certificate"], observed=True).indices.items():
            certified = str(text).startswith("certified")
            first = runs.iloc[lanes[0]]
            rows.append(
                {
                    "algorithm": first["algorithm"],
                    "problem": first["problem"],
                    "setting": names[int(setting)],
                    "certificate": text,
                    "epsilon": float(first.get("hp_epsilon", np.nan)) if certified else np.nan,
                    "delta": float(first.get("hp_delta", np.nan)) if certified else np.nan,
                    "sigma": float(np.mean(last[lanes])),
                    "runs": len(lanes),
                }
            )
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))
