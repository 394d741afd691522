"""Decay models and how fast a curve decays: geometric C q^t, power C t^(-p), logarithmic C / log t.

Each model is a least-squares line through log value, so its parameter is a fixed weighted sum of log values: `value`
of a `Rate` is the factor q, the exponent p, or the constant C. The promised rate is the same fit, same model and same
window, applied to the bound's own curve.

Window: the last decade of steps, t in [t1/10, t1], where t1 is the last checkpoint before any curve touches its
rounding floor (or 0). What is earlier counts as burn-in. A window of fewer than 8 checkpoints is widened backwards to
8 where there are as many; t = 0 and t = 1 never count, fewer than 4 checkpoints give no rate.

Interval: 95 %, over seeds. From 8 seeds on a studentised bootstrap (Efron & Tibshirani 1993, section 12.5), whose
coverage is nearer its level than that of percentile and BCa intervals at 8 to 30 seeds; with 2 to 7 seeds, too few to
resample, Student's t over the seeds; one seed falls back to the residuals of the fit and says so in `interval`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GEOMETRIC, POWER, LOGARITHMIC = "geometric", "power", "logarithmic"
BOOTSTRAP, STUDENT, RESIDUALS = "bootstrap over seeds", "Student t over seeds", "residuals of one curve"
GEOMETRIC_MEAN, MEAN = "geometric mean", "mean"
BURN_IN = 10
WISHED, FEWEST = 8, 4
FEWEST_RESAMPLED = 8
EXACT_FIT = 1e-10  # residuals of log values below this are rounding: models that fit so well are equal


@dataclass(frozen=True)
class Rate:
    """A fitted decay: `window` is (t0, t1) in steps, `points` its checkpoints, `seeds` the curves that entered."""

    model: str
    value: float
    low: float
    high: float
    window: tuple[int, int]
    points: int
    r_squared: float
    seeds: int
    interval: str


NO_RATE = Rate("", np.nan, np.nan, np.nan, (0, 0), 0, np.nan, 0, "")


@dataclass(frozen=True)
class _Line:
    """A model in logs: parameter = weights @ (log value + shift), value = back(parameter), intercept free or not."""

    weights: np.ndarray
    shift: np.ndarray
    slope_of: np.ndarray | None
    back: Callable[[np.ndarray], np.ndarray]

    def residuals(self, logs: np.ndarray) -> np.ndarray:
        """Return log value minus the fitted line."""
        shifted = logs + self.shift
        level = shifted.mean()
        if self.slope_of is None:
            return shifted - level
        return shifted - level - (self.weights @ shifted) * (self.slope_of - self.slope_of.mean())

    def value(self, logs: np.ndarray) -> float:
        """Return the model's value; a slope that moves the line by rounding alone is none."""
        parameter = self.weights @ (logs + self.shift)
        if self.slope_of is not None and abs(parameter) * np.ptp(self.slope_of) < EXACT_FIT:
            parameter = 0.0
        return float(self.back(np.asarray(parameter))) + 0.0

    @property
    def parameters(self) -> int:
        """Return how many numbers the fit is free in."""
        return 1 if self.slope_of is None else 2


def _line(model: str, t: np.ndarray) -> _Line:
    if model == LOGARITHMIC:
        return _Line(np.full(len(t), 1 / len(t)), np.log(np.log(t)), None, np.exp)
    x = t if model == GEOMETRIC else np.log(t)
    centred = x - x.mean()
    weights = centred / (centred @ centred)
    return _Line(weights, np.zeros(len(t)), x, np.exp if model == GEOMETRIC else np.negative)


MODELS = (GEOMETRIC, POWER, LOGARITHMIC)


def compare(t: np.ndarray, curve: np.ndarray) -> dict[str, float]:
    """Return Akaike's criterion of each model on one positive curve at steps `t` > 1; the smallest is the best."""
    logs, n = np.log(curve), len(t)
    lines = {model: _line(model, np.asarray(t, float)) for model in MODELS}
    return {
        model: n * np.log(np.mean(line.residuals(logs) ** 2) + EXACT_FIT**2) + 2 * line.parameters
        for model, line in lines.items()
    }


def _usable(curves: np.ndarray, floor: np.ndarray, average: str) -> np.ndarray:
    if average == MEAN:
        curves, floor = curves.mean(0, keepdims=True), floor.mean(0, keepdims=True)
    return np.all(curves > np.maximum(floor, 0), axis=0)


def window(steps: np.ndarray, curves: np.ndarray, floor: np.ndarray | float, average: str) -> np.ndarray:
    """Return the indices of the checkpoints that a rate is fitted to (none where there are too few).

    `curves` is (seed, checkpoint), `floor` (seed,) or a number. See the module's docstring for the rule.
    """
    floors = np.broadcast_to(np.asarray(floor, float), len(curves))[:, None]
    usable = _usable(curves, floors, average) & (steps > 1)
    first = int(np.argmax(steps > 1))
    beyond = np.flatnonzero(~usable[first:])
    end = first + int(beyond[0]) if len(beyond) else len(steps)
    if not (steps > 1).any() or end - first < FEWEST:
        return np.arange(0)
    start = int(np.searchsorted(steps, steps[end - 1] / BURN_IN))
    return np.arange(max(first, min(start, end - WISHED)), end)


def _student(p: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def _from_residuals(line: _Line, logs: np.ndarray, level: float) -> tuple[float, float]:
    freedom = len(logs) - line.parameters
    spread = np.sqrt(np.sum(line.residuals(logs) ** 2) / freedom * np.sum(line.weights**2))
    estimate, reach = line.weights @ (logs + line.shift), _student((1 + level) / 2, freedom) * spread
    return estimate - reach, estimate + reach


def _spread(counts: np.ndarray, samples: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the standard error of sum_t gradient_t mean_t of each row of `counts` (how often each seed was drawn)."""
    n = len(samples)
    influence = gradient @ samples.T
    centre = np.sum(counts * influence, axis=1, keepdims=True) / n
    return np.sqrt(np.sum(counts * (influence - centre) ** 2, axis=1) / (n * (n - 1)))


def _over_seeds(line: _Line, curves: np.ndarray, average: str, level: float, resamples: int) -> tuple[float, float]:
    """Return the interval of the parameter; the standard errors are those of the delta method."""
    n = len(curves)
    samples = curves if average == MEAN else np.log(curves)

    def estimate(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = counts @ samples / n
        logs, slope = (np.log(mean), 1 / mean) if average == MEAN else (mean, np.ones_like(mean))
        return (logs + line.shift) @ line.weights, _spread(counts, samples, line.weights * slope)

    value, spread = (float(part[0]) for part in estimate(np.ones((1, n))))
    tails = (1 - level) / 2, (1 + level) / 2
    if n < FEWEST_RESAMPLED:
        upper = _student(tails[1], n - 1)
        return value - upper * spread, value + upper * spread
    rng = np.random.default_rng(0)  # the same resamples for every fit: a report is reproducible to the digit
    resampled, spreads = estimate(rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float))
    whole = spreads > 0
    if spread == 0 or not whole.any():
        return value, value
    low, high = np.quantile((resampled[whole] - value) / spreads[whole], tails)
    return value - high * spread, value - low * spread


def _typical(curves: np.ndarray, average: str) -> np.ndarray:
    return curves.mean(0) if average == MEAN else np.exp(np.log(curves).mean(0))


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # a diverged lane is left out, not a mishap
def fit(
    steps: np.ndarray,
    curves: np.ndarray,
    floor: np.ndarray | float = 0.0,
    *,
    model: str | None = None,
    average: str = GEOMETRIC_MEAN,
    bounds: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
) -> Rate:
    """Return the decay of `curves` (seed, checkpoint) or of one curve (checkpoint,), `NO_RATE` where there is none.

    Curves with a value that is not finite are left out (`seeds` counts the others). `average` says which curve over
    the seeds is fitted: `geometric mean` (the typical run) or `mean` (what theorems in expectation speak of). Without
    `model`, the smallest Akaike criterion decides: on the curve of `bounds` if given (the theorem says which decay it
    speaks of, and the choice does not depend on the noise), otherwise on the measured one.
    """
    curves = np.atleast_2d(np.asarray(curves, float))
    steps = np.asarray(steps)
    whole = np.isfinite(curves).all(1)
    floors = np.broadcast_to(np.asarray(floor, float), len(curves))[whole]
    curves = curves[whole]
    index = window(steps, curves, floors, average) if whole.any() else np.arange(0)
    if not len(index):
        return NO_RATE
    t, curves = steps[index].astype(float), curves[:, index]
    curve = _typical(curves, average)
    if model is None:
        promise = None if bounds is None else _promise(bounds, index, average)
        criteria = compare(t, curve if promise is None else promise)
        model = min(criteria, key=lambda name: criteria[name])
    line = _line(model, t)
    logs = np.log(curve)
    alone = len(curves) == 1
    ends = _from_residuals(line, logs, level) if alone else _over_seeds(line, curves, average, level, resamples)
    low, high = sorted(float(line.back(np.asarray(end))) for end in ends)
    how = RESIDUALS if alone else STUDENT if len(curves) < FEWEST_RESAMPLED else BOOTSTRAP
    value = line.value(logs)
    return Rate(model, value, low, high, (int(t[0]), int(t[-1])), len(t), _r_squared(line, logs), len(curves), how)


def _r_squared(line: _Line, logs: np.ndarray) -> float:
    total = np.sum((logs - logs.mean()) ** 2)
    left = np.sum(line.residuals(logs) ** 2)
    return float(1 - left / total) if total > EXACT_FIT**2 else 1.0 if left <= EXACT_FIT**2 else np.nan


def _promise(bounds: np.ndarray, index: np.ndarray, average: str) -> np.ndarray | None:
    bounds = np.atleast_2d(np.asarray(bounds, float))[:, index]
    bounds = bounds[(np.isfinite(bounds) & (bounds > 0)).all(1)]
    return _typical(bounds, average) if len(bounds) else None


def promised(rate: Rate, steps: np.ndarray, bounds: np.ndarray, average: str = GEOMETRIC_MEAN) -> float:
    """Return what the fit of `rate` gives on the bound's own curve; NaN where the bound is silent in the window."""
    steps = np.asarray(steps)
    index = np.flatnonzero((steps >= rate.window[0]) & (steps <= rate.window[1]))
    curve = _promise(bounds, index, average) if rate.points else None
    if curve is None:
        return np.nan
    line = _line(rate.model, steps[index].astype(float))
    return line.value(np.log(curve))
