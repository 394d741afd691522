"""`bench info NAME`: what it is, its constants, its hyper-parameters with ranges, its theorems with sources."""

import argparse
import ast
import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from bench import catalogue
from bench.errors import NotInstalled, unknown
from bench.suite import read_suite

if TYPE_CHECKING:
    from bench.choice import ProblemChoice


def docstring(name: str) -> str:
    """Return the module docstring of a path of the catalogue."""
    return ast.get_docstring(ast.parse(name)) or ""


def problem_info(name: str, console: Console) -> None:
    """Print a family: its docstring, its parameters, and the constants of the default instance."""
    from bench.choice import choose_problems

    module, path = catalogue.load("problems", name)
    console.print(escape(docstring(path.read_text())) + "\n")
    console.print("[bold]parameters[/bold]")
    for p in inspect.signature(module.make, eval_str=True).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            console.print(f"  {p.name} = {escape(str(p.default))}  ({p.annotation.__name__})")
    console.print("  instances = 1  (int, or each: every seed on an instance of its own)")
    choice = next(choose_problems(name))
    try:
        problem_facts(choice, console)
    except NotInstalled as error:
        console.print(f"\n[bold]not installed[/bold] {escape(str(error))}")


def problem_facts(choice: "ProblemChoice", console: Console) -> None:
    """Print what is proven of a family, what it may be asked, and the constants of the default instance."""
    regularity = " | ".join(flag.name or "" for flag in choice.family.regularity) or "NONE"
    console.print(f"\n[bold]proven[/bold] {regularity}")
    console.print("[bold]oracles[/bold] " + " | ".join(oracle.name or "" for oracle in choice.family.oracles))
    console.print("\n[bold]constants of the default instance[/bold]")
    for constant, value in constants_of(choice).items():
        console.print(f"  {constant} = {value:.6g}")


def constants_of(choice: "ProblemChoice") -> dict[str, float]:
    """Return the stated constants of instance 0."""
    import jax
    import numpy as np

    from bench.data import Data

    problem = Data(0).instances(choice, [0])
    stated = jax.tree.map(lambda leaf: float(np.asarray(leaf)[0]), vars(problem.constants))
    return {key: value for key, value in stated.items() if value is not None}


def algorithm_info(name: str, console: Console) -> None:
    """Print a method: its docstring, its hyper-parameters and its theorems."""
    module, path = catalogue.load("algorithms", name)
    algorithm = module.algorithm
    console.print(escape(docstring(path.read_text())) + "\n")
    console.print(f"[bold]source[/bold] {escape(str(algorithm.source))}")
    console.print("\n[bold]hyper-parameters[/bold]  " + escape((algorithm.hparams.__doc__ or "").strip()))
    for f in fields(algorithm.hparams):
        changes_shapes = f.metadata.get("pytree_node") is False
        console.print(f"  {f.name} = {escape(str(f.default))}" + ("  (one compile a value)" if changes_shapes else ""))
    for theorem in algorithm.theorems:
        console.print()
        theorem_lines(theorem, console)


def theorem_lines(theorem, console: Console) -> None:
    """Print a theorem: statement, where it applies, how it is judged, source and control."""
    from algorithms.theorem import Holds

    share = f" {theorem.probability}" if theorem.holds is Holds.WITH_PROBABILITY else ""
    console.print(f"[bold]{theorem.name}[/bold]")
    console.print(f"  states     {escape(theorem.statement)}")
    console.print(f"  range      {escape(theorem.condition)}")
    console.print(f"  assumes    {' | '.join(flag.name or '' for flag in theorem.assumes)}")
    console.print(f"  judged     {theorem.holds.value}{share}, {theorem.kind.value}, on {theorem.metric.name}")
    console.print(f"  source     {escape(str(theorem.source))}")
    console.print(f"  control    {escape(theorem.control.why)}")


def suite_info(name: str, console: Console) -> None:
    """Print a suite as it is resolved."""
    suite = read_suite(catalogue.suites()[name])
    console.print(f"{escape(suite.summary)}\n")
    for claim in suite.claims:
        evidence = ", ".join(claim["theorems"]) or f"reported: {claim['reported']}"
        console.print(f"[bold]{escape(claim['id'])}[/bold]  {escape(claim['says'])}  {escape(evidence)}")
    console.print(escape(json.dumps(list(suite.runs), indent=1)))


def info(arguments: argparse.Namespace) -> int:
    """Print what is known about a name.

    Raises:
        UserError: nothing has that name.
    """
    name, console = arguments.name, Console(highlight=False, soft_wrap=True)
    theorems = catalogue.theorems()
    if name in catalogue.suites():
        suite_info(name, console)
        return 0
    from bench.platform import configure

    if name in catalogue.scan("problems"):
        configure("cpu", x32=False)
        problem_info(name, console)
    elif name in catalogue.scan("algorithms"):
        configure("cpu", x32=False)
        algorithm_info(name, console)
    elif name in theorems:
        configure("cpu", x32=False)
        module, _ = catalogue.load("algorithms", theorems[name].algorithm)
        theorem_lines(next(t for t in module.algorithm.theorems if t.name == name), console)
    else:
        everything = [*catalogue.suites(), *catalogue.scan("problems"), *catalogue.scan("algorithms"), *theorems]
        raise unknown("name", name, everything)
    return 0
