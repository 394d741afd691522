"""The noise: exact, tabulated, and refused outside its range."""

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from dp_accounting import gaussian_mechanism as oracle

from algorithms.algorithm import InvalidSetting
from algorithms.deletion import HParams
from algorithms.gaussian_mechanism import indistinguishability, noise_multiplier
from algorithms.unlearning import descent_to_delete, retraining, rewind_to_delete

TABLE = {  # sigma for sensitivity 1 at delta = 1e-10, 1e-5, 1e-2, 0.1
    0.1: (54.206, 30.750, 9.542, 2.847),
    0.5: (11.436, 7.032, 3.147, 1.556),
    1.0: (5.868, 3.7306, 1.878, 1.086),
    5.0: (1.281, 0.8919, 0.5694, 0.4250),
    10.0: (0.6830, 0.4999, 0.3501, 0.2818),
    40.0: (0.2141, 0.1749, 0.1427, 0.1273),
}
DELTAS = np.array([1e-10, 1e-5, 1e-2, 0.1])


@pytest.mark.parametrize("epsilon", TABLE)
def test_sigma_is_the_tabulated_and_the_oracle_s(epsilon):
    sigma = noise_multiplier(epsilon, DELTAS)
    np.testing.assert_allclose(sigma, TABLE[epsilon], rtol=1e-3)
    reference = [oracle.get_sigma_gaussian(epsilon, delta) for delta in DELTAS]
    np.testing.assert_allclose(sigma, reference, rtol=1e-9)


@pytest.mark.parametrize("epsilon", [0.01, *TABLE])
def test_the_noise_spends_delta_and_never_more(epsilon):
    spent = indistinguishability(epsilon, 1 / jnp.asarray(noise_multiplier(epsilon, DELTAS)))
    assert np.all(np.asarray(spent) <= DELTAS)
    np.testing.assert_allclose(spent, DELTAS, rtol=1e-7)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("s", [0.02, 0.3, 1.0, 5.0])
def test_indistinguishability_against_sixty_digits(epsilon, s):
    with mpmath.workdps(60):
        e, d = mpmath.mpf(epsilon), mpmath.mpf(s)
        exact = mpmath.ncdf(d / 2 - e / d) - mpmath.exp(e) * mpmath.ncdf(-d / 2 - e / d)
    np.testing.assert_allclose(indistinguishability(epsilon, jnp.asarray(s)), float(exact), rtol=1e-9)


def test_no_distance_costs_nothing_and_no_noise_everything():
    assert indistinguishability(1.0, jnp.asarray(0.0)) == 0
    assert indistinguishability(1.0, jnp.asarray(jnp.inf)) == 1


@pytest.mark.parametrize("algorithm", [rewind_to_delete, descent_to_delete, retraining])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"delta": float("nan")}, "delta"),
        ({"eta": 0.0}, "eta"),
        ({"eta": np.array([0.1, -0.1])}, "eta"),
        ({"T": -1.0}, "T = "),
        ({"T": 2.5}, "T = "),
        ({"noise_scale": -1.0}, "noise_scale"),
    ],
)
def test_impossible_settings_are_refused(algorithm, setting, message):
    valid = {"eta": 0.1, "K": 1.0, "T": 10.0}
    with pytest.raises(InvalidSetting, match=message):
        algorithm.algorithm.prepare(HParams(**(valid | setting)))


@pytest.mark.parametrize("K", [-1.0, 1.5])
@pytest.mark.parametrize("algorithm", [rewind_to_delete, descent_to_delete])
def test_impossible_unlearning_steps_are_refused(algorithm, K):
    with pytest.raises(InvalidSetting, match="K = "):
        algorithm.algorithm.prepare(HParams(eta=0.1, K=K, T=10.0))


def test_only_rewinding_is_limited_by_the_learning_steps():
    hp = HParams(eta=0.1, K=11.0, T=10.0)
    with pytest.raises(InvalidSetting, match="0 <= K <= T"):
        rewind_to_delete.algorithm.prepare(hp)
    assert descent_to_delete.algorithm.prepare(hp).K == 11


def test_prepare_fills_the_noise_of_whole_grids():
    hp = HParams(eta=0.1, K=1.0, T=10.0, epsilon=np.array([[0.5], [1.0]]), delta=np.array([1e-5, 1e-2]))
    filled = rewind_to_delete.algorithm.prepare(hp).noise_multiplier
    assert filled.shape == (2, 2)
    np.testing.assert_allclose(filled[1, 0], 3.7306, rtol=1e-4)
