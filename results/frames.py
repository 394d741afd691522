"""The two tidy tables made of groups, and their join; columns as documented in `results.schema`."""

from typing import Any

import numpy as np
import pandas as pd

from results.schema import Group, TheoremRecord

TRACES = ["lane", "group", "step", "oracle_calls", "metric", "value", "theorem", "bound", "admitted", "floor"]


def runs_frame(groups: list[Group]) -> pd.DataFrame:
    """Return the `runs` table of `results.schema`: one row a lane, `lane` counted over all `groups`."""
    if not groups:
        return pd.DataFrame()
    runs = pd.concat([group.runs for group in groups], ignore_index=True)
    return runs.assign(lane=np.arange(len(runs)))


def _curves(group: Group) -> list[tuple[str, TheoremRecord | None]]:
    about: dict[str, list[TheoremRecord | None]] = {name: [] for name in group.metrics}
    for theorem in group.theorems:
        about[theorem.metric].append(theorem)
    return [(name, theorem) for name, theorems in about.items() for theorem in theorems or [None]]


def _trace(group: Group, lanes: np.ndarray, metric: str, theorem: TheoremRecord | None) -> dict[str, np.ndarray]:
    value = group.metrics[metric]
    shape = value.shape
    lacking = np.full(shape[0], np.nan)
    bound, admitted, floor = np.full(shape, np.nan), np.zeros(shape[0], bool), lacking
    if theorem is not None:
        bound, admitted = group.bounds[theorem.name], group.admitted[theorem.name]
        floor = group.floors[theorem.name]
    each = shape[1]
    steps = np.tile(group.checkpoints, shape[0])
    return {
        "lane": np.repeat(lanes, each),
        "step": steps,
        "oracle_calls": np.repeat(np.asarray(group.calls_per_step, float), each) * steps,
        "value": np.asarray(value, float).ravel(),
        "bound": np.asarray(bound, float).ravel(),
        "admitted": np.repeat(np.asarray(admitted, bool), each),
        "floor": np.repeat(np.asarray(floor, float), each),
    }


def _labels(texts: list[str | None], counts: list[int]) -> pd.Categorical:
    known = list(dict.fromkeys(text for text in texts if text is not None))
    position = {text: code for code, text in enumerate(known)}
    codes = np.repeat(np.array([-1 if text is None else position[text] for text in texts], np.int32), counts)
    return pd.Categorical.from_codes(codes, categories=known)  # type: ignore[arg-type]


def traces_frame(groups: list[Group]) -> pd.DataFrame:
    """Return the `traces` table of `results.schema`: one row a lane x checkpoint x metric (x theorem about it).

    `metric`, `theorem` and `group` are categorical; `theorem` is missing, and bound and floor NaN, where no theorem
    speaks of the metric. `lane` is that of `runs_frame` of the same groups.
    """
    pieces, metrics, theorems, first = [], [], [], 0
    for group in groups:
        lanes = np.arange(first, first + len(group.runs))
        first += len(group.runs)
        for metric, theorem in _curves(group):
            pieces.append(_trace(group, lanes, metric, theorem))
            metrics.append(metric)
            theorems.append(theorem.name if theorem else None)
    if not pieces:
        return pd.DataFrame(columns=pd.Index(TRACES))
    counts = [len(piece["lane"]) for piece in pieces]
    columns: dict[str, Any] = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    columns |= {"metric": _labels(metrics, counts), "theorem": _labels(theorems, counts)}
    columns["group"] = pd.Categorical(runs_frame(groups)["group"]).take(columns["lane"])
    return pd.DataFrame({name: columns[name] for name in TRACES}, copy=False)


def frame(groups: list[Group]) -> pd.DataFrame:
    """Return `traces` with the columns of `runs` beside each row: one tidy table for plotting and grouping."""
    runs, traces = runs_frame(groups), traces_frame(groups)
    if runs.empty or traces.empty:
        return traces
    texts = [name for name in runs.columns if runs[name].dtype == object]
    runs = runs.drop(columns=["lane", "group"], errors="ignore").astype(
        {name: "category" for name in texts if name != "group"}
    )
    beside = runs.take(traces["lane"].to_numpy()).reset_index(drop=True)
    return pd.concat([traces, beside], axis=1)
