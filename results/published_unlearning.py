"""Published results of unlearning beside ours: facts on data that cannot be had here, never mixed with measurements.

Sources: Mu & Klabjan (2024), arXiv:2409.09778 (eICU, 94,449 records of which 1.1 % are forgotten; Lacuna-100, 32,000
of which 2.0 %), with HF and CNS as measured there; Chien et al. (2024), arXiv:2403.17105 and 2401.10371, means of 100
runs.
"""

from typing import Any

import numpy as np
import pandas as pd

from results.schema import Group
from results.unlearning import ACCURACY, QUALITIES, ends, front_table

PUBLISHED, OURS = "published", "ours"
NAN = float("nan")
FRACTION = 0.74  # of the published figures
MODELS = ["origin", "data", "method", "fraction", "score", "retained", "forgotten", "change", "unseen", "membership"]
EICU, LACUNA = "eICU, MLP", "Lacuna-100, ResNet-18"
FACTS: tuple[tuple[Any, ...], ...] = (  # change: of the forgotten records' score against the model before
    (PUBLISHED, EICU, "rewind_to_delete", FRACTION, "AUC", 0.7333, 0.7439, -0.0012, 0.7326, 0.481),
    (PUBLISHED, EICU, "Hessian-free (HF)", NAN, "AUC", 0.7476, 0.7587, -0.0027, 0.7465, 0.524),
    (PUBLISHED, EICU, "Newton step (CNS)", NAN, "AUC", 0.7622, 0.7848, -0.0012, 0.7601, 0.543),
    (PUBLISHED, LACUNA, "rewind_to_delete", FRACTION, "AUC", 0.9712, 0.8998, -0.0995, 0.9534, NAN),
    (PUBLISHED, LACUNA, "Hessian-free (HF)", NAN, "AUC", 0.9757, 0.9555, -0.0191, 0.9652, NAN),
    (PUBLISHED, LACUNA, "fine_tuning", NAN, "AUC", 0.9997, 0.9975, -0.0018, 0.9854, NAN),
)
EPSILONS = (0.05, 0.1, 0.5, 1.0, 2.0, 5.0)
ACCURACIES: dict[tuple[str, str, str], tuple[float, ...]] = {  # data, method, effort: accuracy at each of EPSILONS
    ("MNIST 3 v 8", "descent_to_delete", "1 step"): (0.513, 0.516, 0.551, 0.597, 0.701, 0.825),
    ("MNIST 3 v 8", "descent_to_delete", "5 steps"): (0.536, 0.573, 0.788, 0.860, 0.902, 0.910),
    ("MNIST 3 v 8", "Langevin", "1 step"): (0.679, 0.812, 0.910, 0.911, 0.910, 0.910),
    ("MNIST 3 v 8", "PNSGD, b = 128", "1 epoch"): (0.817, 0.873, 0.894, 0.894, 0.895, 0.895),
    ("MNIST 3 v 8", "PNSGD, b = n", "1 epoch"): (0.556, 0.594, 0.799, 0.870, 0.894, 0.898),
    ("CIFAR-10 3 v 8", "descent_to_delete", "1 step"): (0.507, 0.525, 0.570, 0.603, 0.709, 0.896),
    ("CIFAR-10 3 v 8", "descent_to_delete", "5 steps"): (0.532, 0.576, 0.811, 0.932, 0.973, 0.983),
    ("CIFAR-10 3 v 8", "Langevin", "1 step"): (0.752, 0.883, 0.981, 0.984, 0.984, 0.984),
    ("CIFAR-10 3 v 8", "PNSGD, b = 128", "1 epoch"): (0.785, 0.898, 0.980, 0.982, 0.983, 0.983),
    ("CIFAR-10 3 v 8", "PNSGD, b = n", "1 epoch"): (0.563, 0.642, 0.872, 0.954, 0.977, 0.983),
}


def models_beside_ours(groups: list[Group]) -> pd.DataFrame:
    """Return unlearned models without noise, with the columns `MODELS`: the published ones, then ours.

    Ours are means over runs without noise on problems with unseen records, at the K/T nearest to the published; the
    reference, retraining, is among them. Score is accuracy, not AUC, and the data are others: orderings compare, not
    numbers.
    """
    lanes = ends(groups)
    rows = [dict(zip(MODELS, fact, strict=True)) for fact in FACTS]
    if lanes.empty:
        return pd.DataFrame(rows, columns=pd.Index(MODELS))
    quiet = lanes.loc[lanes[ACCURACY].notna() & (lanes["noise_scale"].fillna(0) == 0) | lanes["reference"]]
    before: Any = quiet.loc[quiet["fraction"] == 0].groupby("problem")[QUALITIES[0]].mean()
    by_method: Any = quiet.loc[quiet[ACCURACY].notna()].groupby(["problem", "algorithm"])
    for (problem, algorithm), there in by_method:
        away = (there["fraction"] - FRACTION).abs()
        near = there.loc[away.isna() | (away == away.min())]
        row = {"origin": OURS, "data": problem, "method": algorithm, "fraction": near["fraction"].iloc[0]}
        row |= {
            "score": "accuracy",
            "retained": near["retained_accuracy"].mean(),
            "forgotten": near[QUALITIES[0]].mean(),
        }
        row |= {"change": row["forgotten"] - before.get(problem, np.nan)}
        rows.append(row | {"unseen": near[ACCURACY].mean(), "membership": near["membership_auc"].mean()})
    return pd.DataFrame(rows, columns=pd.Index(MODELS))


def accuracies_beside_ours(groups: list[Group]) -> pd.DataFrame:
    """Return accuracy on unseen records of what is published: origin, data, method, effort, then one column an epsilon.

    Published, then ours at the smallest K/T, the least effort, for the epsilons that both have.
    """
    rows = [
        {
            "origin": PUBLISHED,
            "data": data,
            "method": method,
            "effort": effort,
            **dict(zip(EPSILONS, values, strict=True)),
        }
        for (data, method, effort), values in ACCURACIES.items()
    ]
    table = front_table(groups)
    fractions = [name for name in table.columns if isinstance(name, float) and name > 0]
    by_method: Any = table.groupby(["problem", "algorithm"]) if fractions else ()
    for (problem, algorithm), there in by_method:
        known = [fraction for fraction in fractions if there[fraction].notna().any()]
        shared = {epsilon: there.loc[there["epsilon"] == epsilon, known[0]].mean() for epsilon in EPSILONS if known}
        if np.isfinite(list(shared.values())).any():
            effort = f"K/T = {known[0]:g}"
            rows.append({"origin": OURS, "data": problem, "method": algorithm, "effort": effort, **shared})
    return pd.DataFrame(rows)
