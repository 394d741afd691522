"""`bench table`, `bench plot`, `bench report`: what a finished run has to show."""

import argparse

from rich.console import Console

from bench.conclusions import WIDTH_OF_A_FILE, conclusions


def table(arguments: argparse.Namespace) -> int:
    """Print the tables of rates and verdicts."""
    from results.tables import rate_table

    concluded = conclusions(arguments.dir)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)).print(rate_table(concluded.verdicts))
    concluded.print_verdicts()
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """Draw the figures into the folder."""
    from results.figures import save_all

    concluded = conclusions(arguments.dir)
    for path in save_all(concluded.groups, concluded.folder / "figures"):
        print(path)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the report."""
    print(conclusions(arguments.dir).write_report())
    return 0
