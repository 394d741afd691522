"""LoRA gradient descent: bounds on every family and rule, known exponents, and the step that is unsafe for L < 1."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import lora_gradient_descent as lora
from algorithms.low_rank.lora_gradient_descent import MK_C, HParams, kappa
from problems.adapter import Adapter
from problems.low_rank import cosine, escape_family, matrix_factorization, softmax_adapter

KEY = jax.random.key(0)
PROBLEMS = {
    "matrix_factorization": matrix_factorization.make(KEY, kappa=100.0),
    "too_small_rank": matrix_factorization.make(KEY, rank=2, L=7.0, scale=3.0),
    "cosine": cosine.make(KEY),
    "escape_family": escape_family.make(KEY, p=1.0),
}

DIGITS = jax.jit(softmax_adapter.make)(KEY)


def measure(theorem, problem, state, value_at_start, seen, t, hp):
    """Return (metric, bound) of one theorem at one step."""
    given = {
        "initial_weight_gap": value_at_start[0],
        "initial_adapter_norm_sq": value_at_start[1],
    }
    read = [
        given[metric.name] if metric.name in given else metric.measure(problem, state.x, state)
        for metric in theorem.given
    ]
    metric = seen if theorem.metric.fold else theorem.metric.measure(problem, state.x, state)
    return metric, theorem.bound(t, problem.constants, hp, *read)


def run(problem, hp, steps, start=None, theorems=lora.algorithm.theorems):
    """Return per step: loss gap, decrease promised by (L2), and (metric, bound) of each theorem."""

    @jax.jit
    def trajectory(problem, hp):
        x0 = problem.init(KEY) if start is None else start
        at_start = (problem.value(x0) - problem.constants.ell_star, optax.tree.norm(x0, squared=True))

        def record(carry, t):
            state, best = carry
            best = jnp.minimum(best, optax.tree.norm(problem.grad(state.x), squared=True))
            pairs = [measure(th, problem, state, at_start, best, t, hp) for th in theorems]
            gap = problem.value(state.x) - problem.constants.ell_star
            return (lora.step(problem, state, KEY, hp), best), (gap, state.dissipated, pairs)

        carry = (lora.init(problem, x0, KEY, hp), jnp.inf)
        return jax.lax.scan(record, carry, jnp.arange(steps + 1.0))[1]

    return jax.tree.map(np.asarray, trajectory(problem, hp))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("hp", [HParams(c=0.25), HParams(c=1.0), HParams(rule="mk_theory")])
def test_every_bound_holds_and_every_step_descends(name, hp):
    problem = PROBLEMS[name]
    assert lora.admits(problem.constants, hp)
    gap, dissipated, pairs = run(problem, hp, 800)
    floor = 100 * np.finfo(float).eps * gap[0]
    promised = kappa(lora.RULES[hp.rule].c(hp)) * np.diff(dissipated)
    assert np.all(np.diff(gap) <= -promised + floor)
    for metric, bound in pairs:
        assert np.all(metric[1:] <= bound[1:] * (1 + 1e-9) + floor)


def test_bounds_hold_on_digits():
    problem = DIGITS
    c = problem.constants
    np.testing.assert_allclose(c.L_weight, 0.35043, atol=5e-6)
    np.testing.assert_allclose(c.ell_star, 0.26883891, atol=5e-9)
    np.testing.assert_allclose(problem.value(problem.init(KEY)), 1.66133, atol=5e-6)
    gap, _, pairs = run(problem, HParams(c=0.75), 100)
    assert np.all(np.diff(gap) < 0)
    for metric, bound in pairs:
        assert np.all(metric[1:] <= bound[1:])


def test_kappa_is_the_minimum_it_names():
    for c in (0.25, 0.5, 0.75, 1.0, MK_C):
        p = np.linspace(0, c, 200001)
        assert abs(kappa(c) - np.min(1 - p / 2 - (c - p) / 2 * (1 + p / 2) ** 2)) < 1e-9
    np.testing.assert_allclose(
        [kappa(c) for c in (0.25, 0.5, 0.75, 1.0, MK_C)], [0.8669, 0.7168, 0.5480, 0.3589, 0.9076], atol=5e-5
    )


@pytest.mark.parametrize("p", [2.0, 1.0, 0.5])
@pytest.mark.parametrize(
    ("hp", "exponent"),
    [
        (HParams(), lambda p: -(2 * p + 1) / (p + 2)),
        (HParams(rule="mk_theory"), lambda p: -(2 * p + 1) / (p + 2)),
        (HParams(rule="const", eta=0.1), lambda p: -(2 * p + 1) / (p + 1)),
    ],
)
def test_escape_exponents(p, hp, exponent):
    problem = escape_family.make(KEY, p=p)

    def gradient_after(steps):
        state = lora.init(problem, problem.init(KEY), KEY, hp)
        state = jax.lax.fori_loop(0, steps, lambda _, s: lora.step(problem, s, KEY, hp), state)
        return optax.tree.norm(problem.grad(state.x), squared=True)

    early, late = jax.jit(jax.vmap(gradient_after))(jnp.array([10_000, 100_000]))
    assert abs(np.log10(late / early) - exponent(p)) < 0.01


def test_the_gradient_is_pulled_back_from_the_weight():
    for problem in (*PROBLEMS.values(), DIGITS):
        x = jax.tree.map(lambda leaf: leaf + 0.1, problem.init(KEY))
        G = problem.weight_grad(x)
        pulled, direct = problem.pull_back(x, G), problem.grad(x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), pulled, direct)
        np.testing.assert_allclose(pulled.B, G @ x.A.T, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(pulled.A, x.B.T @ G, rtol=1e-9, atol=1e-14)


def test_the_best_adapters_reach_the_stated_infimum():
    problem = matrix_factorization.make(KEY, rank=2, kappa=3.0, L=2.0)
    U, s, Vt = jnp.linalg.svd(problem.data.base.M)
    best = Adapter(U[:, :2] * s[:2], Vt[:2])
    np.testing.assert_allclose(problem.value(best), problem.constants.f_star, rtol=1e-12)
    assert optax.tree.norm(problem.grad(best)) < 1e-13
    exact = matrix_factorization.make(KEY)
    assert exact.constants.f_star == 0


@pytest.mark.parametrize("name", ["cosine", "escape_family", "too_small_rank"])
def test_the_weight_is_as_smooth_as_stated(name):
    problem = PROBLEMS[name]
    loss = jax.grad(lambda W: problem.family.factored.loss(problem.data, W))
    shape = problem.weight_grad(problem.init(KEY)).shape
    for seed in range(50):
        one, two = jax.random.split(jax.random.key(seed))
        W = jax.random.normal(one, shape)
        V = W + 0.1 * jax.random.normal(two, shape)
        quotient = jnp.linalg.norm(loss(W) - loss(V)) / jnp.linalg.norm(W - V)
        assert quotient <= problem.constants.L_weight * (1 + 1e-9)


def test_the_transcribed_step_is_unsafe_below_L_1():
    problem = matrix_factorization.make(
        KEY, m=1, n=1, rank=1, rank_star=1, L=4.204e-4, scale=1e6, init="constant", start=14.6357
    )
    hp = HParams(rule="mk_theory")
    assert not lora.admits(problem.constants, hp)
    gap, _, pairs = run(problem, hp, 200)
    assert abs(gap[1] / gap[0] - 70.2) < 0.5
    metric, bound = pairs[0]
    assert metric[-1] > 10 * bound[-1] > 0


def test_an_understated_smoothness_breaks_the_path_bound():
    for seed in range(4):
        problem = matrix_factorization.make(jax.random.key(seed))
        c = problem.constants
        wrong = replace(problem, constants=replace(c, L_weight=0.1 * c.L_weight))
        (metric, bound) = run(wrong, HParams(c=1.0), 1000)[2][1]
        assert metric[-1] > 1.5 * bound[-1]


def test_a_step_too_small_breaks_the_rate():
    metric, bound = run(escape_family.make(KEY), HParams(rule="const", eta=1e-6), 1000)[2][2]
    assert metric[-1] > 5 * bound[-1]


def test_nothing_moves_from_zero_adapters():
    problem = PROBLEMS["cosine"]
    zero = jax.tree.map(jnp.zeros_like, problem.init(KEY))
    assert optax.tree.norm(problem.grad(zero)) == 0


@pytest.mark.parametrize(
    ("hp", "message"),
    [
        (HParams(rule="adam"), "rule"),
        (HParams(c=0.0), "c = "),
        (HParams(c=1.1), "c = "),
        (HParams(c=float("nan")), "c = "),
        (HParams(rule="const", eta=0.0), "eta"),
    ],
)
def test_impossible_settings_are_refused(hp, message):
    with pytest.raises(InvalidSetting, match=message):
        lora.algorithm.prepare(hp)
