"""The claims of a suite, in a reader's words: what the theorems that put each to the test say together.

A claim is violated where one of its theorems is, on any problem; inconclusive where one is; held where all that was
judged is held. Theorems without a judged row in this run are listed: they prove nothing here. A claim of no theorems
has no bar: where some run reports for it, its verdict is `reported`, and `reported` says where to read.
"""

import json
from typing import Any

import pandas as pd

from results.schema import CLAIM, Group
from results.tables import FINDING
from results.verdicts import HELD, INCONCLUSIVE, NOT_ADMITTED, VIOLATED

NOT_JUDGED, REPORTED = "not judged in this run", "reported"
COLUMNS = [
    "id",
    "says",
    "theorems",
    "verdict",
    "held",
    "violated",
    "inconclusive",
    "not_admitted",
    "controls",
    "caught",
    "not_judged",
    "findings",
    REPORTED,
]


def told_claims(groups: list[Group]) -> list[dict[str, Any]]:
    """Return the claims that the groups' descriptions list under `claims`, each once, in their order."""
    told = [claim for group in groups for claim in group.description.get("claims") or []]
    return list({json.dumps(claim, sort_keys=True): claim for claim in told}.values())


def _row(claim: dict[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    theorems = list(claim["theorems"])
    about = table.loc[table["theorem"].isin(theorems)]
    rows, controls = about.loc[about["role"] == CLAIM], about.loc[about["role"] != CLAIM]
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in (HELD, VIOLATED, INCONCLUSIVE)}
    judged = set(rows.loc[rows["verdict"] != NOT_ADMITTED, "theorem"])
    unjudged = REPORTED if claim.get(REPORTED) else NOT_JUDGED
    return {
        "id": claim["id"],
        "says": claim["says"],
        "theorems": theorems,
        "verdict": next((verdict for verdict in (VIOLATED, INCONCLUSIVE, HELD) if counts[verdict]), unjudged),
        **counts,
        "not_admitted": int((rows["verdict"] == NOT_ADMITTED).sum()),
        "controls": len(controls),
        "caught": int((controls["verdict"] == VIOLATED).sum()),
        "not_judged": [name for name in theorems if name not in judged],
        "findings": sorted(set(rows.loc[rows["kind"] == FINDING, "theorem"])),
        REPORTED: str(claim.get(REPORTED) or ""),
    }


def claims_table(groups: list[Group], table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a claim with the columns `COLUMNS`; `table` is that of `verdicts`.

    `held`, `violated`, `inconclusive` and `not_admitted` count theorem x problem, `controls` and `caught` the negative
    controls of its theorems. `findings` are its theorems that are observed, not proven; `reported` says where to read
    of a claim that has no bar.
    """
    return pd.DataFrame([_row(claim, table) for claim in told_claims(groups)], columns=pd.Index(COLUMNS))
