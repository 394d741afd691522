"""Every mistake of a user, through the command line itself: exit code 2, one line, what was asked, what there is."""

import json

import pytest
import users_files
from command_line import assert_user_error, bench, bench_here

from bench.cli import main

QUADRATIC = ("-p", "quadratic[d=5]")
GD = ("-a", "gradient_descent")
LOGISTIC = ("-p", "logistic_regression[n=20,d=3]")
PAIR = (*QUADRATIC, *GD)
RUNS = {
    ("-p", "quadratik", *GD): ["unknown problem 'quadratik': did you mean quadratic"],
    (*QUADRATIC, "-a", "gradient_decsent"): ["unknown algorithm 'gradient_decsent': did you mean gradient_descent"],
    (*PAIR, "-t", "gradient_descent_plx"): ["unknown theorem", "gradient_descent_pl"],
    ("cor",): ["unknown suite 'cor': did you mean core?"],
    ("core", "-p", "quadratik"): ["unknown problem 'quadratik'"],
    ("nosuch.toml",): ["nosuch.toml", "No such file"],
    ("-p", "quadratic[dd=5]", *GD): ["unknown parameter of quadratic 'dd'", "did you mean d"],
    (*QUADRATIC, "-a", "gradient_descent[etaa=1]"): ["unknown hyper-parameter of gradient_descent 'etaa'", "eta?"],
    ("-p", "quadratic[d=abc]", *GD): ["quadratic", "d = abc", "not int"],
    ("-p", "quadratic[d=2.5]", *GD): ["d = 2.5", "not int"],
    ("-p", "quadratic[d=1]", *GD): ["quadratic[d=1]", "d >= 2"],
    ("-p", "quadratic[kappa=0.5]", *GD): ["kappa = 0.5", "at least 1"],
    ("-p", "quadratic[instances=0]", *GD): ["instances = 0", "or each"],
    (*QUADRATIC, "-a", "gradient_descent[eta=1/LL]"): ["'LL' in '1/LL' is not known"],
    (*QUADRATIC, "-a", "gradient_descent[eta=1/G]"): ["nothing to run", "'G' in '1/G'", "stated are: L, f_star, mu"],
    (*QUADRATIC, "-a", "gradient_descent[eta=1/]"): ["cannot read the expression '1/'"],
    (*QUADRATIC, "-a", "gradient_descent[eta=1/0]"): ["the expression '1/0' has no value"],
    (*QUADRATIC, "-a", "gradient_descent[eta=true]"): ["eta = True is not a number"],
    (*QUADRATIC, "-a", "gradient_descent["): ["cannot read the selector 'gradient_descent['"],
    (*QUADRATIC, "-a", "lora_gradient_descent"): ["nothing to run", "WEIGHT_GRADIENT", "quadratic offers GRADIENT"],
    (*PAIR, "-t", "nesterov_convex"): ["nothing to run", "none of the theorems"],
    (*LOGISTIC, "-a", "stochastic_gradient_descent[batch_size=1.5]"): ["batch_size = 1.5 is not int"],
    ("-p", "delay_saddle", "-a", "truncated_exact_policy_gradient[horizon=0]"): ["horizon = ", "from 1"],
    ("-p", "delay_saddle", "-a", "truncated_exact_policy_gradient[horizon=2.5]"): ["horizon = 2.5", "whole number"],
    (*LOGISTIC, "-a", "rewind_to_delete[T=5,K=6]"): ["rewind_to_delete", "0 <= K <= T"],
    (*PAIR, "--seeds", "0"): ["seeds = 0"],
    (*PAIR, "--seeds", "-3"): ["seeds = -3"],
    (*PAIR, "--seeds", "many"): ["--seeds", "'many'"],
    (*PAIR, "--steps", "-1"): ["steps = -1"],
    (*PAIR, "--seed", "-1"): ["seed = -1"],
    (*PAIR, "--seed", str(2**70)): ["seed = ", "less than"],
    (*PAIR, "--shard", "2/2"): ["--shard 2/2", "0 <= i < n"],
    (*PAIR, "--shard", "x"): ["--shard x"],
    (*PAIR, "--max-mem", "0"): ["--max-mem 0.0", "positive"],
    (*PAIR, "--max-mem", "nan"): ["--max-mem nan", "positive"],
    (*PAIR, "--max-mem", "inf"): ["--max-mem inf", "finite"],
    (*PAIR, "--executor", "slurm"): ["--executor slurm", "--shard"],
    (*PAIR, "--unknown"): ["unrecognized arguments: --unknown"],
    ("-p", "quadratic", "-a", "nosuch.py"): ["no such file", "nosuch.py"],
}  # fmt: skip
OTHERS = {
    (): ["required: COMMAND"],
    ("frobnicate",): ["invalid choice: 'frobnicate'"],
    ("list", "theories"): ["invalid choice: 'theories'"],
    ("info", "quadratik"): ["unknown name 'quadratik': did you mean quadratic"],
    ("verify", "nosuch"): ["nosuch: no such folder"],
    ("table", "nosuch"): ["nosuch: no such folder"],
    ("plot", "nosuch"): ["nosuch: no such folder"],
    ("report", "nosuch"): ["nosuch: no such folder"],
    ("verify", "."): ["holds no finished group"],
    ("speed", "nosuch"): ["unknown work 'nosuch'", "lora_gradient_descent"],
    ("speed", "--repeats", "0"): ["--repeats 0", "at least 1"],
}
MISTAKES = {("run", *words): said for words, said in RUNS.items()} | OTHERS


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_and_exit_code_2(words, tmp_path):
    ended = bench_here(tmp_path, *words)
    assert_user_error(ended, *MISTAKES[words])
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_with_json_a_mistake_is_one_object_too(tmp_path):
    for words in (("run", "cor"), ("verify", "nosuch"), ("run", "--nosuch"), ("list", "theories")):
        ended = bench_here(tmp_path, *words, "--json")
        assert ended.returncode == 2
        assert f"bench: {json.loads(ended.stdout)['error']}\n" == ended.stderr


@pytest.mark.parametrize("words", [("run", "cor"), ("run", *PAIR, "--seeds", "0"), ("verify", "nosuch")], ids=" ".join)
def test_the_process_ends_likewise(words, tmp_path):
    assert_user_error(bench(tmp_path, *words), *MISTAKES.get(words, []))


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_here_is_a_mistake(device, tmp_path):
    ended = bench(tmp_path, "run", *PAIR, "--device", device, "--seeds", "2", "--steps", "3", "--json")
    if ended.returncode == 0:
        pytest.skip(f"there is a {device} here")
    assert_user_error(ended, f"no {device} here")


BROKEN_FILES = {
    "algorithm = 1/0": ["does not import", "ZeroDivisionError"],
    "def (": ["does not import", "SyntaxError"],
    "import nosuchmodule": ["does not import", "nosuchmodule"],
    "x = 3": ["states no `algorithm`"],
    "algorithm = 3": ["`algorithm` is a int, not an Algorithm"],
}


@pytest.mark.parametrize("text", BROKEN_FILES)
def test_a_users_broken_method_is_one_line(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    assert_user_error(bench_here(tmp_path, "run", *QUADRATIC, "-a", "mine.py[eta=0.1]"), "mine.py", *BROKEN_FILES[text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 3", "states no `make`"),
        ("def make(key): return 3", "not a Problem"),
        (users_files.FAMILY.replace("scale > 0", "scale > 1"), "scale = 1.0: must be positive"),
    ],
)
def test_a_users_broken_family_is_one_line(text, said, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    assert_user_error(bench_here(tmp_path, "run", "-p", "mine.py", *GD), "mine", said)


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.cli.dispatch", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err.strip() == "stopped; the same command goes on from here"
