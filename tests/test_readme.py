"""What the README shows is what the tool wrote, and its examples run."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(*arguments, cwd):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_table_is_the_published_one():
    quoted = README.split("<!-- verdicts -->\n")[1].split("<!-- /verdicts -->")[0]
    assert quoted == (ROOT / "results/published/verdicts.md").read_text()


def test_the_figure_is_there():
    figures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert figures
    assert all((ROOT / figure).stat().st_size > 10_000 for figure in figures)


def test_the_python_example_runs(tmp_path):
    (tmp_path / "example.py").write_text(PYTHON[0])
    done = run("example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_users_own_model_is_unlearned_in_few_lines(tmp_path):
    example = PYTHON[1]
    assert sum(bool(line.strip()) for line in example.splitlines()) < 20
    checks = """
assert status.certificate.str.startswith("uncertified: DELETABLE is not proven").all() and len(status) == 3
assert distance[300] < 1e-9 < 0.1 < distance[100] < distance[0]
from problems.constants import Constants
declared = module_problem(Net(), inputs, labels, users, forget="alice", constants=Constants(L_max=2.0, G=1.0))
certified = sweep(declared, "rewind_to_delete[eta=0.1,T=10,K=5]", seeds=2, steps=10).certificates()
assert list(certified.certificate) == ["certified: deletion of m records, n -> n - m"] and certified.sigma[0] > 0
"""
    (tmp_path / "unlearn.py").write_text(example + checks)
    done = run("unlearn.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_users_own_model_is_adapted_in_few_lines(tmp_path):
    example = PYTHON[2]
    assert sum(bool(line.strip()) for line in example.splitlines()) < 20
    checks = """
assert set(verdicts.verdict) == {"held"} and "lora_gradient_descent_path" in set(verdicts.theorem)
before = net.init(jax.random.key(0), inputs)
assert jax.tree.structure(tuned) == jax.tree.structure(before)
whole = module_problem(net, inputs, labels)
assert abs(whole.value(tuned) - problem.value(solve(problem, step_rule, steps=300))) < 1e-12
assert whole.value(tuned) < whole.value(before) - 0.01
bias = lambda x: x["params"]["layers_0"]["bias"]
assert (bias(tuned) == bias(before)).all()
"""
    (tmp_path / "adapt.py").write_text(example + checks)
    done = run("adapt.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_users_own_process_is_cut_in_few_lines(tmp_path):
    example = PYTHON[3]
    assert sum(bool(line.strip()) for line in example.splitlines()) < 20
    checks = """
assert set(done.verdicts().verdict) == {"held"} and set(done.verdicts().theorem) == set(names)
assert abs(bias[60] / law[60] - 1) < 0.005 and abs(bias[60] / bias[40] - 0.9**20) < 0.01 * 0.9**20
assert enough in bias.index and bias[enough] <= 1e-3
"""
    (tmp_path / "cut.py").write_text(example + checks)
    done = run("cut.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_method_example_runs_by_path(tmp_path):
    (tmp_path / "my_method.py").write_text(PYTHON[4])
    selectors = ("-p", "quadratic[d=5]", "-a", "my_method.py[eta=[0.1/L,0.5/L]]")
    done = run("-m", "bench", "run", *selectors, "--seeds", "2", "--steps", "20", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout


def test_every_command_of_the_readme_parses():
    import shlex

    from bench.cli import parser

    sections = (
        README.split(title)[1]
        for title in (
            "## Using it",
            "## Unlearning your own model",
            "## Adapting your own model",
            "## Policy gradients on your own process",
        )
    )
    lines = [line for text in sections for line in text.split("```sh\n")[1].split("```")[0].splitlines()]
    assert len(lines) > 10
    for line in lines:
        for command in line.split("#")[0].split(";"):
            words = shlex.split(re.sub(r"\[--json\]|\[suites.*?\]", "", command))
            assert words[0] == "bench"
            assert parser().parse_args(words[1:]).command == words[1]
