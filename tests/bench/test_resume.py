"""A run that is killed, shared, damaged or short of disk ends with the same numbers as one left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from command_line import (
    COMMAND,
    assert_one_line,
    assert_same_group,
    assert_same_results,
    assert_user_error,
    bench,
    bench_here,
    environment,
)
from plain_loop import task_of

from bench import plan
from bench.partial import PartialFile
from bench.runner import Watcher, run
from bench.task import Machine
from results import store

SUITE = """
summary = "three dimensions, hence three compiles, and a control"
seeds = 4
steps = 20000
[[run]]
problems = ["quadratic[d=[4,5,6],kappa=10]"]
algorithms = ["gradient_descent[eta=[0.5/L,1/L]]"]
theorems = ["gradient_descent_strongly_convex"]
"""
WORDS = ["run", "three.toml", "--json"]
GROUPS = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nothing disturbed; its parent holds the suite."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    (cwd / "three.toml").write_text(SUITE)
    ended = bench_here(cwd, *WORDS)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert list(summary) == ["out", "groups", "computed", "reused", "lanes", "compiles", "compile_s", "run_s"]
    assert [summary[key] for key in ("out", "groups", "computed", "reused", "lanes")] == ["runs/three", 4, 4, 0, 28]
    assert summary["compiles"] == GROUPS
    return cwd / "runs" / "three"


@pytest.fixture
def cwd(tmp_path):
    (tmp_path / "three.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def copied(cwd, undisturbed):
    return shutil.copytree(undisturbed, cwd / "runs" / "three")


def started(cwd, *words, program=COMMAND):
    """Start the command and return the process."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*program, *words], cwd=cwd, env=environment(cwd), stdout=pipe, stderr=pipe, text=True)


def finished_groups(folder):
    return len(list(folder.glob("*.parquet")))


def test_killed_again_and_again_it_ends_with_the_same_numbers(cwd, undisturbed):
    folder = cwd / "runs" / "three"
    for wanted in (1, 2):
        process = started(cwd, *WORDS)
        while finished_groups(folder) < wanted and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert wanted <= finished_groups(folder) < GROUPS
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    verify = bench_here(cwd, "verify", "runs/three", "--json")
    assert verify.returncode == 1
    assert not json.loads(verify.stdout)["ok"]
    assert "missing" in verify.stderr
    ended = bench(cwd, *WORDS)
    summary = json.loads(ended.stdout)
    assert (summary["reused"], summary["computed"]) == (len(kept), GROUPS - len(kept))
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert_same_results(folder, undisturbed)


def test_an_interrupt_is_one_line_and_the_same_command_goes_on(cwd, undisturbed):
    process = started(cwd, *WORDS)
    while not finished_groups(cwd / "runs" / "three") and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert (process.returncode, stderr.strip()) == (130, "stopped; the same command goes on from here")


def test_what_is_finished_is_not_computed_again(cwd, copied):
    summary = json.loads(bench_here(cwd, *WORDS).stdout)
    assert [summary[key] for key in ("groups", "computed", "reused", "lanes")] == [GROUPS, 0, GROUPS, 28]
    assert (summary["compiles"], summary["compile_s"], summary["run_s"]) == (0, 0, 0)


def test_a_damaged_group_is_named_and_computed_again(cwd, copied, undisturbed):
    path = min(copied.glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])
    assert_user_error(
        bench_here(cwd, "verify", "runs/three"), str(path.relative_to(cwd)), "not a readable file of results"
    )
    ended = bench_here(cwd, *WORDS)
    assert str(path.relative_to(cwd)) in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert json.loads(ended.stdout)["computed"] == 1
    assert_same_results(copied, undisturbed)


def test_a_damaged_manifest_is_named(cwd, copied):
    (copied / "plan.json").write_text("{")
    assert_user_error(bench_here(cwd, "verify", "runs/three"), "plan.json")


def test_shards_make_the_whole(cwd, undisturbed):
    summaries = [json.loads(bench_here(cwd, *WORDS, "--shard", shard).stdout) for shard in ("0/2", "1/2")]
    assert sum(summary["computed"] for summary in summaries) == GROUPS
    assert all(summary["reused"] == 0 for summary in summaries)
    assert_same_results(cwd / "runs" / "three", undisturbed)


def test_a_shard_without_groups_is_no_mistake(cwd):
    ended = bench_here(cwd, "run", "three.toml", "--shard", "7/9")
    assert (ended.returncode, ended.stderr.strip()) == (0, "no group of the plan falls into this shard")


def test_two_processes_share_a_folder(cwd, undisturbed):
    processes = [started(cwd, *WORDS) for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    assert_same_results(cwd / "runs" / "three", undisturbed)
    leftovers = {path.suffix for path in (cwd / "runs" / "three").iterdir()}
    assert leftovers == {".parquet", ".json"}


LARGEST_FILE = 8192
SMALL_DISK = f"""
import resource, sys
from bench.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({LARGEST_FILE}, {LARGEST_FILE}))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(cwd, copied, undisturbed):
    groups = sorted(copied.glob("*.parquet"))
    lost = groups[0].read_bytes()
    groups[0].unlink()
    assert len(lost) > LARGEST_FILE
    process = started(cwd, *WORDS, program=[sys.executable, "-c", SMALL_DISK])
    stdout, stderr = process.communicate()
    assert process.returncode == 2
    assert_one_line(stderr, groups[0].name, "File too large", "finished groups are kept")
    assert "File too large" in json.loads(stdout)["error"]
    assert sorted(copied.glob("*.parquet")) == groups[1:]
    assert json.loads(bench_here(cwd, *WORDS).stdout)["computed"] == 1
    assert_same_results(copied, undisturbed)


def test_a_folder_that_cannot_be_made_is_one_line(cwd):
    ended = bench_here(cwd, *WORDS, "--out", "three.toml/below")
    assert_user_error(ended, "three.toml/below", "--out")


class Stopped(Exception):  # noqa: N818
    """The run was stopped from within."""


def stopping_after(reports):
    """Return a watcher that stops the run at its report number `reports`, and the list of reports so far."""
    seen = []

    def advance(work):
        seen.append(work)
        if len(seen) == reports:
            raise Stopped

    return Watcher(advance=advance), seen


@pytest.fixture
def saves_always(monkeypatch):
    monkeypatch.setattr("bench.partial.EVERY_SECONDS", 0.0)


PAIRS = [
    ("logistic_regression[n=30,d=4,l2=0.1]", "stochastic_gradient_descent[eta=[0.1/L_max,0.5/L_max]]"),
    ("matrix_factorization[m=4,n=3,rank=2,rank_star=1]", "lora_gradient_descent[c=[0.5,1.0]]"),
]


def file_of(task, folder):
    return folder / f".{task.digest()}.partial.npz"


@pytest.mark.parametrize("pair", PAIRS)
def test_a_group_in_flight_goes_on_from_its_partial_file(pair, tmp_path, saves_always, monkeypatch):
    monkeypatch.setattr(plan, "LANES_ON_CPU", 4)
    task, machine = task_of(*pair, seeds=4, steps=20, checkpoints=8), Machine()
    _, (whole,) = run((task,), machine, 0, None)
    for reports in (4, 5, 6):  # the last stop is in the second of two chunks, after its start
        with pytest.raises(Stopped):
            run((task,), machine, 0, tmp_path, watcher=stopping_after(reports)[0])
        assert file_of(task, tmp_path).exists()
    watcher, seen = stopping_after(0)
    run((task,), machine, 0, tmp_path, watcher=watcher)
    assert sum(seen) == task.work / 2
    assert not file_of(task, tmp_path).exists()
    (group,) = store.load(tmp_path)
    assert_same_group(group, whole)


@pytest.fixture(scope="module")
def damageable():
    task, machine = task_of(*PAIRS[0], seeds=2, steps=20, checkpoints=5), Machine()
    _, (whole,) = run((task,), machine, 0, None)
    return task, machine, whole


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "foreign"])
def test_a_damaged_partial_file_is_as_none(damage, damageable, tmp_path, saves_always):
    task, machine, whole = damageable
    with pytest.raises(Stopped):
        run((task,), machine, 0, tmp_path, watcher=stopping_after(3)[0])
    path = file_of(task, tmp_path)
    saved = path.read_bytes()
    if damage == "foreign":
        np.savez(path, other=np.zeros(3))
    else:
        path.write_bytes({"garbage": b"no zip", "cut": saved[: len(saved) // 2], "empty": b""}[damage])
    assert PartialFile(path).load() is None
    run((task,), machine, 0, tmp_path)
    assert_same_group(store.load(tmp_path)[0], whole)


def test_other_work_has_another_name():
    task = task_of(*PAIRS[0], seeds=2, steps=20)
    digests = {
        other.digest()
        for other in (
            task,
            replace(task, root=1),
            replace(task, dtype="float32"),
            replace(task, seeds=range(3)),
            replace(task, checkpoints=(0, 20)),
            replace(task, code="another version of the method's file"),
            replace(task, problem=replace(task.problem, code="another version of the family's file")),
            replace(task, theorems=()),
        )
    }
    assert len(digests) == 8


def test_the_order_of_asking_does_not_change_the_name():
    one = task_of("quadratic[d=5,kappa=7]", "gradient_descent[eta=[0.5/L,1/L]]")
    other = task_of("quadratic[kappa=7.0,L=1,d=5]", "gradient_descent[eta=[1/L,0.5/L,1/L]]")
    assert one.digest() == other.digest()
