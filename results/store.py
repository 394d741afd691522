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

from results.frames import frame, runs_frame, traces_frame
from results.schema import Group, TheoremRecord

__all__ = [
    "CannotWrite",
    "DamagedFile",
    "NoResults",
    "exists",
    "frame",
    "load",
    "merge",
    "read",
    "runs_frame",
    "traces_frame",
    "write",
]

KEY = b"optimization-theorem-bench"
FORMAT = 1
CURVES = {"metrics": "metric:", "bounds": "bound:", "admitted": "admitted:", "floors": "floor:"}
CALLS = "calls_per_step"


class DamagedFile(Exception):  # noqa: N818
    """A file of results is cut short, altered, or was not written by this suite."""

    def __init__(self, path: Path, reason: object):
        why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        super().__init__(
            f"{path}: not a readable file of results ({why}); delete it and run the same command again to recompute it"
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
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
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
    if len(blocks) == 1 and first.runs["seed"].is_monotonic_increasing:
        return first
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
        kept = [group.control, list(group.metrics), [asdict(theorem) for theorem in group.theorems]]
        words = json.dumps([shared, group.checkpoints, *kept], sort_keys=True, default=_plain)
        blocks.setdefault(words, []).append(group)
    return [_joined(sorted(same, key=lambda block: int(block.runs["seed"].min()))) for same in blocks.values()]
