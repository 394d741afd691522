"""Every figure of a report: trajectories, rates, tightness, performance profile, what unlearning buys and costs,
low-rank adaptation, policy gradients.

Each function returns a matplotlib Figure; `save_all` writes them as PNG under stable names.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.audited import AUDITED
from results.costs import front, performance_profile
from results.low_rank_figures import (
    exponent_figure,
    imbalance_figure,
    method_figure,
    scaled_figure,
    tuning_figure,
    worst_case_figure,
)
from results.policy_gradient_evaluation_figures import critic_figure, regret_figure, starts_figure
from results.policy_gradient_figures import bias_figure, saddle_figure
from results.schema import CLAIM, CONTROL, Group
from results.store import CannotWrite, merge
from results.style import BROKEN_COLOUR, HELD_COLOUR, INK, QUIET, blank, headline, short, title
from results.tables import lines_of
from results.trajectories import trajectories
from results.unlearning_figures import approach_figure, audit_figure, distance_figure
from results.verdicts import rows_of, verdicts

ROLES = ((CLAIM, HELD_COLOUR, "o"), (CONTROL, BROKEN_COLOUR, "s"))
DECAYS = {"geometric": "geometric: 1 − q", "power": "power: exponent p", "logarithmic": "logarithmic: constant C"}
MOST_ROWS = 60
DPI = 130
EDGE = 1e6  # ratios beyond this are all equally broken


def _rate_panel(axis: Axes, table: pd.DataFrame, model: str) -> None:
    columns = ["promised_rate", "rate", "rate_low", "rate_high"]
    for role, colour, marker in ROLES:
        values = table.loc[(table["role"] == role) & (table["rate_model"] == model), columns].to_numpy(float).T
        if not values.size:
            continue
        x, y, low, high = 1 - values[[0, 1, 3, 2]] if model == "geometric" else values
        axis.errorbar(
            x, y, yerr=np.maximum([y - low, high - y], 0), fmt=marker, ms=5, color=colour, alpha=0.8,
            elinewidth=1, mec="white", mew=0.5, label=f"{role}s",
        )  # fmt: skip
    linear = 1e-4 if model == "geometric" else 1.0
    axis.set_xscale("symlog", linthresh=linear)
    axis.set_yscale("symlog", linthresh=linear)
    ends = np.array([axis.get_xlim(), axis.get_ylim()])
    span = ends.min(), ends.max()
    axis.plot(span, span, color=QUIET, lw=1, ls="--", zorder=0)
    axis.set(xlabel="promised by the bound", ylabel="measured", xlim=span, ylim=span)
    title(axis, DECAYS[model])
    axis.legend(loc="lower right", frameon=False, fontsize=8)


def measured_against_promised(table: pd.DataFrame) -> Figure | None:
    """Return measured rates (95 % interval) against promised ones, a dot a theorem x problem, a panel a model."""
    table = table.loc[np.isfinite(table[["rate", "rate_low", "rate_high", "promised_rate"]].to_numpy(float)).all(1)]
    models = [model for model in DECAYS if (table["rate_model"] == model).any()]
    if not models:
        return None
    figure, axes = blank(4.2 * max(len(models), 1.2), 4.3, 1, len(models))
    for axis, model in zip(axes, models, strict=True):
        _rate_panel(axis, table, model)
    headline(figure, "Measured against promised decay: faster than promised lies above the line (C: below)")
    return figure


def tightness(table: pd.DataFrame) -> Figure:
    """Return measured / bound of each theorem x problem on a log axis: filled the worst, hollow that at the end.

    At 1 a bound is just met. Of more than 60 rows the loosest are left out, ratios beyond the axis stand at its edge.
    """
    rows = table.loc[table["max_ratio"].notna()].sort_values(["role", "max_ratio"], ascending=[False, True])
    left_out = max(0, len(rows) - MOST_ROWS)
    rows = rows.tail(MOST_ROWS).reset_index(drop=True)
    worst = np.clip(rows["max_ratio"].to_numpy(float), 1 / EDGE, EDGE)
    at_end = np.clip(1 / rows["slack_at_end"].to_numpy(float), 1 / EDGE, EDGE)
    figure, (axis,) = blank(9.0, 1.6 + 0.21 * max(len(rows), 3))
    for role, colour, marker in ROLES:
        chosen = np.flatnonzero(rows["role"] == role)
        if len(chosen):
            axis.hlines(chosen, at_end[chosen], worst[chosen], color=colour, lw=1.2, alpha=0.4)
            axis.scatter(worst[chosen], chosen, color=colour, marker=marker, s=22, label=f"{role}s, worst", zorder=3)
            hollow = {"facecolors": "white", "edgecolors": colour, "marker": marker, "s": 16}
            axis.scatter(at_end[chosen], chosen, label=f"{role}s, at the end", zorder=2, **hollow)
    axis.axvline(1, color=INK, lw=1)
    names = [short(f"{row.theorem} · {row.problem}", 74) for row in lines_of(rows)]
    axis.set_yticks(range(len(rows)), names, fontsize=6.5)
    axis.set(xscale="log", ylim=(-0.7, len(rows) - 0.3), xlabel="measured / bound")
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    notes = [f"{left_out} looser rows left out"] if left_out else []
    notes += ["beyond the axis drawn at its edge"] if np.isin([1 / EDGE, EDGE], [worst, at_end]).any() else []
    headline(figure, "How tight each bound is" + (f" ({'; '.join(notes)})" if notes else ""))
    return figure


def figures(groups: list[Group], table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield every figure that these results allow with its stable name; `table` is that of `verdicts`."""
    groups = merge(groups)
    overviews = {
        "tightness": tightness(table) if np.any(table["max_ratio"].notna()) else None,
        "rates": measured_against_promised(table),
        "performance_profile": performance_profile(groups),
        "unlearning_approach": approach_figure(groups),
        "unlearning_distance": distance_figure(groups),
        "unlearning_front": front(groups),
        "unlearning_audit": audit_figure(groups, table),
        "low_rank_exponents": exponent_figure(groups),
        "low_rank_worst_case": worst_case_figure(groups),
        "low_rank_scaled": scaled_figure(groups),
        "low_rank_methods": method_figure(groups),
        "low_rank_imbalance": imbalance_figure(groups),
        "low_rank_tuning": tuning_figure(groups),
        "policy_gradient_bias": bias_figure(groups),
        "policy_gradient_saddle": saddle_figure(groups),
        "policy_gradient_starts": starts_figure(groups),
        "policy_gradient_critic": critic_figure(groups),
        "policy_gradient_regret": regret_figure(groups),
    }
    yield from ((name, figure) for name, figure in overviews.items() if figure is not None)
    judged = [key for key, parts in rows_of(groups).items() if parts[0].theorem.holds != AUDITED]
    for role, algorithm, theorem in dict.fromkeys((key[0], key[1], key[3]) for key in judged):
        prefix = "control_" if role == CONTROL else ""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{prefix}trajectory_{algorithm}_{theorem}")
        yield name, trajectories(groups, theorem, algorithm, role)


def save_all(groups: list[Group], folder: Path | str, table: pd.DataFrame | None = None) -> list[Path]:
    """Write every figure as `<name>.png` into `folder` and return the paths. Raises `CannotWrite`."""
    folder = Path(folder)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures(groups, verdicts(groups) if table is None else table):
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=DPI)
    except OSError as error:
        raise CannotWrite(f"{folder}: figures cannot be written ({error.strerror or error})") from error
    return paths
