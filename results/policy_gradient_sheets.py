"""Sheets on policy gradients: the bias of a cut return, saddles, second-order points, sharp constants, estimators."""

import numpy as np

from results.policy_gradient_bias import (
    CONSTANT_WITHIN,
    LEVEL_WITHIN,
    SLOPE_WITHIN,
    bias_fits,
    floors,
)
from results.policy_gradient_rates import estimators, sharp
from results.policy_gradient_saddles import (
    AXES,
    CITED,
    HIDDEN,
    escapes,
    second_order,
    second_order_exponents,
    slopes,
)
from results.schema import Group
from results.sheets import MOST_ROWS, Sheet, bar, plus_minus, share, spread, under_headings, yes
from results.tables import lines_of, number, parts_of

BIAS = """The gradient of a return cut after H steps differs from that of the whole return by a bias, computed exactly
at the start of each run (no sampling). Slope: least squares of log bias against H through the larger half of the
horizons where the bias is at least 1e-12; it should be log γ, with no polynomial factor. Constant: bias / γ^H at the
largest of these horizons, beside |grad h|/(1−γ), h the average reward of the policy. Each is the median over instances
[least, largest], and every instance must pass: slope within 1 %, constant within 0.5 %, and at every horizon the bias
at most its bound √lamF R_c γ^H √(H + 1/(1−γ))/(1−γ). Slope and constant are derived here, and so is the bound's
constant; its form is that of Yuan, Gower & Lazaric (2022)."""
FLOOR = """Ascent on the cut return, with an L2 term that makes it converge: the gradient of the whole return that is
left at the end is the bias at the point found, so |grad J| / γ^H tends to a constant as H grows (median over instances
[least, largest]). The law |grad h|/(1−γ) at that point speaks where ascent has ended and the chain has mixed within H
steps. Passes where the constant at the last horizon is within 2 % of that at the one before, in every instance.
Derived here."""
SADDLE = """Steps until |v·x| reaches δ from a strict saddle, v its escape direction: the number of points near it,
the median over seeds with its 95 % bootstrap interval (one run where nothing is drawn). A run that never left counts
as infinite, and is counted. The law is the linearised escape: steps grow like the logarithm of 1/noise or 1/bias over
log(1 + ηλ); from the saddle itself exact ascent never leaves. It is silent where the noise is too large for δ.
Agrees: each run to one step where nothing is drawn, else the median to 5 % and three standard errors, one being
1.166/(√seeds log(1 + ηλ)). Derived here."""
SLOPES = """How these times grow: least squares through the medians of the sheets on saddles, beside the law's slope:
log 10/(2 log(1 + ηλ)) a decade of the batch size, log(1/γ)/log(1 + ηλ) a step of the horizon (from a quarter of the
largest on, where the law is linear), log 10/log(1 + ηλ) a decade of the distance or the noise, log 2/log(1 + ηλ) a
factor 4 of the critic's inner steps. λ is known of the family. After ± stands half the slope's 95 % interval, from the
spread of a median over seeds. Passes within 5 %, for inner steps (whose law is an approximation) within 25 %."""
HIDE = """At this saddle every score vanishes: no score-function estimator has any noise there (correlated negative
curvature fails), and sampling cannot leave it however long it runs. Isotropic noise of standard deviation s can: its
median time over seeds, with a 95 % bootstrap interval, beside the law of escape by noise. Derived here."""
SECOND = """Steps from the saddle that are short of an (ε, √(ρε))-second-order point (exact gradient and Hessian),
the median over seeds with its 95 % bootstrap interval; runs that got there are counted, and all must. The finding, an
observed bound, is a constant over ηε. Trajectories are steps times batch size; their fitted exponent of 1/ε on this one
family is set beside 4.5, the exponent proven for unbiased gradients in general (Yang, Zheng & Pan 2020, an upper
bound): a measurement on one family can only be consistent with it."""
SHARP = """What the sharp laws promise at the end of the run, on the instances where they speak (median [least,
largest]). Softmax policy gradient: t η (J* − J) tends to S(A−1)/A whatever the rewards, the dynamics and the start,
to 1 %. Natural policy gradient: the gap falls by η min |A*|/(1−γ) a step in the logarithm, to 0.5 %. Derived here."""
PRICE = """What it costs to have no bias: variance of one trajectory's gradient, B (E|g|² − |E g|²), at a random
policy: mean over seeds ± half its 95 % interval beside the exact value of a recursion without draws. GPOMDP and
REINFORCE cut the return and are biased; the others have random lengths and are not. Cost: exact variance over that of
GPOMDP. The last column says whether roulette has less variance than two random horizons (Zhang et al. 2020); that order
is observed, not proven."""
TITLES = {"truncated_policy_gradient": "GPOMDP", "truncated_exact_policy_gradient": "exact gradient of the cut return",
          "softmax_policy_gradient": "exact gradient", "perturbed_policy_gradient": "GPOMDP and isotropic noise",
          "actor_critic": "actor-critic"}  # fmt: skip


def _steps(value: float, end: float) -> str:
    """Return a number of steps, `never in T` where it is infinite."""
    return f"never in {number(end)}" if np.isinf(value) else f"{value:.4g}"


def bias_sheet(groups: list[Group]) -> Sheet:
    """Return slope and constant of the truncation bias, a row a problem."""
    rows = [
        (row.problem, number(row.instances), f"{number(row.fitted_from)} – {number(row.fitted_to)}",
         spread(row.slope, 5), f"{row.log_gamma:.5g}", bar(row.off_slope, SLOPE_WITHIN), spread(row.constant),
         spread(row.law), share(row.off_constant), bar(row.off_constant, CONSTANT_WITHIN), number(row.ratio),
         yes(row.ratio <= 1))
        for row in lines_of(bias_fits(groups))
    ]  # fmt: skip
    head = ("problem", "instances", "H fitted", "slope", "log γ", "within 1 %", "bias / γ^H", "law", "difference",
            "within 0.5 %", "largest bias / bound", "at most 1")  # fmt: skip
    return Sheet("Bias against the horizon", BIAS, head, tuple(rows), ("policy_gradient_bias",))


def floor_sheet(groups: list[Group]) -> Sheet:
    """Return where ascent on the cut return ends, a row a horizon."""
    rows = [
        (row.problem, number(row.horizon), spread(row.level), share(row.change),
         bar(row.change, LEVEL_WITHIN) if row.last else "", f"{row.spoken} of {row.instances}", share(row.off),
         number(row.steps))
        for row in lines_of(floors(groups))
    ]  # fmt: skip
    head = ("H", "|grad J| / γ^H", "change from the H before", "within 2 %", "law speaks in", "difference from it",
            "steps")  # fmt: skip
    return Sheet("Floor of ascent on a cut return", FLOOR, head, under_headings(rows))


def _escape_rows(groups: list[Group], hidden: bool) -> list[tuple[str, ...]]:
    rows = []
    for row in lines_of(escapes(groups)):
        if (row.family == HIDDEN) is not hidden:
            continue
        sign = AXES[row.algorithm][1]
        heading = f"{TITLES[row.algorithm]} on {row.problem}, η = {number(row.eta)}"
        ends = f" [{_steps(row.low, row.steps)}, {_steps(row.high, row.steps)}]" if np.isfinite(row.low) else ""
        left = f"{row.left} of {row.seeds}"
        law, agrees = ("–", "–") if np.isnan(row.law) else (_steps(row.law, row.steps), yes(row.within))
        at = "" if np.isnan(row.at) else f"{sign} = {row.at:g}"
        rows.append((heading, at, left, _steps(row.median, row.steps) + ends, law, agrees))
    return rows


def saddle_sheet(groups: list[Group]) -> Sheet:
    """Return when each method leaves a strict saddle, a row a setting."""
    rows = _escape_rows(groups, hidden=False)
    head = ("against", "runs that left", "steps: median [95 %]", "law", "agrees")
    return Sheet("Leaving a strict saddle", SADDLE, head, under_headings(rows), ("policy_gradient_saddle",),
                 folded=len(rows) > MOST_ROWS // 2)  # fmt: skip


def slope_sheet(groups: list[Group]) -> Sheet:
    """Return how the time to leave grows, a row a method, problem and step size."""
    rows = [
        (TITLES[row.algorithm], row.problem, number(row.eta), row.unit,
         f"{row.least:g} – {row.most:g} ({row.points})",
         f"{row.fitted:.4g}" + (f" ± {number(row.half, 2)}" if np.isfinite(row.half) else ""), f"{row.law:.4g}",
         share(row.off), f"{bar(row.off, row.bar)} ({number(100 * row.bar)} %)")
        for row in lines_of(slopes(groups))
    ]  # fmt: skip
    head = ("method", "problem", "η", "steps more per", "from – to (points)", "fitted", "law", "difference", "within")
    return Sheet("How the time to leave grows", SLOPES, head, tuple(rows))


def hidden_sheet(groups: list[Group]) -> Sheet:
    """Return what leaves the saddle that hides the noise, a row a setting."""
    head = ("against", "runs that left", "steps: median [95 %]", "law", "agrees")
    return Sheet("Noise that the saddle hides", HIDE, head, under_headings(_escape_rows(groups, hidden=True)))


def second_order_sheet(groups: list[Group]) -> Sheet:
    """Return steps to a second-order point, a row an accuracy, then the fitted exponents."""
    found = {(row.problem, row.eta): row for row in lines_of(second_order_exponents(groups))}
    table, rows = second_order(groups), []
    for key, there in parts_of(table, ["problem", "eta"]):
        heading = f"{key[0]}, η = {number(key[1])}"
        for row in lines_of(there):
            ends = f"{number(row.median)} [{number(row.low)}, {number(row.high)}]"
            rows.append((heading, number(row.eps), number(row.batch), f"{row.reached} of {row.seeds}", ends,
                         number(row.bound), bar(row.median - row.bound, 0), number(row.trajectories)))  # fmt: skip
        if key in found:
            fit = found[key]
            below = f"{fit.trajectories:.2f} (below {CITED}: {yes(fit.trajectories < CITED)})"
            rows.append((heading, "exponent of 1/ε", "", "", f"{fit.steps:.2f}", "1", "", below))
    head = ("ε", "B", "runs that got there", "steps: median [95 %]", "finding: at most", "held", "trajectories")
    return Sheet("To a second-order stationary point", SECOND, head, under_headings(rows))


def sharp_sheet(groups: list[Group]) -> Sheet:
    """Return sharp constants beside their laws, a row a problem."""
    rows = [
        (row.what, row.problem, f"{row.judged} of {row.instances}", spread(row.measured, 6),
         spread(row.promised, 6), share(row.off), f"{bar(row.off, row.bar)} ({number(100 * row.bar)} %)",
         number(row.steps))
        for row in lines_of(sharp(groups))
    ]  # fmt: skip
    head = ("problem", "law speaks in", "measured", "law", "largest difference", "within", "steps")
    return Sheet("Sharp constants", SHARP, head, under_headings(rows))


def price_sheet(groups: list[Group]) -> Sheet:
    """Return the variance of each estimator, a row an estimator."""
    table, rows = estimators(groups), []
    for (problem,), there in parts_of(table, ["problem"]):
        promised = dict(zip(there["estimator"], there["promised"], strict=True))
        ordered = bar(promised.get("roulette", np.nan), promised.get("two random horizons", np.nan))
        for row in lines_of(there):
            agrees = abs(row.variance - row.promised) <= 2 * row.half
            kind = "none" if row.unbiased else f"cut at {number(row.horizon)}"
            rows.append((f"{problem}, γ = {number(row.gamma)}", row.estimator, kind, number(row.seeds),
                         plus_minus(row.variance, row.half), number(row.promised, 4), yes(agrees),
                         number(row.promised / promised.get("GPOMDP", np.nan)),
                         ordered if row.estimator == "roulette" else ""))  # fmt: skip
    head = ("estimator", "bias", "seeds", "variance", "exact", "within two intervals", "cost over GPOMDP",
            "roulette below random horizons")  # fmt: skip
    return Sheet("Price of no bias", PRICE, head, under_headings(rows))
