"""`bench run` and `bench verify` end to end: verdicts, exit codes, machine-readable output, users' own files."""

import json
import math

import pytest
import users_files
from command_line import bench, bench_here

from results import store

VERDICT_KEYS = ["theorem", "algorithm", "problem", "source", "role", "verdict", "expected", "max_ratio", "at_step",
                "rate", "rate_low", "rate_high", "promised_rate", "judged", "not_admitted", "diverged"]  # fmt: skip
NUMBERS = VERDICT_KEYS[7:13]
SHORT = ("--seeds", "3", "--steps", "40", "--out", "out", "--json")
QUADRATIC = ("-p", "quadratic[d=4,kappa=10]")


def run(cwd, *words):
    """Run the command and return the object it printed."""
    ended = bench_here(cwd, "run", *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def verify(cwd, code):
    """Return the verdicts of the folder `out` by role after checking exit code and keys."""
    ended = bench_here(cwd, "verify", "out", "--json")
    assert ended.returncode == code, ended.stderr
    answer = json.loads(ended.stdout, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert list(answer) == ["ok", "verdicts"]
    assert answer["ok"] == (code == 0)
    for verdict in answer["verdicts"]:
        assert list(verdict)[: len(VERDICT_KEYS)] == VERDICT_KEYS
        assert all(verdict[key] is None or isinstance(verdict[key], int | float) for key in NUMBERS)
        assert all(isinstance(verdict[key], int) for key in ("judged", "not_admitted", "diverged"))
        assert verdict["expected"] == {"claim": "held", "control": "violated"}[verdict["role"]]
    return {verdict["role"]: verdict for verdict in answer["verdicts"]}


def test_settings_outside_a_theorems_range_are_measured_and_not_judged(tmp_path):
    settings = "gradient_descent[eta=[0.5/L,1/L,1.5/L,3/L,0-1/L]]"
    run(tmp_path, *QUADRATIC, "-a", settings, "-t", "gradient_descent_pl", *SHORT)
    verdicts = verify(tmp_path, 0)
    claim, control = verdicts["claim"], verdicts["control"]
    assert (claim["verdict"], control["verdict"]) == ("held", "violated")
    assert (claim["judged"], claim["not_admitted"], claim["diverged"]) == (2 * 3, 3 * 3, 0)
    assert claim["condition"] == "0 < eta <= 1/L"
    assert claim["max_ratio"] <= 1
    assert control["max_ratio"] > 1
    (group,) = [group for group in store.load(tmp_path / "out") if group.role == "claim"]
    traces = store.frame([group])
    assert set(traces["hp_eta"].round(12)) == {0.5, 1.0, 1.5, 3.0, -1.0}
    grown = traces[(traces["hp_eta"] == 3) & (traces["metric"] == "suboptimality")].sort_values("step")
    assert grown["value"].iloc[-1] > 1e3 * grown["value"].iloc[0]
    assert not grown["admitted"].any()


def test_where_nothing_is_admitted_the_verdict_says_so(tmp_path):
    run(tmp_path, *QUADRATIC, "-a", "gradient_descent[eta=1.5/L]", "-t", "gradient_descent_pl", *SHORT)
    claim = verify(tmp_path, 0)["claim"]
    assert (claim["verdict"], claim["judged"], claim["not_admitted"]) == ("not admitted", 0, 3)
    assert claim["max_ratio"] is None
    text = bench_here(tmp_path, "verify", "out")
    assert text.returncode == 0
    assert "not admitted" in text.stdout


def test_a_users_method_and_family_run_from_their_files(tmp_path):
    (tmp_path / "mine.py").write_text(users_files.method())
    (tmp_path / "bowl.py").write_text(users_files.FAMILY)
    words = ("-p", "bowl.py[d=3,scale=[1,2]]", "-a", f"{tmp_path}/mine.py[eta=[0.1,1/L]]", "-t", "my_theorem")
    summary = run(tmp_path, *words, *SHORT)
    assert (summary["groups"], summary["computed"], summary["lanes"]) == (3, 3, 3 * 2 * 2 + 4)
    claim = verify(tmp_path, 0)["claim"]
    assert (claim["theorem"], claim["algorithm"]) == ("my_theorem", "my_method")
    assert claim["source"] == "A. User (2026), this file"
    (tmp_path / "bowl.py").write_text(users_files.FAMILY + "\n# another version\n")
    assert run(tmp_path, *words, *SHORT)["computed"] == 2  # the control lives on another family


def test_two_files_of_one_name_are_two_families(tmp_path):
    for folder, start in (("a", "zeros_like(data.c)"), ("b", "ones_like(data.c)")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bowl.py").write_text(users_files.FAMILY.replace("zeros_like(data.c)", start))
    run(tmp_path, "-p", "a/bowl.py", "-p", "b/bowl.py", "-a", "gradient_descent", *SHORT)
    groups = [group for group in store.load(tmp_path / "out") if group.role == "claim"]
    starts = {float(group.metrics["best_gradient_norm_sq"][0, 0]) for group in groups}
    assert len(starts) == 2


@pytest.mark.parametrize(
    ("changed", "claim", "control"),
    [({"factor": 0.5}, "violated", "violated"), ({"control_eta": "0.5/L"}, "held", "held")],
)
def test_a_false_theorem_and_a_control_not_caught_fail(changed, claim, control, tmp_path):
    (tmp_path / "mine.py").write_text(users_files.method(**changed))
    run(tmp_path, *QUADRATIC, "-a", "mine.py[eta=0.5/L]", *SHORT)
    verdicts = verify(tmp_path, 1)
    assert (verdicts["claim"]["verdict"], verdicts["control"]["verdict"]) == (claim, control)


def test_float32_is_a_run_of_its_own(tmp_path):
    words = (*QUADRATIC, "-a", "gradient_descent", "-t", "gradient_descent_strongly_convex", *SHORT)
    assert run(tmp_path, *words)["computed"] == 2
    ended = bench(tmp_path, "run", *words, "--x32")
    assert json.loads(ended.stdout)["computed"] == 2, ended.stderr
    verdicts = verify(tmp_path, 0)
    assert (verdicts["claim"]["verdict"], verdicts["control"]["verdict"]) == ("held", "violated")
    groups = store.load(tmp_path / "out")
    assert sorted(group.runs["dtype"].iloc[0] for group in groups) == ["float32"] * 2 + ["float64"] * 2
    floors = {group.runs["dtype"].iloc[0]: group.floors["gradient_descent_strongly_convex"][0] for group in groups
              if group.role == "claim"}  # fmt: skip
    assert math.log2(floors["float32"] / floors["float64"]) == pytest.approx(29, abs=2)  # other draws


def test_on_a_terminal_or_not_a_run_ends_with_verdicts_and_a_report(tmp_path):
    words = ("run", *QUADRATIC, "-a", "gradient_descent", "-t", "gradient_descent_strongly_convex", *SHORT[:-1])
    ended = bench(tmp_path, *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("2 groups computed, 0 reused; 7 lanes, 2 compiles")
    assert "gradient_descent_strongly_convex" in ended.stdout
    assert (tmp_path / ended.stdout.strip().splitlines()[-1].removeprefix("report: ")).is_file()
    assert bench_here(tmp_path, *words).stderr.startswith("nothing to compute: all 2 groups were finished")


@pytest.mark.parametrize(
    "words",
    [
        ("gradient_descent[eta=nan]", "--steps", "5"),
        ("gradient_descent[eta=1e300]", "--steps", "5"),
        ("gradient_descent", "--steps", "0"),
    ],
)
def test_a_run_of_which_nothing_can_be_drawn_still_ends_with_its_report(tmp_path, words):
    chosen = (*QUADRATIC, "-t", "gradient_descent_pl", "--seeds", "2", "--out", "out", "-a", *words)
    ended = bench_here(tmp_path, "run", *chosen)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
