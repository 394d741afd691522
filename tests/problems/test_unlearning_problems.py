"""Problems and data for unlearning: users, what is measured of the forgotten, the constants of every family."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems import membership, users
from problems.constants import Regularity
from problems.convex import overparameterised_deletion, softmax_regression
from problems.nonconvex import (
    cosine_deletion,
    digits_network,
    double_well,
    sigmoid_loss,
    sine_squared,
    tanh_network,
    tilted_sine,
)

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


def forgotten_of(records):
    """Return inputs and labels of the forgotten records, on the host."""
    m = int(np.sum(np.asarray(records.kept) == 0))
    assert np.all(np.asarray(records.kept)[:-m] == 1)  # they come last
    return np.asarray(records.inputs)[-m:], np.asarray(records.labels)[-m:]


def test_digits_are_grouped_by_their_writers():
    table = users.read("digits")
    assert table.inputs.shape == (1545, 65) and table.unseen_inputs.shape == (252, 65)
    assert np.allclose(np.linalg.norm(table.inputs, axis=1), 1) and np.allclose(table.inputs[:, -1] ** 2, 0.5)
    sizes = np.bincount(users.groups("digits", "writers"))
    assert np.array_equal(sizes, [130, 126, 130, 130, 130, 130, 139, 114, 128, 130, 128, 130])
    every_writer_has_every_digit = [np.bincount(table.labels[table.writers == w], minlength=10) for w in range(12)]
    assert np.min(every_writer_has_every_digit) >= 7


@pytest.mark.parametrize(("user", "forgotten", "first", "last"), [(7, 0, 915, 1029), (0, 0, 0, 130), (3, 20, 386, 406)])
def test_a_writers_records_come_last(user, forgotten, first, last):
    table = users.read("digits")
    inputs, labels = forgotten_of(users.choose(KEY, "digits", "writers", user, forgotten))
    assert {tuple(row) for row in inputs} == {tuple(row) for row in table.inputs[first:last]}
    assert sorted(labels) == sorted(table.labels[first:last])


def test_the_key_draws_the_writer():
    drawn = once(jax.vmap(lambda key: users.choose(key, "digits", "writers", -1, 100)))(jax.random.split(KEY, 40))
    table = users.read("digits")
    seen = set()
    for records in (jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(40)):
        inputs, _ = forgotten_of(records)
        (writer,) = (
            w
            for w in range(12)
            if np.isin(inputs[:, :-1] @ np.arange(64), table.inputs[table.writers == w][:, :-1] @ np.arange(64)).all()
        )
        seen.add(writer)
    assert len(seen) >= 8


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
@pytest.mark.parametrize("grouping", ["one_label", "feature_skew", "label_skew", "random"])
def test_every_grouping_permutes_the_records(data, grouping):
    table = users.read(data)
    records = once(lambda key: users.choose(key, data, grouping, -1, 60))(KEY)
    inputs, labels = forgotten_of(records)
    assert len(labels) == 60
    assert np.allclose(
        np.sort(records.inputs @ np.arange(table.inputs.shape[1])),
        np.sort(table.inputs @ np.arange(table.inputs.shape[1])),
    )
    if grouping == "one_label":
        assert len(set(labels)) == 1
    if grouping == "feature_skew":  # closer together than all are
        assert inputs.std(axis=0).sum() < 0.9 * table.inputs.std(axis=0).sum()


def test_labels_are_skewed_as_the_dirichlet_law_says():
    table = users.read("digits")
    drawn = once(jax.vmap(lambda key: users.choose(key, "digits", "label_skew", -1, 20).labels[-20:]))
    labels = np.asarray(drawn(jax.random.split(KEY, 200)))
    share = np.stack([(labels == c).mean(axis=1) for c in range(table.classes)], axis=1)
    expected = (1 / 10 * (1 - 1 / 10)) / (1 + 10 * users.CONCENTRATION)  # variance of a component of Dirichlet(0.3)
    assert np.allclose(share.mean(axis=0), 0.1, atol=0.05)
    assert np.mean(share.var(axis=0)) == pytest.approx(expected + 0.0043 * 0.75, rel=0.2)


def test_adversarial_records_move_the_gradient_more_than_others_do():
    @partial(once, static_argnums=0)
    def moved(grouping, key):
        problem = softmax_regression.make(key, data="breast_cancer", users=grouping, forgotten=30)
        return jnp.linalg.norm(problem.grad(problem.x_star) - problem.retained().grad(problem.x_star))

    worst = moved("adversarial", KEY)
    assert all(worst > 2 * moved("random", key) for key in jax.random.split(KEY, 5))


def test_breast_cancer_is_scaled_without_its_own_records():
    table = users.read("breast_cancer")
    assert table.inputs.shape == (456, 31) and table.unseen_inputs.shape == (113, 31)
    assert np.allclose(np.linalg.norm(table.inputs, axis=1), 1)


def test_membership_measures_by_hand():
    def scores(x, inputs):
        return jnp.stack([inputs * x, jnp.zeros_like(inputs)], axis=1)

    data = users.Records(
        jnp.array([1.0, 2.0, -1.0, 3.0]), jnp.array([0, 1, 0, 0]), jnp.full(4, 0.25), jnp.array([1.0, 1.0, 0.0, 0.0]),
        jnp.array([3.0, -2.0, 0.5]), jnp.array([0, 0, 1]),
    )  # fmt: skip
    found = once(lambda data: {name: measure(data, 1.0) for name, measure in membership.measures(scores)})(data)
    loss = np.logaddexp(0, [1.0, -3.0])
    assert found["forget_loss"] == pytest.approx(loss.mean())
    assert found["forget_accuracy"] == 0.5 and found["retained_accuracy"] == 0.5
    assert found["unseen_accuracy"] == pytest.approx(1 / 3)
    # losses log(1+e): 1 and -3 on Z; -3 (equal to one of Z), 2 and 0.5 on unseen records
    assert found["membership_auc"] == pytest.approx(((0 + 1 + 0) + (0.5 + 1 + 1)) / 6)


def test_loss_barrier_of_two_wells_and_of_a_bowl():
    wells = double_well.make(KEY)
    left, right = jnp.array([-1.0]), jnp.array([1.0])
    top = wells.retained().value(jnp.zeros(1)) - 0.5 * (wells.retained().value(left) + wells.retained().value(right))
    barrier = once(membership.loss_barrier)
    assert barrier(wells, left, right) == pytest.approx(float(top), rel=1e-2)
    bowl = once(overparameterised_deletion.make)(KEY)
    assert barrier(bowl, bowl.x_star, -bowl.x_star) == 0


def on_one_record(problem, key, scale):
    """Return the record gradient's norm and curvature along a random direction at a random point."""
    index_key, point_key, direction_key, scale_key = jax.random.split(key, 4)
    record = problem.rows(jax.random.randint(index_key, (1,), 0, problem.records))
    x = problem.init(point_key)
    x = scale * jax.random.exponential(scale_key) * jax.random.normal(point_key, x.shape)
    direction = jax.random.normal(direction_key, x.shape)
    direction = direction / jnp.linalg.norm(direction)
    gradient, curvature = jax.jvp(record.grad, (x,), (direction,))
    along = gradient / jnp.linalg.norm(gradient)  # the gradient's own direction is where GLMs bend
    bent = jax.jvp(record.grad, (x,), (along,))[1]
    return jnp.linalg.norm(gradient), jnp.maximum(jnp.linalg.norm(curvature), jnp.linalg.norm(bent))


@pytest.mark.parametrize(
    ("make", "chosen", "scale", "G_reached", "L_reached"),
    [
        (softmax_regression.make, {"data": "breast_cancer", "users": "random", "l2": 0.0}, 10.0, 0.98, 0.95),
        (sigmoid_loss.make, {"n": 20, "d": 2, "forgotten": 1}, 3.0, 0.95, 0.9),
        (tanh_network.make, {"n": 20, "d": 2, "forgotten": 1, "width": 3}, 3.0, 0.5, 0.2),
        (tilted_sine.make, {"d": 1}, 3.0, None, 0.99),
        (double_well.make, {}, 1.0, None, 0.99),
        (cosine_deletion.make, {"G": 0.3}, 1.0, None, 0.99),
    ],
    ids=lambda value: getattr(value, "__module__", ""),
)
def test_constants_bound_every_record_and_are_nearly_reached(make, chosen, scale, G_reached, L_reached):
    @once
    def searched(key):
        problem = make(key, **chosen)
        keys = jax.random.split(key, 4000)
        return problem.constants, *jax.vmap(lambda key: on_one_record(problem, key, scale))(keys)

    constants, gradients, curvatures = searched(KEY)
    L_max, G = constants.L_max * (1 + 1e-12), constants.G * (1 + 1e-12)
    assert L_reached * L_max <= jnp.max(curvatures) <= L_max
    if G_reached is not None:  # the whole gradient is data gradient
        assert G_reached * G <= jnp.max(gradients) <= G


@pytest.mark.parametrize("make", [tilted_sine.make, double_well.make, cosine_deletion.make])
def test_records_differ_by_at_most_G_beyond_what_they_share(make):
    problem = once(make)(KEY)
    c = np.reshape(problem.data.c, (problem.records, -1))
    assert np.max(np.linalg.norm(c, axis=1)) == pytest.approx(float(problem.constants.G), rel=1e-14)


def test_softmax_bounds_are_those_of_the_worst_scores():
    p = np.array([[0.5, 0.5, 0.0]])
    assert np.linalg.norm(np.diag(p[0]) - p.T @ p, 2) == pytest.approx(0.5)
    problem = classifiers()[0]
    assert problem.constants.L_max >= problem.constants.L and problem.x_star.shape == (31, 2)


def test_tilted_sine_without_the_forgotten_is_sine_squared():
    problem = once(tilted_sine.make)(KEY)
    x = np.linspace(-3, 4, 5)
    expected = np.sum(x**2 + 3 * np.sin(x) ** 2)
    assert once(lambda x: problem.retained().value(x))(x) == pytest.approx(expected, rel=1e-12)
    assert tilted_sine.MU_PL == sine_squared.MU_PL


def test_learning_stays_where_G_of_least_squares_holds():
    problem = once(overparameterised_deletion.make)(KEY)
    A, b, G = np.asarray(problem.data.design.A), np.asarray(problem.data.b), float(problem.constants.G)
    norms, x, values = np.linalg.norm(A, axis=1), np.zeros(A.shape[1]), []
    for _ in range(30):
        residual = A @ x - b
        assert np.max(np.abs(residual) * norms) <= G
        values.append(np.mean(residual**2) / 2)
        x = x - 2 / float(problem.constants.L) * A.T @ residual / len(A)
    assert np.all(np.diff(values) <= 0)
    assert np.max(np.abs(A @ (1e3 * problem.x_star) - b) * norms) > G  # outside: the family must not claim it there
    assert Regularity.DELETABLE not in problem.family.regularity


def descend(problem, x, steps, eta):
    """Return the point after `steps` of gradient descent."""
    return jax.lax.fori_loop(0, steps, lambda _, x: x - eta * problem.grad(x), x)


def test_rewinding_is_too_late_once_the_well_is_chosen():
    problem = double_well.make(KEY)
    eta, T, basins = 0.5, 100, float(problem.constants.basins)

    @once
    def apart(key, K):
        x = problem.init(key)
        u = descend(problem.retained(), descend(problem, x, T - K, eta), K, eta)
        return jnp.linalg.norm(u - descend(problem.retained(), x, T, eta))

    for key in jax.random.split(KEY, 5):
        assert apart(key, 0) == pytest.approx(basins, rel=1e-9)
        assert apart(key, 50) == pytest.approx(basins, rel=0.04)  # the shallow minimum of f_{D'}, a little nearer
        assert apart(key, 90) == pytest.approx(basins, rel=0.04)
        assert apart(key, 100) == 0


def test_cosine_attains_the_nonconvex_bound():
    problem = cosine_deletion.make(KEY)
    c, eta, T = problem.constants, 0.1, 100
    x = problem.init(KEY)
    apart = once(lambda: jnp.abs(descend(problem, x, T, eta) - descend(problem.retained(), x, T, eta))[0])()
    bound = 2 * c.G * c.forgotten / (c.n * c.L_max) * ((1 + eta * c.L_max) ** T - 1)
    assert 1 - 1e-8 <= apart / bound <= 1 + 1e-12


@cache
def classifiers():
    """Return a softmax regression and a network."""
    make = partial(softmax_regression.make, data="breast_cancer", users="random")
    return once(make)(KEY), once(partial(digits_network.make, width=2))(KEY)


def test_substitutes_differ_from_the_forgotten_records_alone():
    for problem in classifiers():
        replaced = once(lambda problem: problem.substituted())(problem).data
        m = int(problem.constants.forgotten)
        assert jnp.all(replaced.labels[:-m] == problem.data.labels[:-m])
        assert jnp.all(replaced.labels[-m:] != problem.data.labels[-m:])


def test_scores_are_those_the_loss_takes():
    for problem, classes in zip(classifiers(), (2, 10), strict=True):
        x = once(lambda key, problem=problem: problem.init(key))(KEY)
        scores, value = once(lambda problem, x: (problem.scores(x), problem.value(x)))(problem, x)
        assert scores.shape == (problem.records, classes)
        penalty = 0.005 * np.sum(np.square(x)) if classes == 2 else 0.0
        scores = np.asarray(scores)
        losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), problem.data.labels]
        assert value == pytest.approx(losses.mean() + penalty, rel=1e-12)
