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


def test_the_method_example_runs_by_path(tmp_path):
    (tmp_path / "my_method.py").write_text(PYTHON[1])
    selectors = ("-p", "quadratic[d=5]", "-a", "my_method.py[eta=[0.1/L,0.5/L]]")
    done = run("-m", "bench", "run", *selectors, "--seeds", "2", "--steps", "20", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout


def test_every_command_of_the_readme_parses():
    import shlex

    from bench.cli import parser

    block = README.split("## Using it")[1].split("```sh\n")[1].split("```")[0]
    for line in block.splitlines():
        for command in line.split("#")[0].split(";"):
            words = shlex.split(re.sub(r"\[--json\]|\[suites.*?\]", "", command))
            assert words[0] == "bench"
            assert parser().parse_args(words[1:]).command == words[1]
