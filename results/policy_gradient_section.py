"""The report's section on policy gradients, actor-critic and TD(0): its sheets, in the order in which they are read.

A sheet is left out where its data are not there, so that any subset of methods and problems makes a section.
"""

from results.policy_gradient_evaluation_sheets import (
    coverage_sheet,
    critic_sheet,
    plug_in_sheet,
    starts_sheet,
    steady_sheet,
    threshold_sheet,
    transfer_sheet,
)
from results.policy_gradient_sheets import (
    bias_sheet,
    floor_sheet,
    hidden_sheet,
    price_sheet,
    saddle_sheet,
    second_order_sheet,
    sharp_sheet,
    slope_sheet,
)
from results.schema import Group
from results.sheets import Sheet

ABOUT = """The questions are those of Mu & Klabjan (2024, arXiv:2311.02546): does policy gradient reach second-order
stationary points when its gradient is biased by a cut horizon or by a critic, and does TD(0) converge from every first
state? Their exponents are not claimed here: neither the numbers nor the proofs were at hand. What is tested are
statements of our own on truncation bias, escape from saddles, sharp constants, exact moments of TD(0) and of the
critic's bias, each derived and proven in the docstring of its method or of the module it names, with constants computed
for the very instance; results of others (Yuan, Gower & Lazaric; Mei et al.; Agarwal et al.; Bhandari, Russo & Singal;
Zhang et al.; Huang et al.) carry their names, and what is only observed is called so.
Bars of the tables below are those of the benchmark's specification;
verdicts with their error control stand under Claims."""


def policy_gradient_section(groups: list[Group], drawn: set[str]) -> list[Sheet]:
    """Return the sheets that these results fill, none without such runs; `drawn` names the figures there are."""
    sheets = [
        bias_sheet(groups),
        floor_sheet(groups),
        saddle_sheet(groups),
        slope_sheet(groups),
        hidden_sheet(groups),
        second_order_sheet(groups),
        sharp_sheet(groups),
        price_sheet(groups),
        starts_sheet(groups),
        steady_sheet(groups),
        threshold_sheet(groups),
        critic_sheet(groups),
        transfer_sheet(groups),
        plug_in_sheet(groups),
        coverage_sheet(groups),
    ]
    filled = [sheet for sheet in sheets if sheet.rows or drawn & set(sheet.figures)]
    return [Sheet("What is claimed", ABOUT), *filled] if filled else []
