"""What a suite claims, and what is observed but not proven, as tables and the report tell it."""

import numpy as np
from synthetic import group, theorem

from results import report, tables
from results.claims import claims_table
from results.verdicts import verdicts

CLAIMS = [
    {"id": "U1", "says": "rewinding keeps its promise", "theorems": ["kept", "never_run"]},
    {"id": "U7", "says": "rewinding is closer", "theorems": ["observed"]},
    {"id": "U9", "says": "something else", "theorems": ["never_run"]},
    {"id": "U2", "says": "this is wrong", "theorems": ["kept", "broken"]},
    {"id": "U3", "says": "a tie", "theorems": [], "reported": "the section below"},
    {"id": "U4", "says": "another tie", "theorems": []},
]


def unclaimed():
    return [group(np.ones((4, 24)), 2.0)]


def claimed():
    told = {"claims": CLAIMS}
    ones = np.ones((4, 24))
    return [
        group(ones, 2.0, theorem(name="kept"), description=told),
        group(ones, 2.0, theorem(name="observed", kind="finding", holds="in median"), description=told),
        group(ones, 0.5, theorem(name="broken"), description=told),
        group(ones, 0.5, theorem(name="kept"), description=told, control="half the bound"),
        group(ones, 2.0, theorem(name="observed", kind="finding"), description=told, control="nothing is wrong"),
    ]


def test_claims_say_what_their_theorems_say_together():
    table = claims_table(claimed(), verdicts(claimed())).set_index("id")
    assert list(table.index) == ["U1", "U7", "U9", "U2", "U3", "U4"]
    judged = ["held", "held", "not judged in this run", "violated"]
    assert list(table["verdict"]) == [*judged, "reported", "not judged in this run"]
    assert list(table["controls"]) == [1, 1, 0, 1, 0, 0]
    assert list(table["caught"]) == [1, 0, 0, 1, 0, 0]
    assert list(table["reported"]) == ["", "", "", "", "the section below", ""]
    assert table.loc["U1", "not_judged"] == ["never_run"]
    assert table.loc["U7", "findings"] == ["observed"]
    assert claims_table(unclaimed(), verdicts(unclaimed())).empty


def test_the_report_begins_with_the_claims_and_marks_findings(monkeypatch):
    monkeypatch.setattr(report, "_picture", lambda figure: "")  # drawn, not painted
    text = report.html(claimed()).replace("<wbr>", "")
    assert text.index("What is claimed") < text.index("How it is judged")
    for expected in ("rewinding keeps its promise", "not judged in this run", "0 / 1 caught",
                     '<span class="chip mute">reported</span>', "<td>the section below</td>",
                     "finding (observed, not proven)", '<span class="chip mute">finding</span>'):  # fmt: skip
        assert expected in text
    assert "What is claimed" not in report.html(unclaimed())
    table = verdicts(claimed())
    assert "`observed` (finding)" in tables.verdict_markdown(table)
    assert "a finding is observed, not proven" in tables.verdict_note(table)
    assert "finding" not in tables.verdict_note(verdicts(unclaimed()))
