"""The command line. Imports nothing heavy until a command needs it."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bench.errors import UserError

KINDS = ("suites", "problems", "algorithms", "theorems")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a user's mistakes like all others: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        raise UserError(f"{message}; `{self.prog} --help` says more")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(prog="bench", description="Put optimization theorems to the test.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="what there is to run")
    listing.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    listing.add_argument("--json", action="store_true", help="for machines")

    info = commands.add_parser("info", help="one problem, algorithm, theorem or suite: constants, settings, statements")
    info.add_argument("name", metavar="NAME")

    run = commands.add_parser(
        "run",
        help="run suites and judge their theorems (default: core)",
        description="Run suites, or chosen problems and algorithms, and judge their theorems. "
        "What is finished in the output folder is never computed again.",
        epilog="example: bench run -p 'logistic_regression[n=500,l2=[0,0.01]]' -a 'gradient_descent[eta=[0.5/L,1/L]]'",
    )
    run.add_argument("suites", nargs="*", metavar="SUITE|FILE.toml", help="default: core, unless -p or -a choose")
    run.add_argument(
        "-p", "--problem", action="append", default=[], metavar="SELECTOR", help="name[param=value,param=[v1,v2]]"
    )
    run.add_argument(
        "-a",
        "--algorithm",
        action="append",
        default=[],
        metavar="SELECTOR",
        help="likewise, or file.py[eta=0.1]",
    )
    run.add_argument(
        "-t",
        "--theorem",
        action="append",
        default=[],
        metavar="NAME",
        help="judge only these theorems; a claim of the suite by its id",
    )
    run.add_argument("--seeds", type=int, metavar="N", help="seeds a setting, instead of the suite's")
    run.add_argument("--steps", type=int, metavar="T", help="steps a lane, instead of the suite's")
    run.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/SUITE)")
    run.add_argument("--seed", type=int, default=0, metavar="ROOT", help="root of all randomness (default: 0)")
    run.add_argument("--shard", metavar="i/n", help="only every n-th group from the i-th: n processes share one folder")
    run.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="default: what JAX finds")
    run.add_argument(
        "--x32", action="store_true", help="float32 with full matmul precision, laws not judged (default: float64)"
    )
    run.add_argument("--max-mem", type=float, default=8.0, metavar="GB", help="memory a device may hold (default: 8)")
    run.add_argument("--executor", choices=("local", "slurm", "dask", "ray"), default="local", help="default: local")
    run.add_argument("--force", action="store_true", help="compute again what is finished")
    run.add_argument("--json", action="store_true", help="one object at the end, nothing else")

    verify = commands.add_parser("verify", help="the verdict on every theorem and its negative control")
    verify.add_argument("--json", action="store_true", help="for machines")
    table = commands.add_parser("table", help="tables of rates and verdicts")
    plot = commands.add_parser("plot", help="draw the figures")
    report = commands.add_parser("report", help="write the one-file report")
    for command in (verify, table, plot, report):
        command.add_argument(
            "dir", nargs="?", type=Path, default=Path("runs/core"), metavar="DIR", help="default: runs/core"
        )

    report.add_argument("--publish", action="store_true", help="also write the README's table and figure")

    speed = commands.add_parser(
        "speed", help="the engine against hand-written loops and peers, side by side, as ratios"
    )
    speed.add_argument("work", nargs="*", metavar="WORK", help="only these works (default: all)")
    speed.add_argument("--repeats", type=int, default=7, metavar="N", help="interleaved repetitions (default: 7)")
    speed.add_argument("--json", action="store_true", help="for machines")
    return top


def dispatch(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    match arguments.command:
        case "list":
            from bench.commands.listing import list_catalogue as command
        case "info":
            from bench.commands.info import info as command
        case "run":
            from bench.commands.run import run as command
        case "speed":
            from bench.commands.speed import speed as command
        case "verify":
            from bench.commands.verify import verify as command
        case "table":
            from bench.commands.show import table as command
        case "plot":
            from bench.commands.show import plot as command
        case _:
            from bench.commands.show import report as command
    return command(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line and exit code 2."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        code = dispatch(parser().parse_args(words))
        sys.stdout.flush()
        return code
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if "--json" in words:
        print(json.dumps({"error": message}))
    print(f"bench: {message}", file=sys.stderr)
    return 2
