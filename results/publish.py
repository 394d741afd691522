"""What is committed of a finished run: the README's table and figure, and the rates of the regression tests."""

from pathlib import Path

import pandas as pd

from results.figures import DPI
from results.schema import CLAIM, Group
from results.tables import LETTERS, interval, lines_of, markdown, number
from results.trajectories import trajectories
from results.verdicts import HELD, VIOLATED

FOLDER = Path(__file__).parent / "published"
TABLE, FIGURE, RATES = "verdicts.md", "rewind_to_delete.png", "rates.csv"
RATE_COLUMNS = [
    "theorem",
    "algorithm",
    "problem",
    "rate_setting",
    "rate_model",
    "rate",
    "rate_low",
    "rate_high",
    "promised_rate",
]
HEAD = ["theorem", "tightest on", "verdict", "worst measured/bound", "rate [95 %]", "promised", "control"]


def tightest(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each theorem, the claim whose measured curve comes closest to its bound, broken ones first."""
    claims = table.loc[table["role"] == CLAIM].assign(broken=lambda rows: rows["verdict"] == VIOLATED)
    claims = claims.sort_values(["broken", "max_ratio"], ascending=False, na_position="last")
    return claims.drop_duplicates("theorem").sort_values(["algorithm", "theorem"])


def table_of(table: pd.DataFrame) -> str:
    """Return one Markdown row a theorem, its negative control beside it."""
    caught = {row.theorem: row.verdict == VIOLATED for row in lines_of(table.loc[table["role"] != CLAIM])}
    rows = []
    for row in lines_of(tightest(table)):
        letter = LETTERS.get(row.rate_model)
        rate = f"{letter} = {interval(row.rate, row.rate_low, row.rate_high)}" if letter else "–"
        control = {True: "caught", False: "**missed**", None: "not run"}[caught.get(row.theorem)]
        verdict = row.verdict if row.verdict == HELD else f"**{row.verdict}**"
        cells = [
            f"`{row.theorem}`" + (" (finding)" if row.kind == "finding" else ""),
            f"`{row.problem}`",
            verdict,
            f"{number(row.max_ratio)} at step {number(row.at_step)}",
        ]
        rows.append([*cells, rate, number(row.promised_rate), control])
    return markdown(HEAD, rows)


def publish(groups: list[Group], table: pd.DataFrame, folder: Path = FOLDER) -> list[Path]:
    """Write the README's table and figure and the claims' rates with their intervals; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TABLE).write_text(table_of(table))
    claims = table.loc[(table["role"] == CLAIM) & table["rate"].notna(), RATE_COLUMNS]
    claims.to_csv(folder / RATES, index=False)
    figure = trajectories(groups, "rewind_to_delete_strongly_convex", "rewind_to_delete")
    figure.savefig(folder / FIGURE, dpi=DPI)
    return [folder / name for name in (TABLE, FIGURE, RATES)]
