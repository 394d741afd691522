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
        names, runs = labels(group), group.runs
        told = runs["certificate"].astype(str).to_numpy() if "certificate" in runs else np.array([])
        if group.role != CLAIM or not np.any(told != ""):
            continue
        last = group.metrics["sigma"][:, -1] if "sigma" in group.metrics else np.full(len(runs), np.nan)
        setting = runs["setting"].to_numpy()
        for number, text in sorted(set(zip(setting.tolist(), told.tolist(), strict=True))):
            lanes = np.flatnonzero((setting == number) & (told == text))
            certified = text.startswith("certified")
            first = runs.iloc[lanes[0]]
            rows.append(
                {
                    "algorithm": first["algorithm"],
                    "problem": first["problem"],
                    "setting": names[number],
                    "certificate": text,
                    "epsilon": float(first.get("hp_epsilon", np.nan)) if certified else np.nan,
                    "delta": float(first.get("hp_delta", np.nan)) if certified else np.nan,
                    "sigma": float(np.mean(last[lanes])),
                    "runs": len(lanes),
                }
            )
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))
