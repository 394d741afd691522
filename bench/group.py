"""A finished table as a group of results."""

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from algorithms.theorem import Theorem
from bench.compiler import Device
from bench.grid import Task
from bench.table import Table
from problems.constants import STATED_WITH
from problems.oracles import Oracle
from results.schema import CLAIM, CONTROL, DIVERGED, OK, Group, TheoremRecord

KINDS = ("metrics", "bounds", "admitted", "floors", "hp", "calls", "certified")


def record_of(theorem: Theorem) -> TheoremRecord:
    """Return what verdicts need to know of a theorem."""
    return TheoremRecord(
        name=theorem.name,
        statement=theorem.statement,
        source=str(theorem.source),
        metric=theorem.metric.name,
        holds=theorem.holds.value,
        kind=theorem.kind.value,
        condition=theorem.condition,
        tolerance=theorem.tolerance,
        slack=theorem.slack,
        probability=theorem.probability,
        against=theorem.against.name if theorem.against else "",
    )


def proven(task: Task) -> str:
    """Return what is proven about the problem, `SMOOTH | CONVEX | ...`."""
    return " | ".join(flag.name or "" for flag in task.problem.family.regularity)


def certificates(task: Task, certified: np.ndarray) -> np.ndarray:
    """Return what each lane is certified against, or why it is not; empty where the method deletes nothing."""
    if Oracle.RETAIN not in task.algorithm.needs:
        return np.full(len(certified), "", dtype=object)
    certifying = [theorem for theorem in task.algorithm.theorems if theorem.certifies]
    proven = [theorem for theorem in certifying if theorem.assumes in task.problem.family.regularity]
    if not certifying:
        reason = "nothing is proven about this method"
    elif not proven:
        absent = min((t.assumes & ~task.problem.family.regularity for t in certifying), key=len)
        constants = dict.fromkeys(name for flag in absent for name in STATED_WITH.get(flag, ()))
        reason = f"{absent.name} is not proven for this problem ({', '.join(constants)})"
    else:
        reason = "outside " + " and ".join(dict.fromkeys(theorem.condition for theorem in proven))
    named = " and ".join(dict.fromkeys(theorem.certifies for theorem in proven))
    return np.where(certified, f"certified: {named}", f"uncertified: {reason}").astype(object)


@cache
def system_facts(devices: tuple[Device, ...]) -> dict[str, Any]:
    """Return what is needed to judge timings and to rerun: versions, platform, devices."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "pandas")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [device.device_kind for device in devices],
        **{name: version(name) for name in packages},
    }


def as_group(task: Task, table: Table, devices: tuple[Device, ...], facts: dict[str, Any]) -> Group:
    """Return the table as a group, lanes in the order seeds x settings; `facts` are further columns of `runs`."""
    kinds: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    for key, array in table.arrays.items():
        kind, _, name = key.partition(":")
        kinds[kind][name] = array.reshape(-1, *array.shape[2:])
    settings = len(task.settings)
    seeds = np.repeat(np.asarray(task.seeds), settings)
    finite = np.all([np.isfinite(array).all(axis=1) for array in kinds["metrics"].values()], axis=0)
    columns = {
        "role": CONTROL if task.control else CLAIM,
        "algorithm": task.algorithm.name,
        "problem": task.problem.label,
        "instance": [task.problem.instance_of(int(seed)) for seed in seeds],
        "seed": seeds,
        "setting": np.tile(np.arange(settings), len(task.seeds)),
        "lane": np.arange(len(seeds)),
        **{f"hp_{name}": array for name, array in kinds["hp"].items()},
        **{f"hp_{name}": value for name, value in task.static.items()},
        "certificate": certificates(task, kinds["certified"]["lane"]),
        "status": np.where(finite, OK, DIVERGED),
        "steps": task.steps,
        "dtype": task.dtype,
        "device": devices[0].device_kind,
        "group": task.digest(),
        **facts,
    }
    return Group(
        runs=pd.DataFrame(columns),
        checkpoints=np.asarray(task.checkpoints),
        metrics=kinds["metrics"],
        bounds=kinds["bounds"],
        admitted=kinds["admitted"],
        floors=kinds["floors"],
        theorems=tuple(record_of(theorem) for theorem in task.theorems),
        calls_per_step=kinds["calls"]["step"],
        description={"suite": facts["suite"], **task.description(), "proven": proven(task)},
        control=task.control.why if task.control else "",
        system=system_facts(devices),
    )
