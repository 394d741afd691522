"""Suites: TOML files that say what to cross. Reads and checks them; a broken one gets file, key and reason."""

import difflib
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import catalogue
from bench.errors import UserError, unknown
from bench.selector import parse_selector

if TYPE_CHECKING:
    from bench.grid import Request

NUMBERS = {"seeds": 1, "steps": 0, "checkpoints": 1}  # with their least values
DEFAULTS = {"seeds": 16, "steps": 1000, "checkpoints": 40}
LISTS = ("problems", "algorithms", "theorems")
CLAIMS = "claims"  # ids of the claims that a run reports for


@dataclass(frozen=True)
class Suite:
    """A named list of what to cross: `runs` holds the lists and numbers of each `[[run]]`, defaults filled in.

    `claims` are statements in a reader's words, each with the theorems that put it to the test: id, says, theorems.
    One without theorems is not judged: `reported` says where to read what was measured in the runs that name its id
    under `claims`.
    """

    name: str
    summary: str
    runs: tuple[dict[str, Any], ...]
    claims: tuple[dict[str, Any], ...] = ()

    def requests(self) -> "tuple[Request, ...]":
        """Return the suite as requests."""
        from bench.grid import Request

        def request(run: dict[str, Any]) -> Request:
            problems, algorithms, theorems = (tuple(run[key]) for key in LISTS)
            return Request(problems, algorithms, theorems, run["seeds"], run["steps"], run["checkpoints"])

        return tuple(map(request, self.runs))

    def told_claims(self) -> list[dict[str, Any]]:
        """Return the claims; one that is only reported keeps its `reported` where some run reports for it."""
        reporting = {name for run in self.runs for name in run.get(CLAIMS, ())}
        return [
            claim if claim["id"] in reporting else {key: claim[key] for key in claim if key != "reported"}
            for claim in self.claims
        ]


def read_suite(path: Path) -> Suite:
    """Return the suite in a TOML file.

    Raises:
        UserError: no such file, no TOML, or a key that is missing, unknown or of the wrong kind; names file and key.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the suite {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    check_keys(path, "the suite", content, {"summary", "run", "claim", *NUMBERS})
    runs = content.get("run")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UserError(f"{path}: key 'run': write at least one [[run]] table with problems and algorithms")
    defaults = DEFAULTS | numbers(path, "the suite", content)
    suite = Suite(
        name=path.stem,
        summary=str(content.get("summary", "")),
        runs=tuple(defaults | checked_run(path, f"[[run]] number {i}", run) for i, run in enumerate(runs, 1)),
        claims=checked_claims(path, content.get("claim", [])),
    )
    check_reports(path, suite)
    return suite


def checked_claims(path: Path, claims: Any) -> tuple[dict[str, Any], ...]:
    """Return the `[[claim]]` tables: an id, what it says, and the theorems that put it to the test.

    A claim of no theorems says under `reported` where to read what was measured.
    """
    if not isinstance(claims, list):
        raise UserError(f"{path}: key 'claim': write [[claim]] tables with id, says and theorems")
    for i, claim in enumerate(claims, 1):
        where = f"[[claim]] number {i}"
        check_keys(path, where, claim, {"id", "says", "theorems", "reported"})
        for key in ("id", "says"):
            if not isinstance(claim.get(key), str) or not claim[key]:
                raise UserError(f"{path}: {where}: key '{key}': write a text")
        check_evidence(path, where, claim)
    return tuple(claims)


def check_evidence(path: Path, where: str, claim: dict[str, Any]) -> None:
    """Raise `UserError` unless the claim has theorems, or none and a `reported` that says where to read instead."""
    theorems, reported = claim.get("theorems"), claim.get("reported")
    if not isinstance(theorems, list) or not all(isinstance(name, str) for name in theorems):
        raise UserError(f"{path}: {where}: key 'theorems': write a list of names")
    if not theorems and reported is None:
        raise UserError(
            f"{path}: {where}: key 'theorems': write a list of names; empty only with reported = 'where to read it'"
        )
    if reported is not None and (theorems or not isinstance(reported, str) or not reported):
        raise UserError(
            f"{path}: {where}: key 'reported': write a text, and theorems = []: what is judged has a verdict"
        )


def check_reports(path: Path, suite: Suite) -> None:
    """Raise `UserError` where a run reports for a claim that is not there, or no run for one that is only reported."""
    known = [claim["id"] for claim in suite.claims]
    for i, run in enumerate(suite.runs, 1):
        for name in run.get(CLAIMS, ()):
            if name not in known:
                raise UserError(f"{path}: [[run]] number {i}: key '{CLAIMS}': {unknown('claim', name, known)}")
    reporting = {name for run in suite.runs for name in run.get(CLAIMS, ())}
    for i, claim in enumerate(suite.claims, 1):
        if not claim["theorems"] and claim["id"] not in reporting:
            raise UserError(
                f"{path}: [[claim]] number {i}: key 'reported': no [[run]] says {CLAIMS} = ['{claim['id']}']"
            )


def check_keys(path: Path, where: str, table: dict[str, Any], known: set[str]) -> None:
    """Raise `UserError` for a key that is not known."""
    for key in table:
        if key not in known:
            raise UserError(f"{path}: {where}: {unknown('key', key, known)}")


def numbers(path: Path, where: str, table: dict[str, Any]) -> dict[str, int]:
    """Return the whole numbers of a table."""
    for key, least in NUMBERS.items():
        value = table.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{path}: {where}: key '{key}': {value!r} is not a whole number >= {least}")
    return {key: table[key] for key in NUMBERS if key in table}


def checked_run(path: Path, where: str, run: dict[str, Any]) -> dict[str, Any]:
    """Return one `[[run]]` after checking its keys and the shape of its selectors."""
    check_keys(path, where, run, {*LISTS, *NUMBERS, CLAIMS})
    lists = {}
    for key in LISTS:
        value = [run[key]] if isinstance(run.get(key), str) else run.get(key, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise UserError(f"{path}: {where}: key '{key}': write a selector or a list of selectors")
        if key != "theorems" and not value:
            raise UserError(f"{path}: {where}: key '{key}' is missing")
        for text in value:
            try:
                parse_selector(text)
            except UserError as error:
                raise UserError(f"{path}: {where}: key '{key}': {error}") from None
        lists[key] = value
    ids = run.get(CLAIMS, [])
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise UserError(f"{path}: {where}: key '{CLAIMS}': write a list of the ids of claims")
    return lists | numbers(path, where, run) | ({CLAIMS: ids} if ids else {})


def find_suite(name: str) -> Suite:
    """Return the suite of that name, or the one in the TOML file of that path.

    Raises:
        UserError: neither is there.
    """
    if name.endswith(".toml"):
        return read_suite(Path(name))
    shipped = catalogue.suites()
    if name not in shipped:
        raise unknown("suite", name, shipped)
    return read_suite(shipped[name])


def narrow(suite: Suite, problems: list[str], algorithms: list[str]) -> Suite:
    """Return the suite with only the chosen problems and algorithms; a choice's own parameters replace the suite's.

    Raises:
        UserError: nothing is left.
    """

    for package, chosen in (("problems", problems), ("algorithms", algorithms)):
        for name in (parse_selector(text).name for text in chosen):
            if not name.endswith(".py") and name not in catalogue.scan(package):
                raise unknown(package.removesuffix("s"), name, catalogue.scan(package))

    def kept(selectors: list[str], chosen: list[str]) -> list[str]:
        names = {parse_selector(text).name for text in selectors}
        of_suite = {parse_selector(text).name: text for text in chosen if parse_selector(text).name in names}
        plain = {name for name, text in of_suite.items() if text.strip() == name}
        return [text for text in of_suite.values() if text.strip() not in plain] + [
            text for text in selectors if parse_selector(text).name in plain
        ]

    runs = []
    for run in suite.runs:
        left = {
            "problems": kept(run["problems"], problems) if problems else run["problems"],
            "algorithms": kept(run["algorithms"], algorithms) if algorithms else run["algorithms"],
        }
        if all(left.values()):
            runs.append(run | left)
    if not runs:
        raise UserError(f"the suite {suite.name} has no run with {', '.join(problems + algorithms)}")
    return replace(suite, runs=tuple(runs))


def judging(suite: Suite, names: list[str]) -> Suite:
    """Return the suite with only the runs that judge the named theorems, and those alone; a claim's id names its own.

    A run that reports for a named claim stays whole.

    Raises:
        UserError: no run of the suite judges them.
    """
    by_id = {claim["id"]: claim["theorems"] for claim in suite.claims}
    theorems = list(dict.fromkeys(theorem for name in names for theorem in by_id.get(name, [name])))
    known = {*catalogue.theorems(), *by_id}
    for name in names:  # a theorem of a file given by path is not in the catalogue, a claim is always here
        if name not in known and difflib.get_close_matches(name, by_id, n=1):
            raise unknown("claim", name, known)
    runs = []
    for run in suite.runs:
        chosen = [name for name in theorems if name in run["theorems"]] if run["theorems"] else theorems
        if set(names) & set(run.get(CLAIMS, ())):
            runs.append(run)
        elif chosen:
            runs.append({key: run[key] for key in run if key != CLAIMS} | {"theorems": chosen})
    if not runs:
        for name in names:
            if name not in known:
                raise unknown("theorem", name, known)
        raise UserError(f"the suite {suite.name} has no run that judges {', '.join(names)}")
    return replace(suite, runs=tuple(runs))


def selection(problems: list[str], algorithms: list[str]) -> Suite:
    """Return the suite of a command line without a suite: the chosen problems crossed with the chosen algorithms.

    Where one side is not chosen, everything in the catalogue stands in; pairs that do not fit are skipped and listed.
    """
    run = {
        "problems": problems or list(catalogue.scan("problems")),
        "algorithms": algorithms or list(catalogue.scan("algorithms")),
        "theorems": [],
        **DEFAULTS,
    }
    return Suite("selection", "chosen on the command line", (run,))
