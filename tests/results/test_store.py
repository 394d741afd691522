"""Parquet in and out: nothing is lost, nothing half-written is read, blocks of seeds join, the tables are tidy."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import CHECKPOINTS, decays, group, theorem

from results import store

TRACES = ["lane", "group", "step", "oracle_calls", "metric", "value", "theorem", "bound", "admitted", "floor"]
RUNS = ["suite", "role", "algorithm", "problem", "instance", "seed", "setting", "lane", "hp_eta", "status", "steps",
        "dtype", "device", "chunk", "compile_s", "run_s", "group"]  # fmt: skip


def assert_equal(left, right):
    pd.testing.assert_frame_equal(left.runs, right.runs)
    assert (left.theorems, left.description, left.control) == (right.theorems, right.description, right.control)
    assert left.system == right.system
    np.testing.assert_array_equal(left.checkpoints, right.checkpoints)
    np.testing.assert_array_equal(left.calls_per_step, right.calls_per_step)
    for part in ("metrics", "bounds", "admitted", "floors"):
        ours, theirs = getattr(left, part), getattr(right, part)
        assert list(ours) == list(theirs)
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])


def example(**changes):
    value, bound = decays(6, (0.5, 1.0))
    return group(value, bound, settings=(0.5, 1.0), **changes)


def test_a_group_comes_back_as_it_went_in(tmp_path):
    value, bound = decays(6, (0.5, 1.0))
    value[3, 5:] = np.nan
    value[4, 7:] = np.inf
    bound = np.where(CHECKPOINTS > 500, np.nan, bound)
    written = group(value, bound, settings=(0.5, 1.0), control="why", admitted=np.arange(12) < 5,
                    more_metrics={"narrow": value.astype(np.float32)})  # fmt: skip
    path = store.write(written, tmp_path / "deep" / "er", "abc")
    assert path.name == "abc.parquet"
    assert store.exists(tmp_path / "deep" / "er", "abc")
    assert not store.exists(tmp_path, "abc")
    assert_equal(store.read(path), written)
    assert [entry.name for entry in path.parent.iterdir()] == ["abc.parquet"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "foreign", "altered", "missing"])
def test_a_damaged_file_is_named_and_the_way_out_said(tmp_path, damage):
    path = store.write(example(), tmp_path, "abc")
    whole = path.read_bytes()
    middle = len(whole) // 4
    contents = {
        "truncated": whole[:-200],
        "empty": b"",
        "garbage": b"no parquet at all" * 100,
        "altered": whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 60]) + whole[middle + 60 :],
    }
    if damage == "foreign":
        pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[damage])
    with pytest.raises(store.DamagedFile, match=r"abc\.parquet.*delete it and run the same command again"):
        store.read(path)
    assert store.exists(tmp_path, "abc") == (damage == "altered")


def test_no_results_are_one_clear_error(tmp_path):
    with pytest.raises(store.NoResults, match="no such folder"):
        store.load(tmp_path / "none")
    (tmp_path / ".abc.1.2.unfinished").write_bytes(b"half")
    with pytest.raises(store.NoResults, match="no finished group"):
        store.load(tmp_path)


def test_load_is_sorted_and_passes_over_unfinished_files(tmp_path):
    for digest, problem in (("b", "second"), ("a", "first")):
        store.write(example(problem=problem), tmp_path, digest)
    (tmp_path / ".c.1.2.unfinished").write_bytes(b"half")
    assert [loaded.description["problem"] for loaded in store.load(tmp_path)] == ["first", "second"]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(store.CannotWrite, match=r"abc\.parquet.*No space left"):
        store.write(example(), tmp_path, "abc")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(store.CannotWrite, match="cannot be written"):
        store.write(example(), tmp_path / "file", "abc")


def test_a_killed_writer_leaves_whole_files_only(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from synthetic import *; from results import store\n"
        "value, bound = decays(2000)\n"
        "made = group(value, bound)\n"
        "print('ready', flush=True)\n"
        "for _ in range(10**6): store.write(made, sys.argv[1], 'abc')"
    )
    here = Path(__file__).parent
    arguments = [sys.executable, "-c", code, str(tmp_path), str(here), str(here.parents[1])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while not (tmp_path / "abc.parquet").exists():
            time.sleep(0.01)
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
    assert len(store.load(tmp_path)[0].runs) == 2000


def test_blocks_of_seeds_join_to_the_single_group():
    value, bound = decays(9, (0.5, 1.0))
    single = group(value, bound, settings=(0.5, 1.0))
    blocks = [
        group(value[2 * a : 2 * b], bound[2 * a : 2 * b], settings=(0.5, 1.0), seeds=np.arange(a, b))
        for a, b in ((5, 9), (0, 5))
    ]
    (joined,) = store.merge(blocks)
    runs = joined.runs.assign(chunk=18)
    assert_equal(replace(joined, runs=runs), single)
    assert joined.description["seeds"] == [0, 8]
    assert_equal(store.merge([single])[0], single)


def test_overlapping_blocks_count_a_lane_once():
    value, bound = decays(9)
    blocks = [group(value[a:b], bound[a:b], seeds=np.arange(a, b)) for a, b in ((0, 6), (3, 9))]
    (joined,) = store.merge(blocks)
    assert list(joined.runs["seed"]) == list(range(9))
    np.testing.assert_array_equal(joined.metrics["gap"], value)


def test_what_differs_in_more_than_seeds_stays_apart():
    value, bound = decays(4)
    parts = [
        group(value, bound),
        group(value, bound, control="why"),
        group(value, bound, problem="other"),
        group(value, bound, theorem(name="another")),
    ]
    assert [part.role for part in store.merge(parts)] == ["claim", "control", "claim", "claim"]


def test_the_tables_are_tidy():
    value, bound = decays(3, (0.5, 1.0))
    groups = [
        group(value, bound, settings=(0.5, 1.0), more_metrics={"other": 2 * value}),
        group(value[:2], bound[:2], problem="second", admitted=False),
    ]
    groups[0] = replace(groups[0], calls_per_step=np.full(6, 2.5))
    runs, traces = store.runs_frame(groups), store.traces_frame(groups)
    assert list(runs.columns) == RUNS
    assert list(traces.columns) == TRACES
    assert list(runs["lane"]) == list(range(8))
    assert len(traces) == (6 * 2 + 2) * len(CHECKPOINTS)
    about = traces[(traces["lane"] == 4) & (traces["metric"] == "gap")]
    np.testing.assert_array_equal(about["value"], value[4])
    np.testing.assert_array_equal(about["bound"], bound[4])
    np.testing.assert_array_equal(about["oracle_calls"], 2.5 * CHECKPOINTS)
    other = traces[traces["metric"] == "other"]
    assert other["theorem"].isna().all()
    assert other["bound"].isna().all()
    assert other["floor"].isna().all()
    assert not traces.loc[traces["lane"] >= 6, "admitted"].any()
    joined = store.frame(groups)
    assert set(joined.columns) == set(RUNS) | set(TRACES)
    assert set(joined.loc[joined["lane"] == 7, "problem"]) == {"second"}
    assert set(joined.loc[joined["lane"] == 3, "hp_eta"]) == {1.0}


def test_two_million_rows_take_seconds():
    value = np.ones((2_000_000 // len(CHECKPOINTS), len(CHECKPOINTS)))
    large = group(value, value)
    start = time.perf_counter()
    assert len(store.traces_frame([large])) > 1.9e6
    assert time.perf_counter() - start < 5
