"""First-order methods against their theorems, on admitted settings and on the controls."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from lanes import chosen, curves, is_violated, judged, misstated, setting

from algorithms.first_order import adam, gradient_descent, nesterov, stochastic_gradient_descent
from algorithms.from_optax import from_optax
from algorithms.theorem import Source

METHODS = (gradient_descent, nesterov, stochastic_gradient_descent)
CLAIMS = [(module.algorithm, theorem) for module in METHODS for theorem in module.algorithm.theorems]
PROBLEMS = (
    "quadratic[d=8]",
    "logistic_regression[n=100,d=5]",
    "logistic_regression[n=100,d=5,l2=0.01]",
    "least_squares[n=60,d=6]",
    "rank_deficient_least_squares",
    "huber",
    "sine_squared",
    "robust_regression[n=100,d=5]",
)


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request):
    return chosen(request.param)


def random_settings(algorithm: Any, problem: Any, count: int) -> Any:
    """Return `count` settings with step sizes up to 1/L and, for half of those told it, up to the true mu."""
    c, default = problem.constants, setting(algorithm, "eta=1/L,", problem)
    eta_key, mu_key = jax.random.split(jax.random.key(4))
    shares = jax.random.uniform(eta_key, (count,), minval=0.02).at[0].set(1.0)
    told = {"eta": shares / c.L}
    if hasattr(default, "mu") and c.mu is not None:
        told["mu"] = jnp.where(jnp.arange(count) % 2 == 0, c.mu * jax.random.uniform(mu_key, (count,)), 0.0)
    lanes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count,)), default)
    return lanes.replace(**told)


@pytest.mark.parametrize("method", [gradient_descent, nesterov], ids=lambda module: module.algorithm.name)
def test_bounds_hold_on_random_admitted_settings(method, problem):
    algorithm = method.algorithm
    theorems = tuple(theorem for theorem in algorithm.theorems if theorem.assumes in problem.family.regularity)
    if not theorems:
        pytest.skip("no theorem speaks of the pair")
    hp, keys = random_settings(algorithm, problem, 12), jax.random.split(jax.random.key(1), 12)
    for theorem, sides in zip(theorems, curves(algorithm, theorems, problem, hp, keys, 150), strict=True):
        admitted = np.asarray(theorem.admits(problem.constants, hp))
        assert admitted.any()
        values, bounds, floors = (np.asarray(side)[admitted] for side in sides)
        assert np.isfinite(values).all() and np.isfinite(bounds).all()
        assert not is_violated(theorem, values, bounds, floors)


STOCHASTIC = {
    "stochastic_gradient_descent_constant": "eta=1/(2*L_max)",
    "stochastic_gradient_descent_decaying": "eta=1/(2*L_max),mu=mu,decay_from=4*ceil(L_max/mu)",
}


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("theorem", stochastic_gradient_descent.algorithm.theorems, ids=lambda theorem: theorem.name)
def test_stochastic_bounds_hold_in_the_mean(theorem, batch_size):
    problem, algorithm = chosen("least_squares[n=60,d=6]"), stochastic_gradient_descent.algorithm
    hp = setting(algorithm, STOCHASTIC[theorem.name], problem).replace(batch_size=batch_size)
    assert theorem.admits(problem.constants, hp)
    values, bounds, floors = judged(algorithm, theorem, problem, hp, 32, 600)
    assert np.isfinite(bounds[:, -1]).all()
    assert not is_violated(theorem, values, bounds, floors)


def test_the_decaying_bound_is_at_most_the_published_one():
    problem = chosen("least_squares[n=60,d=6]")
    c = problem.constants
    hp = setting(stochastic_gradient_descent.algorithm, STOCHASTIC["stochastic_gradient_descent_decaying"], problem)
    t = jnp.arange(1.0, 20_000.0)
    bound = stochastic_gradient_descent.decaying_bound(t, c, hp, jnp.asarray(3.0))
    K = jnp.ceil(c.L_max / c.mu)
    published = 8 * c.sigma_star_sq / (c.mu**2 * t) + 16 * K**2 * 3.0 / (jnp.e**2 * t**2)
    assert jnp.all(jnp.isnan(bound) == (t < 4 * K))
    assert jnp.all(bound[t >= 4 * K] <= published[t >= 4 * K])


@pytest.mark.parametrize(("algorithm", "theorem"), CLAIMS, ids=lambda v: v.name)
def test_the_control_is_caught(algorithm, theorem):
    control = theorem.control
    problem = misstated(chosen(control.problem), control.misstate)
    hp = setting(algorithm, control.setting, problem)
    assert is_violated(theorem, *judged(algorithm, theorem, problem, hp, control.seeds, control.steps))


def test_huber_attains_the_bound_at_its_step_and_only_there():
    problem, theorem = chosen("huber[N=50]"), gradient_descent.convex
    hp = setting(gradient_descent.algorithm, "eta=1/L", problem)
    values, bounds, _ = judged(gradient_descent.algorithm, theorem, problem, hp, 3, 60)
    ratio = values / bounds
    assert ratio[:, 49] == pytest.approx(1.0, abs=1e-12)
    assert np.all(np.delete(ratio, 49, axis=1) < 1 - 1e-6)


@struct.dataclass
class Eta:
    eta: Any = "1/L"


def last_points(algorithm: Any, hp: Any, problem: Any, steps: int = 20) -> Any:
    state, step = (
        algorithm.init(problem, problem.init(jax.random.key(3)), jax.random.key(4), hp),
        jax.jit(algorithm.step),
    )
    for t in range(steps):
        state = step(problem, state, jax.random.key(t), hp)
    return algorithm.readout(state)


def test_optax_sgd_is_gradient_descent():
    problem = chosen("quadratic[d=8]")
    wrapped = from_optax("optax_sgd", lambda hp: optax.sgd(hp.eta), Eta, Source("optax", 2024, "sgd", "docs"))
    ours, theirs = (
        last_points(a, setting(a, "eta=0.7/L", problem), problem) for a in (gradient_descent.algorithm, wrapped)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_adam_begins_with_a_sign_step():
    problem = chosen("quadratic[d=8]")
    x0 = problem.init(jax.random.key(3))
    x1 = last_points(adam.algorithm, setting(adam.algorithm, "eta=0.01", problem), problem, 1)
    np.testing.assert_allclose(x1, x0 - 0.01 * jnp.sign(problem.grad(x0)), atol=1e-7)


def test_nesterov_without_convexity_told_is_fista():
    problem = chosen("least_squares[n=60,d=6]")
    hp = setting(nesterov.algorithm, "eta=1/L", problem)
    x = y = problem.init(jax.random.key(3))
    theta = 1.0
    for _ in range(20):
        x_next = y - hp.eta * problem.grad(y)
        theta_next = (1 + (1 + 4 * theta**2) ** 0.5) / 2
        x, y, theta = x_next, x_next + (theta - 1) / theta_next * (x_next - x), theta_next
    np.testing.assert_allclose(last_points(nesterov.algorithm, hp, problem), x, rtol=1e-10)
