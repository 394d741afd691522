"""`bench table`, `bench plot`, `bench report`: what a finished run has to show."""

import argparse

from bench.conclusions import conclusions, show


def table(arguments: argparse.Namespace) -> int:
    """Print the tables of rates and verdicts."""
    from results.tables import rates_table, rates_terminal

    concluded = conclusions(arguments.dir)
    show(rates_terminal(rates_table(concluded.groups)))
    concluded.print_verdicts()
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """Draw the figures into the folder."""
    from results.figures import save_all

    concluded = conclusions(arguments.dir)
    for path in save_all(concluded.groups, concluded.folder / "figures", concluded.verdicts):
        print(path)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the report, and what the README quotes if asked."""
    concluded = conclusions(arguments.dir)
    print(concluded.write_report())
    if arguments.publish:
        from results.publish import publish

        for path in publish(concluded.groups, concluded.verdicts):
            print(path)
    return 0
