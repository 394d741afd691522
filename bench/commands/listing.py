"""`bench list`: the catalogue, read as text, so that it answers at once and without JAX."""

import argparse
import json
from typing import Any

from bench import catalogue
from bench.suite import read_suite

Rows = list[dict[str, Any]]


def suite_rows() -> Rows:
    """Return the suites that ship."""
    rows = []
    for name, path in catalogue.suites().items():
        suite = read_suite(path)
        rows.append({"name": name, "summary": suite.summary, "runs": len(suite.runs)})
    return rows


def file_rows(package: str) -> Rows:
    """Return the families or the methods."""
    return [
        {"name": entry.name, "family": entry.group, "summary": entry.summary}
        for entry in catalogue.scan(package).values()
    ]


def theorem_rows() -> Rows:
    """Return the theorems."""
    return [
        {"name": t.name, "family": t.algorithm, "summary": t.statement, "source": t.source}
        for t in catalogue.theorems().values()
    ]


def list_catalogue(arguments: argparse.Namespace) -> int:
    """Print the catalogue or one kind of it."""
    sections = {
        "suites": suite_rows,
        "problems": lambda: file_rows("problems"),
        "algorithms": lambda: file_rows("algorithms"),
        "theorems": theorem_rows,
    }
    chosen = {kind: sections[kind]() for kind in ([arguments.kind] if arguments.kind else sections)}
    if arguments.json:
        print(json.dumps(chosen[arguments.kind] if arguments.kind else chosen))
        return 0
    for kind, rows in chosen.items():
        print(f"{kind}")
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            print(f"  {row['name']:<{width}}  {row['summary']}")
        print()
    return 0
