"""Selectors, expressions and suites: read as meant, and every mistake says where it is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import catalogue
from bench.errors import UserError
from bench.expression import evaluate
from bench.runner import Shard
from bench.selector import parse_selector, parse_value, render
from bench.suite import find_suite, narrow, read_suite, selection

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True).filter(lambda name: name not in ("true", "false"))
NUMBERS = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = NUMBERS | st.booleans() | st.sampled_from(["1/L", "2/(L+mu)", "breast_cancer", "4*ceil(L/mu)"])


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=4))
def test_a_rendered_choice_reads_back(name, parameters):
    text = render(name, parameters)
    (point,) = parse_selector(text).points()
    assert parse_selector(text).name == name
    assert point == parameters
    assert render(name, dict(reversed(parameters.items()))) == text


@given(NAMES, st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=3), max_size=3))
def test_lists_are_crossed(name, grid):
    body = ", ".join(f"{key} = [{', '.join(map(str, values))}]" for key, values in grid.items())
    points = list(parse_selector(f" {name}[{body}] ").points())
    assert points == [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("inf", np.inf), ("true", True), ("False", False), ("1/L", "1/L"),
     ("'1'", "1"), ('"a b"', "a b"), (" each ", "each")],
)  # fmt: skip
def test_values_have_the_type_they_look_like(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_a_path_and_commas_inside_brackets_and_quotes_are_kept():
    selector = parse_selector("my dir/method.py[eta=0.1]".replace(" ", "_"))
    assert selector.name == "my_dir/method.py"
    assert parse_selector("a[x=min(L,mu),y=['p,q',2]]").grid == {"x": ("min(L,mu)",), "y": ("p,q", 2)}


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "name[param=value"), ("a[", "name[param=value"), ("a]b", "name[param=value"), ("a[x]", "write param=value"),
     ("a[x=]", "'x='"), ("a[=1]", "'=1'"), ("a[x=1,x=2]", "stands twice"), ("a[x=[]]", "empty list"),
     ("a[x='b]", "close the quote"), ("a b", "name[param=value")],
)  # fmt: skip
def test_a_broken_selector_says_what_is_wrong(text, said):
    with pytest.raises(UserError, match=r"cannot read|stands twice|empty list") as caught:
        parse_selector(text)
    assert said in str(caught.value)


def test_expressions_compute_in_constants_elementwise():
    names = {"L": np.array([2.0, 4.0]), "mu": 0.5, "absent": None}
    np.testing.assert_allclose(evaluate("2/(L+mu)", names), [0.8, 2 / 4.5])
    np.testing.assert_allclose(evaluate("-sqrt(L)*2**3 - 1", names), [-8 * 2**0.5 - 1, -17])
    np.testing.assert_allclose(evaluate("min(L, 3) + max(mu, 1) + ceil(mu)", names), [4, 5])


@pytest.mark.parametrize(
    ("text", "said"),
    [("1/LL", "'LL' in '1/LL' is not known"), ("absent", "stated are: L"), ("1/", "cannot read"), ("f(L)", "sqrt, log"),
     ("L.real", "cannot read"), ("__import__('os')", "cannot read"), ("[L]", "cannot read"), ("", "cannot read"),
     ("L if L else 1", "cannot read"), ("'a'", "cannot read"), ("1/0", "has no value"), ("sqrt()", "has no value"),
     ("sqrt(1,2)", "has no value"), ("9**9**9**9", "has no value"), ("(0-1)**0.5", "not a real number")],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused(text, said):
    with pytest.raises(UserError) as caught:
        evaluate(text, {"L": 2.0, "absent": None})
    assert said in str(caught.value)


RUN = '[[run]]\nproblems = ["quadratic"]\nalgorithms = ["gradient_descent"]\n'
BROKEN_SUITES = {
    "summary = ": ["not TOML"],
    "\xff": ["not TOML"],
    "": ["key 'run'"],
    "run = 3": ["key 'run'", "[[run]]"],
    "run = []": ["key 'run'", "[[run]]"],
    "seedz = 3\n" + RUN: ["the suite", "unknown key 'seedz'", "did you mean seeds"],
    'seeds = "3"\n' + RUN: ["the suite", "key 'seeds'", "'3' is not a whole number >= 1"],
    "seeds = 0\n" + RUN: ["key 'seeds'", ">= 1"],
    "seeds = true\n" + RUN: ["key 'seeds'", "True"],
    RUN + "steps = -1": ["[[run]] number 1", "key 'steps'", ">= 0"],
    RUN + "steps = 1.5": ["[[run]] number 1", "key 'steps'", "1.5"],
    RUN + RUN + "algorithm = 1": ["[[run]] number 2", "unknown key 'algorithm'", "did you mean algorithms"],
    '[[run]]\nproblems = ["quadratic"]': ["[[run]] number 1", "key 'algorithms' is missing"],
    '[[run]]\nproblems = []\nalgorithms = ["a"]': ["[[run]] number 1", "key 'problems' is missing"],
    '[[run]]\nproblems = [3]\nalgorithms = ["a"]': ["key 'problems'", "selector"],
    '[[run]]\nproblems = ["q["]\nalgorithms = ["a"]': ["key 'problems'", "cannot read the selector 'q['"],
}


@pytest.mark.parametrize("number", range(len(BROKEN_SUITES)))
def test_a_broken_suite_gets_file_key_and_reason(number, tmp_path):
    text, said = list(BROKEN_SUITES.items())[number]
    path = tmp_path / "broken.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read_suite(path)
    for part in (str(path), *said):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_reads_with_defaults_filled_in(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('summary = "s"\nseeds = 3\n' + RUN + "steps = 7\n" + RUN + 'theorems = "t"')
    suite = read_suite(path)
    first, second = suite.requests()
    assert (suite.name, suite.summary) == ("mine", "s")
    assert (first.problems, first.algorithms, first.theorems) == (("quadratic",), ("gradient_descent",), ())
    assert (first.seeds, first.steps, first.checkpoints) == (3, 7, 40)
    assert (second.theorems, second.seeds, second.steps) == (("t",), 3, 1000)


def test_a_suite_is_found_by_name_or_path():
    assert find_suite("smoke").name == "smoke"
    with pytest.raises(UserError, match="unknown suite 'smok': did you mean smoke"):
        find_suite("smok")
    with pytest.raises(UserError, match=r"absent\.toml: No such file"):
        find_suite("absent.toml")


def test_a_suite_is_narrowed_by_what_is_chosen():
    suite = find_suite("smoke")
    (run,) = narrow(suite, [], ["gradient_descent"]).runs
    assert run["algorithms"] == ["gradient_descent[eta=[0.5/L,1/L,3/L]]"]
    (run,) = narrow(suite, ["quadratic[d=3]"], ["gradient_descent[eta=0.1]"]).runs
    assert (run["problems"], run["algorithms"]) == (["quadratic[d=3]"], ["gradient_descent[eta=0.1]"])
    with pytest.raises(UserError, match="smoke has no run with huber"):
        narrow(suite, ["huber"], [])
    with pytest.raises(UserError, match="unknown problem 'hubber': did you mean huber"):
        narrow(suite, ["hubber"], [])


def test_a_selection_crosses_with_everything_not_chosen():
    (run,) = selection(["quadratic"], []).runs
    assert set(run["algorithms"]) == set(catalogue.scan("algorithms"))
    (run,) = selection([], ["adam"]).runs
    assert set(run["problems"]) == set(catalogue.scan("problems"))


def test_shards_split_a_plan():
    assert [Shard.parse(f"{i}/3").of(tuple(range(7))) for i in range(3)] == [(0, 3, 6), (1, 4), (2, 5)]
    for text in ("2/2", "-1/2", "1", "a/b", "0/0", "1/", ""):
        with pytest.raises(UserError, match="write i/n with 0 <= i < n"):
            Shard.parse(text)
