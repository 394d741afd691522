"""What a group's labels tell: the family of its problem, the problem's parameters, the settings of its lanes.

A label holds only the parameters that differ from the family's defaults, which are repeated here.
"""

import numpy as np

from results.schema import CLAIM, Group
from results.store import merge

LOW_RANK = {
    "escape_family": {"p": "2.0"},
    "worst_horizon": {"T": "1000.0"},
    "matrix_factorization": {"kappa": "10.0", "init": "lora", "imbalance": "1.0", "off_range": "0.0"},
    "symmetric_factorization": {"kappa": "10.0", "init": "nystrom", "off_range": "0.0"},
}
DECISION = {
    "garnet": {"S": "10", "A": "3", "gamma": "0.9", "l2": "0.0"},
    "chain": {"S": "6", "gamma": "0.9", "l2": "0.0"},
    "gridworld": {"n": "4", "gamma": "0.9", "l2": "0.0"},
    "bandit": {"A": "5"},
    "delay_saddle": {"gamma": "0.9", "c": "1.0", "kappa": "0.05", "start": "0.0"},
    "multi_saddle": {"n": "3", "gamma": "0.9", "c": "1.0", "start": "0.0"},
    "bilinear_logit": {"start": "0.0"},
    "markov_reward_process": {"S": "10", "d": "3", "gamma": "0.9", "features": "random"},
    "kl_bandit": {"S": "4", "A": "30", "W": "3", "beta": "0.2", "R": "1.0", "sd": "0.5"},
}
DEFAULTS = LOW_RANK | DECISION


def claims_of(groups: list[Group]) -> list[Group]:
    """Return the claims among the groups, blocks of seeds merged."""
    return [group for group in merge(groups) if group.role == CLAIM]


def read_label(label: str) -> tuple[str, dict[str, str]]:
    """Return family and parameters of a label such as `escape_family[p=0.5]`."""
    family, _, body = label.partition("[")
    pairs = (piece.partition("=") for piece in body.removesuffix("]").split(",") if piece)
    return family, {name: value for name, _, value in pairs}


def without(label: str, name: str) -> str:
    """Return a problem's label without one parameter."""
    family, parameters = read_label(label)
    body = ",".join(f"{key}={value}" for key, value in parameters.items() if key != name)
    return f"{family}[{body}]" if body else family


def algorithm_of(group: Group) -> str:
    """Return the name of the group's method."""
    return str(group.runs["algorithm"].iloc[0])


def problem_of(group: Group) -> str:
    """Return the label of the group's problem."""
    return str(group.runs["problem"].iloc[0])


def family_of(group: Group) -> str:
    """Return the family of the group's problem."""
    return read_label(problem_of(group))[0]


def told(group: Group, name: str) -> str:
    """Return a parameter of the group's problem: from its label, else the family's default, else nothing."""
    family, parameters = read_label(problem_of(group))
    return parameters.get(name, DEFAULTS.get(family, {}).get(name, ""))


def parameter(group: Group, name: str) -> float:
    """Return a number of the group's problem, NaN where there is none."""
    return float(told(group, name) or np.nan)


def static(group: Group, name: str) -> str:
    """Return a hyper-parameter that is the same in all lanes of the group, empty where there is none of that name."""
    return str(group.runs[f"hp_{name}"].iloc[0]) if f"hp_{name}" in group.runs else ""


def numbers(group: Group, name: str) -> np.ndarray:
    """Return a hyper-parameter of every lane, NaN where there is none of that name."""
    column = f"hp_{name}"
    return group.runs[column].to_numpy(float) if column in group.runs else np.full(len(group.runs), np.nan)


def lanes_by_setting(group: Group) -> dict[int, np.ndarray]:
    """Return the lanes of each setting."""
    setting = group.runs["setting"].to_numpy()
    return {int(index): np.flatnonzero(setting == index) for index in np.unique(setting)}


def law_of(group: Group, theorem: str) -> np.ndarray:
    """Return a theorem's bound in every lane, (lane, checkpoint), NaN where it claims nothing or is not recorded."""
    shape = len(group.runs), len(group.checkpoints)
    if theorem not in group.bounds:
        return np.full(shape, np.nan)
    admitted = np.broadcast_to(np.asarray(group.admitted[theorem], bool), len(group.runs))
    return np.where(admitted[:, None], np.asarray(group.bounds[theorem], float), np.nan)


def widest(groups: list[Group]) -> list[Group]:
    """Return one group a problem, that with the most settings."""
    best: dict[str, Group] = {}
    for group in sorted(groups, key=lambda group: group.runs["setting"].nunique()):
        best[problem_of(group)] = group
    return [best[label] for label in sorted(best)]
