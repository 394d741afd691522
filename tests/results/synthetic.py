"""Groups made of arrays, for tests of everything downstream of a run."""

from dataclasses import replace

import numpy as np
import pandas as pd

from results.schema import DIVERGED, OK, Group, TheoremRecord

LONG = np.unique(np.concatenate([[0], np.geomspace(1, 10**5, 150).round()]).astype(int))
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


def made(values, problem, algorithm="lora_gradient_descent", *, steps=LONG, metric="gradient_norm_sq", name="law",
         bound=np.nan, hyper=None, words=None, **changes):  # fmt: skip
    """Return a group whose lanes (seeds x settings) have these curves; a list in `hyper` is one number a setting.

    `words` are those of the theorem.
    """
    hyper = {key: one if isinstance(one, list) else [one] for key, one in (hyper or {}).items()}
    settings = max((len(one) for one in hyper.values()), default=1)
    static = {key: one[0] for key, one in hyper.items() if isinstance(one[0], str)}
    written = [
        {key: one[index % len(one)] for key, one in hyper.items() if key not in static} for index in range(settings)
    ]
    values = np.atleast_2d(values)
    record = theorem(name=name, metric=metric, **(words or {}))
    result = group(values, bound, record, settings=tuple(range(settings)), checkpoints=steps, algorithm=algorithm,
                   problem=problem, description={"static": static, "settings": written}, **changes)  # fmt: skip
    result.runs["steps"] = steps[-1]
    for key, one in hyper.items():
        result.runs[f"hp_{key}"] = [one[index % len(one)] for index in result.runs["setting"]]
    return result


def beside(made, record, bound, metrics=None):
    """Return the group with another theorem's bound beside its own, and more metrics."""
    shape = next(iter(made.metrics.values())).shape
    return replace(made, theorems=(*made.theorems, record), metrics=made.metrics | (metrics or {}),
                   bounds=made.bounds | {record.name: np.broadcast_to(np.asarray(bound, float), shape).copy()},
                   admitted=made.admitted | {record.name: np.ones(shape[0], bool)},
                   floors=made.floors | {record.name: np.full(shape[0], 1e-14)})  # fmt: skip


def decays(seeds=10, settings=(0.5,), factor=0.97, noise=0.05, key=0):
    """Return curves factor_s^t under bounds 0.98^t, for `seeds` x `settings`."""
    rng = np.random.default_rng(key)
    factors = factor ** (1 + noise * rng.random((seeds * len(settings), 1)))
    return factors**CHECKPOINTS, np.broadcast_to(0.98**CHECKPOINTS, (seeds * len(settings), len(CHECKPOINTS)))


SEEDS, STEPS, FRACTIONS = 6, (0, 100, 200), (0.0, 0.1, 0.5, 0.9, 1.0)


def deletion(distance, *, fractions=FRACTIONS, T=100, hyper=None, metrics=None, records=(), proven="", **changes):
    """Return a group with settings K = fraction T whose last distance is `distance(fraction)`, times 1 + seed/100."""
    fraction = np.tile(fractions, SEEDS)
    seed = np.repeat(np.arange(SEEDS), len(fractions))
    last = np.vectorize(distance, otypes=[float])(fraction) * (1 + seed / 100)
    value = np.stack([last + 1, last + 1, last], axis=1)
    more = {name: np.repeat(np.vectorize(f, otypes=[float])(fraction)[:, None], 3, axis=1)
            for name, f in (metrics or {}).items()}  # fmt: skip
    record = theorem(**({"name": "sensitivity_theorem", "metric": "sensitivity"} | dict(records)))
    made = group(
        value, 1e3, record, settings=fractions, checkpoints=STEPS, seeds=np.arange(SEEDS), more_metrics=more,
        description={"settings": [{"K": f * T} for f in fractions], "proven": proven, "hyper": hyper}, **changes,
    )  # fmt: skip
    made.runs["hp_K"], made.runs["hp_T"], made.runs["steps"] = fraction * T, T, 200
    for name, number in ({"noise_scale": 0.0, "epsilon": 1.0} | (hyper or {})).items():
        made.runs[f"hp_{name}"] = number
    made.runs["certificate"] = "certified: deletion of m records, n -> n - m"
    return made


def both(rewound, descended, problem, name, proven=""):
    """Return a group that carries both runs; distances are functions of K/T, 2 before unlearning."""
    return deletion(
        lambda f: 2 * rewound(f), algorithm="rewind_or_descend", problem=problem, proven=proven, hyper={"eta": 0.1},
        metrics={"descended_distance": lambda f: 2 * descended(f), "original_distance": lambda f: 2.0},
        records={"name": name, "metric": "rewound_distance"},
    )  # fmt: skip


def three():
    """Return the three pictures: rewinding approaches, neither before the basin is chosen, both."""
    return [
        both(lambda f: 1 - f, lambda f: 1 + 6 * f, "tanh", "rewinding_approaches", "SMOOTH|DELETABLE"),
        both(lambda f: float(f < 1), lambda f: 1.0, "wells", "basin_chosen_before_rewinding"),
        both(lambda f: 0.01**f, lambda f: 0.01**f, "ridge", "rewinding_is_as_close_in_strongly_convex"),
    ]
