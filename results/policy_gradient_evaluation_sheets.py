"""Sheets on policy evaluation: TD(0) from every start, its small steps and its stability, the critic's bias, regret."""

import numpy as np

from results.labels import without
from results.policy_gradient_evaluation import (
    DECAY,
    FACTOR_WITHIN,
    FLOOR_WITHIN,
    GROWTH_WITHIN,
    SAME,
    SLOPE_WITHIN,
    critic_bias,
    starts,
    steady,
    thresholds,
)
from results.policy_gradient_regret import CONSTANT_WITHIN, EARLY, coverage, plug_in, transfers
from results.schema import Group
from results.sheets import Sheet, bar, plus_minus, share, spread, under_headings, yes
from results.tables import lines_of, number, parts_of

STARTS = """The exact law of TD(0) along the chain (a recursion of second moments, nothing sampled) from every single
state: one limit of E|x_t − x*|², whatever the first state. Passes where the largest difference between starts at the
end, over the limit, is at most 1e-7, and where what the start changes of E e eᵀ falls by max(r₂, r₁, |λ₂|) a step, to
1e-3, in the end. No start costs more than 1/ρ_min times a stationary one, at any t. Derived here; our version of the
question whether TD(0) converges from every initial distribution."""
STEADY = """What a constant step η leaves: x∞/η, x∞ the limit of E|x_t − x*|² of the exact recursion, extrapolated to
η = 0, beside tr X with A X + X Aᵀ = C. Along a chain C is the long-run covariance of the noise, C₀ + Σ (C_k + C_kᵀ);
with states drawn afresh it is C₀ alone (white noise). Passes within 0.5 % of its own prediction, at the smallest η;
the other prediction stands beside it, and must differ wherever the values are not representable. Derived here."""
STABLE = """Constant steps and what becomes of them, by the exact recursion: the mean square grows by max(1, r₂) a step
in the end, the mean error forgets its start by max(r₁, |λ₂|). Where that is below 1 and r₂ above, the mean converges
and the mean square diverges: stability of the mean does not imply it. Passes where the growth at the last step at
which it is finite is the law to 1e-6 and tells what r₂ < 1 tells. The mean's factor is read where its law first speaks,
after 40 time constants: later the mean is below the rounding of the second moment. Derived here."""
CRITIC = """Bias b of the expected actor after N steps of TD(0) at a fixed policy, by exact moments. The floor is
|b(ω*)|², which misfit of the features leaves; without misfit it is 0. E|b|² − floor should fall like 1/N: its exponent
over the last decade of N within [−1.3, −0.7]; and at the last N E|b|² should be within 3 % of the floor, where there
is one. Medians over instances [least, largest], and every instance must pass. Derived here; our version of the
question what a critic's bias does. The time to leave a saddle against N stands under Leaving a strict saddle."""
TRANSFER = f"""Two policies on the same rounds of a KL-regularised bandit: one that transfers from sources of
rewards, one that plugs in estimated rewards. Mean cumulative regret ± half its 95 % interval over seeds, with the last
checkpoint until which transfer is ahead (the crossover). Passes where it is ahead of the plug-in policy up to round
{EARLY}; that is observed, not proven. The method is that of Huang, Li, Dann & He (2025) round by round, and their rates
are not claimed."""
PLUG_IN = """The plug-in policy in the long run: t (J* − J(π_t)), mean over seeds ± half its 95 % interval, should be
S(A−1)sd²/(2β) to 5 % whatever the prompts' law, the rewards and π_ref, so that its cumulative regret grows like log t.
Derived here."""
COVERAGE = """How far the plug-in policy is from covering the optimum, χ²(π*|π) = Cov − 1, over its two bounds, the
largest ratio of any seed and round: κ(e^(2R/β)) (J* − J)/β (Lemma 3.1 of Huang, Li, Dann & He 2025) and κ(M) (J* −
J)/β with M = max π*/π (derived here). Passes at most 1."""


def starts_sheet(groups: list[Group]) -> Sheet:
    """Return how TD(0) forgets its first state, a row a step size."""
    rows = [
        (row.problem, number(row.eta), number(row.starts), number(row.limit, 4),
         f"{number(row.apart, 2)} at {number(row.steps)}", yes(row.apart <= SAME), f"{row.factor:.6f}",
         f"{row.factor_law:.6f}", bar(row.factor_off, FACTOR_WITHIN), f"{number(row.ratio)} of {number(row.most)}",
         bar(row.ratio, row.most))
        for row in lines_of(starts(groups))
    ]  # fmt: skip
    head = ("η", "starts", "limit of E|x − x*|²", "apart at step", "at most 1e-7", "factor", "max(r₂, r₁, |λ₂|)",
            "within 1e-3", "over stationary", "at most 1/ρ_min")  # fmt: skip
    return Sheet("TD(0) from every start", STARTS, head, under_headings(rows), ("policy_gradient_starts",))


def steady_sheet(groups: list[Group]) -> Sheet:
    """Return x_inf/eta at each step size, its extrapolation and both predictions, a row a problem and sampling."""
    table, rows = steady(groups), []
    for (problem, sampling), there in parts_of(table, ["problem", "sampling"]):
        scaled = there.dropna(subset=["scaled"])
        cells = "; ".join(f"{row.scaled:.4f} (η = {number(row.eta)})" for row in lines_of(scaled.tail(3)))
        last = there.iloc[-1]
        off, other = abs(last["slope"] / last["law"] - 1), abs(last["slope"] / last["other"] - 1)
        rows.append((problem, "along the chain" if sampling == "markov" else "drawn afresh", cells or "–",
                     number(last["slope"], 5), number(last["law"], 5), share(off), bar(off, SLOPE_WITHIN),
                     "white noise" if sampling == "markov" else "long run", number(last["other"], 5),
                     share(other)))  # fmt: skip
    head = ("states", "x∞/η", "extrapolated", "predicted", "difference", "within 0.5 %", "the other", "predicts",
            "difference")  # fmt: skip
    return Sheet("Small steps of TD(0)", STEADY, head, under_headings(rows))


def threshold_sheet(groups: list[Group]) -> Sheet:
    """Return which steps are stable, a row a step size."""
    rows = []
    for row in lines_of(thresholds(groups)):
        converges, expected = row.growth <= 1 + GROWTH_WITHIN, row.growth_law <= 1
        mean = "–" if np.isnan(row.mean_law) else "converges" if row.mean_law < 1 else "diverges"
        rows.append((row.problem, number(row.eta), f"{row.growth_law:.6g}", f"{row.growth:.6g}", number(row.step),
                     "converges" if converges else "diverges", yes(row.off <= GROWTH_WITHIN and converges == expected),
                     f"{row.mean_law:.6g}" if np.isfinite(row.mean_law) else "–",
                     f"{row.mean:.6g}" if np.isfinite(row.mean) else "–", mean))  # fmt: skip
    head = ("η", "max(1, r₂)", "growth", "at step", "mean square", "as the law", "max(r₁, |λ₂|)",
            "mean's factor", "mean")  # fmt: skip
    return Sheet("Which steps of TD(0) are stable", STABLE, head, under_headings(rows))


def critic_sheet(groups: list[Group]) -> Sheet:
    """Return decay and floor of the critic's bias, a row a rank of its features."""
    rows = []
    for row in lines_of(critic_bias(groups)):
        decays = DECAY[0] <= row.decay[1] and row.decay[2] <= DECAY[1]
        features = "one a state" if row.rank == "0" else f"rank {row.rank}"
        rows.append((without(row.problem, "spread"), features, number(row.instances), spread(row.decay),
                     yes(decays) if np.isfinite(row.decay).all() else "–", spread(row.floor), spread(row.end),
                     share(row.over) if row.floor[1] > 0 else "no floor", bar(row.over, FLOOR_WITHIN),
                     number(row.steps)))  # fmt: skip
    head = ("features", "instances", "exponent of N", "within −1.3 … −0.7", "floor", "E|b|² at the end",
            "over the floor", "within 3 %", "N")  # fmt: skip
    return Sheet("Actor-critic: floor against inner steps", CRITIC, head, under_headings(rows),
                 ("policy_gradient_critic",))  # fmt: skip


def transfer_sheet(groups: list[Group]) -> Sheet:
    """Return the cumulative regret of transfer beside plug-in, a row a problem and round."""
    rows = []
    for row in lines_of(transfers(groups)):
        ahead = "to the end" if np.isinf(row.ahead) else f"until {number(row.ahead)}"
        drawn = "a bandit of its own each seed" if row.instances > 1 else "one bandit"
        for wanted in (50, EARLY, row.steps):
            at = int(np.flatnonzero(row.times <= wanted)[-1])
            rows.append((f"{row.problem}: {row.seeds} seeds, {drawn}", number(int(row.times[at])),
                         plus_minus(row.own[at], row.own_half[at]), plus_minus(row.plug_in[at], row.plug_in_half[at]),
                         number(row.own[at] / row.plug_in[at]), ahead, yes(row.early <= 1)))  # fmt: skip
    head = ("round", "transfer", "plug-in", "ratio", "transfer ahead", f"ahead to round {EARLY}")
    return Sheet("Regret of transfer against plug-in", TRANSFER, head, under_headings(rows),
                 ("policy_gradient_regret",))  # fmt: skip


def plug_in_sheet(groups: list[Group]) -> Sheet:
    """Return t regret_t of the plug-in policy beside its law, a row a problem."""
    rows = tuple(
        (row.problem, f"S = {number(row.S)}, A = {number(row.A)}, sd = {number(row.sd)}, β = {number(row.beta)}",
         number(row.seeds), number(row.steps), plus_minus(row.value, row.half), number(row.law, 4), share(row.off),
         bar(row.off, CONSTANT_WITHIN))
        for row in lines_of(plug_in(groups))
    )  # fmt: skip
    head = ("problem", "", "seeds", "round t", "t (J* − J)", "S(A−1)sd²/(2β)", "difference", "within 5 %")
    return Sheet("Regret of the plug-in policy", PLUG_IN, head, rows)


def coverage_sheet(groups: list[Group]) -> Sheet:
    """Return the coverage over its bounds, a row a temperature."""
    rows = tuple(
        (row.problem, number(row.beta), number(row.seeds), number(row.largest), number(row.plug_in_coverage),
         number(row.plug_in_coverage_by_ratio),
         bar(float(np.nanmax([row.plug_in_coverage, row.plug_in_coverage_by_ratio])), 1), number(row.steps))
        for row in lines_of(coverage(groups))
    )  # fmt: skip
    head = ("problem", "β", "seeds", "largest χ²", "over the lemma's bound", "over κ(M) (J* − J)/β", "at most 1",
            "rounds")  # fmt: skip
    return Sheet("Coverage of the plug-in policy", COVERAGE, head, rows)
