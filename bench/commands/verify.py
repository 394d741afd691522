"""`bench verify`: the verdict on every theorem and its negative control; exit code 0 all as expected, 1 not."""

import argparse
import json
import sys

from bench.conclusions import conclusions


def verify(arguments: argparse.Namespace) -> int:
    """Print the verdicts and return 0 if every claim held and every control was caught, else 1."""
    concluded = conclusions(arguments.dir)
    if concluded.missing:
        print(f"{concluded.missing} groups of the plan are missing: run the same command again", file=sys.stderr)
    if arguments.json:
        from results.tables import records

        print(json.dumps({"ok": concluded.as_expected, "verdicts": records(concluded.verdicts)}))
    else:
        concluded.print_verdicts()
    return 0 if concluded.as_expected else 1
