"""Groups in and out of parquet: one file `<digest>.parquet` a group, one row a lane, one list column a curve.

Columns are those of `runs`, then `calls_per_step`, `metric:<name>`, `bound:<theorem>`, `admitted:<theorem>` and
`floor:<theorem>`; what is not an array (description, checkpoints, theorems, control, system) is JSON in the schema's
metadata. A file appears by rename, so it is whole or absent, and several processes may write into one folder.
"""

import json
import os
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.schema import Group, TheoremRecord

KEY = b"optimization-theorem-bench"
FORMAT = 1
CURVES = {"metrics": "metric:", "bounds": "bound:", "admitted": "admitted:", "floors": "floor:"}
CALLS = "calls_per_step"


class DamagedFile(Exception):  # noqa: N818
    """A file of results is cut short, altered, or was not written by this suite."""

    def __init__(self, path: Path, reason: object):
        why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        super().__init__(
            f"{path}: not a readable file of results ({why}); "
            "delete it and run the same command again to recompute it"
        )


class NoResults(Exception):  # noqa: N818
    """The folder is missing, or holds no finished group."""


class CannotWrite(Exception):  # noqa: N818
    """The disk is full, or the folder cannot be written."""


def _column(array: np.ndarray) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks()
    if pa.types.is_fixed_size_list(flat.type):
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, flat.type.list_size).copy()
    return flat.to_numpy(zero_copy_only=False).copy()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be kept in the metadata of a file of results")


def _table(group: Group) -> pa.Table:
    table = pa.Table.from_pandas(group.runs.reset_index(drop=True), preserve_index=False)
    table = table.append_column(CALLS, _column(np.asarray(group.calls_per_step)))
    for part, prefix in CURVES.items():
        for name, array in getattr(group, part).items():
            table = table.append_column(prefix + name, _column(np.asarray(array)))
    words = {
        "format": FORMAT,
        "description": group.description,
        "checkpoints": group.checkpoints,
        "theorems": [asdict(theorem) for theorem in group.theorems],
        "control": group.control,
        "system": group.system,
    }
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), KEY: json.dumps(words, default=_plain).encode()}
    )


def write(group: Group, folder: Path | str, digest: str) -> Path:
    """Write `group` as `<folder>/<digest>.parquet` and return that path.

    The file is completed under a temporary name, flushed to the disk, then renamed: a process killed at any moment
    leaves the old file or the new one. Raises `CannotWrite` when the disk is full or the folder is not writable.
    """
    folder = Path(folder)
    path = folder / f"{digest}.parquet"
    unfinished = folder / f".{digest}.{os.getpid()}.{uuid.uuid4().hex}.unfinished"
    table = _table(group)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        _forget(unfinished)
    return path


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself is not there or not ours: nothing was left in it


def _words(schema: pa.Schema) -> dict[str, Any]:
    words = json.loads((schema.metadata or {})[KEY])
    if words["format"] != FORMAT:
        raise ValueError(f"format {words['format']}, this version reads {FORMAT}")
    return words


def read(path: Path | str) -> Group:
    """Return the group kept at `path`. Raises `DamagedFile` where that is cut short, altered or foreign."""
    path = Path(path)
    try:
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
        words = _words(table.schema)
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in CURVES}
        names = [name for name in table.column_names if name != CALLS]
        for part, prefix in CURVES.items():
            for column in [name for name in names if name.startswith(prefix)]:
                parts[part][column.removeprefix(prefix)] = _array(table[column])
                names.remove(column)
        return Group(
            runs=table.select(names).to_pandas(),
            checkpoints=np.asarray(words["checkpoints"]),
            calls_per_step=_array(table[CALLS]),
            theorems=tuple(TheoremRecord(**record) for record in words["theorems"]),
            description=words["description"],
            control=words["control"],
            system=words["system"],
            **parts,
        )
    except KeyError as error:
        raise DamagedFile(path, f"it lacks {error}, as a file of another program would") from error
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedFile(path, error) from error


def exists(folder: Path | str, digest: str) -> bool:
    """Return whether a whole file of the group `digest` is in `folder`, read from its footer alone."""
    try:
        _words(pq.read_schema(Path(folder) / f"{digest}.parquet"))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return False
    return True


def load(folder: Path | str) -> list[Group]:
    """Return every group in `folder`, in the order of file names; unfinished files are passed over.

    Raises `NoResults` where there is nothing to read, `DamagedFile` at the first file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NoResults(f"{folder}: no such folder; `bench run --out {folder}` makes it")
    paths = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        raise NoResults(f"{folder}: holds no finished group; `bench run --out {folder}` computes some")
    return [read(path) for path in paths]


def _joined(blocks: list[Group]) -> Group:
    first = blocks[0]
    runs = pd.concat([block.runs for block in blocks], ignore_index=True)
    # stable by seed; a lane that two overlapping blocks both computed is the same lane, and counts once
    order = runs.sort_values("seed", kind="stable").index.to_numpy()
    identity = [name for name in ("seed", "instance", "setting") if name in runs]
    order = order[~runs.loc[order].duplicated(identity).to_numpy()]

    def rows(part: str) -> dict[str, np.ndarray]:
        arrays = {name: [getattr(block, part)[name] for block in blocks] for name in getattr(first, part)}
        return {name: np.concatenate(pieces)[order] for name, pieces in arrays.items()}

    runs = runs.loc[order].reset_index(drop=True)
    if "lane" in runs:
        runs["lane"] = np.arange(len(runs))
    seeds = sorted({int(seed) for seed in runs["seed"]})
    whole = len(seeds) == seeds[-1] - seeds[0] + 1
    return replace(
        first,
        runs=runs,
        description={**first.description, "seeds": [seeds[0], seeds[-1]] if whole else seeds},
        calls_per_step=np.concatenate([block.calls_per_step for block in blocks])[order],
        **{part: rows(part) for part in CURVES},
    )


def merge(groups: list[Group]) -> list[Group]:
    """Return the groups with blocks that differ only in their seeds joined, lanes in the order of seeds.

    Within one seed the lanes keep their order; a (seed, setting) computed in two overlapping blocks is kept once.
    """
    blocks: dict[str, list[Group]] = {}
    for group in groups:
        shared = {name: value for name, value in group.description.items() if name != "seeds"}
        words = json.dumps([shared, group.control], sort_keys=True, default=_plain)
        blocks.setdefault(words, []).append(group)
    return [
        _joined(sorted(same, key=lambda block: int(block.runs["seed"].min()))) for same in blocks.values()
    ]


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


def _trace(
    group: Group, lanes: np.ndarray, metric: str, theorem: TheoremRecord | None
) -> dict[str, np.ndarray]:
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

    `metric`, `theorem` and `group` are categorical; `theorem` is missing, and bound and floor NaN, where no theorem speaks
    of the metric. `lane` is that of `runs_frame` of the same groups.
    """
    pieces, metrics, theorems, names, first = [], [], [], [], 0
    for group in groups:
        lanes = np.arange(first, first + len(group.runs))
        first += len(group.runs)
        for metric, theorem in _curves(group):
            pieces.append(_trace(group, lanes, metric, theorem))
            metrics.append(metric)
            theorems.append(theorem.name if theorem else None)
            names.append(str(group.runs["group"].iloc[0]) if "group" in group.runs else None)
    if not pieces:
        return pd.DataFrame()
    counts = [len(piece["lane"]) for piece in pieces]
    columns: dict[str, Any] = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    labels = {"group": names, "metric": metrics, "theorem": theorems}
    columns |= {name: _labels(texts, counts) for name, texts in labels.items()}
    order = [
        "lane",
        "group",
        "step",
        "oracle_calls",
        "metric",
        "value",
        "theorem",
        "bound",
        "admitted",
        "floor",
    ]
    return pd.DataFrame({name: columns[name] for name in order}, copy=False)


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
