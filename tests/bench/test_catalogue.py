"""Everything in the catalogue keeps the contract of its words, by shapes alone, and stands in a suite."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from command_line import python

from algorithms.algorithm import InvalidSetting
from algorithms.theorem import Theorem
from bench import catalogue
from bench.choice import choose_algorithm, choose_problems
from bench.cli import parser
from bench.commands.run import chosen_suite, plan_of
from bench.grid import Request as Wanted
from bench.grid import control_task, cross, unfit, unstated
from bench.resolve import resolve
from problems.constants import STATED_WITH, Regularity

PROBLEMS, ALGORITHMS = list(catalogue.scan("problems")), list(catalogue.scan("algorithms"))
SUITES = list(catalogue.suites())
SMALL = {"quadratic": "quadratic[d=4]", "logistic_regression": "logistic_regression[n=20,d=3]"}
NUMBERS = {"gamma": 0.9, "modulus": 0.9, "n": 20.0, "states": 3.0, "actions": 2.0}
NUMBERS |= {"mu": 0.1, "mu_min": 0.1, "mu_pl": 0.1}


@cache
def chosen(problem):
    """Return the family's choice with small or default parameters."""
    return next(choose_problems(SMALL.get(problem, problem)))


def record(name):
    """Return the algorithm of that name."""
    return importlib.import_module(catalogue.scan("algorithms")[name].module).algorithm


def structure(tree):
    """Return the structure, shapes and dtypes of a tree."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def hyper_parameters(method, problem):
    """Return the first setting as scalars, with made-up numbers for the constants that the problem states."""
    stated = {name: jnp.full(1, NUMBERS.get(name, 1.0)) for name, leaf in vars(problem.constants).items()
              if leaf is not None}  # fmt: skip
    constants = type(problem.constants)(**stated)
    hp = resolve(method.algorithm, method.static, method.points[:1], constants)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[0, 0], hp)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_method_keeps_its_contract_on_every_problem_that_fits(name):
    (method,) = choose_algorithm(name)
    fitting = [chosen(problem) for problem in PROBLEMS if not unfit(chosen(problem), method.algorithm)]
    fitting = [choice for choice in fitting if not unstated(choice, method)]
    assert fitting
    for choice in fitting:
        assert_contract(method, choice)


def assert_contract(method, choice):
    """Assert that step, readout, calls, metrics and theorems keep structure, shapes and types on a problem."""
    algorithm = method.algorithm
    problem, key = choice.shape, jax.random.key(0)
    hp = hyper_parameters(method, problem)
    x0 = jax.eval_shape(lambda problem: problem.init(key), problem)
    try:
        state = jax.eval_shape(lambda problem, x0: algorithm.init(problem, x0, key, hp), problem, x0)
    except InvalidSetting:  # the default setting reads a constant that this problem does not state
        return
    after = jax.eval_shape(lambda problem, state: algorithm.step(problem, state, key, hp), problem, state)
    assert structure(after) == structure(state)
    assert structure(jax.eval_shape(algorithm.readout, state)) == structure(x0)
    calls = jax.eval_shape(lambda problem: jnp.asarray(algorithm.calls(problem, hp)), problem)
    assert calls.shape == ()
    for metric in algorithm.metrics:
        value = jax.eval_shape(lambda p, s, m=metric: m.measure(p, algorithm.readout(s), s), problem, state)
        assert value.shape == (), metric.name
    for theorem in algorithm.theorems:
        if theorem.assumes in choice.family.regularity:
            assert_theorem_is_scalar(theorem, algorithm, problem, state, hp)


def assert_theorem_is_scalar(theorem, algorithm, problem, state, hp):
    """Assert that metric, given, bound and admission are scalars, of floating numbers and a truth value."""

    def evaluate(problem, state):
        x = algorithm.readout(state)
        given = [metric.measure(problem, x, state) for metric in theorem.given]
        bound = theorem.bound(jnp.asarray(3.0), problem.constants, hp, *given)
        admits = theorem.admits(problem.constants, hp)
        return theorem.metric.measure(problem, x, state), bound, jnp.asarray(admits)

    value, bound, admits = jax.eval_shape(evaluate, problem, state)
    assert (value.shape, bound.shape, admits.shape) == ((), (), ()), theorem.name
    assert jnp.issubdtype(bound.dtype, jnp.floating), theorem.name
    assert admits.dtype == bool, theorem.name


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_family_states_what_it_claims(problem):
    shape = chosen(problem).shape
    assert shape.family.name == problem
    for flag in Regularity:
        if flag in shape.family.regularity:
            for constant in STATED_WITH.get(flag, ()):
                assert getattr(shape.constants, constant) is not None, (flag, constant)
    for name, leaf in vars(shape.constants).items():
        assert leaf is None or leaf.shape == (), name
    start = jax.eval_shape(lambda p: p.init(jax.random.key(0)), shape)
    assert structure(jax.eval_shape(lambda p, x: p.grad(x), shape, start)) == structure(start)
    assert jax.eval_shape(lambda p, x: p.value(x), shape, start).shape == ()
    assert shape.x_star is None or structure(shape.x_star) == structure(start)


def test_every_method_fits_some_problem_and_every_problem_some_method():
    fitting = [(a, p) for a in ALGORITHMS for p in PROBLEMS if not unfit(chosen(p), record(a))]
    assert {a for a, _ in fitting} == set(ALGORITHMS)
    assert {p for _, p in fitting} == set(PROBLEMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_read_as_text_is_what_the_records_say(name):
    entry, algorithm = catalogue.scan("algorithms")[name], record(name)
    assert algorithm.name == name
    assert entry.summary
    listed = [theorem for theorem in catalogue.theorems().values() if theorem.algorithm == name]
    assert [(t.name, t.statement, t.source) for t in listed] == [
        (t.name, t.statement, str(t.source)) for t in algorithm.theorems
    ]


def test_every_theorem_has_a_name_of_its_own_a_condition_and_a_source():
    theorems = [theorem for name in ALGORITHMS for theorem in record(name).theorems]
    assert len({theorem.name for theorem in theorems}) == len(theorems)
    for theorem in theorems:
        assert isinstance(theorem, Theorem)
        assert all((theorem.statement, theorem.condition, theorem.control.why, str(theorem.source))), theorem.name


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_control_can_be_run(name):
    algorithm = record(name)
    for theorem in algorithm.theorems:
        task = control_task(theorem, algorithm, 0, "float64")
        assert not unfit(task.problem, task.algorithm), theorem.name
        assert theorem.assumes in task.problem.family.regularity, theorem.name
        for constant in theorem.control.misstate:
            assert getattr(task.problem.shape.constants, constant) is not None, theorem.name
        assert task.control_of == theorem.name


@cache
def planned(suite):
    """Return the plan of a suite as the command line makes it, without its controls and with them."""
    arguments: argparse.Namespace = parser().parse_args(["run", suite])
    requests = chosen_suite(arguments).requests()
    return [cross(request, 0, "float64") for request in requests], plan_of(chosen_suite(arguments), arguments)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_plans_without_leaving_a_pair_out(suite):
    parts, plan = planned(suite)
    assert [skip for part in parts for skip in part.skipped] == []
    digests = [task.digest() for task in plan.tasks]
    assert len(set(digests)) == len(digests)
    judged = {theorem.name for task in plan.tasks if not task.control for theorem in task.theorems}
    assert {task.control_of for task in plan.tasks if task.control} == judged


def test_every_theorem_is_judged_by_some_suite_and_core_judges_some_of_every_field():
    judged = {suite: {theorem.name for task in planned(suite)[1].tasks for theorem in task.theorems}
              for suite in SUITES}  # fmt: skip
    assert set().union(*judged.values()) == set(catalogue.theorems())
    fields = {entry.name: entry.group for entry in catalogue.scan("algorithms").values()}
    stated = {name: fields[entry.algorithm] for name, entry in catalogue.theorems().items()}
    assert {stated[name] for name in judged["core"]} == set(stated.values())


def test_the_claims_of_a_suite_are_put_to_the_test_by_it():
    for suite in SUITES:
        arguments: argparse.Namespace = parser().parse_args(["run", suite])
        claimed = {name for claim in chosen_suite(arguments).claims for name in claim["theorems"]}
        assert claimed <= {theorem.name for task in planned(suite)[1].tasks for theorem in task.theorems}


def test_a_theorem_is_asked_for_by_name():
    wanted = Wanted(("quadratic", "huber"), ("gradient_descent", "nesterov"), ("gradient_descent_convex",))
    plan = cross(wanted, 0, "float64")
    assert {(t.algorithm.name, *(th.name for th in t.theorems)) for t in plan.tasks} == {
        ("gradient_descent", "gradient_descent_convex")
    }
    assert {(skip.problem, skip.algorithm) for skip in plan.skipped} == {
        ("quadratic", "nesterov"),
        ("huber", "nesterov"),
    }


def test_the_listing_needs_no_jax(tmp_path):
    program = """
import sys
from bench.cli import main
assert main(["list", "--json"]) == 0
heavy = {"jax", "flax", "optax", "numpy", "pandas", "rich", "seaborn"} & set(sys.modules)
assert not heavy, heavy
"""
    content = json.loads(python(tmp_path, program).stdout)
    assert list(content) == ["suites", "problems", "algorithms", "theorems"]
    assert {row["name"] for row in content["theorems"]} == set(catalogue.theorems())
    for kind, names in (("suites", SUITES), ("problems", PROBLEMS), ("algorithms", ALGORITHMS)):
        assert [row["name"] for row in content[kind]] == names
        assert all(row["summary"] for row in content[kind])
    assert {row["family"] for row in content["algorithms"]} >= {"first_order", "unlearning", "low_rank"}


def test_the_listing_answers_at_once(tmp_path):
    def seconds():
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bench", "list", "--json"], cwd=tmp_path, capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 0.6


def test_the_listing_may_be_cut_short(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "bench", "list"],
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("kind", ["suites", "problems", "algorithms", "theorems"])
def test_one_kind_is_listed_alone(kind, capsys):
    from bench.cli import main

    assert main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    assert main(["list", kind]) == 0
    printed = capsys.readouterr().out
    assert all(row["name"] in printed for row in rows)
