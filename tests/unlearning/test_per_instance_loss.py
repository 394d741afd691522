"""What one record is worth: shifts against their definition, radii that hold and are attained, ranks that predict."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import spearmanr

from algorithms.algorithm import InvalidSetting
from algorithms.unlearning import per_instance_privacy_loss as per_instance
from algorithms.unlearning.per_instance_privacy_loss import HParams, algorithm, gradients, loss_barrier
from problems.convex import logistic_regression, tight_deletion
from problems.nonconvex import robust_regression

KEY, NOISE = jax.random.key(0), jax.random.key(1)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


@once
def states(problem, hp, steps, keys):
    """Return the last states, (seed, record), of runs on noise that all records share."""

    def lane(key, one):
        start_key, noise_key = jax.random.split(key)
        start = algorithm.init(problem, problem.init(start_key), key, one)

        def advance(t, state):
            return algorithm.step(problem, state, jax.random.fold_in(noise_key, t), one)

        return jax.lax.fori_loop(0, steps, advance, start)

    return jax.vmap(jax.vmap(lane, (None, 0)), (0, None))(keys, hp)


def run(problem, records, steps, seeds=1, **others):
    """Return the settings, one for each record, and the last states, (seed, record)."""
    hp = algorithm.prepare(HParams(record=np.asarray(records), **others))
    hp = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (len(records),)), hp)
    return hp, states(problem, hp, steps, jax.random.split(NOISE, seeds))


@partial(once, static_argnames="theorem")
def both_sides(theorem, problem, hp, state):
    def one(state, hp):
        given = [metric.measure(problem, state.x, state) for metric in theorem.given]
        bound = theorem.bound(jnp.asarray(state.t, float), problem.constants, hp, *given)
        return theorem.metric.measure(problem, state.x, state), bound

    return jax.vmap(jax.vmap(one), (0, None))(state, hp)


def sides(theorem, problem, hp, state):
    """Return the theorem's value and bound, (seed, record)."""
    return [np.asarray(side) for side in both_sides(theorem, problem, hp, state)]


@cache
def logistic(n=150, d=5, l2=0.05):
    return once(lambda key: logistic_regression.make(key, n=n, d=d, l2=l2, forgotten=1))(KEY)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_shift_is_what_leaving_a_record_out_moves(l2):
    problem, n, i = logistic(n=30, l2=l2), 30, 7

    @once
    def seen(problem):
        x = problem.init(KEY)
        rest, one = problem.rows(jnp.delete(jnp.arange(n), i)), problem.rows(jnp.array([i]))
        data_gradients = one.grad(x) - l2 * x, problem.grad(x) - l2 * x
        return problem.grad(x), rest.grad(x), data_gradients, gradients(problem, jnp.asarray(i), x)

    at_all, at_rest, (of_one, mean), (whole, difference) = seen(problem)
    np.testing.assert_allclose(whole, at_all, rtol=1e-12)
    np.testing.assert_allclose(whole - difference, at_rest, rtol=1e-10)
    np.testing.assert_allclose(difference, (of_one - mean) / (n - 1), rtol=1e-9)


def test_a_run_is_learning_then_unlearning_beside_retraining():
    problem, n, i, T, steps, s, eta, tau = logistic(n=30), 30, 7, 4, 9, 0.1, 0.5, 1e-3
    state = run(problem, [i], steps, T=T, noise=s, eta=eta, tau=tau)[1]
    c = 1 - eta * 0.05

    @once
    def by_hand(problem):
        rest, one = problem.rows(jnp.delete(jnp.arange(n), i)), problem.rows(jnp.array([i]))
        start_key, noise_key = jax.random.split(jax.random.split(NOISE, 1)[0])
        u = v = problem.init(start_key)
        radius, squares, far, loss = 0.0, 0.0, 0, 0.0
        for t in range(steps):
            noise = optax.tree.random_like(jax.random.fold_in(noise_key, t), u, jax.random.normal)
            shift = eta / (n - 1) * jnp.linalg.norm(one.grad(u) - problem.grad(u)) if t < T else 0.0
            radius, squares = c * radius + shift, squares + shift**2
            far += jnp.linalg.norm(u - v) > tau if t >= T else 0
            loss = one.value(u) if t <= T else loss
            u = u - eta * (problem if t < T else rest).grad(u) + s * noise
            v = v - eta * rest.grad(v) + s * noise
        return u, v, radius, squares, far, loss

    u, v, radius, squares, far, loss = by_hand(problem)
    state = jax.tree.map(lambda leaf: leaf[0, 0], state)
    np.testing.assert_allclose(state.x, u, rtol=1e-10)
    np.testing.assert_allclose(state.retrained, v, rtol=1e-10)
    np.testing.assert_allclose(state.radius, radius, rtol=1e-10)
    np.testing.assert_allclose(state.learned_radius * c ** (steps - T), radius, rtol=1e-10)
    np.testing.assert_allclose(per_instance.PRIVACY_LOSS.measure(problem, u, state), squares / (2 * s**2), rtol=1e-10)
    np.testing.assert_allclose(state.loss, loss, rtol=1e-10)
    assert state.steps == far
    assert far > 0


@pytest.mark.parametrize("curvature", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("steps", [60, 90])
def test_radius_is_attained_where_nothing_is_lost(curvature, steps):
    problem = tight_deletion.make(KEY, n=20, forgotten=2, curvature=curvature)
    hp, state = run(problem, [0, 19], steps, seeds=2, T=60, noise=0.1, eta=0.05)
    distance, radius = sides(per_instance.radius, problem, hp, state)
    np.testing.assert_allclose(distance / radius, 1.0, rtol=1e-9)


def test_steps_to_unlearn_are_attained():
    problem = tight_deletion.make(KEY, n=20, forgotten=2, curvature=1.0)
    hp, state = run(problem, [0, 18, 19], 400, T=60, eta=0.05, tau=1e-4)
    steps, bound = sides(per_instance.steps, problem, hp, state)
    np.testing.assert_array_equal(steps, bound)
    assert np.all(steps > 50)


def study(noise, seeds=3):
    problem = logistic()
    hp, state = run(problem, np.arange(150), 220, seeds=seeds, T=100, noise=noise, tau=1e-3, eta=1 / 0.3)
    at_T = run(problem, np.arange(150), 100, seeds=seeds, T=100, noise=noise, tau=1e-3, eta=1 / 0.3)[1]
    return problem, hp, state, at_T


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_privacy_loss_ranks_records_as_unlearning_them_does(noise):
    problem, hp, state, at_T = study(noise)
    for known in (at_T, state):
        distance, radius = sides(per_instance.radius, problem, hp, known)
        assert np.all(distance <= radius * (1 + 1e-9) + 1e-14)
    steps, bound = sides(per_instance.steps, problem, hp, state)
    assert np.all((steps > 0) & (steps <= bound))
    distance = sides(per_instance.radius, problem, hp, at_T)[0]
    worst_case = 2 * problem.constants.G / (150 * problem.constants.mu_min)
    assert np.all(state.learned_radius < worst_case)
    for seed in range(len(steps)):
        loss, radius, final = (np.asarray(leaf[seed]) for leaf in (state.shift_sq, state.learned_radius, state.loss))
        assert spearmanr(loss, steps[seed]).statistic > 0.85
        assert spearmanr(radius, distance[seed]).statistic > 0.95
        assert abs(spearmanr(final, steps[seed]).statistic) < 0.3  # what is fitted badly is not what is hard to forget


@pytest.mark.parametrize("theorem", [per_instance.radius, per_instance.steps])
def test_overstated_convexity_is_caught(theorem):
    problem = tight_deletion.make(KEY, curvature=1.0)
    wrong = replace(problem, constants=replace(problem.constants, mu_min=5.0))
    hp, state = run(wrong, [199], 300, T=100, eta=0.05, tau=1e-5)
    value, bound = sides(theorem, wrong, hp, state)
    assert value[0, 0] > 5 * bound[0, 0]


def test_a_record_that_is_not_there_is_not_admitted():
    problem = tight_deletion.make(KEY, n=20, forgotten=2)
    hp = algorithm.prepare(HParams(eta=0.1, record=np.array([0, 19, 20])))
    np.testing.assert_array_equal(per_instance.radius.admits(problem.constants, hp), [True, True, False])


def test_loss_barrier_is_none_on_a_convex_loss_and_seen_on_a_nonconvex_one():
    problem = logistic()
    state = jax.tree.map(lambda leaf: leaf[0, 0], run(problem, [3], 5, T=5, eta=1.0)[1])
    far = replace(state, retrained=state.x + 1.0)
    barrier = once(lambda problem, state: loss_barrier(problem, state.x, state))
    assert barrier(problem, far) == pytest.approx(0.0, abs=1e-15)
    problem = once(robust_regression.make)(KEY)
    start = problem.init(KEY)
    across = replace(state, x=2 * start, retrained=30 * start)
    rest, s = problem.rows(jnp.delete(jnp.arange(problem.records), 3)), jnp.linspace(0, 1, 21)
    values = once(jax.vmap(lambda s: rest.value((1 - s) * across.x + s * across.retrained)))(s)
    expected = np.max(values - (1 - s) * values[0] - s * values[-1])
    assert expected > 0.01
    np.testing.assert_allclose(barrier(problem, across), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [({"eta": 0.0}, "eta"), ({"T": 0}, "T = 0"), ({"record": -1}, "record"), ({"noise": -1.0}, "noise"),
     ({"tau": 0.0}, "tau")],
)  # fmt: skip
def test_meaningless_settings_are_refused(chosen, said):
    with pytest.raises(InvalidSetting, match=said):
        algorithm.prepare(HParams(**{"eta": 0.1, **chosen}))
