"""Verdicts and rates as tables: pandas, the terminal (rich), Markdown, and records that JSON accepts."""

import math
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from results.audited import AUDITED
from results.schema import CLAIM, Group
from results.settings import evenly, labels
from results.store import merge
from results.verdicts import HELD, INCONCLUSIVE, NOT_ADMITTED, VIOLATED, rate_of, rows_of, settings_of

COLOURS = {HELD: "green", VIOLATED: "red", INCONCLUSIVE: "yellow", NOT_ADMITTED: "bright_black"}
FINDING = "finding"
MOST_SETTINGS = 6
LETTERS = {"geometric": "q", "power": "p", "logarithmic": "C"}  # of the fitted parameter
RATE_COLUMNS = [
    "theorem",
    "algorithm",
    "problem",
    "role",
    "setting",
    "metric",
    "model",
    "rate",
    "rate_low",
    "rate_high",
    "promised_rate",
    "window",
    "points",
    "seeds",
    "r_squared",
    "interval",
]
ROUNDING = 1e-12  # of a fitted rate


def rates_table(groups: list[Group]) -> pd.DataFrame:
    """Return measured and promised rates, one row a theorem x algorithm x problem x setting.

    Of more than six settings six are shown, chosen evenly. Settings where nothing is judged have no row.
    """
    rows = []
    for (role, algorithm, problem, theorem), parts in rows_of(merge(groups)).items():
        for part in parts if parts[0].theorem.holds != AUDITED else ():
            names, lanes = labels(part.group), settings_of(part)
            for index in evenly(list(lanes), MOST_SETTINGS):
                rate, promise = rate_of(part, lanes[index])
                window = f"{rate.window[0]}-{rate.window[1]}" if rate.points else ""
                measured = rate.model, rate.value, rate.low, rate.high, promise, window, rate.points, rate.seeds
                where = theorem, algorithm, problem, role, names[index], part.theorem.metric
                rows.append((*where, *measured, rate.r_squared, rate.interval))
    return pd.DataFrame(rows, columns=pd.Index(RATE_COLUMNS))


def lines_of(table: pd.DataFrame) -> list[Any]:
    """Return the rows, each with the columns as attributes."""
    return list(table.itertuples())


def parts_of(table: pd.DataFrame, keys: list[str]) -> list[tuple[Any, pd.DataFrame]]:
    """Return the parts of a table whose rows share these columns, in order, each with what they share."""
    return list(table.groupby(keys, sort=False)) if len(table) else []


def number(value: Any, digits: int = 3) -> str:
    """Return a number as people read it: about `digits` digits, more near 1, an em dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    value = float(value)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 10**6:
        return str(int(value))
    if 0.9 < abs(value) < 1.1:
        near = f"{value:.{min(9, digits + max(0, -math.floor(math.log10(abs(1 - abs(value))))))}g}"
        return near if float(near) != 1 else "1"
    if 1e-3 <= abs(value) < 10**5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits - 0.5 else f"{value:.0f}"
    return f"{value:.{digits - 1}e}"


def interval(value: Any, low: Any, high: Any) -> str:
    """Return `value [low, high]`, without the brackets where there is no interval; ends that are the value's rounding
    are shown as the value."""
    if any(isinstance(end, float) and math.isnan(end) for end in (low, high)):
        return number(value)
    low, high = (value if abs(end - value) < ROUNDING else end for end in (low, high))
    return f"{number(value)} [{number(low)}, {number(high)}]"


def record(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with Python's own numbers, and None for what is absent or not finite."""
    return {str(name): _python(value) for name, value in row.items()}


def _python(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value == int(value) and abs(value) < 2**53 else value
    return None if value is pd.NA or value is pd.NaT else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON accepts them: numbers are numbers, absent and non-finite ones None."""
    return [record(row) for row in table.to_dict("records")]  # type: ignore[arg-type]


def _rate(row: Any) -> str:
    letter = LETTERS.get(row.rate_model, "")
    return f"{letter}={number(row.rate)} / {number(row.promised_rate)}" if letter else "–"


def _mark(row: Any) -> str:
    return f" ({FINDING})" if row.kind == FINDING else ""


def _verdict_cells(row: Any) -> list[str]:
    """Return the cells of `VERDICT_HEAD`; what is observed, not proven, is marked."""
    at = "" if math.isnan(row.at_step) else f" @{number(row.at_step)}"
    lanes = f"{row.judged}/{row.not_admitted}/{row.diverged}"
    return [row.theorem + _mark(row), row.problem, row.verdict, number(row.max_ratio) + at, _rate(row), lanes]


VERDICT_HEAD = ["theorem", "problem", "verdict", "worst ratio", "rate / promised", "lanes*"]
VERDICT_NOTE = (
    "worst ratio: measured/bound at its largest @step; lanes*: judged/not admitted/diverged; "
    "rate: geometric factor q, power exponent p or C of C/log t, beside the bound's own; a control must be violated"
)
FINDING_NOTE = "; a finding is observed, not proven"


def verdict_note(table: pd.DataFrame) -> str:
    """Return what the columns mean, and what a finding is where there is one."""
    return VERDICT_NOTE + (FINDING_NOTE if (table["kind"] == FINDING).any() else "")


def verdict_terminal(table: pd.DataFrame) -> Table:
    """Return the verdicts as a rich table that fits 120 columns: claims, then controls, each by algorithm."""
    note = verdict_note(table)
    shown = Table(box=None, caption=note, caption_justify="left", header_style="bold", pad_edge=False)
    for index, name in enumerate(VERDICT_HEAD):
        justify = "left" if index < 3 else "right"
        shown.add_column(name, overflow="fold", no_wrap=index > 1, justify=justify)
    for role, algorithm in sorted(set(zip(table["role"], table["algorithm"], strict=True))):
        rows = table.loc[(table["role"] == role) & (table["algorithm"] == algorithm)]
        wanted = "" if role == CLAIM else " (controls)"
        shown.add_row(f"[bold cyan]{algorithm}[/]{wanted}")
        for row in lines_of(rows):
            cells = _verdict_cells(row)
            good = row.verdict == row.expected
            colour = "green" if good else "red" if role != CLAIM else COLOURS[str(row.verdict)]
            cells[2] = f"[{colour}]{cells[2]}[/]"
            shown.add_row("  " + cells[0], cells[1].replace("[", r"\["), *cells[2:])
    return shown


def rates_terminal(table: pd.DataFrame) -> Table:
    """Return the rates as a rich table that fits 120 columns."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    head = ["theorem", "problem", "setting", "model", "measured [95%]", "promised", "window"]
    for index, name in enumerate(head):
        shown.add_column(name, overflow="fold", no_wrap=index > 2)
    for row in lines_of(table):
        measured = interval(row.rate, row.rate_low, row.rate_high).replace("[", r"\[")
        texts = [str(text).replace("[", r"\[") for text in (row.theorem, row.problem, row.setting, row.model)]
        shown.add_row(*texts, measured, number(row.promised_rate), str(row.window))
    return shown


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def verdict_markdown(table: pd.DataFrame) -> str:
    """Return the verdicts as Markdown, for a README."""
    rows = [
        [f"`{row.theorem}`" + _mark(row), f"`{row.problem}`", row.source, row.role, f"**{row.verdict}**",
         *_verdict_cells(row)[3:]]
        for row in lines_of(table)
    ]  # fmt: skip
    return markdown(["theorem", "problem", "source", "role", *VERDICT_HEAD[2:]], rows) + f"\n{verdict_note(table)}.\n"


def rates_markdown(table: pd.DataFrame) -> str:
    """Return the rates as Markdown."""
    rows = [
        [f"`{row.theorem}`", f"`{row.problem}`", str(row.setting), str(row.model),
         interval(row.rate, row.rate_low, row.rate_high), number(row.promised_rate), str(row.window)]
        for row in lines_of(table)
    ]  # fmt: skip
    return markdown(["theorem", "problem", "setting", "model", "measured [95 %]", "promised", "steps"], rows)
