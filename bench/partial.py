"""The partial file of a task in flight: saved by rename at most every 30 s, so that a killed run goes on from there."""

import json
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from bench.plan import Chunk
from results import store

EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a task has come: chunks before `number` are done, it up to `done` checkpoints, with carry `leaves`."""

    chunk: Chunk
    number: int
    done: int
    leaves: tuple[np.ndarray, ...]
    arrays: dict[str, np.ndarray]


@dataclass
class PartialFile:
    """Where a task in flight saves its progress; with no path nothing is saved."""

    path: Path | None
    last: float = field(default_factory=time.monotonic)

    def load(self) -> Progress | None:
        """Return the saved progress, or None; a damaged file counts as none, for its task is simply computed anew."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                meta = json.loads(str(saved["meta"]))
                leaves = tuple(saved[f"leaf:{i}"] for i in range(meta["leaves"]))
                arrays = {name: saved[name] for name in saved.files if name != "meta" and not name.startswith("leaf:")}
        except (OSError, ValueError, KeyError, BadZipFile, EOFError):
            return None
        return Progress(Chunk(*meta["chunk"]), meta["number"], meta["done"], leaves, arrays)

    def due(self) -> bool:
        """Return whether the last save is long enough ago."""
        return self.path is not None and time.monotonic() - self.last >= EVERY_SECONDS

    def save(self, chunk: Chunk, number: int, done: int, carry: Any, arrays: dict[str, np.ndarray]) -> None:
        """Save the progress; without a path do nothing."""
        if self.path is None:
            return
        self.last = time.monotonic()
        leaves = [as_numbers(leaf) for leaf in jax.tree.leaves(carry)]
        meta = {"chunk": [chunk.seeds, chunk.settings], "number": number, "done": done, "leaves": len(leaves)}
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                named: dict[str, Any] = {f"leaf:{i}": leaf for i, leaf in enumerate(leaves)} | arrays
                np.savez(file, meta=json.dumps(meta), **named)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise store.CannotWrite(f"{self.path}: cannot be written ({error.strerror or error})") from error
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget the progress: the task is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def as_numbers(leaf: jax.Array) -> np.ndarray:
    """Return the array, a key as its words."""
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
