"""From Python in three lines: names, records or functions; float64 without any configuration."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import users_files
from command_line import python

from algorithms.first_order import gradient_descent
from algorithms.metric import SUBOPTIMALITY
from bench import solve, sweep
from bench.choice import choose_problems
from bench.data import Data
from bench.errors import UserError
from problems.convex import quadratic

THREE_LINES = """
from bench import sweep
swept = sweep("quadratic[d=5]", "gradient_descent[eta=[0.5/L,1/L]]", seeds=3, steps=20)
df = swept.frame()
assert df["value"].dtype == "float64"
assert set(df["dtype"]) == {"float64"}
assert len(set(df["lane"])) == 6 and df["step"].max() == 20
assert {"seed", "hp_eta", "metric", "theorem", "bound", "admitted", "floor"} <= set(df.columns)
best = df[(df["metric"] == "distance_sq") & (df["theorem"] == "gradient_descent_strongly_convex")]
assert (best["value"] <= best["bound"] * (1 + 1e-9) + best["floor"]).all() and len(best)
table = swept.verdicts()
assert len(table) == 4 and set(table["verdict"]) == {"held"}
import jax
assert not jax.config.jax_enable_x64  # what the caller had stays
"""


def test_three_lines_in_a_fresh_interpreter(tmp_path):
    python(tmp_path, THREE_LINES)


def test_names_records_and_functions_are_the_same_sweep():
    named = sweep("quadratic[d=4]", "gradient_descent[eta=[0.5/L,1/L]]", seeds=2, steps=5).frame()
    grid = {"eta": ["0.5/L", "1/L"]}
    made = sweep(lambda key: quadratic.make(key, d=4), gradient_descent.algorithm, seeds=2, steps=5, grid=grid).frame()
    np.testing.assert_array_equal(made["value"], named["value"])
    np.testing.assert_array_equal(made["bound"], named["bound"])
    problem = quadratic.make(jax.random.key(3), d=4)
    (group,) = sweep(problem, gradient_descent.algorithm, seeds=2, steps=5, grid={"eta": 0.5}).groups
    assert list(group.runs["hp_eta"]) == [0.5, 0.5]
    assert list(group.runs["problem"]) == ["quadratic", "quadratic"]


def test_instances_are_chosen_by_the_caller():
    brief = replace(gradient_descent.algorithm, metrics=(SUBOPTIMALITY,), theorems=())
    two, each = (sweep(f"quadratic[d=4,instances={n}]", brief, seeds=3, steps=1) for n in (2, "each"))
    assert list(two.groups[0].runs["instance"]) == [0, 1, 0]
    assert list(each.groups[0].runs["instance"]) == [0, 1, 2]
    made = sweep(lambda key: quadratic.make(key, d=4), brief, seeds=3, steps=1, instances="each")
    np.testing.assert_array_equal(made.groups[0].metrics["suboptimality"], each.groups[0].metrics["suboptimality"])


def test_a_users_file_is_named_by_its_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(users_files.method())
    table = sweep("quadratic[d=4]", f"{path}[eta=0.5]", seeds=2, steps=5).verdicts()
    assert list(table["theorem"]) == ["my_theorem"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quadratik", "gradient_descent"), "did you mean quadratic"),
        (("quadratic", "lora_gradient_descent"), "needs the oracle WEIGHT_GRADIENT"),
        (("quadratic", "gradient_descent[eta=1/G]"), "'G' in '1/G' is not known"),
        (("quadratic", gradient_descent.algorithm, 2, 5, 5, {"etaa": 1}), "did you mean eta"),
        (("quadratic", "gradient_descent", 2, 5, 5, {"eta": 1}), "into the selector"),
        (("quadratic", "gradient_descent", 0), "seeds = 0"),
        (("quadratic", "gradient_descent", 2, -1), "steps = -1"),
    ],
)
def test_a_mistake_is_a_user_error(arguments, said):
    with pytest.raises(UserError) as caught:
        sweep(*arguments)
    assert said in str(caught.value)


def test_float32_is_asked_for():
    (group,) = sweep("quadratic[d=4]", "gradient_descent", seeds=2, steps=5, x32=True).groups
    assert set(group.runs["dtype"]) == {"float32"}
    assert group.metrics["suboptimality"].dtype == np.float32
    assert jax.config.jax_enable_x64


def test_a_run_ends_where_its_lane_does():
    problem, method = "logistic_regression[n=40,d=5]", "stochastic_gradient_descent[batch_size=2]"
    frame = sweep(problem, method, seeds=3, steps=30).frame()
    last = frame.query("seed == 2 and step == 30 and metric == 'value'").value.iloc[0]  # recorded where nothing else is
    with jax.enable_x64(True):
        (choice,) = choose_problems(problem)
        instance = Data(0).first_instance(choice)
        x = solve(problem, method, steps=30, seed=2)
        np.testing.assert_allclose(instance.value(x), last, rtol=1e-12)


def test_a_run_has_one_setting():
    with pytest.raises(UserError, match="one setting"):
        solve("quadratic[d=2]", "gradient_descent[eta=[0.5/L,1/L]]", steps=3)


def test_laws_are_not_judged_in_float32():
    method = "truncated_exact_policy_gradient[eta=1.0]"
    names = ["truncation_bias", "truncation_escapes_saddle"]
    verdicts = sweep("delay_saddle", method, seeds=1, steps=5, x32=True, theorems=names).verdicts()
    assert dict(zip(verdicts.theorem, verdicts.verdict, strict=True)) == dict(
        zip(names, ["held", "not admitted"], strict=True)
    )


def test_theorems_are_asked_for_by_name():
    chosen = sweep("quadratic[d=4]", "gradient_descent", seeds=2, steps=5, theorems=["gradient_descent_pl"])
    assert set(chosen.verdicts().theorem) == {"gradient_descent_pl"}
    with pytest.raises(
        UserError, match=r"unknown theorem of gradient_descent 'gradient_descent_p'.*gradient_descent_pl"
    ):
        sweep("quadratic[d=4]", "gradient_descent", seeds=2, steps=5, theorems=["gradient_descent_p"])
