"""What follows from a folder of results: verdicts, tables, figures, the report; without JAX."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import manifest
from bench.errors import UserError
from results import store
from results.schema import Group

WIDTH_OF_A_FILE = 140  # columns, where no terminal says how many there are


def show(table: Table) -> None:
    """Print a table, at a fixed width where no terminal says its own."""
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)).print(table)


@dataclass(frozen=True)
class Conclusions:
    """The groups of the last command into a folder, and how many of them are still missing."""

    folder: Path
    groups: list[Group]
    missing: int

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Return the verdict table."""
        from results.verdicts import verdicts

        return verdicts(self.groups)

    @property
    def as_expected(self) -> bool:
        """Return whether every claim held or could not be judged, every control was caught, and nothing is missing."""
        from results.verdicts import all_as_expected

        return all_as_expected(self.verdicts) and not self.missing

    def print_verdicts(self) -> None:
        """Print the verdict table."""
        from results.tables import verdict_terminal

        show(verdict_terminal(self.verdicts))

    def write_report(self) -> Path:
        """Write the report into the folder unless it is newer than every group, and return its path."""
        from results.report import write_report

        path = self.folder / "report.html"
        newest = max(file.stat().st_mtime for file in [*self.folder.glob("*.parquet"), self.folder / manifest.NAME])
        if not path.exists() or path.stat().st_mtime < newest:
            write_report(self.groups, path, self.verdicts)
        return path


def conclusions(folder: Path) -> Conclusions:
    """Return the conclusions of a folder.

    Raises:
        UserError: there is nothing in it, or a file is damaged.
    """
    try:
        groups, missing = manifest.load(folder)
    except (store.NoResults, store.DamagedFile) as error:
        raise UserError(str(error)) from None
    return Conclusions(folder, groups, missing)
