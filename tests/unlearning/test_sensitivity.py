"""Unlearned against retrained: bounds attained where they are tight, valid elsewhere, and broken by their controls."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from deletion_curves import curves

from algorithms.deletion import PRIVACY_SPENT, SENSITIVITY, HParams, choose
from algorithms.sensitivity import nonconvex_sensitivity, source_sensitivity, strongly_convex_sensitivity
from algorithms.theorem import Holds
from algorithms.unlearning import descent_to_delete, retraining, rewind_to_delete
from problems.constants import Constants
from problems.convex import logistic_regression, tight_deletion

KEY = jax.random.key(0)
T = 50
REWINDS = np.array([0.0, 1, 5, 20, 49, 50])


@cache
def logistic(l2=0.0):
    return jax.jit(lambda key: logistic_regression.make(key, n=60, d=5, l2=l2))(KEY)


def settings(eta=0.05, K=REWINDS, **others):
    return HParams(eta=eta, K=K, T=float(T), **others)


def run(algorithm, problem, hp, x0, theorem, steps=2 * T):
    """Return the theorem's metric and bound, (setting, step); no run is longer than 2 T."""
    seen = curves(algorithm, problem, hp, steps, theorem, x0=x0)
    return seen[theorem.metric.name], seen["bound"]


@pytest.mark.parametrize(
    ("theorem", "curvature"),
    [
        (rewind_to_delete.strongly_convex, 1.0),
        (rewind_to_delete.convex, 0.0),
        (rewind_to_delete.nonconvex, -1.0),
    ],
)
def test_rewind_bounds_are_attained_at_every_step_and_rewind(theorem, curvature):
    problem = tight_deletion.make(KEY, curvature=curvature)
    value, bound = run(rewind_to_delete.algorithm, problem, settings(), jnp.zeros(1), theorem)
    np.testing.assert_allclose(value[:-1, 1:] / bound[:-1, 1:], 1.0, rtol=1e-9)
    assert np.all(value[:, 0] == 0)
    assert np.all(bound[:, 0] == 0)
    assert np.all(value[-1] < 1e-12)  # exact retraining, up to rounding of |u| < 200
    assert np.all(bound[-1] == 0)


def test_descent_bound_is_attained_from_the_far_side_of_both_minimisers():
    problem = tight_deletion.make(KEY, curvature=1.0)
    theorem = descent_to_delete.strongly_convex
    value, bound = run(descent_to_delete.algorithm, problem, settings(), jnp.full(1, -5.0), theorem)
    assert np.all(np.isnan(bound[:, :T]))
    np.testing.assert_allclose(value[:, T:] / bound[:, T:], 1.0, rtol=1e-9)
    value, bound = run(descent_to_delete.algorithm, problem, settings(), jnp.full(1, 5.0), theorem)
    assert np.all(value[:, T:] <= bound[:, T:] * (1 + 1e-9))


@pytest.mark.parametrize(("method", "ends"), [(rewind_to_delete, 0 * REWINDS + T), (descent_to_delete, T + REWINDS)])
def test_certificate_is_spent_exactly_on_the_tight_instance(method, ends):
    problem = tight_deletion.make(KEY, curvature=1.0)
    value, bound = run(method.algorithm, problem, settings(), jnp.full(1, -5.0), method.certificate)
    np.testing.assert_array_equal(np.isnan(bound), np.arange(2 * T + 1) < ends[:, None])
    spent = value[:-1, -1]
    assert np.all(spent <= 1e-5)
    np.testing.assert_allclose(spent, 1e-5, rtol=1e-6)


@pytest.mark.parametrize("method", [rewind_to_delete, descent_to_delete])
def test_half_the_noise_breaks_the_certificate(method):
    problem = tight_deletion.make(KEY, curvature=1.0)
    hp = settings(noise_scale=0.5)
    assert not method.certificate.admits(problem.constants, hp)
    value, _ = run(method.algorithm, problem, hp, jnp.full(1, -5.0), method.certificate)
    assert np.all(value[:-1, -1] > 50 * 1e-5)


@pytest.mark.parametrize("l2", [0.01, 0.0])
@pytest.mark.parametrize("algorithm", [rewind_to_delete.algorithm, descent_to_delete.algorithm])
def test_bounds_hold_on_logistic_regression(algorithm, l2):
    problem = logistic(l2)
    hp = settings(eta=np.repeat([0.1, 1.9], len(REWINDS)) / problem.constants.L_max, K=np.tile(REWINDS, 2))
    every_run = (theorem for theorem in algorithm.theorems if theorem.holds is Holds.EVERY_RUN)
    for theorem in every_run:
        if theorem.assumes in problem.family.regularity:
            assert np.all(theorem.admits(problem.constants, hp))
            value, bound = run(algorithm, problem, hp, problem.init(KEY), theorem)
            claimed = ~np.isnan(bound)
            assert np.all(value[claimed] <= bound[claimed] * (1 + 1e-9) + 1e-13), theorem.name


def test_a_wrong_gradient_bound_is_caught():
    for algorithm, theorem, curvature in (
        (rewind_to_delete.algorithm, rewind_to_delete.strongly_convex, 1.0),
        (rewind_to_delete.algorithm, rewind_to_delete.convex, 0.0),
        (descent_to_delete.algorithm, descent_to_delete.strongly_convex, 1.0),
    ):
        problem = tight_deletion.make(KEY, curvature=curvature)
        wrong = replace(problem, constants=replace(problem.constants, G=0.1 * problem.constants.G))
        value, bound = run(algorithm, wrong, settings(K=np.array([20.0])), jnp.zeros(1), theorem)
        assert value[0, T] / bound[0, T] > 5


def test_descending_without_rewinding_breaks_the_nonconvex_bound():
    problem = tight_deletion.make(KEY, curvature=-1.0)
    value, bound = run(
        descent_to_delete.algorithm,
        problem,
        settings(K=np.array([20.0])),
        jnp.zeros(1),
        rewind_to_delete.nonconvex,
    )
    assert value[0, T + 20] / bound[0, T + 20] > 2


def test_descent_publishes_no_noise_where_nothing_is_proven():
    for curvature in (0.0, -1.0):
        problem = tight_deletion.make(KEY, curvature=curvature)
        state = advance(descent_to_delete.algorithm, problem, settings(K=20.0), jnp.zeros(1))
        assert state.sigma == 0
        assert PRIVACY_SPENT.measure(problem, state.x, state) == 1


def advance(algorithm, problem, hp, x0, steps=2 * T):
    hp = algorithm.prepare(hp)
    state = algorithm.init(problem, x0, KEY, hp)
    return jax.lax.fori_loop(0, steps, lambda _, s: algorithm.step(problem, s, KEY, hp), state)


def test_rewinding_all_the_way_is_retraining():
    problem = logistic()
    x0, eta = problem.init(KEY), 1 / problem.constants.L_max
    rewound = advance(rewind_to_delete.algorithm, problem, settings(eta=eta, K=float(T)), x0)
    retrained = advance(retraining.algorithm, problem, settings(eta=eta, K=3.0), x0)
    published = rewind_to_delete.readout(rewound)
    np.testing.assert_allclose(published, retraining.algorithm.readout(retrained), rtol=1e-13)
    assert rewound.sigma == 0
    assert SENSITIVITY.measure(problem, retrained.x, retrained) == 0
    assert PRIVACY_SPENT.measure(problem, retrained.x, retrained) == 0


def test_no_unlearning_step_is_the_learned_model_and_noise():
    problem = logistic()
    x0, eta = problem.init(KEY), 1 / problem.constants.L_max
    rewound = advance(rewind_to_delete.algorithm, problem, settings(eta=eta, K=0.0), x0)
    descended = advance(descent_to_delete.algorithm, problem, settings(eta=eta, K=0.0), x0)
    x = x0
    for _ in range(T):
        x = x - eta * problem.grad(x)
    np.testing.assert_allclose(rewound.x, x, rtol=1e-11)
    np.testing.assert_allclose(descended.x, x, rtol=1e-11)
    np.testing.assert_allclose(rewind_to_delete.readout(rewound), rewound.x + rewound.sigma * rewound.noise, rtol=1e-13)
    assert rewound.sigma > 0


@pytest.mark.parametrize(
    ("method", "switch", "end"), [(rewind_to_delete, T - 20, T), (descent_to_delete, T, T + 20), (retraining, 0, T)]
)
def test_a_run_is_learning_then_unlearning_then_standing_still(method, switch, end):
    problem = logistic()
    x0, eta = problem.init(KEY), 1 / problem.constants.L_max
    state = advance(method.algorithm, problem, settings(eta=eta, K=20.0), x0, steps=2 * T)
    u = v = x0
    for t in range(end):
        u = u - eta * (problem if t < switch else problem.retained()).grad(u)
    for _ in range(T):
        v = v - eta * problem.retained().grad(v)
    np.testing.assert_allclose(state.x, u, rtol=1e-11)
    np.testing.assert_allclose(state.retrained, v, rtol=1e-11)


def test_only_what_deletion_changes_is_selected():
    problem = logistic()
    chosen = choose(jnp.asarray(True), problem, problem.retained())
    assert chosen.data.design.A is problem.data.design.A
    assert chosen.constants.L_max is problem.constants.L_max
    np.testing.assert_array_equal(chosen.data.weight, problem.data.weight)
    chosen = choose(jnp.asarray(False), problem, problem.retained())
    np.testing.assert_array_equal(chosen.data.weight, problem.retained().data.weight)


def exact(g, learned, unlearned, a):
    return mpmath.mpf(a) * g**unlearned * (g**learned - 1) / (g - 1)


@pytest.mark.parametrize("eta", [1e-6, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize(("learned", "unlearned"), [(1, 0), (60, 40), (500, 300)])
def test_log_space_sensitivities_against_sixty_digits(eta, learned, unlearned):
    c = Constants(L_max=1.0, mu_min=0.3, G=2.0, n=200.0, forgotten=10.0)
    hp = HParams(eta=eta, K=unlearned, T=learned + unlearned)
    with mpmath.workdps(60):
        a = 2 * mpmath.mpf(eta) * 2 * 10 / 200
        growing = exact(1 + mpmath.mpf(eta), learned, unlearned, a)
        decaying = exact(1 - mpmath.mpf(eta) * mpmath.mpf(0.3), learned, unlearned, a)
    np.testing.assert_allclose(nonconvex_sensitivity(c, hp, learned, unlearned), float(growing), rtol=2e-12)
    np.testing.assert_allclose(strongly_convex_sensitivity(c, hp, learned, unlearned), float(decaying), rtol=2e-12)


@pytest.mark.parametrize("K", [0, 15, 30, 45, 59])
def test_the_published_nonconvex_form_is_never_below_the_derived_one(K):
    c = Constants(L_max=1.0, G=1.0, n=200.0, forgotten=10.0)
    hp = HParams(eta=0.2 / 1.0, K=K, T=60)
    ratio = source_sensitivity(c, hp) / nonconvex_sensitivity(c, hp, hp.T - hp.K, hp.K)
    assert ratio >= 1
    expected = {0: 1.69, 15: 1.48, 30: 1.30, 45: 1.15, 59: 1.05}[K]
    assert abs(ratio - expected) < 0.01
