"""One self-contained HTML file that opens offline: verdicts, controls, rates, figures, configuration."""

import base64
import io
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from results.claims import claims_table
from results.figures import DPI, figures
from results.low_rank_section import low_rank_section
from results.policy_gradient_section import policy_gradient_section
from results.schema import CLAIM, CONTROL, DIVERGED, Group
from results.store import CannotWrite, merge, runs_frame
from results.tables import FINDING, LETTERS, interval, number, rates_table
from results.unlearning_section import unlearning_section
from results.verdicts import ALPHA, HELD, INCONCLUSIVE, NOT_ADMITTED, VIOLATED, all_as_expected, verdicts


def _headline(table: pd.DataFrame, groups: list[Group]) -> dict[str, Any]:
    claims, controls = table[table["role"] == CLAIM], table[table["role"] == CONTROL]
    runs = runs_frame(groups)
    return {
        "claims": {verdict: int((claims["verdict"] == verdict).sum())
                   for verdict in (HELD, VIOLATED, INCONCLUSIVE, NOT_ADMITTED)},
        "findings": int(((claims["verdict"] == HELD) & (claims["kind"] == FINDING)).sum()),
        "controls": len(controls),
        "caught": int((controls["verdict"] == VIOLATED).sum()),
        "ok": all_as_expected(table),
        "lanes": len(runs),
        "diverged": int((runs["status"] == DIVERGED).sum()) if len(runs) else 0,
        "groups": len(groups),
        "tested": int(table["p_value"].notna().sum()),
        "alpha": float(table["alpha"].iloc[0]) if len(table) else ALPHA,
    }  # fmt: skip


def _picture(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return base64.b64encode(buffer.getvalue()).decode()


def _breakable(text: str) -> Markup:
    """Return the text with places where a browser may break it."""
    return Markup(re.sub(r"([,_]|(?=\[))", r"\1<wbr>", str(escape(text))))


def _skipped(groups: list[Group]) -> list[dict[str, Any]]:
    """Return the pairs that were not run and why, as the descriptions list them under `skipped`, each once."""
    pairs = [pair for group in groups for pair in group.description.get("skipped", [])]
    return list({json.dumps(pair, sort_keys=True): pair for pair in pairs}.values())


def _systems(groups: list[Group]) -> list[dict[str, Any]]:
    return list({json.dumps(g.system, sort_keys=True, default=str): g.system for g in groups if g.system}.values())


def html(groups: list[Group], table: pd.DataFrame | None = None) -> str:
    """Return the report of `groups` as one HTML document without references to anything outside it."""
    groups = merge(groups)
    table = verdicts(groups) if table is None else table
    pages = Environment(
        loader=PackageLoader("results", "."), autoescape=select_autoescape(default=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.filters |= {"number": number, "breakable": _breakable}
    pages.globals |= {"interval": interval, "letters": LETTERS}
    drawn = {name: _picture(figure) for name, figure in figures(groups, table)}
    sections = {
        "Unlearning": unlearning_section(groups, table, set(drawn)),
        "Low-rank adaptation": low_rank_section(groups, set(drawn)),
        "Policy gradient and TD(0)": policy_gradient_section(groups, set(drawn)),
    }
    inside = {name for sheets in sections.values() for sheet in sheets for name in sheet.figures}
    return pages.get_template("report.html.j2").render(
        head=_headline(table, groups),
        claims=[(name, list(rows.itertuples())) for name, rows in table[table["role"] == CLAIM].groupby("algorithm")],
        controls=list(table[table["role"] == CONTROL].itertuples()),
        rates=list(rates_table(groups).itertuples()),
        told=list(claims_table(groups, table).itertuples()),
        sections=sections,
        drawn=drawn,
        figures=[name for name in drawn if name not in inside],
        skipped=_skipped(groups),
        systems=_systems(groups),
        configuration=[json.dumps(group.description, indent=1, sort_keys=True, default=str) for group in groups],
    )


def write_report(groups: list[Group], path: Path | str, table: pd.DataFrame | None = None) -> Path:
    """Write the report to `path` (by rename: whole or absent) and return it. Raises `CannotWrite`."""
    path = Path(path)
    text = html(groups, table)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
    return path
