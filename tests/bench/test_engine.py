"""The engine writes down what a plain loop does, and a lane does not know which other lanes run."""

from dataclasses import replace

import numpy as np
import pytest
from command_line import python
from plain_loop import group_of, task_of, trajectory

from algorithms.first_order import gradient_descent
from algorithms.metric import GRADIENT_NORM_SQ, SUBOPTIMALITY, best, initial, running_sum
from bench import plan, sweep
from bench.task import Machine

STEPS = 12
PAIRS = {
    "vector": ("quadratic[d=5,kappa=10,instances=each]", "gradient_descent[eta=[0.5/L,1/L,3/L]]"),
    "minibatch": ("logistic_regression[n=30,d=4,l2=0.1]", "stochastic_gradient_descent[eta=[0.1/L_max,0.5/L_max]]"),
    "matrix": ("matrix_factorization[m=4,n=3,rank=2,rank_star=1]", "lora_gradient_descent[c=[0.5,1.0]]"),
    "rollout": ("garnet[S=4,A=2]", "truncated_policy_gradient[horizon=[3,6],max_horizon=6,batch_size=2]"),
}
LANES = {pair: [(3, 1)] for pair in PAIRS} | {"vector": [(0, 0), (3, 1), (1, 2)]}
THEOREMS = {
    "vector": ("gradient_descent_strongly_convex", "gradient_descent_nonconvex"),
    "rollout": ("gpomdp_biased_ascent",),
}
RELATIVE = 1e-12


def lanes_task(pair: str, seeds: int = 4):
    return task_of(*PAIRS[pair], seeds=seeds, steps=STEPS, checkpoints=STEPS, theorems=THEOREMS.get(pair, ()))


def curves(group):
    """Return every recorded array by name."""
    return {f"{part}:{name}": array for part in ("metrics", "bounds", "floors", "admitted")
            for name, array in getattr(group, part).items()}  # fmt: skip


def assert_close(ours, theirs, lanes=slice(None)):
    """Assert equality to 1e-12 of the largest magnitude on each lane's curve (differences cancel near a minimum)."""
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        expected = np.asarray(theirs[name][lanes], float)
        scale = np.nanmax(np.abs(expected), axis=-1, keepdims=True, initial=0) if expected.ndim == 2 else 0
        np.testing.assert_array_equal(np.isnan(array), np.isnan(expected), err_msg=name)
        difference = np.abs(array - expected)
        allowed = RELATIVE * np.maximum(np.abs(expected), scale if name.startswith("metrics") else 0)
        assert (np.isnan(difference) | (difference <= allowed)).all(), (name, np.nanmax(difference))


@pytest.fixture(scope="module")
def whole():
    """Each pair's group with all lanes at once."""
    groups = {}

    def group(pair):
        if pair not in groups:
            groups[pair] = group_of(lanes_task(pair))
        return groups[pair]

    return group


@pytest.mark.parametrize("pair", PAIRS)
def test_a_lane_is_the_plain_loop(pair, whole):
    task, group = lanes_task(pair), whole(pair)
    steps = list(group.checkpoints)
    for seed, setting in LANES[pair]:
        row = seed * len(task.settings) + setting
        lane = trajectory(task, seed, setting)
        for name, curve in lane.metrics.items():
            np.testing.assert_allclose(
                group.metrics[name][row], curve[steps], rtol=RELATIVE, atol=RELATIVE * np.abs(curve).max(), err_msg=name
            )
        for name, curve in lane.bounds.items():
            expected = np.where(np.isfinite(curve), curve, np.nan)[steps]
            np.testing.assert_allclose(group.bounds[name][row], expected, rtol=1e-10, err_msg=name)
        assert {name: bool(group.admitted[name][row]) for name in lane.admitted} == lane.admitted
        for name, floor in lane.floors.items():
            np.testing.assert_allclose(group.floors[name][row], floor, rtol=RELATIVE, err_msg=name)


def test_folds_see_every_step_and_the_bound_reads_them():
    square = GRADIENT_NORM_SQ
    theorem = replace(
        gradient_descent.nonconvex,
        name="reads_all_folds",
        metric=running_sum(square),
        given=(initial(square), best(square), running_sum(square), SUBOPTIMALITY),
        bound=lambda t, c, hp, first, least, total, gap: first + 10 * least + 100 * total + 1000 * gap,
    )
    recorded = (square, best(square), running_sum(square), initial(square), SUBOPTIMALITY)
    algorithm = replace(gradient_descent.algorithm, metrics=recorded, theorems=(theorem,))
    kept = {"problem": "quadratic[d=4,kappa=5]", "algorithm": algorithm, "grid": {"eta": ["1/L", "1.9/L", "2.5/L"]}}
    (every,) = sweep(**kept, seeds=2, steps=20, checkpoints=1000).groups
    (few,) = sweep(**kept, seeds=2, steps=20, checkpoints=3).groups
    assert list(every.checkpoints) == list(range(21))
    for group in (every, few):
        at = group.checkpoints
        curve = every.metrics["gradient_norm_sq"]
        folded = {
            "initial": np.repeat(curve[:, :1], len(at), axis=1),
            "best": np.minimum.accumulate(curve, axis=1)[:, at],
            "sum": np.cumsum(curve, axis=1)[:, at],
        }
        for name, expected in folded.items():
            np.testing.assert_allclose(group.metrics[f"{name}_gradient_norm_sq"], expected, rtol=RELATIVE)
        total = folded["initial"] + 10 * folded["best"] + 100 * folded["sum"]
        gap = every.metrics["suboptimality"][:, at]
        np.testing.assert_allclose(group.bounds["reads_all_folds"], total + 1000 * gap, rtol=RELATIVE)


def test_a_bound_that_says_nothing_is_nan_and_a_diverged_lane_stays():
    (group,) = sweep("quadratic[d=4]", "gradient_descent[eta=[1,1e300]]", seeds=1, steps=8).groups
    small, large = np.argsort(group.runs["hp_eta"])
    bound = group.bounds["gradient_descent_nonconvex"][small]
    assert np.isnan(bound[0])  # 2 (f(x_0) - f*) / 0
    assert np.isfinite(bound[1:]).all()
    assert list(group.runs["status"][[small, large]]) == ["ok", "diverged"]
    assert not np.isfinite(group.metrics["suboptimality"][large, -1])
    assert list(group.admitted["gradient_descent_convex"][[small, large]]) == [True, False]


def test_zero_steps_measure_the_start():
    (group,) = sweep("quadratic[d=4]", "gradient_descent", seeds=2, steps=0).groups
    assert list(group.checkpoints) == [0]
    assert group.metrics["suboptimality"].shape == (2, 1)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_lane_alone_and_in_other_company_is_the_same(pair, whole):
    task, group = lanes_task(pair), whole(pair)
    settings = len(task.settings)
    alone = group_of(replace(task, seeds=range(2, 3), settings=task.settings[1:2]))
    assert_close(curves(alone), curves(group), slice(2 * settings + 1, 2 * settings + 2))
    assert alone.runs["hp_" + next(iter(task.settings[0]))].iloc[0] == group.runs[
        "hp_" + next(iter(task.settings[0]))
    ].iloc[2 * settings + 1]  # fmt: skip


@pytest.mark.parametrize("pair", ["vector", "minibatch", "matrix"])
def test_other_seeds_change_nothing(pair, whole):
    task = lanes_task(pair)
    others, settings = group_of(replace(task, seeds=range(1, 4))), len(task.settings)
    assert_close(curves(others), curves(whole(pair)), slice(settings, 4 * settings))


@pytest.mark.parametrize(("pair", "lanes"), [("vector", 1), ("vector", 5), ("minibatch", 2)])
def test_chunks_change_nothing(pair, lanes, whole, monkeypatch):
    monkeypatch.setattr(plan, "LANES_ON_CPU", lanes)
    group = group_of(lanes_task(pair))
    assert group.runs["chunk"].iloc[0] <= lanes
    assert_close(curves(group), curves(whole(pair)))


def test_a_memory_limit_halves_the_chunk_and_changes_nothing(whole):
    group = group_of(lanes_task("matrix"), Machine(max_bytes=1))
    assert group.runs["chunk"].iloc[0] == 1
    assert_close(curves(group), curves(whole("matrix")))


FOUR_DEVICES = f"""
import sys
import jax
import numpy as np
jax.config.update("jax_enable_x64", True)
from bench.grid import Request, cross
from bench.runner import run
from bench.task import Machine
assert len(jax.local_devices()) == 4
theorems = {THEOREMS!r}
for name, (problem, algorithm) in {PAIRS!r}.items():
    chosen = theorems.get(name, ())
    request = Request((problem,), (algorithm,), chosen, seeds=int(sys.argv[1]), steps={STEPS}, checkpoints={STEPS})
    _, (group,) = run(cross(request, 0, "float64").tasks, Machine(), 0, None)
    parts = ("metrics", "bounds", "floors", "admitted")
    np.savez(f"{{name}}.npz", **{{f"{{p}}:{{n}}": a for p in parts for n, a in getattr(group, p).items()}})
"""


@pytest.mark.parametrize("seeds", [4, pytest.param(3, marks=pytest.mark.slow)])
def test_four_devices_change_nothing(seeds, whole, tmp_path):
    python(tmp_path, FOUR_DEVICES, str(seeds), XLA_FLAGS="--xla_force_host_platform_device_count=4")
    for pair in PAIRS:
        lanes = seeds * len(lanes_task(pair).settings)
        with np.load(tmp_path / f"{pair}.npz") as saved:
            assert_close(dict(saved), curves(whole(pair)), slice(0, lanes))
