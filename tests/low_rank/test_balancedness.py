"""Balance of adapters: exact steps of gradient descent, SAM and oBAR, the second-order drift of SAM, nBAR's failure."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.balance import IMBALANCE, balance
from algorithms.low_rank import balance_regularization as bar
from algorithms.low_rank import sharpness_aware_minimization as sam
from problems.adapter import Adapter
from problems.constants import InvalidParameter
from problems.low_rank import cosine, noisy_target

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


def made(family, **chosen):
    """Return an instance, made in one compiled program."""
    return once(partial(family.make, **chosen))(KEY)


OUTER = made(noisy_target)
COSINE = made(cosine, m=4, n=3, N=5, noise=0.3)


def noisy(problem, alpha):
    """Return the problem with `alpha` (traced) times the noise in its draws."""
    base = problem.data.base
    return replace(problem, data=replace(problem.data, base=replace(base, noise=alpha * base.noise)))


def random_point(problem, key):
    leaves, tree = jax.tree.flatten(problem.init(key))
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])


@pytest.mark.parametrize(("kind", "shape"), [("outer", (3, 3)), ("inner", (1, 1))])
def test_a_noisy_target_states_its_exact_mean(kind, shape):
    problem = made(noisy_target, kind=kind, alpha=0.7)
    c, x = problem.constants, problem.init(KEY)
    assert problem.weight(x).shape == shape
    np.testing.assert_allclose(jnp.vdot(x.B, x.A if kind == "outer" else x.A.T), -0.42, rtol=1e-12)
    np.testing.assert_allclose(2 * balance(x), -1.12, rtol=1e-12)
    assert c.f_star == c.ell_star == c.noise_sq == problem.data.base.floor

    @once
    def drawn(keys):
        singles = jax.vmap(lambda key: problem.sample(key, 1).value(x))(keys)
        triples = jax.vmap(lambda key: problem.sample(key, 3).value(x))(keys)
        G = jax.vmap(lambda key: problem.sample(key, 1).weight_grad(x))(keys)
        error = jnp.sum((G - problem.weight_grad(x)) ** 2, axis=(1, 2))
        return singles.mean(), singles.std() / len(keys) ** 0.5, triples.mean(), error.mean(), problem.value(x)

    single, error, triple, variance, value = drawn(jax.random.split(KEY, 20_000))
    assert abs(single - value) < 4 * error
    assert abs(triple - value) < 4 * error
    np.testing.assert_allclose(variance, 4 * c.noise_sq, rtol=0.03)


def test_the_weight_itself_is_a_problem_with_known_variance():
    problem = made(noisy_target, kind="weight", alpha=2.0)
    assert problem.constants.sigma_sq == 4 * problem.constants.f_star
    np.testing.assert_allclose(problem.constants.f_star, 4 * 5.67)
    with pytest.raises(InvalidParameter, match="kind"):
        noisy_target.make(KEY, kind="scalar")
    with pytest.raises(InvalidParameter, match="alpha"):
        noisy_target.make(KEY, alpha=-1.0)


@once
def balance_matrices(problem):
    """Return the change of B^T B - A A^T in a gradient step of size .3, and eta^2 (g_B^T g_B - g_A g_A^T)."""
    x = random_point(problem, KEY)
    g = problem.grad(x)
    after = optax.tree.add_scale(x, -0.3, g)
    change = (after.B.T @ after.B - after.A @ after.A.T) - (x.B.T @ x.B - x.A @ x.A.T)
    return change, 0.09 * (g.B.T @ g.B - g.A @ g.A.T)


def test_a_gradient_step_changes_the_balance_matrix_by_its_square_only():
    for problem in (OUTER, COSINE):
        change, expected = balance_matrices(problem)
        np.testing.assert_allclose(change, expected, atol=1e-12)


def sam_step(problem, hp, key):
    """Return (change of calB, its exact form, the drift, the error the state records, what it allows) of a step."""
    x = random_point(problem, key)
    batch = problem.sample(key, hp.batch_size) if hp.batch_size else problem
    g = batch.grad(x)
    size = optax.tree.norm(g)
    ahead = batch.grad(optax.tree.add_scale(x, hp.rho / size, g))
    state = sam.step(problem, sam.init(problem, x, key, hp), key, hp)
    exact = hp.rho / size * (jnp.vdot(g.B, ahead.B) - jnp.vdot(g.A, ahead.A)) + hp.eta * balance(ahead)
    drift = hp.rho / size * 2 * balance(g)
    return sam.calB(state.x) - sam.calB(x), hp.eta * exact, hp.eta * drift, state.drift_error, state.drift_allowed


@pytest.mark.parametrize(("problem", "batch_size"), [(OUTER, 1), (COSINE, 0)])
def test_a_sam_step_obeys_its_identity_and_its_bound(problem, batch_size):
    hp = sam.HParams(eta=0.01, rho=0.2, batch_size=batch_size)
    steps = once(jax.vmap(partial(sam_step, problem, hp)))
    change, exact, _, error, allowed = steps(jax.random.split(KEY, 200))
    np.testing.assert_allclose(change, exact, atol=1e-12)
    assert jnp.all(error <= allowed)
    assert jnp.max(error / allowed) > 0.05


def test_the_drift_of_sam_is_second_order_in_the_radius():
    keys = jax.random.split(jax.random.key(1), 200)

    @once
    def worst(rho):
        hp = sam.HParams(eta=1.0, rho=rho)

        def error(key):
            _, exact, drift, *_ = sam_step(OUTER, hp, key)
            x = random_point(OUTER, key)
            g = OUTER.grad(x)
            ahead = OUTER.grad(optax.tree.add_scale(x, rho / optax.tree.norm(g), g))
            return jnp.abs(exact - drift - balance(ahead))

        return jnp.max(jax.vmap(error)(keys)) / rho**2

    ratios = [worst(rho) for rho in (0.1, 0.05, 0.025, 0.0125)]
    np.testing.assert_allclose(ratios, ratios[-1], rtol=0.01)
    assert ratios[-1] > 1


def test_sam_at_a_stationary_point_stays():
    zero = jax.tree.map(jnp.zeros_like, OUTER.init(KEY))
    hp = sam.HParams()
    state = once(lambda x: sam.step(OUTER, sam.init(OUTER, x, KEY, hp), KEY, hp))(zero)
    assert optax.tree.norm(state.x) == 0


def test_more_noise_balances_faster_and_too_much_collapses():
    hp = sam.HParams(eta=1e-3, rho=0.1, batch_size=1)

    @jax.jit
    @jax.vmap
    def ends(alpha):
        problem = noisy(OUTER, alpha)
        state = sam.init(problem, problem.init(KEY), KEY, hp)
        state = jax.lax.fori_loop(0, 3000, lambda i, s: sam.step(problem, s, jax.random.fold_in(KEY, i), hp), state)
        fit = problem.value(state.x) - problem.constants.f_star
        return IMBALANCE.measure(problem, state.x, state), optax.tree.norm(state.x, squared=True), fit

    imbalance, norm_sq, fit = ends(jnp.array([0.0, 0.5, 1.0, 2.0]))
    assert jnp.all(jnp.diff(imbalance) < 0)
    assert imbalance[0] > 0.9 * 1.12 and imbalance[2] < 0.3 * 1.12
    assert norm_sq[3] < 1e-3 and abs(fit[3] - 0.25) < 1e-3
    assert jnp.all(fit[:3] < 0.15)


@partial(jax.jit, static_argnames=("rule", "batch_size", "steps"))
def bar_run(problem, rule, batch_size, steps, eta, decay):
    """Return calB along a run, the largest difference from its exact step, and the largest |calB|/u."""
    hp = bar.HParams(rule=rule, eta=eta, decay=decay, batch_size=batch_size)

    def advance(state, i):
        key = jax.random.fold_in(KEY, i)
        g = (problem.sample(key, batch_size) if batch_size else problem).grad(state.x)
        s, c = bar.RULES[rule](state.x, g), state.a * eta
        exact = (1 + c**2) * balance(state.x) + s * c * optax.tree.norm(state.x, squared=True)
        exact += -2 * s * c * eta * jnp.vdot(state.x.B, g.B) + eta**2 * balance(g)
        after = bar.step(problem, state, key, hp)
        return after, (balance(after.x), jnp.abs(balance(after.x) - exact), jnp.abs(balance(after.x)) / after.u)

    calB, defect, ratio = jax.lax.scan(advance, bar.init(problem, problem.init(KEY), KEY, hp), jnp.arange(steps))[1]
    return calB, defect.max(), ratio.max()


def test_nbar_unbalances_without_noise_and_obar_does_not():
    loud = made(noisy_target, x_norm=3.0, y_norm=0.3)
    grown, defect, ratio = bar_run(noisy(loud, 0.0), "nbar", 1, 40_000, 1e-3, 1.0)
    assert grown[0] < 4.5 and grown[-1] > 100
    assert defect < 1e-11 and ratio > 10
    balanced = bar_run(noisy(loud, 0.5), "nbar", 1, 40_000, 1e-3, 1.0)[0]
    assert abs(balanced[-1]) < 0.5
    shrunk, defect, ratio = bar_run(noisy(loud, 0.0), "obar", 1, 40_000, 1e-3, 1.0)
    assert abs(shrunk[-1]) < 1e-2
    assert defect < 1e-12 and ratio < 1 + 1e-12


def test_a_step_of_obar_is_exact_with_noise_and_decay():
    calB, defect, ratio = bar_run(OUTER, "obar", 1, 40_000, 0.02, 0.9999)
    assert abs(calB[-1]) < abs(calB[0])
    assert defect < 1e-13 and ratio < 1 + 1e-12


@pytest.mark.parametrize(
    ("prepare", "hp", "message"),
    [
        (sam.prepare, sam.HParams(rho=0.0), "rho"),
        (sam.prepare, sam.HParams(eta=0.0), "eta"),
        (sam.prepare, sam.HParams(batch_size=-1), "batch_size"),
        (bar.prepare, bar.HParams(a=1000.0, eta=0.001), "a eta"),
        (bar.prepare, bar.HParams(a=0.0), "a eta"),
        (bar.prepare, bar.HParams(decay=1.1), "decay"),
        (bar.prepare, bar.HParams(rule="mbar"), "rule"),
        (bar.prepare, bar.HParams(eta=-1.0), "eta"),
    ],
)
def test_impossible_settings_are_refused(prepare, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        prepare(hp)


def test_minibatches_are_refused_where_there_are_none():
    problem = replace(COSINE, family=replace(COSINE.family, sample=None))
    for method, hp in ((sam, sam.HParams(batch_size=1)), (bar, bar.HParams(batch_size=1))):
        with pytest.raises(InvalidSetting, match="offers no minibatches"):
            method.init(problem, problem.init(KEY), KEY, hp)


def test_several_adapters_are_balanced_one_by_one():
    x = {"one": Adapter(jnp.ones((2, 1)), 3 * jnp.ones((1, 2))), "two": Adapter(3 * jnp.ones((2, 1)), jnp.ones((1, 2)))}
    assert IMBALANCE.measure(OUTER, x, None) == 32
    assert sam.calB(x) == 0
    signs = {name: bar.RULES["obar"](adapter, adapter) for name, adapter in x.items()}
    assert signs == {"one": 1.0, "two": -1.0}
