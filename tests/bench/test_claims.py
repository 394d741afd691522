"""A suite's claims by their id, theorems that take many seeds, and what every lane says of its certificate."""

import json

import pytest
from command_line import assert_user_error, bench_here

from bench import sweep
from bench.errors import UserError
from bench.suite import judging, read_suite

SUITE = """
summary = "two claims"
seeds = 2
steps = 20

[[claim]]
id = "C1"
says = "gradient descent keeps its promise on a quadratic"
theorems = ["gradient_descent_strongly_convex"]

[[claim]]
id = "C2"
says = "momentum does, too"
theorems = ["nesterov_strongly_convex"]

[[run]]
problems = ["quadratic[d=4]"]
algorithms = ["gradient_descent"]

[[run]]
problems = ["quadratic[d=4]"]
algorithms = ["nesterov"]
theorems = ["nesterov_strongly_convex"]
"""


REPORTED = """
[[claim]]
id = "C3"
says = "equal tuning leaves no advantage"
theorems = []
reported = "the section on tuning"

[[run]]
problems = ["quadratic[d=4]"]
algorithms = ["gradient_descent[eta=[0.5/L,1/L]]"]
claims = ["C3"]
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(SUITE)
    return read_suite(path)


def test_a_claim_names_its_theorems_and_runs_that_judge_others_are_left_out(suite):
    (run,) = judging(suite, ["C2"]).runs[1:]
    assert run["theorems"] == ["nesterov_strongly_convex"]
    only = judging(suite, ["C1"]).runs
    assert [run["algorithms"] for run in only] == [["gradient_descent"]]


def test_a_claim_without_a_bar_keeps_the_runs_that_report_for_it_whole(tmp_path):
    path = tmp_path / "three.toml"
    path.write_text(SUITE + REPORTED)
    suite = read_suite(path)
    (run,) = judging(suite, ["C3"]).runs
    assert (run["algorithms"], run["theorems"]) == (["gradient_descent[eta=[0.5/L,1/L]]"], [])
    both = judging(suite, ["C2", "C3"])
    assert [run["theorems"] for run in both.runs] == [["nesterov_strongly_convex"]] * 2 + [[]]
    assert both.told_claims()[2]["reported"] == "the section on tuning"
    assert "reported" not in judging(suite, ["C2"]).told_claims()[2]
    assert suite.requests()[2].theorems == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('reported = "the section on tuning"', "", "[[claim]] number 3: key 'theorems': write a list of names; empty"),
        ("theorems = []", 'theorems = ["x"]', "[[claim]] number 3: key 'reported': write a text, and theorems = []"),
        ('"the section on tuning"', "3", "[[claim]] number 3: key 'reported': write a text"),
        ('claims = ["C3"]', 'claims = "C3"', "[[run]] number 3: key 'claims': write a list of the ids of claims"),
        ('claims = ["C3"]', 'claims = ["C33"]', "[[run]] number 3: key 'claims': unknown claim 'C33': did you mean C3"),
        ('claims = ["C3"]', "", "[[claim]] number 3: key 'reported': no [[run]] says claims = ['C3']"),
    ],
)
def test_a_claim_without_a_bar_says_where_to_read_and_has_a_run(tmp_path, old, new, reason):
    path = tmp_path / "broken.toml"
    path.write_text(SUITE + REPORTED.replace(old, new))
    assert_user_error(bench_here(tmp_path, "run", str(path)), str(path), reason)


def test_a_name_that_is_no_claim_and_no_theorem_gets_the_nearest(tmp_path, suite):
    silent = SUITE.replace('algorithms = ["gradient_descent"]', 'algorithms = ["gradient_descent"]\ntheorems = ["x"]')
    path = tmp_path / "silent.toml"
    path.write_text(silent)
    with pytest.raises(UserError, match=r"unknown theorem 'nesterov_strongly'.*nesterov_strongly_convex"):
        judging(read_suite(path), ["nesterov_strongly"])
    with pytest.raises(UserError, match="has no run that judges gradient_descent_pl"):
        judging(read_suite(path), ["gradient_descent_pl"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('id = "C1"', "[[claim]] number 1: key 'id'"),
        ('says = "momentum does, too"', "[[claim]] number 2: key 'says'"),
        ('theorems = ["nesterov_strongly_convex"]\n\n[[run]]', "[[claim]] number 2: key 'theorems'"),
    ],
)
def test_a_broken_claim_is_named(tmp_path, change, reason):
    path = tmp_path / "broken.toml"
    path.write_text(SUITE.replace(change, "[[run]]" if "[[run]]" in change else "", 1))
    assert_user_error(bench_here(tmp_path, "run", str(path)), str(path), reason)


def test_the_claims_of_the_last_command_reach_the_results(tmp_path, suite):
    path = tmp_path / "two.toml"
    done = bench_here(tmp_path, "run", str(path), "-t", "C1", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "out" / "plan.json").read_text())["configuration"]["claims"]
    assert [claim["id"] for claim in claims] == ["C1", "C2"]
    assert all(claim["theorems"] for claim in claims)
    judged = json.loads(bench_here(tmp_path, "verify", str(tmp_path / "out"), "--json").stdout)["verdicts"]
    assert {row["theorem"] for row in judged} == {"gradient_descent_strongly_convex"}


def test_unlearning_lanes_say_whether_they_are_certified():
    settings = "rewind_to_delete[T=5,K=2,eta=[1.0,9.0]]"
    certificates = sweep("tight_deletion", settings, seeds=2, steps=5).certificates()
    assert set(certificates["certificate"]) == {"certified: deletion of m records, n -> n - m"}
    assert list(certificates["runs"]) == [2, 2]
    descending = sweep("tight_deletion[curvature=0.0]", "descent_to_delete[T=5,K=2,eta=1.0]", seeds=2, steps=7)
    (text,) = set(descending.certificates()["certificate"])
    assert text == "uncertified: RETAINS_STRONG_CONVEXITY is not proven for this problem (mu_min)"
    assert sweep("quadratic[d=4]", "gradient_descent", seeds=2, steps=5).certificates().empty


def test_a_setting_outside_the_range_is_uncertified_and_the_range_named():
    halved = sweep("tight_deletion", "rewind_to_delete[T=5,K=2,eta=1.0,noise_scale=[0.5,1.0]]", seeds=2, steps=5)
    texts = dict(zip(halved.certificates()["setting"], halved.certificates()["certificate"], strict=True))
    assert texts["noise_scale=0.5"].startswith("uncertified: outside eta > 0, noise_scale >= 1")
    assert texts["noise_scale=1"].startswith("certified")
