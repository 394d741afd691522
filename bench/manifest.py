"""What the last command asked of a folder: the resolved configuration and the digests of its groups.

The folder is a cache that may hold more; tables, figures and the report speak of the last command's groups alone.
"""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from results import store
from results.schema import Group

NAME = "plan.json"


@dataclass(frozen=True)
class Manifest:
    """`configuration` is what was asked, resolved; `digests` name the groups; `skipped` are unfit pairs and why."""

    configuration: dict[str, Any]
    digests: list[str]
    skipped: list[dict[str, str]]

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder, by rename; one that says the same keeps its date."""
        text = json.dumps(asdict(self), indent=1)
        if (folder / NAME).exists() and (folder / NAME).read_text() == text:
            return
        temporary = folder / f".{NAME}.{uuid.uuid4().hex}"
        try:
            temporary.write_text(text)
            temporary.replace(folder / NAME)
        except OSError as error:
            raise store.CannotWrite(f"{folder / NAME}: cannot be written ({error.strerror})") from error


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, None where there is none.

    Raises:
        DamagedFile: it cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise store.DamagedFile(path, error) from error


def load(folder: Path) -> tuple[list[Group], int]:
    """Return the groups of the last command and how many of its groups are not there yet.

    Raises:
        NoResults: no folder, or nothing in it.
        DamagedFile: a group's file is cut short or foreign.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return store.load(folder), 0
    paths = [folder / f"{digest}.parquet" for digest in manifest.digests]
    there = [path for path in paths if path.exists()]
    if not there:
        raise store.NoResults(f"{folder}: no group of the last command is finished; run it again")
    return [of_command(store.read(path), manifest) for path in there], len(paths) - len(there)


def of_command(group: Group, manifest: Manifest) -> Group:
    """Return the group as the last command's: another suite may have computed it first."""
    suite, claims = str(manifest.configuration.get("suite", "")), manifest.configuration.get("claims", [])
    told = {**group.description, "suite": suite, "skipped": manifest.skipped, "claims": claims}
    return replace(group, runs=group.runs.assign(suite=suite), description=told)
