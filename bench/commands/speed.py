"""`bench speed`: the engine against hand-written loops and peers, side by side, as ratios."""

import argparse
import json

from bench.errors import UserError, unknown


def speed(arguments: argparse.Namespace) -> int:
    """Measure and print the table; a ratio above 1 means that the contender is slower than the engine.

    Raises:
        UserError: an unknown work, or no repetitions.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: must be at least 1")
    from bench.platform import configure

    configure(None, x32=False)
    from bench.speed import WORKS, measure

    works = {work.name: work for work in WORKS}
    for name in arguments.work:
        if name not in works:
            raise unknown("work", name, works)
    chosen = [works[name] for name in arguments.work or works]
    pairs = [(work, dtype) for work in chosen for dtype in ("float64", "float32")]
    rows = [row for work, dtype in pairs for row in measure(work, dtype, arguments.repeats)]
    if arguments.json:
        print(json.dumps(rows))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(title="seconds of a contender / seconds of the engine (above 1: slower than the engine)")
    for column in ("work", "dtype", "contender", "seconds", "ratio_to_engine", "calls_a_second", "agrees"):
        table.add_column(column, justify="left" if column in ("work", "dtype", "contender") else "right")
    for row in rows:
        agrees = {True: "yes", False: "NO", None: "own draws"}[row["agrees"]]
        numbers = (f"{row['seconds']:.3f}", f"{row['ratio_to_engine']:.2f}", f"{row['calls_a_second']:.3g}")
        table.add_row(row["work"], row["dtype"], row["contender"], *numbers, agrees)
    Console().print(table)
    print("a call is one gradient of the whole objective, in truncated_policy_gradient one step of the environment")
    return 0
