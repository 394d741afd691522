"""Fitted rates: exact on exact sequences, honest intervals, a window above the floor, the promise fitted alike."""

import numpy as np
import pytest
from synthetic import CHECKPOINTS

from results import rates

T = np.maximum(CHECKPOINTS, 1.0)
EXACT = {
    "geometric": (3 * 0.97**T, 0.97),
    "power": (3 * T**-1.5, 1.5),
    "logarithmic": (2 / np.log(np.maximum(T, 1.5)), 2.0),
}


@pytest.mark.parametrize("model", EXACT)
def test_exact_sequences_are_recognised_exactly(model):
    curve, value = EXACT[model]
    rate = rates.fit(CHECKPOINTS, curve)
    assert rate.model == model
    assert rate.value == pytest.approx(value, rel=1e-9)
    assert (rate.low, rate.high) == pytest.approx((value, value), rel=1e-9)
    assert rate.r_squared == pytest.approx(1, abs=1e-9)
    assert rate.interval == rates.RESIDUALS
    assert rates.promised(rate, CHECKPOINTS, curve) == pytest.approx(value, rel=1e-9)


def test_the_window_ends_at_the_floor_and_begins_after_burn_in():
    curve = np.where(CHECKPOINTS < 5, 1.0, 0.9**T) + 1e-12
    rate = rates.fit(CHECKPOINTS, curve, 1e-8, model="geometric")
    assert 0.9 ** rate.window[1] > 1e-8
    assert rate.value == pytest.approx(0.9, rel=1e-3)
    assert rates.fit(CHECKPOINTS, curve, 2.0) == rates.NO_RATE
    assert rates.fit(CHECKPOINTS, np.zeros_like(T)) == rates.NO_RATE


def test_a_diverged_curve_is_left_out_and_the_rest_counted():
    curves = np.tile(0.97**T, (5, 1))
    curves[2, 9:] = np.nan
    assert rates.fit(CHECKPOINTS, curves).seeds == 4
    assert rates.fit(CHECKPOINTS, curves[2]) == rates.NO_RATE


def test_the_promised_rate_is_the_same_fit_of_the_bound():
    bounds = np.tile(5 / T, (3, 1))
    measured = T**-1.3 * np.array([[0.5], [1.0], [2.0]])
    rate = rates.fit(CHECKPOINTS, measured, bounds=bounds)
    assert rate.model == "power"
    assert rate.value == pytest.approx(1.3)
    assert rates.promised(rate, CHECKPOINTS, bounds) == pytest.approx(1.0)
    assert np.isnan(rates.promised(rate, CHECKPOINTS, np.full_like(bounds, np.nan)))
    assert np.isnan(rates.promised(rates.NO_RATE, CHECKPOINTS, bounds))


def power_laws(rng, seeds):
    """Return t^-p with random p about 1, random constants and noise: log curves, and hence p, unbiased."""
    spread = 0.1 * rng.standard_normal((seeds, 1))
    return T ** -(1 + spread) * np.exp(rng.standard_normal((seeds, 1)) + 0.3 * rng.standard_normal((seeds, len(T))))


def gamma_noise(rng, seeds):
    """Return curves whose mean is 1/t."""
    return T**-1 * rng.gamma(2.0, 0.5, size=(seeds, len(T)))


def geometric(rng, seeds):
    return np.exp(-0.01 * T * (1 + 0.2 * rng.standard_normal((seeds, 1))) + 0.2 * rng.standard_normal((seeds, len(T))))


def one_noisy_curve(rng, seeds):
    return T**-1 * np.exp(0.3 * rng.standard_normal((seeds, len(T))))


CASES = [
    (power_laws, 30, "power", rates.GEOMETRIC_MEAN, 1.0),
    (power_laws, 12, "power", rates.GEOMETRIC_MEAN, 1.0),
    (power_laws, 4, "power", rates.GEOMETRIC_MEAN, 1.0),
    (gamma_noise, 30, "power", rates.MEAN, 1.0),
    (geometric, 16, "geometric", rates.GEOMETRIC_MEAN, np.exp(-0.01)),
    (one_noisy_curve, 1, "power", rates.GEOMETRIC_MEAN, 1.0),
]


def coverage(case, studies):
    draw, seeds, model, average, truth = case
    rng = np.random.default_rng(7)
    fits = (rates.fit(CHECKPOINTS, draw(rng, seeds), model=model, average=average) for _ in range(studies))
    return np.mean([fit.low <= truth <= fit.high for fit in fits])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_95_percent_interval_covers_95_percent(case):
    assert coverage(case, 900) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_a_95_percent_interval_covers_95_percent_of_many(case):
    assert coverage(case, 20_000) == pytest.approx(0.95, abs=0.015)
