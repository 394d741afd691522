"""The command line, in a process of its own or in this one, and what a folder of results holds, timings aside."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main
from results import store

TIMINGS = ["chunk", "compile_s", "run_s"]
COMMAND = [sys.executable, "-m", "bench"]


def environment(cwd: Path, **more: str) -> dict[str, str]:
    """Return the environment of a run: one compilation cache for all tests of a session, one device."""
    session = next(parent for parent in [cwd, *cwd.parents] if parent.name.startswith("pytest-"))
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    cache = {"XDG_CACHE_HOME": str(session / "cache"), "JAX_PLATFORMS": "cpu"}
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"  # as this process compiles
    return kept | cache | {"XLA_FLAGS": flags} | more


def bench(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    """Run `bench words...` in `cwd` and return how it ended."""
    return subprocess.run(
        [*COMMAND, *words], cwd=cwd, env=environment(cwd), capture_output=True, text=True, timeout=120, check=False
    )


def bench_here(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    """Run `bench words...` in `cwd` in this process, where JAX is as the tests set it: float64."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("bench.platform.configure", lambda device, x32: None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def python(cwd: Path, program: str, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a Python program in a fresh interpreter in `cwd`; it must succeed."""
    ended = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, *words],
        cwd=cwd,
        env=environment(cwd, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def assert_user_error(ended: subprocess.CompletedProcess, *said: str) -> None:
    """Assert exit code 2 and one line on stderr that begins with `bench: ` and says all of `said`."""
    assert ended.returncode == 2, ended.stderr
    assert_one_line(ended.stderr, *said)


def assert_one_line(stderr: str, *said: str) -> None:
    """Assert one line that begins with `bench: ` and says all of `said`."""
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("bench: ")
    for text in said:
        assert text in lines[0], lines[0]


def assert_same_results(folder: Path, expected: Path) -> None:
    """Assert that two folders hold the same groups, number for number, timings aside."""
    names = sorted(path.name for path in expected.glob("*.parquet"))
    assert sorted(path.name for path in folder.glob("*.parquet")) == names
    for name in names:
        assert_same_group(store.read(folder / name), store.read(expected / name))


def assert_same_group(group, expected) -> None:
    """Assert that two groups are equal, number for number, timings aside."""
    pd.testing.assert_frame_equal(group.runs.drop(columns=TIMINGS), expected.runs.drop(columns=TIMINGS))
    np.testing.assert_array_equal(group.checkpoints, expected.checkpoints)
    np.testing.assert_array_equal(group.calls_per_step, expected.calls_per_step)
    assert group.description == expected.description
    for part in ("metrics", "bounds", "admitted", "floors"):
        ours, theirs = getattr(group, part), getattr(expected, part)
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
