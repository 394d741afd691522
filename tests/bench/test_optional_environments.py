"""A family whose extra is not installed: who asks for it is told in a line, the rest of the catalogue does without."""

import ast

import pytest
from command_line import assert_user_error, bench_here

from bench import catalogue
from bench.grid import Request, cross
from problems.decision import gymnax_environment


@pytest.fixture
def absent(monkeypatch):
    """Make gymnax look as if it were not installed."""
    gymnax_environment.environment.cache_clear()
    monkeypatch.setattr(gymnax_environment, "find_spec", lambda name: None)
    yield
    gymnax_environment.environment.cache_clear()


def test_who_asks_for_what_is_not_installed_is_told_the_extra(absent, tmp_path):
    asked = bench_here(tmp_path, "run", "-p", "gymnax_environment", "-a", "gradient_descent[eta=0.1]")
    assert_user_error(asked, "gymnax", "uv sync --extra environments")


def test_the_catalogue_does_without_what_is_not_installed(absent, tmp_path):
    plan = cross(Request(("gymnax_environment", "quadratic[d=3]"), ("gradient_descent[eta=0.1]",)), 0, "float64")
    assert [task.problem.family.name for task in plan.tasks] == ["quadratic"]
    assert [(skip.problem, "uv sync --extra environments" in skip.reason) for skip in plan.skipped] == [
        ("gymnax_environment", True)
    ]
    told = bench_here(tmp_path, "info", "gymnax_environment")
    assert told.returncode == 0 and "uv sync --extra environments" in told.stdout and "horizon = 200" in told.stdout
    assert bench_here(tmp_path, "list", "problems").returncode == 0


def test_nothing_imports_gymnax_before_it_is_asked_for():
    for folder in ("bench", "problems", "algorithms", "results"):
        for path in (catalogue.ROOT / folder).rglob("*.py"):
            at_import = [
                node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            assert "gymnax" not in " ".join(map(ast.unparse, at_import)).replace("gymnax_environment", ""), path
