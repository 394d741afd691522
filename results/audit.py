"""Empirical lower bounds on epsilon:  P(in O) <= e^epsilon Q(in O) + delta  refuted by samples of scores of P and Q.

Any region O and any choice of which sample is *in* (its law is P) gives epsilon >= ln((1 - FNR - delta) / FPR), FNR
the share of P outside O, FPR the share of Q inside. Here O is the scores above or below a threshold. The first half of
each sample (even places) chooses threshold, direction and role, the second half (odd places) is counted:
Clopper-Pearson upper limits of FNR and FPR, at half the level each, make
LB = max(0, ln((1 - FNR_up - delta) / FPR_up)) a lower limit of epsilon at that level (Nasr et al. 2021,
arXiv:2101.04535; the split replaces a correction for the choice). Scores at the same place may be dependent, places
must not be.

A NaN score is of a model that diverged. It is never dropped: it counts as told apart whatever O is, a hit where its
sample is in, no false alarm where it is not, so it can only raise the bound. Infinite scores are ordered like others.
"""

from dataclasses import dataclass, replace

import numpy as np

CONFIDENCE = 0.95
CHOICE = 0.05  # level at which half A compares thresholds: one for all confidences, so that LB is monotone in the level
MOST_THRESHOLDS = 256
SMALLEST = 1e-300  # of a p-value


@dataclass(frozen=True)
class Audit:
    """One event O on the second half: scores above (or at most) `threshold`; `role` ("a" or "b") is the sample in.

    `false_negatives` of the `positives` scores that are in are outside O, `false_positives` of the `negatives` others
    inside. `lower_bound` of epsilon has the confidence asked for; `estimate` is ln((1 - FNR - delta) / FPR) of the
    counts as they are, and 0 where that is negative.
    """

    threshold: float
    above: bool
    role: str
    false_negatives: int
    positives: int
    false_positives: int
    negatives: int
    lower_bound: float
    estimate: float


def upper_limit(count: np.ndarray | int, trials: int, level: float) -> np.ndarray:
    """Return the Clopper-Pearson upper limit of a probability: too low with probability at most `level`; 1 of none."""
    from scipy.special import betainccinv

    count = np.asarray(count)
    limit = betainccinv(count + 1.0, np.maximum(trials - count, 0.5), level)
    return np.where(count >= trials, 1.0, limit)


def log_ratio(fnr: np.ndarray | np.float64, fpr: np.ndarray | np.float64, delta: float) -> np.ndarray:
    """Return max(0, ln((1 - fnr - delta) / fpr)), infinity where only fpr is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(1 - fnr - delta) - np.log(fpr)
    return np.where(1 - fnr - delta > 0, np.maximum(ratio, 0), 0.0)


def _thresholds(sorted_a: np.ndarray, sorted_b: np.ndarray) -> np.ndarray:
    """Return candidate thresholds: all scores where they are few, else ranks of both samples, dense at both ends."""
    chosen = []
    for scores in (sorted_a, sorted_b):
        from_end = np.unique(np.geomspace(1, max(len(scores), 1), MOST_THRESHOLDS // 4).astype(int)) - 1
        even = np.linspace(0, len(scores) - 1, MOST_THRESHOLDS // 2).astype(int)
        ranks = np.unique(np.concatenate([from_end, len(scores) - 1 - from_end, even]))
        chosen.append(scores[ranks] if len(scores) else scores)
    return np.unique(np.concatenate([[-np.inf], *chosen]))


def _choose(a: np.ndarray, b: np.ndarray, delta: float) -> tuple[float, bool, str]:
    """Return the threshold, direction and role whose bound on these scores is largest."""
    sorted_a, sorted_b = (np.sort(scores[~np.isnan(scores)]) for scores in (a, b))
    thresholds = _thresholds(sorted_a, sorted_b)
    below = {"a": np.searchsorted(sorted_a, thresholds, "right"), "b": np.searchsorted(sorted_b, thresholds, "right")}
    known, trials = {"a": len(sorted_a), "b": len(sorted_b)}, {"a": len(a), "b": len(b)}
    best = -1.0, -np.inf, True, "a"
    for role, other in (("a", "b"), ("b", "a")):
        for above in (True, False):
            missed = below[role] if above else known[role] - below[role]
            alarms = known[other] - below[other] if above else below[other]
            limits = upper_limit(missed, trials[role], CHOICE / 2), upper_limit(alarms, trials[other], CHOICE / 2)
            bounds = log_ratio(*limits, delta)
            index = int(np.argmax(bounds))
            best = max(best, (float(bounds[index]), float(thresholds[index]), above, role), key=lambda one: one[0])
    return best[1:]


def _counts(scores_in: np.ndarray, scores_out: np.ndarray, threshold: float, above: bool) -> tuple[int, int]:
    """Return the false negatives and the false positives; NaN compares false, so it is neither."""
    if above:
        return int(np.sum(scores_in <= threshold)), int(np.sum(scores_out > threshold))
    return int(np.sum(scores_in > threshold)), int(np.sum(scores_out <= threshold))


def _bound(event: Audit, delta: float, level: float) -> float:
    """Return the lower limit of epsilon at `level`, from the counts of `event`."""
    fnr = upper_limit(event.false_negatives, event.positives, level / 2)
    fpr = upper_limit(event.false_positives, event.negatives, level / 2)
    return float(log_ratio(fnr, fpr, delta))


def _checked(scores_a: np.ndarray, scores_b: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= delta < 1:
        raise ValueError(f"delta = {delta}: must lie in [0, 1)")
    samples = np.asarray(scores_a, float), np.asarray(scores_b, float)
    for scores in samples:
        if scores.ndim != 1:
            raise ValueError(f"scores of shape {scores.shape}: one score a trial is wanted")
    return samples


def epsilon_lower_bound(
    scores_a: np.ndarray, scores_b: np.ndarray, delta: float, confidence: float = CONFIDENCE
) -> Audit:
    """Return the audit of two samples of scores, each of shape (trials,): LB <= epsilon with this `confidence`.

    Raises:
        ValueError: delta is not in [0, 1), the confidence not in (0, 1), or scores are not vectors.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: must lie in (0, 1)")
    a, b = _checked(scores_a, scores_b, delta)
    threshold, above, role = _choose(a[::2], b[::2], delta)
    scores_in, scores_out = (a[1::2], b[1::2]) if role == "a" else (b[1::2], a[1::2])
    missed, alarms = _counts(scores_in, scores_out, threshold, above)
    positives, negatives = len(scores_in), len(scores_out)
    shares = np.float64(missed / max(positives, 1)), np.float64(alarms / max(negatives, 1))
    estimate = float(log_ratio(*shares, delta)) if positives and negatives else 0.0
    event = Audit(threshold, above, role, missed, positives, alarms, negatives, 0.0, estimate)
    return replace(event, lower_bound=_bound(event, delta, 1 - confidence))


def p_value(event: Audit, epsilon: float, delta: float) -> float:
    """Return the smallest level at which the counts of `event` put LB above `epsilon`; 1 where none does.

    LB falls as the level does, so bisection on its logarithm finds it; the end returned is the larger.
    """
    if not _bound(event, delta, 1.0) > epsilon:
        return 1.0
    low, high = np.log(SMALLEST), 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if _bound(event, delta, float(np.exp(middle))) > epsilon else (middle, high)
    return float(np.exp(high))


def audit_p_value(scores_a: np.ndarray, scores_b: np.ndarray, epsilon: float, delta: float) -> float:
    """Return the p-value of `the pair is (epsilon, delta)-indistinguishable`. Raises like `epsilon_lower_bound`."""
    return p_value(epsilon_lower_bound(scores_a, scores_b, delta), epsilon, delta)


def auc(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """Return P(in > out) + P(in = out)/2 over all pairs of scores; NaN where a score is NaN or there is none."""
    from scipy.stats import rankdata

    scores_in, scores_out = np.asarray(scores_in, float), np.asarray(scores_out, float)
    both = np.concatenate([scores_in, scores_out])
    if np.isnan(both).any() or not scores_in.size or not scores_out.size:
        return float("nan")
    n = len(scores_in)
    return float((rankdata(both)[:n].sum() - n * (n + 1) / 2) / (n * len(scores_out)))


def tpr_at_fpr(scores_in: np.ndarray, scores_out: np.ndarray, fpr: float = 0.01) -> float:
    """Return the largest share of `in` above a threshold that at most a share `fpr` of `out` is above.

    NaN where a score is NaN or there is none.
    """
    scores_in, scores_out = np.asarray(scores_in, float), np.sort(np.asarray(scores_out, float))
    if np.isnan(scores_in).any() or np.isnan(scores_out).any() or not scores_in.size or not scores_out.size:
        return float("nan")
    above = int(np.floor(fpr * len(scores_out)))
    threshold = scores_out[len(scores_out) - 1 - above] if above < len(scores_out) else -np.inf
    return float(np.mean(scores_in > threshold))
