"""Groups made of arrays, for tests of everything downstream of a run."""

import numpy as np
import pandas as pd

from results.schema import DIVERGED, OK, Group, TheoremRecord

CHECKPOINTS = np.unique(np.concatenate([[0], np.geomspace(1, 1000, 25).round()]).astype(int))


def theorem(**changes):
    """Return a theorem about `gap` that holds in every run, with `changes`."""
    words = {
        "name": "gap_theorem",
        "statement": "gap_t <= rho^t gap_0",
        "source": "Author (2020), Theorem 1",
        "metric": "gap",
        "holds": "every run",
        "kind": "upper bound",
        "condition": "0 < eta <= 1/L",
    }
    return TheoremRecord(**(words | changes))


def lanes(seeds, settings, metrics, algorithm, problem, role):
    """Return the `runs` rows of `seeds` x `settings`, seeds outermost."""
    finite = np.all([np.isfinite(curve).all(1) for curve in metrics.values()], axis=0)
    count = len(seeds) * len(settings)
    return pd.DataFrame(
        {
            "suite": "synthetic",
            "role": role,
            "algorithm": algorithm,
            "problem": problem,
            "instance": np.repeat(seeds, len(settings)),
            "seed": np.repeat(seeds, len(settings)),
            "setting": np.tile(np.arange(len(settings)), len(seeds)),
            "lane": np.arange(count),
            "hp_eta": np.tile(np.asarray(settings, float), len(seeds)),
            "status": np.where(finite, OK, DIVERGED),
            "steps": 1000,
            "dtype": "float64",
            "device": "cpu",
            "chunk": count,
            "compile_s": 0.1,
            "run_s": 0.2,
            "group": "synthetic",
        }
    )


def group(
    value,
    bound,
    record=None,
    *,
    seeds=None,
    settings=(0.5,),
    admitted=True,
    floor=1e-14,
    control="",
    algorithm="gradient_descent",
    problem="quadratic[d=20]",
    checkpoints=CHECKPOINTS,
    more_metrics=None,
    description=None,
):
    """Return the group whose lanes (seeds x settings) have these curves; `bound`, `admitted`, `floor` broadcast."""
    record = record or theorem()
    value = np.asarray(value, float)
    seeds = np.arange(len(value) // len(settings)) if seeds is None else np.asarray(seeds)
    metrics = {record.metric: value} | (more_metrics or {})
    role = "control" if control else "claim"
    words = {
        "suite": "synthetic",
        "algorithm": algorithm,
        "problem": problem,
        "settings": [{"eta": f"{eta}/L"} for eta in settings],
        "seeds": [int(seeds[0]), int(seeds[-1])],
        "steps": 1000,
        "checkpoints": [int(step) for step in checkpoints],
        "dtype": "float64",
        "root": 0,
        "code": {"jax": "0.10.2"},
    }
    if control:
        words["control_of"] = record.name
    return Group(
        runs=lanes(seeds, settings, metrics, algorithm, problem, role),
        checkpoints=np.asarray(checkpoints),
        metrics=metrics,
        bounds={record.name: np.broadcast_to(np.asarray(bound, float), value.shape).copy()},
        admitted={record.name: np.broadcast_to(admitted, len(value)).copy()},
        floors={record.name: np.broadcast_to(np.asarray(floor, float), len(value)).copy()},
        theorems=(record,),
        calls_per_step=np.ones(len(value)),
        description=words | (description or {}),
        control=control,
        system={"cpu": "test"},
    )


def decays(seeds=10, settings=(0.5,), factor=0.97, noise=0.05, key=0):
    """Return curves factor_s^t under bounds 0.98^t, for `seeds` x `settings`."""
    rng = np.random.default_rng(key)
    factors = factor ** (1 + noise * rng.random((seeds * len(settings), 1)))
    return factors**CHECKPOINTS, np.broadcast_to(0.98**CHECKPOINTS, (seeds * len(settings), len(CHECKPOINTS)))
