"""What there is, found by scanning the folders of `problems` and `algorithms`: nothing is registered.

Listing reads the files as text, so that it needs no JAX; loading imports the one module that is asked for.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from bench.errors import UserError, unknown

ROOT = Path(__file__).parent.parent
SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Entry:
    """One file of the catalogue: a family or a method. `group` is its folder, `summary` its docstring's first line."""

    name: str
    group: str
    module: str
    path: Path
    summary: str


@dataclass(frozen=True)
class TheoremEntry:
    """One theorem as it stands in its method's file."""

    name: str
    algorithm: str
    statement: str
    source: str


def summary_of(path: Path) -> str:
    """Return the first sentence-line of the module docstring of `path`."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ").strip()


@cache
def scan(package: str) -> dict[str, Entry]:
    """Return the entries of `problems` or `algorithms` by name; a name that stands twice fails."""
    entries: dict[str, Entry] = {}
    for path in sorted((ROOT / package).glob("*/*.py")):
        if path.stem == "__init__":
            continue
        if path.stem in entries:
            raise UserError(f"two files are named {path.stem}: {entries[path.stem].path} and {path}")
        group = path.parent.name
        entries[path.stem] = Entry(path.stem, group, f"{package}.{group}.{path.stem}", path, summary_of(path))
    return entries


def theorem_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that state a theorem: those with a literal name and a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and {"name", "statement", "source"} <= {k.arg for k in node.keywords}:
            yield node


def literal(node: ast.AST) -> str:
    """Return a string constant, or the text of a Source(...) call as it prints."""
    if isinstance(node, ast.Call):
        authors, year, _, where = node.args
        return f"{literal(authors)} ({literal(year)}), {literal(where)}"
    return str(ast.literal_eval(node))


@cache
def theorems() -> dict[str, TheoremEntry]:
    """Return every theorem by name, read from the methods' files as text."""
    found: dict[str, TheoremEntry] = {}
    for entry in scan("algorithms").values():
        tree = ast.parse(entry.path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in theorem_calls(tree):
            fields = {k.arg: constants.get(k.value.id, k.value) if isinstance(k.value, ast.Name) else k.value
                      for k in call.keywords}  # fmt: skip
            name, statement, source = (literal(fields[key]) for key in ("name", "statement", "source"))
            found[name] = TheoremEntry(name, entry.name, statement, source)
    return found


def suites() -> dict[str, Path]:
    """Return the suites that ship, by name."""
    return {path.stem: path for path in sorted(SUITES.glob("*.toml"))}


@cache
def import_text(path: Path, text: str) -> ModuleType:
    """Return the module of a user's own file: imported once for each text, so that an edited file is read anew.

    Raises:
        UserError: it does not import.
    """
    module = ModuleType(f"{path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look annotations up
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except Exception as error:
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module


def load(package: str, name: str) -> tuple[ModuleType, Path]:
    """Return the module of a family or a method and its file, by name or by the path of a user's own file.

    Raises:
        UserError: the name is unknown (with the nearest right ones), or the file states no family or algorithm.
    """
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        module = import_text(path, path.read_text())
    else:
        entries = scan(package)
        if name not in entries:
            raise unknown(package.removesuffix("s"), name, entries)
        module, path = importlib.import_module(entries[name].module), entries[name].path
    wanted = {"problems": "make", "algorithms": "algorithm"}[package]
    if not hasattr(module, wanted):
        raise UserError(f"{path} states no `{wanted}`: a file under {package}/ holds one {package.removesuffix('s')}")
    return module, path
