"""Step-size rules of LoRA: (L2) in every norm and over several adapters, the search for L, balance, rates, optax."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import adapter_rules
from algorithms.adapter_rules import ACROSS, MK_C, NORMS, RULES, Sizes, spectral_sq
from algorithms.adapter_steps import kappa
from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import lora_gradient_descent as lora
from algorithms.low_rank import lora_optax
from algorithms.low_rank.lora_gradient_descent import HParams
from problems.adapter import Adapter, gaussian_start, low_rank
from problems.constants import Constants, Regularity
from problems.low_rank import cosine, escape_family, matrix_factorization, mlp_adapter
from problems.problem import Family, Problem

KEY = jax.random.key(0)
SHAPES = {"first": (4, 3), "second": (4, 5)}  # (inputs, outputs)
HALF = 0.5
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


@once
def instances():
    """Return the problems of these tests, made in one program."""
    size = {"m": 6, "n": 5, "rank": 2, "rank_star": 2}
    return {
        "cosine": cosine.make(KEY, m=5, n=6),
        "records": cosine.make(KEY, m=5, n=6, N=3, noise=0.5),
        "escape": escape_family.make(KEY),
        "smooth": matrix_factorization.make(KEY, **size, L=3.0),
        "flat": matrix_factorization.make(KEY, **size, L=0.2),
        "round": matrix_factorization.make(KEY, m=8, n=7, rank=3, rank_star=3, kappa=1.0),
        "maps": pair_of_maps(),
    }


@pytest.fixture(scope="module")
def problems():
    return instances()


def two_maps(data, x):
    """Return a loss of both maps together: 1/2 (1 - cos) of the difference of M1^T M2's columns, 1-smooth in both."""
    return HALF * jnp.sum(1 - jnp.cos(x["first"] @ data["mix"] - x["second"]))


TWO_MAPS = Family(
    name="two_maps",
    regularity=Regularity.SMOOTH | Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED,
    init=lambda data, key: jax.tree.map(jnp.zeros, SHAPES, is_leaf=lambda leaf: isinstance(leaf, tuple)),
    value=two_maps,
)


def pair_of_maps():
    """Return two adapted maps that only fit together; the loss is (1 + |mix|^2)/2-smooth in both."""
    mix = jax.random.normal(KEY, (3, 5)) / 2
    L = HALF * (1 + jnp.linalg.norm(mix, 2) ** 2)
    problem = Problem(TWO_MAPS, {"mix": mix}, Constants(L=L, f_star=jnp.zeros(())))
    W0 = {name: jax.random.normal(jax.random.fold_in(KEY, i), shape) for i, (name, shape) in enumerate(SHAPES.items())}
    return low_rank(problem, 2, init=gaussian_start, W0=W0)


def test_every_pair_of_norms_descends_over_several_adapters(problems):
    problem = problems["maps"]
    settings = [HParams(norms=norms, across=across) for norms in NORMS for across in ACROSS]

    @once
    @partial(jax.vmap, in_axes=(None, 0, 0, None))
    def coefficients(problem, key, size, c):
        x = jax.tree.map(lambda leaf: size * leaf, problem.init(key))
        before, n_sq = problem.value(x), optax.tree.norm(problem.grad(x), squared=True)
        found = []
        for hp in (replace(setting, c=c) for setting in settings):
            state = lora.step(problem, lora.init(problem, x, KEY, hp), KEY, hp)
            found.append(((before - problem.value(state.x)) / (state.step_sum * n_sq), state.step_sum))
        return found

    keys, sizes = jax.random.split(KEY, 2000), 10 ** np.random.default_rng(0).uniform(-2, 1.3, 2000)
    for c in (0.5, 1.0):
        found = jax.tree.map(np.asarray, coefficients(problem, keys, sizes, c))
        assert all(np.min(coefficient) >= kappa(c) for coefficient, _ in found)
        (_, together), (_, largest), (_, gradient), _, (_, weights), _ = found
        for longer in (largest, gradient, weights):
            assert np.all(longer >= together * (1 - 1e-12)) and np.mean(longer) > 1.01 * np.mean(together)


SPECTRAL = once(lambda M: spectral_sq(jnp.asarray(M)))


@given(seed=st.integers(0, 2**31 - 1), k=st.sampled_from([5, 16]), size=st.sampled_from([1e-8, 1.0, 1e8]))
def test_the_spectral_norm_is_bounded_from_above_and_closely(seed, k, size):
    M = size * np.random.default_rng(seed).normal(size=(k, 16)) * np.geomspace(1, 10.0 ** -(seed % 3), 16)
    exact = np.linalg.norm(M, 2) ** 2
    assert exact * (1 - 1e-12) <= float(SPECTRAL(M)) <= exact * k ** (1 / 32) * (1 + 1e-12)


def test_the_spectral_norm_of_nothing_is_zero():
    assert SPECTRAL(np.zeros((5, 16))) == 0
    assert abs(SPECTRAL(np.eye(64, dtype=np.float32)) - 64 ** (1 / 32)) < 1e-6  # where a 32nd power underflows


@partial(once, static_argnums=2)
def after(problem, hp, steps):
    """Return the state after some steps."""
    state = lora.init(problem, problem.init(KEY), KEY, hp)
    return jax.lax.fori_loop(0, steps, lambda _, s: lora.step(problem, s, KEY, hp), state)


def test_the_search_stays_below_twice_the_smoothness_also_at_the_end(problems):
    low, high = (after(problems["smooth"], HParams(rule="selfnorm_bt", c=1.0, L0=L0), 4000) for L0 in (1e-3, 20.0))
    G = np.asarray(low.x.B) @ low.x.A - problems["smooth"].data.base.M
    assert np.sum(G**2) < 1e-25
    assert 1e-3 < low.L_hat < 6.0
    assert high.L_hat == 20.0


def test_a_loss_that_is_rescaled_makes_the_same_run_but_not_with_the_published_step(problems):
    for hp, same in ((HParams(), True), (HParams(rule="mk_theory"), False)):
        one, other = (after(problems[name], hp, 100).x for name in ("smooth", "flat"))
        assert np.allclose(one.B, other.B, rtol=1e-9) == same


def test_the_practical_rules_are_what_they_say(problems):
    hp, c = HParams(alpha=0.3, eta=5.0), replace(problems["smooth"].constants, L_weight=2.0)
    sizes, tiny = Sizes(4.0, 2.0, 16.0, 9.0), Sizes(4e-9, 2e-9, 16e-9, 9e-9)  # type: ignore[arg-type]
    eta = {name: float(rule.step_size(sizes, 2.0, hp)) for name, rule in RULES.items()}
    expected = {
        "selfnorm": 0.5 / 10,
        "selfnorm_bt": 0.5 / 10,
        "mk_theory": MK_C / 12,
        "adapt": 0.05,
        "adapt2": 0.3 / 7,
        "norm": 0.15,
        "const": 5.0,
    }
    assert eta == pytest.approx(expected)
    for name in ("mk_theory", "adapt", "adapt2", "norm"):
        assert RULES[name].step_size(tiny, 1.0, hp) == 1
    proven = {name for name in RULES if lora.admits(c, replace(hp, rule=name))}
    assert proven == {"selfnorm", "selfnorm_bt", "mk_theory", "adapt"}
    assert not lora.admits(c, replace(hp, rule="adapt", alpha=0.6)) and not lora.admits(c, replace(hp, batch_size=4))


def test_unsound_starts_and_constants_are_no_numbers(problems):
    problem = problems["cosine"]

    @once
    def starts(problem):
        x0 = problem.init(KEY)
        zero = jax.tree.map(jnp.zeros_like, x0)
        too_high = replace(problem, constants=replace(problem.constants, ell_star=1.01 * problem.value(x0)))
        return [lora.init(p, x, KEY, HParams()).x.A for p, x in ((problem, x0), (problem, zero), (too_high, x0))]

    assert [bool(np.isfinite(A).all()) for A in starts(problem)] == [True, False, False]


@pytest.mark.parametrize(
    ("hp", "message"),
    [
        (HParams(rule="adam"), "must be one of selfnorm, selfnorm_bt, mk_theory, adapt, adapt2, norm, const"),
        (HParams(norms="nuclear"), "norms"),
        (HParams(across="mean"), "across"),
        (HParams(c=0.0), "c = "),
        (HParams(c=1.1), "c = "),
        (HParams(c=float("nan")), "c = "),
        (HParams(rule="const", eta=0.0), "eta"),
        (HParams(rule="norm", alpha=-1.0), "alpha"),
        (HParams(rule="selfnorm_bt", L0=float("inf")), "L0"),
        (HParams(batch_size=-1), "batch_size"),
    ],
)
def test_impossible_settings_are_refused(hp, message):
    with pytest.raises(InvalidSetting, match=message):
        lora.algorithm.prepare(hp)


def test_what_a_problem_lacks_is_refused(problems):
    network = jax.eval_shape(lambda key: mlp_adapter.make(key, width=4, records=20), KEY)
    for rule in ("selfnorm", "mk_theory"):
        with pytest.raises(InvalidSetting, match="take selfnorm_bt, adapt, adapt2, norm, const"):
            adapter_rules.refuse_on(network, HParams(rule=rule))
    adapter_rules.refuse_on(network, HParams(rule="selfnorm_bt", batch_size=4))
    with pytest.raises(InvalidSetting, match="batch_size = 4: escape_family offers no minibatches"):
        adapter_rules.refuse_on(problems["escape"], HParams(batch_size=4))


def imbalance(x):
    return x.B.T @ x.B - x.A @ x.A.T


@pytest.mark.parametrize("hp", [HParams(), HParams(rule="const", eta=0.05, batch_size=2)], ids=["full", "minibatch"])
def test_the_balance_changes_by_the_squared_step_alone(problems, hp):
    problem = problems["records"]

    def one(state, key):
        batch = problem.sample(key, hp.batch_size) if hp.batch_size else problem
        g, stepped = batch.grad(state.x), lora.step(problem, state, key, hp)
        eta = stepped.step_sum - state.step_sum
        promised = eta**2 * (g.B.T @ g.B - g.A @ g.A.T)
        return stepped, jnp.max(jnp.abs(imbalance(stepped.x) - imbalance(state.x) - promised))

    @once
    def run():
        start = lora.init(problem, problem.init(KEY), KEY, hp)
        end, errors = jax.lax.scan(one, start, jax.random.split(KEY, 50))
        return errors, jnp.trace(imbalance(end.x) - imbalance(start.x)) / 2, end.balance.moved

    errors, change, promised = map(np.asarray, run())
    assert np.max(errors) < 1e-14
    assert abs(change) > 1e-4 and abs(change - promised) < 1e-12


def test_gradient_flow_conserves_the_balance(problems):
    problem = problems["smooth"]

    @once
    def drift(eta):  # up to time 1
        state = lora.init(problem, problem.init(KEY), KEY, HParams())
        hp = HParams(rule="const", eta=eta)
        end = jax.lax.fori_loop(0, jnp.round(1 / eta).astype(int), lambda _, s: lora.step(problem, s, KEY, hp), state)
        return jnp.max(jnp.abs(imbalance(end.x) - imbalance(state.x)))

    coarse, fine = drift(1e-2), drift(1e-4)
    assert 90 < coarse / fine < 110
    assert fine < 1e-4


def test_a_constant_step_contracts_by_the_smaller_factor_near_a_solution(problems):
    problem = problems["round"]
    U, _, Vt = np.linalg.svd(problem.data.base.M)
    rng = np.random.default_rng(0)
    noise = Adapter(1e-5 * rng.normal(size=(8, 3)), 1e-5 * rng.normal(size=(3, 7)))  # type: ignore[arg-type]

    @once
    @jax.vmap
    def rate(imbalance):
        x = Adapter(imbalance * U[:, :3] + noise.B, Vt[:3] / imbalance + noise.A)
        hp = HParams(rule="const", eta=0.1 / (imbalance**2 + imbalance**-2))
        state = lora.init(problem, x, KEY, hp)
        state = jax.lax.fori_loop(0, 200, lambda _, s: lora.step(problem, s, KEY, hp), state)
        residual = [problem.value(s.x) ** 0.5 for s in (state, lora.step(problem, state, KEY, hp))]
        return residual[1] / residual[0], state.x, hp.eta

    measured, x, eta = jax.tree.map(np.asarray, rate(np.array([1.0, 2.0, 4.0])))
    smaller = np.minimum(*(np.linalg.svd(factor, compute_uv=False)[:, -1] for factor in (x.B, x.A)))
    promised = 1 - eta * smaller**2
    np.testing.assert_allclose(measured, promised, atol=1e-5)
    np.testing.assert_allclose(measured, [0.95, 0.99412, 0.99961], atol=2e-5)


OFFERED = list(lora_optax.optimisers())


def test_every_optimiser_takes_a_step_on_a_tree_of_adapters(problems):
    problem = problems["maps"]
    x = jax.eval_shape(problem.init, KEY)
    assert {"adamw", "sgd", "lion", "nadamw", "muon", "lbfgs"} <= set(OFFERED)
    for name in OFFERED:
        hp = lora_optax.HParams(optimiser=name, eta=0.1)
        start = jax.eval_shape(lambda problem, x, hp=hp: lora_optax.init(problem, x, KEY, hp), problem, x)
        end = jax.eval_shape(lambda problem, state, hp=hp: lora_optax.step(problem, state, KEY, hp), problem, start)
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in (start, end)]
        assert shapes[0] == shapes[1], name


def test_sgd_is_the_constant_step_and_adamw_learns_but_breaks_the_balance(problems):
    problem, constant = problems["cosine"], HParams(rule="const", eta=0.02)

    @once
    def run():
        def ends(method, hp):
            state = method.init(problem, problem.init(KEY), KEY, hp)
            return jax.lax.fori_loop(0, 150, lambda _, s: method.step(problem, s, KEY, hp), state)

        def unexplained(state):
            change, moved = lora.balance.metric, lora.balance.given[0]
            return change.measure(problem, state.opt.x, state) - moved.measure(problem, state.opt.x, state)

        sgd, adamw = (ends(lora_optax, lora_optax.HParams(optimiser=name, eta=0.02)) for name in ("sgd", "adamw"))
        values = [problem.value(x) for x in (problem.init(KEY), adamw.opt.x)]
        return ends(lora, constant).x, sgd.opt.x, values, [unexplained(sgd), unexplained(adamw)]

    plain, sgd, (start, end), unexplained = run()
    np.testing.assert_allclose(sgd.B, plain.B, rtol=1e-12)
    assert end < 0.3 * start
    assert abs(unexplained[0]) < 1e-12 and abs(unexplained[1]) > 1e-3


@pytest.mark.parametrize(
    ("hp", "message"),
    [
        (lora_optax.HParams(optimiser="adamm"), "nearest are adam"),
        (lora_optax.HParams(optimiser="noisy_sgd"), "noisy_sgd"),
        (lora_optax.HParams(optimiser="dpsgd"), "dpsgd"),
        (lora_optax.HParams(eta=0.0), "eta"),
        (lora_optax.HParams(batch_size=-1), "batch_size"),
    ],
)
def test_an_optimiser_that_cannot_run_is_refused(hp, message):
    with pytest.raises(InvalidSetting, match=message):
        lora_optax.algorithm.prepare(hp)
