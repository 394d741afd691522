"""Certificates are functions of declared constants; what cannot be certified is refused with its reason."""

import math

import numpy as np
import pytest
from dp_accounting import gaussian_mechanism as oracle

from algorithms.algorithm import InvalidSetting
from algorithms.certificates import (
    BECAUSE,
    Declared,
    LossClass,
    Training,
    Void,
    certify,
    descent_sensitivity,
    reconstructed_sensitivity,
    rewind_sensitivity,
    sequential_sensitivity,
)
from algorithms.gaussian_mechanism import analytic_sigma, classic_sigma, zcdp_sigma

CONVEX, STRONG, NONCONVEX = LossClass.CONVEX, LossClass.STRONGLY_CONVEX, LossClass.NONCONVEX
DECLARED = {
    CONVEX: Declared(CONVEX, G=1.0, L=0.25),
    STRONG: Declared(STRONG, G=1.0, L=0.35, mu=0.1),
    NONCONVEX: Declared(NONCONVEX, G=0.5, L=0.2),
}


def training(**changes):
    return Training(**{"eta": 1.0, "T": 100, "K": 40, "n": 1000, "forgotten": 10, **changes})


def test_sensitivities_are_the_closed_forms():
    a, g = 2 * 1.0 * 1.0 * 10 / 1000, 0.9
    assert rewind_sensitivity(DECLARED[CONVEX], training()) == pytest.approx(a * 60, rel=1e-12)
    expected = a * (g**40 - g**100) / (1 - g)
    assert rewind_sensitivity(DECLARED[STRONG], training()) == pytest.approx(expected, rel=1e-12)
    expected = (a * 0.5 / 0.2) * (1.2**100 - 1.2**40)
    assert rewind_sensitivity(DECLARED[NONCONVEX], training()) == pytest.approx(expected, rel=1e-12)
    assert descent_sensitivity(DECLARED[STRONG], training(radius=3.0)) == pytest.approx(6 * 0.9**40, rel=1e-12)
    assert rewind_sensitivity(DECLARED[NONCONVEX], training(radius=3.0)) == 6.0


@pytest.mark.parametrize("changes", [{"forgotten": 0}, {"K": 100}])
def test_nothing_deleted_or_everything_retrained_needs_no_noise(changes):
    for declared in DECLARED.values():
        certificate = certify(declared, training(**changes), 1.0, 1e-5)
        assert certificate.certified and certificate.sensitivity == 0 and certificate.sigma == 0


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("delta", [1e-10, 1e-5, 0.1])
def test_analytic_sigma_is_exact_and_errs_on_the_private_side(epsilon, delta):
    sigma = analytic_sigma(epsilon, delta, 1.0)
    assert sigma == pytest.approx(oracle.get_sigma_gaussian(epsilon, delta), rel=1e-9)
    assert oracle.get_epsilon_gaussian(sigma, delta) <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "delta", "classic", "zcdp"),
    [(0.1, 1e-10, 1.26, 1.25), (0.1, 0.1, 7.90, 7.62), (0.5, 1e-5, 1.38, 1.38), (0.5, 1e-2, 1.98, 1.98)],
)
def test_older_calibrations_add_more_noise_by_known_factors(epsilon, delta, classic, zcdp):
    exact = analytic_sigma(epsilon, delta, 1.0)
    assert classic_sigma(epsilon, delta, 1.0) / exact == pytest.approx(classic, abs=0.006)
    assert zcdp_sigma(epsilon, delta, 1.0) / exact == pytest.approx(zcdp, abs=0.006)


def test_the_classic_formula_is_refused_where_it_would_be_wrong():
    with pytest.raises(InvalidSetting, match="proven for epsilon < 1"):
        classic_sigma(1.0, 1e-5, 1.0)
    formula = math.sqrt(2 * math.log(1.25 / 1e-5)) / 10
    assert formula / analytic_sigma(10.0, 1e-5, 1.0) == pytest.approx(0.969, abs=5e-4)  # too little noise
    assert oracle.get_epsilon_gaussian(formula, 1e-5) > 10


@pytest.mark.parametrize("void", list(BECAUSE))
def test_what_voids_a_certificate_is_said_and_refused_where_one_is_required(void):
    for declared in DECLARED.values():
        certificate = certify(declared, training(void=void), 1.0, 1e-5)
        assert not certificate.certified and BECAUSE[void] in str(certificate) and math.isnan(certificate.sigma)
        with pytest.raises(InvalidSetting, match="cannot be certified"):
            certify(declared, training(void=void), 1.0, 1e-5, required=True)


def test_every_void_has_its_reason():
    assert set(BECAUSE) == set(Void)


def test_without_constants_nothing_is_certified():
    assert "no constants are declared" in str(certify(None, training(), 1.0, 1e-5))
    with pytest.raises(InvalidSetting, match="no constants are declared"):
        certify(None, training(), 1.0, 1e-5, required=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta": 0.0}, "eta = 0"),
        ({"eta": -1.0}, "eta = -1"),
        ({"eta": math.nan}, "eta = nan"),
        ({"K": -1}, "K = -1"),
        ({"K": 101}, "0 <= K <= T"),
        ({"forgotten": -1}, "0 <= m < n"),
        ({"forgotten": 1000}, "0 <= m < n"),
        ({"radius": 0.0}, "positive radius"),
        ({"radius": 1.0, "start_norm": 2.0}, "outside the ball"),
        ({"batch_size": 991}, "at most n - m = 990"),
    ],
)
def test_a_training_without_meaning_is_refused(changes, message):
    with pytest.raises(InvalidSetting, match=message):
        training(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"G": -1.0}, "G = -1"),
        ({"G": None}, "G = None"),
        ({"L": -1.0}, "L = -1"),
        ({"L": None}, "L = None"),
        ({"L": 0.0}, "L = 0"),
        ({"mu": -0.1}, "mu = -0.1"),
        ({"mu": None}, "mu = None"),
        ({"mu": 0.5}, "mu = 0.5 > L"),
        ({"mu": 0.0}, "mu > 0"),
        ({"L": math.inf}, "L = inf"),
    ],
)
def test_constants_without_meaning_are_refused(changes, message):
    with pytest.raises(InvalidSetting, match=message):
        Declared(**{"loss_class": STRONG, "G": 1.0, "L": 0.35, "mu": 0.1, **changes})


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 0.1), (-1, 0.1), (math.nan, 0.1), (1, 0), (1, 1), (1, math.nan)])
def test_targets_without_meaning_are_refused(epsilon, delta):
    for refused in (
        lambda: certify(DECLARED[CONVEX], training(), epsilon, delta),
        lambda: zcdp_sigma(epsilon, delta, 1.0),
    ):
        with pytest.raises(InvalidSetting, match=r"epsilon|delta"):
            refused()


def test_steps_outside_the_range_of_the_class_are_refused_and_the_range_named():
    with pytest.raises(InvalidSetting, match=r"eta <= 2/L = 8"):
        certify(DECLARED[CONVEX], training(eta=8.1), 1.0, 1e-5)
    with pytest.raises(InvalidSetting, match=r"eta <= 2/\(L \+ mu\)"):
        certify(DECLARED[STRONG], training(eta=4.5), 1.0, 1e-5)
    assert certify(DECLARED[NONCONVEX], training(eta=100.0, T=5, K=1), 1.0, 1e-5).certified


def test_descending_is_certified_in_the_strongly_convex_class_alone():
    for loss_class in (CONVEX, NONCONVEX):
        with pytest.raises(InvalidSetting, match="no bound decreases in K"):
            certify(DECLARED[loss_class], training(radius=1.0), 1.0, 1e-5, sensitivity=descent_sensitivity)
    with pytest.raises(InvalidSetting, match="radius"):
        certify(DECLARED[STRONG], training(), 1.0, 1e-5, sensitivity=descent_sensitivity)
    assert certify(DECLARED[STRONG], training(radius=1.0), 1.0, 1e-5, sensitivity=descent_sensitivity).certified


def test_sequential_requests_are_certified_up_to_half_of_the_records():
    certificate = certify(DECLARED[STRONG], training(), 1.0, 1e-5, sensitivity=sequential_sensitivity, sigma=zcdp_sigma)
    shrink, root = 0.9**40, math.sqrt(math.log(1e5))
    published = 4 * math.sqrt(2) * shrink / (0.1 * 1000 * (1 - shrink) * (math.sqrt(math.log(1e5) + 1) - root))
    assert certificate.sigma == pytest.approx(published, rel=1e-12)
    with pytest.raises(InvalidSetting, match="up to half"):
        sequential_sensitivity(DECLARED[STRONG], training(forgotten=501))
    with pytest.raises(InvalidSetting, match="no bound decreases in K"):
        sequential_sensitivity(DECLARED[CONVEX], training())


def test_a_reconstructed_checkpoint_costs_its_error_and_has_a_horizon():
    for loss_class, declared in DECLARED.items():
        more = reconstructed_sensitivity(declared, training(T=20, K=20))  # rewinding to the start costs nothing else
        growth = {STRONG: 0.9, CONVEX: 1.0, NONCONVEX: 1.2}[loss_class]
        expected = 2.0**-52 * ((1 - declared.L) / growth) ** -20
        assert more == pytest.approx(expected, rel=1e-9)
    with pytest.raises(InvalidSetting, match="eta L < 1"):
        reconstructed_sensitivity(DECLARED[CONVEX], training(eta=4.0))
    with pytest.raises(InvalidSetting, match="rounding has eaten the checkpoint"):
        reconstructed_sensitivity(DECLARED[CONVEX], training(T=200, K=120))
    with pytest.raises(InvalidSetting, match="beyond 31 steps back"):  # float32: log(1e-3 2^23)/log(4/3)
        reconstructed_sensitivity(DECLARED[CONVEX], training(K=40), rounding=2.0**-23)
    with pytest.raises(InvalidSetting, match="the very batches"):
        reconstructed_sensitivity(DECLARED[CONVEX], training(K=20, batch_size=10))


def test_a_bound_that_overflows_and_noise_below_rounding_are_refused():
    with pytest.raises(InvalidSetting, match="overflows"):
        certify(DECLARED[NONCONVEX], training(T=10_000), 1.0, 1e-5)
    late = training(T=1000, K=900)
    assert certify(DECLARED[STRONG], late, 1.0, 1e-5).certified
    with pytest.raises(InvalidSetting, match="below the rounding"):
        certify(DECLARED[STRONG], late, 1.0, 1e-5, parameter_size=10.0)


def test_noise_is_proportional_to_m_and_to_one_over_n_and_falls_in_K():
    for declared in DECLARED.values():
        one = certify(declared, training(T=50, K=10, forgotten=1), 1.0, 1e-5).sigma
        assert certify(declared, training(T=50, K=10, forgotten=7), 1.0, 1e-5).sigma == pytest.approx(
            7 * one, rel=1e-12
        )
        wide = certify(declared, training(T=50, K=10, forgotten=1, n=5000), 1.0, 1e-5).sigma
        assert wide == pytest.approx(one / 5, rel=1e-12)
        falling = [certify(declared, training(T=50, K=K), 1.0, 1e-5).sigma for K in range(0, 51, 5)]
        assert np.all(np.diff(falling) < 0)
