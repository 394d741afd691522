"""What single families promise beyond the words that all share."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from problems.convex import huber, logistic_regression
from problems.nonconvex import mlp_classifier, robust_regression, sine_squared


def test_retained_logistic_regression_is_the_mean_over_the_kept_rows():
    problem = logistic_regression.make(jax.random.key(0), n=60, d=4, l2=0.1, forgotten=7)
    x = problem.init(jax.random.key(1))
    rows = np.asarray(problem.data.design.A)[:-7]
    expected = np.mean(np.log1p(np.exp(-rows @ x))) + 0.05 * np.sum(np.asarray(x) ** 2)
    assert problem.retained().value(x) == pytest.approx(expected, rel=1e-14)


def test_retained_robust_regression_is_the_mean_over_the_kept_rows():
    problem = robust_regression.make(jax.random.key(0), n=60, d=4, forgotten=7)
    x = problem.init(jax.random.key(1))
    r = np.asarray(problem.data.design.A)[:-7] @ np.asarray(x) - np.asarray(problem.data.b)[:-7]
    assert problem.retained().value(x) == pytest.approx(float(np.mean(0.5 * r**2 / (1 + r**2))), rel=1e-14)


def test_retained_records_alone_are_sampled():
    problem = logistic_regression.make(jax.random.key(0), n=60, d=4, forgotten=50).retained()
    drawn = problem.sample(jax.random.key(1), 200).data
    assert jnp.all(drawn.kept == 1) and jnp.sum(drawn.weight) == pytest.approx(1)


def test_separable_data_claim_no_minimiser():
    keys = jax.random.split(jax.random.key(0), 200)
    made = jax.jit(jax.vmap(lambda key: logistic_regression.make(key, n=5, d=1, forgotten=1)))(keys)
    rows = made.data.design.A[..., 0]
    separable = jnp.all(rows > 0, axis=1) | jnp.all(rows < 0, axis=1)
    assert 0 < jnp.sum(separable) < 200
    assert jnp.all(jnp.isnan(made.constants.f_star) == separable)
    assert jnp.all(jnp.isnan(made.x_star[:, 0]) == separable)


def family_of(make, **chosen):
    return jax.eval_shape(lambda key: make(key, **chosen), jax.random.key(0)).family


def test_l2_decides_the_family_and_parameters_do_not_make_new_ones():
    assert family_of(logistic_regression.make) is logistic_regression.LOGISTIC
    assert family_of(logistic_regression.make, l2=0.1) is logistic_regression.RIDGE_LOGISTIC
    assert family_of(mlp_classifier.make, width=4, records=20) is family_of(mlp_classifier.make, width=4)


def test_sup_of_the_robust_loss():
    r = jnp.linspace(-10, 10, 200_001)
    slope = jax.vmap(jax.grad(robust_regression.loss))
    assert jnp.max(slope(r)) == pytest.approx(3 * np.sqrt(3) / 16, rel=1e-8)
    curvature = jax.vmap(jax.grad(jax.grad(lambda r: 0.5 * r**2 / (1 + r**2))))
    assert jnp.max(jnp.abs(curvature(r))) == pytest.approx(1.0, rel=1e-8)


def test_sine_squared_certificate():
    w = jnp.linspace(jnp.pi / 2, 4, 250_001)
    assert w[1] - w[0] <= 1e-5
    g, slope = w**2 + 3 * jnp.sin(w) ** 2, 2 * w + 3 * jnp.sin(2 * w)
    assert jnp.min(slope**2 - 2 * sine_squared.MU_PL * g) > 180 * 5e-6


@pytest.mark.parametrize(("N", "h", "L"), [(100, 1.0, 1.0), (7, 0.3, 2.5), (1, 1.0, 1.0)])
def test_gradient_descent_attains_its_bound_on_huber(N, h, L):
    problem = huber.make(jax.random.key(0), N=N, h=h, L=L)
    x = problem.init(jax.random.key(1))
    for _ in range(N):
        x = x - h / L * problem.grad(x)
    assert problem.value(x) * (4 * N * h / L + 2 / L) == pytest.approx(1.0, abs=1e-12)


def test_measured_curvature_of_the_network():
    problem = mlp_classifier.make(jax.random.key(0), width=4, records=50)
    x = problem.init(jax.random.key(1))
    flat, unravel = jax.flatten_util.ravel_pytree(x)
    hessian = jax.jit(jax.hessian(lambda v: problem.value(unravel(v))))(flat)
    largest = jnp.max(jnp.abs(jnp.linalg.eigvalsh(hessian)))
    measured = jax.jit(dict(problem.family.measures)["measured_L"])(problem.data, x)
    assert 0.8 * largest <= measured <= largest * (1 + 1e-12)
