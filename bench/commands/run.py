"""`bench run`: run suites or a selection, then say which theorems held and where the report lies."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.suite import Suite, find_suite, judging, narrow, selection

if TYPE_CHECKING:
    from bench.grid import Plan
    from bench.runner import Summary


def chosen_suite(arguments: argparse.Namespace) -> Suite:
    """Return what the command line asks for, its numbers put in place of the suite's."""
    chosen = arguments.problem or arguments.algorithm
    if not arguments.suites and chosen:
        suite = selection(arguments.problem, arguments.algorithm)
    else:
        suites = [find_suite(name) for name in arguments.suites or ["core"]]
        runs = tuple(run for suite in suites for run in suite.runs)
        claims = tuple(claim for suite in suites for claim in suite.claims)
        names, summaries = "+".join(suite.name for suite in suites), "; ".join(suite.summary for suite in suites)
        suite = Suite(names, summaries, runs, claims)
        suite = narrow(suite, arguments.problem, arguments.algorithm) if chosen else suite
    told = {key: value for key in ("seeds", "steps") if (value := getattr(arguments, key)) is not None}
    suite = judging(suite, arguments.theorem) if arguments.theorem else suite
    return replace(suite, runs=tuple(run | told for run in suite.runs))


def plan_of(suite: Suite, arguments: argparse.Namespace) -> "Plan":
    """Return the tasks of the suite and their negative controls.

    Raises:
        UserError: nothing can be run; the reasons are named.
    """
    from bench.grid import Plan, cross, with_controls

    dtype = "float32" if arguments.x32 else "float64"
    parts = [cross(request, arguments.seed, dtype) for request in suite.requests()]
    tasks = {task.digest(): task for part in parts for task in part.tasks}
    plan = Plan(tuple(tasks.values()), tuple(skip for part in parts for skip in part.skipped))
    if not plan.tasks:
        reasons = "; ".join(sorted({f"{skip.problem}: {skip.reason}" for skip in plan.skipped}))
        raise UserError(f"nothing to run: {reasons}")
    return with_controls(plan, arguments.seed, dtype)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        UserError: any mistake of the command line, the suite, or the output folder.
    """
    if arguments.executor != "local":
        raise UserError(
            f"--executor {arguments.executor}: not built yet; --shard i/n lets any scheduler share the work"
        )
    if not 0 < arguments.max_mem < inf:
        raise UserError(f"--max-mem {arguments.max_mem}: must be positive and finite")
    suite = chosen_suite(arguments)
    from bench.platform import configure

    configure(arguments.device, arguments.x32)
    from bench.manifest import Manifest
    from bench.progress import watching
    from bench.runner import Shard, prepare_folder
    from bench.runner import run as run_tasks
    from bench.task import Machine
    from results.store import CannotWrite

    shard = Shard.parse(arguments.shard) if arguments.shard else Shard()
    plan = plan_of(suite, arguments)
    folder = arguments.out or Path("runs") / suite.name
    prepare_folder(folder)
    configuration = {"suite": suite.name, "runs": list(suite.runs), "root": arguments.seed, "x32": arguments.x32}
    configuration["claims"] = suite.told_claims()
    manifest = Manifest(configuration, [task.digest() for task in plan.tasks], [asdict(skip) for skip in plan.skipped])
    machine = Machine(max_bytes=int(arguments.max_mem * (1 << 30)))
    tasks = shard.of(plan.tasks)
    try:
        manifest.write(folder)
        with watching(tasks, quiet=arguments.json) as watcher:
            summary, _ = run_tasks(tasks, machine, arguments.seed, folder, suite.name, arguments.force, watcher)
    except CannotWrite as error:
        raise UserError(f"{error}; finished groups are kept: make room and run the same command again") from None
    if arguments.json:
        numbers = {key: value for key, value in asdict(summary).items() if key != "damaged"}
        print(json.dumps({"out": str(folder), **numbers}))
    else:
        conclude(folder, summary)
    return 0


def conclude(folder: Path, summary: "Summary") -> None:
    """Print what was done, the verdict table, and where the report lies."""
    from bench.conclusions import conclusions

    if not summary.groups:
        print("no group of the plan falls into this shard", file=sys.stderr)
        return
    done = f"{summary.computed} groups computed, {summary.reused} reused"
    if not summary.computed:
        done = f"nothing to compute: all {summary.reused} groups were finished"
    print(f"{done}; {summary.lanes} lanes, {summary.compiles} compiles in {summary.compile_s:.1f} s", file=sys.stderr)
    concluded = conclusions(folder)
    concluded.print_verdicts()
    if concluded.missing:
        print(f"{concluded.missing} groups of this plan are not finished yet (other shards?)")
    else:
        print(f"report: {concluded.write_report()}")
