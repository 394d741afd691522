"""The report's section on low-rank adaptation: sheets of text, in the order in which they are read.

A sheet is left out where its data are not there, so that any subset of methods and problems makes a section.
"""

from typing import Any

import numpy as np
import pandas as pd

from results.low_rank import CLOSE, TIGHT, exponents, worst_case
from results.low_rank_methods import ACCURACY, counterexamples, imbalance, scaled
from results.low_rank_tuning import tuned
from results.schema import Group
from results.settings import evenly
from results.sheets import MOST_ROWS, Sheet, plural, plus_minus, under_headings
from results.style import short
from results.tables import lines_of, number

TUNING = "Equal tuning of step rules"
EXPONENTS = """On the escape family ℓ(w) = (1 + w²)^(−p/2) the adapters grow for ever, and |grad J|² falls like a power
of t. The exponent is the least-squares slope of the running minimum in logarithms over the last two decades of steps
(at most 60 checkpoints, 95 % interval from the residuals), beside the same fit to the law where that is recorded, else
beside the law's exponent. As p → 0 the self-normalised step tends to −1/2, the exponent of its proven worst case."""
WORST = """The scalar problem that is slowest for a horizon of T steps: the running minimum of |grad J|² where its slope
ends, over the a-priori bound Δ (a + √(a² + 2bcT)) / (2κcT). A ratio that does not fall with T means that the rate
1/√T cannot be improved; it should lie between 0.33 and 0.40."""
SCALED = """From Nystrom's start the error of ScaledGD follows a recursion of scalars in which no condition number
stands; from any other start the part outside the range of the target shrinks by 1 − η a step, no faster. Differences
are the largest |measured − law| / law beyond rounding, over seeds and checkpoints; iterations are the first checkpoint
at 1e-8 of the start (the median over seeds)."""
COUNTEREXAMPLES = """The same quadratic by methods that move W by matrices of low rank: gap of the loss over its
minimum, the median over seeds, with the least and the largest at the end. A run that diverged counts as infinite. A
chain that is never merged is LoRA: its W keeps the rank of the adapters."""
IMBALANCE = """A start (random, or near the solution) whose factor B is scaled up, and A down, by the imbalance, which
leaves B A as it is. Iterations until the gap of the loss is a share of its start (the median over seeds, interpolated
between checkpoints); where not all reach 1e-12 also the least share that all reach. A map in W = B A alone cannot
depend on the imbalance."""
EQUAL = """The same budget for every rule: the gap of the loss after the same number of steps, the mean over seeds ±
half its 95 % interval. The theory step needs no tuning (c = 1/2 where a rule has a c); the best is that of the grid,
chosen on the same seeds. Reported, no bar: neither column is judged."""


def _range(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)} – {number(high)}"


def exponent_sheet(groups: list[Group]) -> Sheet:
    """Return measured exponents beside the promised ones, a row a rule, p and setting."""
    rows = []
    for row in lines_of(exponents(groups)):
        known = np.isfinite(row.promised)
        within = ("yes" if abs(row.difference) <= CLOSE else "no") if known else "–"
        numbers = f"{row.measured:.4f} ± {number(row.half, 2)}", f"{row.promised:.4f}" if known else "–"
        difference = f"{row.difference:+.4f}" if known else "–"
        rows.append((row.rule, number(row.p), row.setting, *numbers, difference, within, str(row.steps)))
    head = ("p", "setting", "measured exponent", "promised", "difference", "within 0.01", "steps")
    if all(not row[2] for row in rows):
        head, rows = (head[0], *head[2:]), [(*row[:2], *row[3:]) for row in rows]
    return Sheet("Exponents where adapters escape", EXPONENTS, head, under_headings(rows), ("low_rank_exponents",),
                 folded=len(rows) > MOST_ROWS)  # fmt: skip


def worst_case_sheet(groups: list[Group]) -> Sheet:
    """Return measured over bound on the worst case, a row a horizon."""
    rows = [
        (row.rule, number(row.T), number(row.c), number(row.step), f"{row.measured:.6g}", f"{row.bound:.6g}",
         number(row.ratio), "yes" if TIGHT[0] <= row.ratio <= TIGHT[1] else "no")
        for row in lines_of(worst_case(groups))
    ]  # fmt: skip
    head = ("horizon T", "c", "at step", "measured", "bound", "measured / bound", "within 0.33 – 0.40")
    return Sheet("The rate 1/√T is attained", WORST, head, under_headings(rows), ("low_rank_worst_case",))


def scaled_sheet(groups: list[Group]) -> Sheet:
    """Return how far ScaledGD is from its laws and how many steps it takes, a row a problem and step size."""
    rows = [
        (f"{row.factors}, {row.start} start", number(row.kappa), number(row.eta), row.problem, str(row.seeds),
         number(row.deviation, 2), number(row.iterations) if np.isfinite(row.iterations) else f"> {row.times[-1]}")
        for row in lines_of(scaled(groups))
    ]  # fmt: skip
    head = ("κ", "η", "problem", "seeds", "largest difference from the law", "iterations to 1e-8")
    folded = len(rows) > MOST_ROWS
    return Sheet("ScaledGD and its start", SCALED, head, under_headings(rows), ("low_rank_scaled",), folded=folded)


def counterexample_sheet(groups: list[Group]) -> Sheet:
    """Return where each low-rank method ends on the counter-examples, a row a method and setting."""
    rows = []
    for row in lines_of(counterexamples(groups)):
        said = f"{row.diverged} of {plural(row.seeds, 'run')} diverged" if row.diverged else "none diverged"
        ends = number(row.end), f"{number(row.low)} – {number(row.high)}", number(row.least)
        rows.append((row.problem, row.method, short(row.setting, 48), *ends, said, str(row.steps)))
    head = ("method", "setting", "gap at the end", "over seeds", "least ever", "diverged", "steps")
    folded = len(rows) > MOST_ROWS
    heading = "Low-rank steps beside LoRA on the counter-examples"
    return Sheet(heading, COUNTEREXAMPLES, head, under_headings(rows), ("low_rank_methods",), folded=folded)


def _iterations(value: float, steps: float) -> str:
    return "–" if np.isnan(value) else number(round(value)) if np.isfinite(value) else f"> {number(steps)}"


def _imbalance_rows(there: pd.DataFrame, values: list[float]) -> list[tuple[str, ...]]:
    """Return the cells of a method and setting: until 1e-12, and where that is more until what all reach."""
    there = there.drop_duplicates("imbalance").set_index("imbalance").reindex(values)
    rows, common = [], float(there["accuracy"].max())
    levels = {"iterations": ACCURACY} | ({"common": common} if ACCURACY < common < 1 else {})
    for name, level in levels.items():
        reached = there[name].to_numpy(float)
        ratio = np.max(reached) / np.min(reached) if np.isfinite(reached).all() else np.nan
        cells = [_iterations(*pair) for pair in zip(reached, there["steps"], strict=True)]
        rows.append((f"{level:.0e}", *cells, number(ratio)))
    return rows


def imbalance_sheet(groups: list[Group]) -> Sheet:
    """Return iterations from imbalanced starts, a row a method and setting, a column an imbalance."""
    table, rows = imbalance(groups), []
    values = evenly(sorted(table["imbalance"].unique()), 6) if len(table) else []
    lines: Any = table.groupby(["problem", "method", "setting"]) if len(table) else ()
    for names, there in lines:
        rows += [(*names, *cells) for cells in _imbalance_rows(there, values)]
    head = ("method", "setting", "gap / start", *(f"imbalance {number(value)}" for value in values), "most / least")
    return Sheet("Imbalance of the start", IMBALANCE, head, under_headings(rows), ("low_rank_imbalance",))


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _at(row: Any, which: str) -> str:
    value, gap = getattr(row, f"{which}_value"), getattr(row, f"{which}_gap")
    if np.isnan(gap):
        return "–"
    setting = f" at {row.parameter} = {number(value)}" if np.isfinite(value) else ""
    return plus_minus(gap, getattr(row, f"{which}_half")) + setting


def tuning_sheet(groups: list[Group]) -> Sheet:
    """Return the theory step beside the best of the grid, a row a rule."""
    rows = []
    for row in lines_of(tuned(groups)):
        good = "none" if np.isnan(row.good_from) else _range(row.good_from, row.good_to)
        grid = _range(row.least, row.most) if row.tried > 1 else "–"
        tried = f"{row.tried}" + (f", {row.diverged} diverged" if row.diverged else "")
        where = f"{row.problem}: {plural(int(row.steps), 'step')}, {plural(int(row.seeds), 'seed')}"
        good = good if row.tried > 1 else "–"
        best = _at(row, "best") if row.tried > 1 else "–"
        rows.append((where, row.rule, _at(row, "theory"), best, good, grid, tried, _share(row.rose)))
    head = ("rule", "theory step: gap", "best of its grid: gap", "gap < 0.15 for", "grid", "step sizes tried",
            "spans between checkpoints where the loss rose, at the best")  # fmt: skip
    return Sheet(TUNING, EQUAL, head, under_headings(rows), ("low_rank_tuning",))


def low_rank_section(groups: list[Group], drawn: set[str]) -> list[Sheet]:
    """Return the sheets that these results fill, none without low-rank runs; `drawn` names the figures there are."""
    sheets = [
        exponent_sheet(groups),
        worst_case_sheet(groups),
        scaled_sheet(groups),
        counterexample_sheet(groups),
        imbalance_sheet(groups),
        tuning_sheet(groups),
    ]
    return [sheet for sheet in sheets if sheet.rows or drawn & set(sheet.figures)]
