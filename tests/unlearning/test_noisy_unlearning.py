"""Noisy unlearning: laws attained where they are tight, valid elsewhere, tabulated, and refused outside their range."""

from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting import gaussian_mechanism as oracle

from algorithms import noisy_descent as noisy
from algorithms.algorithm import InvalidSetting
from algorithms.unlearning import noisy_projected_sgd, noisy_rewind_to_delete
from problems.convex import logistic_regression, tight_deletion

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
PNSGD, REWIND = noisy_projected_sgd.algorithm, noisy_rewind_to_delete.algorithm


def run(algorithm, problem, hp, theorems, steps, key=KEY):
    """Return metric and bound of each theorem after 0, ..., steps - 1 steps, by name, and the last state."""
    hp, x0 = algorithm.prepare(hp), problem.init(key)

    @once
    def lane(hp):
        def record(state, t):
            x, seen = algorithm.readout(state), {}
            for theorem in theorems:
                given = [metric.measure(problem, x, state) for metric in theorem.given]
                value = theorem.metric.measure(problem, x, state)
                seen[theorem.name] = value, theorem.bound(t, problem.constants, hp, *given)
            return algorithm.step(problem, state, jax.random.fold_in(key, t.astype(int)), hp), seen

        return jax.lax.scan(record, algorithm.init(problem, x0, key, hp), jnp.arange(float(steps)))

    last, seen = lane(hp)
    return {name: [np.asarray(a) for a in pair] for name, pair in seen.items()}, last


@cache
def logistic(l2):
    """Return logistic regression on sixty records."""
    return once(lambda key: logistic_regression.make(key, n=60, d=5, l2=l2))(KEY)


gdp_of_unlearning, gdp_of_all_noise = once(noisy.gdp_of_unlearning), once(noisy.gdp_of_all_noise)
gaussian_epsilon = once(noisy.gaussian_epsilon)


def sums(c, k):
    """Return S(c, k) term by term."""
    return sum(c**i for i in range(k))


def admitted(algorithm, problem, hp):
    """Return the theorems that are judged on this problem and setting."""
    return [
        theorem
        for theorem in algorithm.theorems
        if theorem.assumes in problem.family.regularity and theorem.admits(problem.constants, hp)
    ]


PNSGD_SETTING = {"eta": 0.05, "sigma": 0.1, "T": 4.0, "K": 3.0}


@pytest.mark.parametrize(("curvature", "batch_size"), [(1.0, 0), (0.0, 0), (-1.0, 0), (1.0, 20), (-1.0, 20)])
def test_projected_sgd_attains_its_laws_on_the_tight_instance(curvature, batch_size):
    problem = tight_deletion.make(KEY, curvature=curvature)
    hp = noisy_projected_sgd.HParams(**PNSGD_SETTING, batch_size=batch_size)
    judged = admitted(PNSGD, problem, hp)
    epoch = 200 // batch_size if batch_size else 1
    seen, _ = run(PNSGD, problem, hp, judged, 7 * epoch + 2)
    assert {"noisy_projected_sgd_distance_attained", "noisy_projected_sgd_gaussian"} <= set(seen)
    assert ("noisy_projected_sgd_all_noise" in seen) == (curvature >= 0 and not batch_size)
    for name in set(seen) & {f"noisy_projected_sgd_{law}" for law in ("distance_attained", "gaussian", "all_noise")}:
        value, bound = seen[name]
        claimed = np.isfinite(bound) & (bound > 0)
        assert claimed[-1] and claimed.sum() >= 3
        np.testing.assert_allclose(value[claimed], bound[claimed], rtol=1e-9, err_msg=name)
    value, bound = seen["noisy_projected_sgd_certificate"]
    claimed = np.arange(len(value)) > 4 * epoch
    assert np.all(np.isfinite(bound[claimed])) and not np.any(np.isfinite(bound[~claimed]))
    assert np.all(value[claimed] <= bound[claimed] * (1 + 1e-9))
    assert value[-1] > 0 and value[-1] == value[-2]  # stands still
    if not batch_size:
        np.testing.assert_allclose(value[claimed], bound[claimed], rtol=1e-9)


def test_published_renyi_bound_is_twice_what_the_tight_instance_spends():
    problem, theorem = tight_deletion.make(KEY), noisy_projected_sgd.renyi
    seen, _ = run(PNSGD, problem, noisy_projected_sgd.HParams(**PNSGD_SETTING), [theorem], 8)
    value, bound = seen[theorem.name]
    np.testing.assert_allclose(bound[5:], 2 * value[5:], rtol=1e-9)
    c, s, z = 0.95, np.sqrt(0.1) * 0.1, 0.1 * 0.05 * sums(0.95, 4)
    np.testing.assert_allclose(bound[7], 10 * z**2 / s**2 * (c**2 - 1) / (1 - c**-6), rtol=1e-12)


@pytest.mark.parametrize(("curvature", "c"), [(1.0, 0.95), (0.0, 1.0), (-1.0, 1.05)])
def test_rewinding_attains_its_laws_on_the_tight_instance(curvature, c):
    problem = tight_deletion.make(KEY, curvature=curvature)
    hp = noisy.HParams(eta=0.05, sigma=0.1, T=20.0, K=6.0)
    judged = admitted(REWIND, problem, hp)
    seen, _ = run(REWIND, problem, hp, judged, 22)
    s, d = np.sqrt(0.1) * 0.1, 2 * 0.05 * 10 / 200
    mu = d * sums(c, 14) * c**6 / s / np.sqrt(sums(c**2, 6))
    value, bound = seen["noisy_rewind_to_delete_gaussian"]
    np.testing.assert_allclose([value[20], bound[20], value[21]], mu, rtol=1e-9)
    assert not np.any(np.isfinite(bound[:15]))
    value, bound = seen["noisy_rewind_to_delete_distance_attained"]
    np.testing.assert_allclose(value[1:], bound[1:], rtol=1e-9)
    value, bound = seen["noisy_rewind_to_delete_certificate"]
    np.testing.assert_allclose(bound[20], oracle.get_epsilon_gaussian(1 / mu, 1e-5), rtol=1e-9)
    np.testing.assert_allclose(value[15:], bound[15:], rtol=1e-9)
    law = "noisy_rewind_to_delete_all_noise" + ("_nonconvex" if curvature < 0 else "")
    value, bound = seen[law]
    assert np.all(value[1:] <= bound[1:] * (1 + 1e-9))
    if curvature >= 0:
        np.testing.assert_allclose(value[1:], bound[1:], rtol=1e-9)
    else:
        assert np.all(bound[15:] <= seen["noisy_rewind_to_delete_gaussian"][1][15:])


@pytest.mark.parametrize(
    ("algorithm", "hp", "steps"),
    [
        (REWIND, noisy.HParams(eta=0.05, sigma=0.1, T=12.0, K=4.0), 12),
        (PNSGD, noisy_projected_sgd.HParams(eta=0.05, sigma=0.1, T=2.0, K=1.0, batch_size=50), 12),
    ],
)
def test_the_law_of_independent_runs_is_the_gaussian_that_is_measured(algorithm, hp, steps):
    problem = tight_deletion.make(KEY)

    @once
    @jax.vmap
    def ends(seed):
        def advance(t, state):
            return algorithm.step(problem, state, jax.random.fold_in(jax.random.key(seed), t), hp)

        start = algorithm.init(problem, problem.init(KEY), KEY, hp)
        end = jax.lax.fori_loop(0, steps, advance, start)
        return end.x[0], end.retrained[0], noisy.all_noise_parameter(problem, end.x, end)

    trials = 20000
    u, v, parameter = (np.asarray(a) for a in ends(jnp.arange(2 * trials)))
    u, v = u[:trials], v[trials:]
    np.testing.assert_allclose(u.std(), v.std(), rtol=0.03)
    assert abs((u.mean() - v.mean()) / u.std() - parameter[0]) < 5 * np.sqrt(2 / trials)
    assert parameter[0] > 0.1


def test_rewinding_nothing_certifies_nothing_and_rewinding_all_is_retraining():
    problem = tight_deletion.make(KEY, curvature=-1.0)
    names = [noisy_rewind_to_delete.certificate, noisy_rewind_to_delete.gaussian]
    nothing = noisy.HParams(eta=0.05, T=10.0, K=0.0)
    assert not names[0].admits(problem.constants, nothing)
    seen, _ = run(REWIND, problem, nothing, names, 12)
    assert not any(np.isfinite(bound).any() for _, bound in seen.values())
    seen, last = run(REWIND, problem, noisy.HParams(eta=0.05, T=10.0, K=10.0), names, 12)
    np.testing.assert_array_equal(last.x, last.retrained)
    value, bound = seen[names[0].name]
    assert np.all(value == 0) and np.all(bound[1:] == 0)


@pytest.mark.parametrize(("l2", "eta", "c"), [(0.05, 1.0, 1 - 1 / 6), (0.0, 9.0, 3.25)])
def test_bounds_hold_on_logistic_regression(l2, eta, c):
    problem = logistic(l2)
    eta = eta if eta > 1 else eta / problem.constants.L_max
    shared = {"eta": eta, "sigma": 0.05, "T": 3.0, "K": 2.0}
    for algorithm, hp, steps in (
        (REWIND, noisy.HParams(**shared | {"T": 9.0}), 11),
        (PNSGD, noisy_projected_sgd.HParams(**shared, batch_size=20, radius=2.0), 17),
    ):
        seen, last = run(algorithm, problem, hp, admitted(algorithm, problem, hp), steps)
        np.testing.assert_allclose(last.c, c, rtol=1e-12)
        for name, (value, bound) in seen.items():
            claimed = np.isfinite(bound)
            assert claimed.any()
            assert np.all(value[claimed] <= bound[claimed] * (1 + 1e-9) + 1e-13), name


@pytest.mark.parametrize(
    ("l2", "eta", "c"), [(0.05, 2.0, 0.9), (0.05, 6.5, 1.0), (0.05, 10.0, 4.0), (0.0, 8.0, 1.0), (0.0, 8.4, 3.1)]
)
def test_a_step_is_as_lipschitz_as_its_class_says(l2, eta, c):
    np.testing.assert_allclose(noisy.lipschitz(logistic(l2), noisy.HParams(eta=eta)), c, rtol=1e-12)


def test_steps_stay_in_the_ball_and_no_distance_exceeds_its_diameter():
    problem, theorem = tight_deletion.make(KEY, curvature=0.0), noisy_projected_sgd.distance
    hp = noisy_projected_sgd.HParams(eta=0.5, sigma=0.01, T=40.0, K=5.0, radius=0.02)
    seen, last = run(PNSGD, problem, hp, [theorem], 46)
    value, bound = seen[theorem.name]
    assert abs(last.x[0]) <= 0.02 and abs(last.retrained[0]) <= 0.02
    assert np.all(bound <= 0.04) and bound[-1] == 0.04 and np.all(value <= bound)
    assert PNSGD.init(problem, jnp.full(1, 3.0), KEY, hp).x[0] == 0.02


def brute_force_radius(order, n, m, c, G, eta, T):
    """Return z after T epochs of the batches `order`, record by record."""
    z = 0.0
    for _ in range(T):
        for batch in order:
            z = c * z + 2 * eta * G * sum(record >= n - m for record in batch) / len(batch)
    return z


@pytest.mark.parametrize("curvature", [1.0, 0.0, -1.0])
@pytest.mark.parametrize(("n", "b", "m"), [(12, 3, 1), (12, 3, 5), (12, 4, 8), (12, 12, 5), (6, 1, 2)])
def test_no_order_of_the_records_beats_the_worst_radius(curvature, n, b, m):
    problem = tight_deletion.make(KEY, n=n, forgotten=m, curvature=curvature)
    hp = noisy_projected_sgd.HParams(eta=0.3, T=3.0, batch_size=b)
    worst, c = float(noisy_projected_sgd.worst_radius(problem, hp)), 1 - 0.3 * curvature
    draw = np.random.default_rng(0)
    orders = [draw.permutation(n).reshape(-1, b) for _ in range(50)]
    extremes = [np.arange(n).reshape(-1, b), np.arange(n)[::-1].reshape(-1, b)]
    reached = [brute_force_radius(order, n, m, c, 1.0, 0.3, 3) for order in [*orders, *extremes]]
    np.testing.assert_allclose(max(reached), worst, rtol=1e-12)
    hits = noisy_projected_sgd.disturbances(problem, hp, jnp.asarray(orders[0]) if b < n else None)
    np.testing.assert_allclose(jnp.sum(hits), 2 * 0.3 * m / b, rtol=1e-12)


@pytest.mark.parametrize("j", [0, 5, 11])
def test_one_record_in_batch_j_ends_at_the_published_limit(j):
    order = np.roll(np.arange(12)[:, None], j - 11, axis=0)
    c = 0.9
    limit = 2 * 0.1 * c ** (12 - j - 1) / (1 - c**12)
    np.testing.assert_allclose(brute_force_radius(order, 12, 1, c, 1.0, 0.1, 60), limit, rtol=1e-12)


def test_expansive_steps_fall_to_the_floor_and_no_further():
    k = np.array([1.0, 2, 5, 10, 20, 50])
    mu = gdp_of_unlearning(1.0, 1.05, 1.0, k)
    np.testing.assert_allclose(mu, [1.05, 0.760, 0.515, 0.406, 0.346, 0.3214], atol=5e-4)
    floor = noisy.gdp_floor(1.0, 1.05, 1.0)
    np.testing.assert_allclose(floor, 0.3202, atol=5e-5)
    np.testing.assert_allclose(gdp_of_unlearning(1.0, 1.05, 1.0, 2000.0), floor, rtol=1e-12)
    assert np.all(np.diff(mu) < 0) and np.all(mu > floor)
    assert jnp.isnan(noisy.gdp_floor(1.0, jnp.asarray(0.9), 1.0))


@pytest.mark.parametrize("c", [0.0, 0.3, 1 - 1e-9, 1.0, 1 + 1e-9, 1.7])
@pytest.mark.parametrize("k", [1, 7])
def test_the_parameter_of_unlearning_term_by_term(c, k):
    direct = 0.7 * c**k / 0.2 / np.sqrt(sums(c**2, k))
    np.testing.assert_allclose(gdp_of_unlearning(0.7, jnp.asarray(c), 0.2, float(k)), direct, rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize(("c", "ratios"), [(0.9, (2.3, 1.00, 1.0)), (1.0, (10, 1.41, 1.05)), (1.02, (36, 2.87, 1.22))])
def test_the_noise_of_learning_is_worth_what_the_exact_law_says(c, ratios):
    T, k = 100, np.array([1, 50, 90])
    of_unlearning = gdp_of_unlearning(np.array([sums(c, T - i) for i in k]), c, 1.0, k.astype(float))
    exact = np.array([sums(c, T - i) * c**i / np.sqrt(sums(c**2, T)) for i in k])
    np.testing.assert_allclose(of_unlearning / exact, ratios, rtol=0.02)
    if c <= 1:
        np.testing.assert_allclose(gdp_of_all_noise(1.0, jnp.asarray(c), 1.0, T - k, k), exact, rtol=1e-9)


def cheapest_shifts(c, learned, unlearned):
    """Return the least sum of squared shifts that absorb no more than there is to absorb, exactly.

    In units of c^t the absorbed is a path under the staircase of the disturbed, and step t lasts c^(-2t): the cheapest
    path is the greatest convex minorant of the staircase.
    """
    c, clock, stair = Fraction(str(c)), [Fraction(0)], [Fraction(0)]
    for t in range(1, learned + unlearned + 1):
        clock.append(clock[-1] + c ** (-2 * t))
        stair.append(stair[-1] + (c**-t if t <= learned else 0))

    def slope(i, j):
        return (stair[j] - stair[i]) / (clock[j] - clock[i])

    hull = [0]
    for i in range(1, len(clock)):
        while len(hull) > 1 and slope(hull[-2], hull[-1]) >= slope(hull[-1], i):
            hull.pop()
        hull.append(i)
    return float(sum(slope(i, j) ** 2 * (clock[j] - clock[i]) for i, j in pairwise(hull)))


@pytest.mark.parametrize("c", [0.8, 1.0, 1.001, 1.05, 1.5, 3.0])
@pytest.mark.parametrize(("learned", "unlearned"), [(1, 0), (1, 5), (30, 0), (30, 1), (30, 8), (3, 40), (40, 40)])
def test_counting_all_noise_is_the_cheapest_of_all_shifts(c, learned, unlearned):
    mu = gdp_of_all_noise(1.0, jnp.asarray(c), 1.0, float(learned), float(unlearned))
    np.testing.assert_allclose(mu**2, cheapest_shifts(c, learned, unlearned), rtol=1e-9)
    assert mu <= np.sqrt(learned) * (1 + 1e-12)


@pytest.mark.parametrize("mu", [1e-3, 0.05, 0.3202, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("delta", [1e-10, 1e-5, 0.1])
def test_epsilon_of_a_gaussian_parameter_is_the_oracle_s(mu, delta):
    expected = oracle.get_epsilon_gaussian(1 / mu, delta)
    np.testing.assert_allclose(gaussian_epsilon(jnp.asarray(mu), delta), expected, rtol=1e-8, atol=1e-12)


def test_epsilon_of_nothing_and_of_no_noise():
    assert gaussian_epsilon(jnp.asarray(0.0), 1e-5) == 0
    assert jnp.isinf(gaussian_epsilon(jnp.asarray(jnp.inf), 1e-5))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": -1.0}, "sigma"),
        ({"eta": 0.0}, "eta"),
        ({"delta": 1.0}, "delta"),
        ({"K": 1.5}, "K = "),
        ({"T": -1.0}, "T = "),
        ({"noise_scale": 0.0}, "noise_scale"),
    ],
)
@pytest.mark.parametrize(("algorithm", "hparams"), [(REWIND, noisy.HParams), (PNSGD, noisy_projected_sgd.HParams)])
def test_impossible_settings_are_refused(algorithm, hparams, setting, message):
    with pytest.raises(InvalidSetting, match=message):
        algorithm.prepare(hparams(**({"eta": 0.1, "K": 1.0, "T": 2.0} | setting)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"radius": 0.0}, "radius"), ({"alpha": 1.0}, "alpha"), ({"batch_size": -1}, "batch_size")],
)
def test_what_projected_sgd_refuses(setting, message):
    with pytest.raises(InvalidSetting, match=message):
        PNSGD.prepare(noisy_projected_sgd.HParams(eta=0.1, **setting))


def test_batches_must_divide_the_records():
    problem = tight_deletion.make(KEY)
    with pytest.raises(InvalidSetting, match="must divide the n = 200 records"):
        PNSGD.init(problem, problem.init(KEY), KEY, noisy_projected_sgd.HParams(eta=0.1, batch_size=30))


def test_only_rewinding_is_limited_by_the_learning_steps():
    with pytest.raises(InvalidSetting, match="0 <= K <= T"):
        REWIND.prepare(noisy.HParams(eta=0.1, K=3.0, T=2.0))
    hp = noisy_projected_sgd.HParams(eta=0.1, K=3.0, T=2.0)
    assert PNSGD.prepare(hp) == replace(hp)
