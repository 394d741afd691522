"""What unlearning bought, as tables: distance to the retrained model, utility, certificates.

`ends` is the one table behind all: a row a lane of the claims about deletion, with what its published model came to.
The retrained model is the reference of every number: its own metrics (`retrained_...`) where a lane records them, else
the runs on the same problem and T that ended where retraining did (distance 0, no noise).
"""

from typing import Any

import numpy as np
import pandas as pd

from results.certificates import certificates
from results.schema import CLAIM, Group
from results.settings import evenly, labels
from results.sheets import mean_half
from results.store import merge

DISTANCE, PUBLISHED = "distance", "published_distance"
DISTANCES = ("sensitivity", "distance_to_retrained")  # of models before noise
QUALITIES = ("forget_accuracy", "forget_loss", "unseen_accuracy", "membership_auc")
UTILITIES = ("unseen_accuracy", "suboptimality", "value", "gradient_norm_sq")
MEASURES = tuple(dict.fromkeys((*QUALITIES, *UTILITIES, "retained_accuracy")))
RETRAINED, ORIGINAL = "retrained_", "original_"
ACCURACY, REFERENCE = "unseen_accuracy", "reference"
SAME = 1e-9  # share of the largest distance on a problem at or below which a model is the retrained one
MOST_SETTINGS = 6
TEXTS = ["algorithm", "problem", "setting", "number"]
LANE = [*TEXTS, "seed", "K", "T", "fraction", "epsilon", "noise_scale", DISTANCE, PUBLISHED]


def deletes(group: Group) -> bool:
    """Return whether the lanes delete records: each says so by its certificate, or records a distance."""
    told = "certificate" in group.runs and bool((group.runs["certificate"].astype(str) != "").any())
    return told or any(name in group.metrics for name in DISTANCES)


def unlearning_groups(groups: list[Group]) -> list[Group]:
    """Return the claims among the groups that delete records, blocks of seeds merged."""
    return [group for group in merge(groups) if group.role == CLAIM and deletes(group)]


def _hyper(runs: pd.DataFrame, name: str) -> np.ndarray:
    """Return the hyper-parameter of each lane, NaN where the method has none of that name."""
    return runs[f"hp_{name}"].to_numpy(float) if f"hp_{name}" in runs else np.full(len(runs), np.nan)


def last(group: Group, *names: str) -> np.ndarray:
    """Return the last value of the first metric that is recorded, NaN where none is, (lanes,)."""
    known = next((name for name in names if name in group.metrics), None)
    return np.asarray(group.metrics[known], float)[:, -1] if known else np.full(len(group.runs), np.nan)


def _lanes(number: int, group: Group) -> pd.DataFrame:
    runs, names = group.runs, labels(group)
    steps = runs["steps"].to_numpy(float)
    K, T = _hyper(runs, "K"), _hyper(runs, "T") if "hp_T" in runs else steps
    columns = {
        "algorithm": runs["algorithm"].to_numpy(),
        "problem": runs["problem"].to_numpy(),
        "setting": [names[int(index)] for index in runs["setting"]],
        "number": [f"{number}.{index}" for index in runs["setting"]],
        "seed": runs["seed"].to_numpy(),
        "K": K,
        "T": T,
        "fraction": K / np.where(T > 0, T, np.nan),
        "epsilon": _hyper(runs, "epsilon"),
        "noise_scale": _hyper(runs, "noise_scale"),
        DISTANCE: last(group, *DISTANCES),
        PUBLISHED: last(group, PUBLISHED),
    }
    for prefix in ("", RETRAINED, ORIGINAL):
        columns |= {prefix + name: last(group, prefix + name) for name in MEASURES}
    columns[ORIGINAL + DISTANCE] = last(group, ORIGINAL + DISTANCE)
    return pd.DataFrame(columns).loc[~(steps < T)]


def _with_reference(lanes: pd.DataFrame) -> pd.DataFrame:
    """Return the lanes with `retrained_...` filled from those that ended at the retrained model."""
    scale: Any = lanes.groupby("problem")[DISTANCE].transform("max")
    published = lanes[PUBLISHED].where(lanes[PUBLISHED].notna() | (lanes["noise_scale"] > 0), lanes[DISTANCE])
    there = (lanes["fraction"] >= 1) & (lanes[DISTANCE] <= SAME * scale) & (published <= SAME * scale)
    lanes[REFERENCE] = there
    for name in MEASURES:
        for shared in (["problem", "T"], ["problem"]):
            known: Any = lanes[name].where(there).groupby([lanes[key] for key in shared]).transform("mean")
            lanes[RETRAINED + name] = lanes[RETRAINED + name].fillna(known)
    return lanes


def ends(groups: list[Group]) -> pd.DataFrame:
    """Return one row a lane: `LANE`, then each of `MEASURES` of the published model, the retrained and the original.

    `number` is that of the group and setting, `setting` what it is called; `distance` is before noise,
    `published_distance` after; `reference` says whether the lane ended at the retrained model. Lanes that stop before T
    steps are left out.
    """
    pieces = [_lanes(number, group) for number, group in enumerate(unlearning_groups(groups))]
    if not pieces:
        return pd.DataFrame(columns=pd.Index(LANE))
    lanes = pd.concat(pieces, ignore_index=True)
    return _with_reference(lanes.astype({name: float for name in lanes.columns[len(TEXTS) + 1 :]}))


def _compared(lanes: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return problem, method and lanes, retraining first; of a method that also ran without noise only those."""
    found = []
    by_method: Any = lanes.groupby(["problem", "algorithm"])
    for (problem, algorithm), there in by_method:
        quiet = there.loc[(there["noise_scale"] == 0) | there["noise_scale"].isna() | there[REFERENCE]]
        chosen = quiet if len(quiet) else there
        if chosen[DISTANCE].notna().any():
            found.append((problem, not bool(chosen[REFERENCE].all()), algorithm, chosen.sort_values("fraction")))
    return [(problem, algorithm, there) for problem, _, algorithm, there in sorted(found, key=lambda one: one[:3])]


def comparison(groups: list[Group]) -> pd.DataFrame:
    """Return one row a problem x method x setting: the mean of the distance and of each quality, with its interval.

    For each measure there are the columns `m`, `m_half` (half the 95 % interval) and, for qualities, `m_retrained`.
    Only problems on which some quality is recorded; of more than six settings of a method six, chosen evenly by K/T.
    """
    lanes, rows = ends(groups), []
    recorded = [name for name in QUALITIES if name in lanes and bool(lanes[name].notna().any())]
    counts: Any = lanes.groupby("problem")[recorded].transform("count") if recorded else lanes[[]]
    for problem, algorithm, there in _compared(lanes.loc[counts.sum(axis=1) > 0]):
        settings = list(dict.fromkeys(there["number"]))
        for number in evenly(settings, MOST_SETTINGS):
            chosen = there.loc[there["number"] == number]
            row: dict[str, Any] = {"problem": problem, "algorithm": algorithm}
            row |= {"setting": chosen["setting"].iloc[0] if len(settings) > 1 else ""}
            row |= {"fraction": float(chosen["fraction"].iloc[0])}
            row |= {"seeds": chosen["seed"].nunique(), REFERENCE: bool(chosen[REFERENCE].all())}
            for name in (DISTANCE, *recorded):
                row |= dict(zip((name, f"{name}_half"), mean_half(chosen[name].to_numpy()), strict=True))
            row |= {f"{name}_retrained": float(chosen[RETRAINED + name].mean()) for name in recorded}
            rows.append(row)
    return pd.DataFrame(rows)


def certificate_counts(groups: list[Group]) -> pd.DataFrame:
    """Return one row a method x problem x certificate: certified or not, against or for want of what, how many runs."""
    table = certificates(groups)
    if table.empty:
        return pd.DataFrame(columns=pd.Index(["algorithm", "problem", "certified", "says", "settings", "runs"]))
    said = table["certificate"].str.split(": ", n=1, expand=True).reindex(columns=[0, 1])
    table = table.assign(certified=said[0] == "certified", says=said[1])
    counted = table.groupby(["algorithm", "problem", "certified", "says"], sort=True)
    return counted.agg(settings=("setting", "nunique"), runs=("runs", "sum")).reset_index()


def published_noisily(lanes: pd.DataFrame) -> pd.Series:
    """Return, for each lane, whether its method ran on its problem with noise, at more than one K/T."""
    noisy: Any = (lanes["noise_scale"] > 0) & ~lanes[REFERENCE]
    kept: Any = lanes["fraction"].where(noisy).groupby([lanes["problem"], lanes["algorithm"]]).transform("nunique")
    return kept > 1


def front_table(groups: list[Group]) -> pd.DataFrame:
    """Return the mean accuracy on unseen records of the published model: a row a problem x method x epsilon.

    Columns are K/T (floats), then `retrained`. epsilon is infinite without noise (`noise_scale` 0).
    """
    lanes = ends(groups)
    if lanes.empty or not bool(lanes[ACCURACY].notna().any()):
        return pd.DataFrame()
    lanes = lanes.loc[lanes["epsilon"].notna() & lanes[ACCURACY].notna() & lanes["fraction"].notna()]
    lanes = lanes.loc[published_noisily(lanes)]
    if lanes.empty:
        return pd.DataFrame()
    lanes = lanes.assign(epsilon=lanes["epsilon"].where(lanes["noise_scale"] != 0, np.inf))
    by_epsilon: Any = lanes.groupby(["problem", "algorithm", "epsilon"])
    table = lanes.pivot_table(ACCURACY, ["problem", "algorithm", "epsilon"], "fraction", "mean", sort=True)
    return table.assign(retrained=by_epsilon[RETRAINED + ACCURACY].mean()).reset_index()
