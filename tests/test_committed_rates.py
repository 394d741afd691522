"""Convergence rates measured today lie in the committed intervals (`results/published/rates.csv`).

Changing an interval is a reviewed change: `bench run && bench report --publish` writes them anew.
"""

from pathlib import Path

import pandas as pd
import pytest

from bench.grid import cross
from bench.runner import run
from bench.suite import find_suite, narrow
from bench.task import Machine
from results.verdicts import verdicts

KEYS = ["theorem", "algorithm", "problem"]
COMMITTED = pd.read_csv(Path(__file__).parent.parent / "results/published/rates.csv").set_index(KEYS)
ROUNDING = 1e-6  # relative: an interval of width 0 is an exact law, reproduced up to rounding
QUICK = ("quadratic", "rank_deficient_least_squares", "huber", "escape_family", "delay_saddle")


@pytest.mark.parametrize("problem", QUICK)
def test_measured_rates_lie_in_the_committed_intervals(problem):
    requests = narrow(find_suite("core"), [problem], []).requests()
    tasks = {task.digest(): task for request in requests for task in cross(request, 0, "float64").tasks}
    _, groups = run(tuple(tasks.values()), Machine(), 0, None)
    table = verdicts(groups)
    measured = table[table["rate"].notna()].set_index(KEYS)
    assert len(measured) > 0
    for key, row in measured.iterrows():
        committed = COMMITTED.loc[key]
        assert row["rate_model"] == committed["rate_model"]
        leeway = ROUNDING * max(1.0, abs(committed["rate"]))
        assert committed["rate_low"] - leeway <= row["rate"] <= committed["rate_high"] + leeway, key
