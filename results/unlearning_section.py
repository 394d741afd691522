"""The report's section on unlearning: sheets of text, in the order in which they are read.

A sheet is left out where its data are not there, so that any subset of methods and metrics makes a section.
"""

from typing import Any

import numpy as np
import pandas as pd

from results.audit_table import audit_table
from results.published_unlearning import EPSILONS, accuracies_beside_ours, models_beside_ours
from results.schema import Group
from results.settings import evenly
from results.sheets import MOST_ROWS, Sheet, plural, plus_minus, under_headings
from results.style import short
from results.tables import lines_of, number
from results.unlearning import (
    DISTANCE,
    QUALITIES,
    certificate_counts,
    comparison,
    front_table,
    unlearning_groups,
)

MOST_FRACTIONS = 8
WORDS = {
    "forget_accuracy": "accuracy on the forgotten",
    "forget_loss": "loss on the forgotten",
    "unseen_accuracy": "accuracy on unseen",
    "membership_auc": "membership AUC",
}

CERTIFICATES = """A certificate is (epsilon, delta)-indistinguishability from retraining, for the adjacency named.
Those against deletion (n records become n − m) and against replacement (n stays) do not compare."""
COMPARISON = """Means over seeds ± half their 95 % interval, of the model as published, without noise where a method
ran without; after the stroke that of the model retrained without the deleted records. K/T = 0 is the model before
unlearning. The reference of a membership AUC is the retrained model's, not 0.5: users differ, so even a model that
never saw the forgotten records tells them from unseen ones. An AUC at the retrained model's value is no certificate,
as the distance beside it shows."""
FRONT = """Accuracy on unseen records of the published model, the mean over runs, against the share K/T of the
learning steps that unlearning takes. Less privacy (a larger epsilon) or more steps buy accuracy."""
AUDITS = """An audit tells published unlearned models from published retrained ones by a score. What it tells gives a
lower bound on epsilon (95 % confidence; threshold, direction and role chosen on one half of the trials, counted on
the other). It must stay below a certified epsilon and must exceed it in a control with too little noise. In brackets
the estimate of the same event without confidence. A bound far below says nothing about the certificate: only on
instances that attain the sensitivity can an audit come near."""
APPROACH = """Distance between the unlearned and the retrained model before noise, against the share K/T of the
learning steps that unlearning takes. Certified noise hides a proven bound on this distance, never the distance
itself."""


PUBLISHED_COSTS = """Certified unlearning of 100 records, one after the other, by published rules, recomputed by the
same rules, and by ours (Gaussian differential privacy; with all noise, that of learning counts too, full batch
alone). Facts of papers stand beside what this suite computes; neither is a measurement of the other's data."""
PUBLISHED_MODELS = """Unlearned models without noise: published, on data that cannot be had here, beside ours. Scores
(AUC there, accuracy here) and data differ: orderings compare, numbers do not. The reference of a membership AUC is
the retrained model's."""
PUBLISHED_ACCURACIES = """Accuracy on unseen records of certified models after the least unlearning, against epsilon:
published, on other data, beside ours where an epsilon is shared."""


def certificate_sheet(groups: list[Group]) -> Sheet:
    """Return who is certified against what: a row a method and certificate."""
    rows, by_certificate = [], certificate_counts(groups).groupby(["algorithm", "certified", "says"])
    for (algorithm, certified, says), there in list[Any](by_certificate):
        status = "certified" if certified else "uncertified"
        counts = f"{plural(int(there['settings'].sum()), 'setting')}, {plural(int(there['runs'].sum()), 'run')}"
        rows.append((algorithm, status, says, ", ".join(sorted(there["problem"])), counts))
    head = ("method", "status", "against what, or why not", "on", "settings and runs")
    return Sheet("Certificates", CERTIFICATES, head, tuple(rows))


def comparison_sheet(groups: list[Group]) -> Sheet:
    """Return distance and qualities of every method beside the retrained model's."""
    table = comparison(groups)
    recorded = [name for name in QUALITIES if name in table]
    rows = []
    for row in table.to_dict("records"):
        cells = ["0" if row["reference"] else plus_minus(row[DISTANCE], row[f"{DISTANCE}_half"])]
        for name in recorded:
            beside = "" if row["reference"] else f" / {number(row[f'{name}_retrained'])}"
            cells.append(plus_minus(row[name], row[f"{name}_half"]) + beside.replace(" / –", ""))
        where = row["algorithm"], short(row["setting"], 40), number(row["fraction"]), str(row["seeds"])
        rows.append((row["problem"], *where, *cells))
    words = ("method", "setting", "K/T", "seeds", "distance", *(WORDS[name] for name in recorded))
    return Sheet("What unlearning leaves behind", COMPARISON, words, under_headings(rows), folded=len(rows) > MOST_ROWS)


def front_sheet(groups: list[Group]) -> Sheet:
    """Return the accuracy on unseen records against K/T, a row an epsilon."""
    table = front_table(groups)
    fractions = evenly([name for name in table.columns if isinstance(name, float)], MOST_FRACTIONS)
    rows = []
    for row in table.sort_values(["problem", "algorithm", "epsilon"]).to_dict("records") if len(table) else ():
        epsilon = "without noise" if np.isinf(row["epsilon"]) else number(row["epsilon"])
        cells = (number(row[fraction]) for fraction in fractions)
        rows.append((row["problem"], row["algorithm"], epsilon, *cells, number(row["retrained"])))
    head = ("method", "epsilon", *(f"K/T = {number(fraction)}" for fraction in fractions), "retrained")
    return Sheet("Privacy, utility, complexity", FRONT, head, under_headings(rows), ("unlearning_front",))


def audit_sheet(groups: list[Group], table: pd.DataFrame) -> Sheet:
    """Return what audits reveal beside what is certified."""
    rows = []
    for row in lines_of(audit_table(groups, table)):
        bound = f"{number(row.lower_bound)} ({number(row.estimate)})"
        numbers = number(row.epsilon), number(row.delta), str(row.trials), bound, number(row.true_epsilon)
        where = row.theorem, row.problem, short(row.setting, 40), f"control: {row.why}" if row.why else row.role
        rows.append((*where, *numbers, number(row.p_value), row.verdict))
    head = ("audit", "problem", "setting", "role", "epsilon", "delta", "trials a side", "epsilon at least",
            "true epsilon", "p", "verdict")  # fmt: skip
    return Sheet("Audits against certificates", AUDITS, head, tuple(rows), ("unlearning_audit",))


def cost_sheet() -> Sheet:
    """Return the published costs of certified unlearning beside the recomputed ones and ours."""
    from results.sequential_unlearning import published_rewind, sequential_unlearning

    table = pd.concat([sequential_unlearning(), published_rewind()], ignore_index=True)
    numbers = ["published", "recomputed", "ours", "ours_all_noise"]
    rows = [
        (row["setting"], row["quantity"], *(number(row[name]) for name in numbers), row["rule"])
        for row in table.fillna({"rule": "analytic Gaussian"}).sort_values("setting", kind="stable").to_dict("records")
    ]
    head = ("what", "their number", "their rule", "our rule", "our rule, all noise", "which rule of theirs")
    marks = ("", "published", "ours", "ours", "ours", "")
    return Sheet("Published costs beside ours", PUBLISHED_COSTS, head, under_headings(rows), marks=marks, folded=True)


def model_sheet(groups: list[Group]) -> Sheet:
    """Return published unlearned models beside ours."""
    table = models_beside_ours(groups)
    values = ["retained", "forgotten", "change", "unseen", "membership"]
    rows = [
        (
            row["data"],
            row["method"],
            row["score"],
            number(row["fraction"]),
            *(number(row[name], 4) for name in values),
            row["origin"],
        )
        for row in table.to_dict("records")
    ]
    head = (
        "method",
        "score",
        "K/T",
        "retained",
        "forgotten",
        "change by unlearning",
        "unseen",
        "membership AUC",
        "who",
    )
    folded = len(rows) > MOST_ROWS
    return Sheet("Published models beside ours", PUBLISHED_MODELS, head, under_headings(rows), folded=folded)


def accuracy_sheet(groups: list[Group]) -> Sheet:
    """Return the published accuracies of certified models beside ours."""
    table = accuracies_beside_ours(groups)
    rows = [
        (row["data"], row["method"], row["effort"], *(number(row[epsilon]) for epsilon in EPSILONS), row["origin"])
        for row in table.to_dict("records")
    ]
    head = ("method", "effort", *(f"epsilon = {epsilon:g}" for epsilon in EPSILONS), "who")
    folded = len(rows) > MOST_ROWS
    return Sheet("Published accuracies beside ours", PUBLISHED_ACCURACIES, head, under_headings(rows), folded=folded)


def approach_sheet() -> Sheet:
    """Return the sheet of the two figures about the distance to the retrained model; they say it all."""
    return Sheet("Who approaches the retrained model", APPROACH, figures=("unlearning_approach", "unlearning_distance"))


def unlearning_section(groups: list[Group], table: pd.DataFrame, drawn: set[str]) -> list[Sheet]:
    """Return the sheets that these results fill, none where nothing is deleted; `drawn` names the figures there are.

    Published costs stand beside noisy methods (those with a sigma), published models beside measured qualities.
    """
    found = unlearning_groups(groups)
    if not found:
        return []
    sheets = [approach_sheet(), front_sheet(groups), comparison_sheet(groups), audit_sheet(groups, table)]
    sheets += [certificate_sheet(groups)]
    if any(name in group.metrics for group in found for name in QUALITIES):
        sheets += [model_sheet(groups), accuracy_sheet(groups)]
    if any("hp_sigma" in group.runs for group in found):
        sheets += [cost_sheet()]
    return [sheet for sheet in sheets if sheet.rows or drawn & set(sheet.figures)]
