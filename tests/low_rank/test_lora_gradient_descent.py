"""LoRA gradient descent: bounds on every family and rule, known exponents, and the step that is unsafe for L < 1."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.adapter_rules import MK_C, RULES
from algorithms.adapter_steps import kappa, rate_bound, selfnorm_a
from algorithms.low_rank import lora_gradient_descent as lora
from algorithms.low_rank.lora_gradient_descent import HParams
from problems.adapter import Adapter
from problems.low_rank import cosine, escape_family, matrix_factorization, softmax_adapter, worst_horizon

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


@once
def instances():
    """Return the problems of these tests, made in one program."""
    return {
        "matrix_factorization": matrix_factorization.make(KEY, kappa=100.0),
        "too_small_rank": matrix_factorization.make(KEY, rank=2, kappa=3.0, L=7.0, scale=3.0),
        "cosine": cosine.make(KEY),
        "escape_family": escape_family.make(KEY, p=1.0),
        "digits": softmax_adapter.make(KEY),
        "tiny_L": matrix_factorization.make(
            KEY, m=1, n=1, rank=1, rank_star=1, L=4.204e-4, scale=1e6, init="constant", start=14.6357
        ),
    }


@pytest.fixture(scope="module")
def problems():
    return instances()


BOUNDS = (lora.descent, lora.path, lora.rate, lora.bounded_rate)


def run(problem, hp, steps, theorems=BOUNDS):
    """Return per step: loss gap, what was dissipated, and (metric, bound) of each theorem."""
    folded = {m.name: m for theorem in theorems for m in (theorem.metric, *theorem.given) if m.fold}

    @once
    def trajectory(problem, hp):
        def read(metric, seen, state):
            return seen[metric.name] if metric.fold else metric.measure(problem, state.x, state)

        def record(carry, t):
            state, seen = carry
            now = {name: m.measure(problem, state.x, state) for name, m in folded.items()}
            seen = {name: jnp.where(t > 0, m.fold(seen[name], now[name]), now[name]) for name, m in folded.items()}
            pairs = [(read(th.metric, seen, state), th.bound(t, problem.constants, hp, *(read(m, seen, state)
                      for m in th.given))) for th in theorems]  # fmt: skip
            gap = problem.value(state.x) - problem.constants.ell_star
            return (lora.step(problem, state, KEY, hp), seen), (gap, state.dissipated, pairs)

        carry = (lora.init(problem, problem.init(KEY), KEY, hp), {name: jnp.zeros(()) for name in folded})
        return jax.lax.scan(record, carry, jnp.arange(steps + 1.0))[1]

    return jax.tree.map(np.asarray, trajectory(problem, hp))


@pytest.mark.parametrize(
    ("name", "hp", "steps"),
    [
        ("matrix_factorization", HParams(rule="selfnorm_bt", c=0.25, L0=0.01), 800),
        ("too_small_rank", HParams(rule="mk_theory"), 800),
        ("cosine", HParams(c=1.0), 800),
        ("escape_family", HParams(rule="adapt", alpha=1.0), 800),
        ("digits", HParams(c=0.75), 50),
    ],
    ids=lambda value: value.rule if isinstance(value, HParams) else value,
)
def test_every_bound_holds_and_every_step_descends(problems, name, hp, steps):
    problem = problems[name]
    assert lora.admits(problem.constants, hp)
    gap, dissipated, pairs = run(problem, hp, steps)
    floor = 100 * np.finfo(float).eps * gap[0]
    promised = kappa(RULES[hp.rule].c(problem.constants, hp)) * np.diff(dissipated)
    assert np.all(np.diff(gap) <= -promised + floor)
    for metric, bound in pairs:
        assert np.all(metric[1:] <= bound[1:] * (1 + 1e-9) + floor)
        assert np.isfinite(bound[1:]).all()


def test_the_constants_of_the_digits(problems):
    c = problems["digits"].constants
    np.testing.assert_allclose(c.L_weight, 0.35043, atol=5e-6)
    np.testing.assert_allclose(c.ell_star, 0.26883891, atol=5e-9)


def test_kappa_is_the_minimum_it_names():
    for c in (0.25, 0.5, 0.75, 1.0, MK_C):
        p = np.linspace(0, c, 200001)
        assert abs(kappa(c) - np.min(1 - p / 2 - (c - p) / 2 * (1 + p / 2) ** 2)) < 1e-9
    np.testing.assert_allclose(
        [kappa(c) for c in (0.25, 0.5, 0.75, 1.0, MK_C)], [0.8669, 0.7168, 0.5480, 0.3589, 0.9076], atol=5e-5
    )


@pytest.mark.parametrize("hp", [HParams(), HParams(rule="mk_theory"), HParams(rule="const", eta=0.1)])
def test_escape_law(hp):
    powers, times = jnp.array([2.0, 1.0, 0.5, 0.1]), jnp.array([20_000, 200_000])

    @jax.jit
    @jax.vmap
    def measured(p):
        base = escape_family.make(KEY)
        data, constants = base.data, replace(base.constants, power=p, L_weight=p)
        problem = replace(base, data=replace(data, base=escape_family.Data(p)), constants=constants)

        def gradient_after(steps):
            state = lora.init(problem, problem.init(KEY), KEY, hp)
            state = jax.lax.fori_loop(0, steps, lambda _, s: lora.step(problem, s, KEY, hp), state)
            return optax.tree.norm(problem.grad(state.x), squared=True)

        return jax.vmap(gradient_after)(times), jax.vmap(lambda t: lora.escape.bound(t, constants, hp))(times)

    measured, law = measured(powers)
    assert jnp.all(jnp.abs(measured[:, 1] / law[:, 1] - 1) < 0.005)
    slope = np.log10(np.asarray(measured[:, 1] / measured[:, 0]))
    known = -(2 * powers + 1) / (powers + (1 if hp.rule == "const" else 2))
    np.testing.assert_allclose(slope, known, atol=0.003)


@pytest.mark.parametrize("c", [0.25, 1.0])
def test_the_slope_lasts_for_its_steps_and_attains_the_rate(c):
    problem, hp = worst_horizon.make(KEY, T=400.0, c=c, L=2.0, drop=3.0), HParams(c=c)
    (metric, law), (inverse, bound) = run(problem, hp, 400, (lora.slope, lora.tight))[2]
    np.testing.assert_allclose(metric[:400], law[:400], rtol=1e-12)
    assert np.isnan(law[400]) and np.isfinite(bound).sum() == 1
    assert 0.8 < inverse[399] / bound[399] <= 1


def test_the_rate_is_attained_for_every_horizon():
    T, c = np.meshgrid(np.geomspace(5, 1e9, 60), np.linspace(0.01, 1, 40))
    R_sq, T = np.sqrt(3 * T), T / c  # drop = L = 1
    v = 1.05 * R_sq ** (-1 / 6)
    gap = 1 - v / np.sqrt(R_sq) + 1 / (2 * R_sq**2)
    bound = rate_bound(T - 1, c, np.ones(()), selfnorm_a(1.0, v**2, gap), gap)
    ratio = 1 / R_sq / bound
    assert np.all(ratio >= kappa(c) ** 1.5 / 3**0.5) and np.all(ratio <= 1)
    published = [rate_bound(1e3, 0.5, 1.0, selfnorm_a(1.0, 0.3258997, 0.9084119), 0.9084119)]
    np.testing.assert_allclose(1500**-0.5 / np.asarray(published), 0.389, atol=5e-4)


@pytest.mark.parametrize("name", ["too_small_rank", "digits"])
def test_the_gradient_is_pulled_back_from_the_weight(problems, name):
    @once
    def gradients(problem):
        x = jax.tree.map(lambda leaf: leaf + 0.1, problem.init(KEY))
        G = problem.weight_grad(x)
        return problem.pull_back(x, G), problem.grad(x), Adapter(G @ x.A.T, x.B.T @ G)

    pulled, *others = gradients(problems[name])
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), pulled, other)


def test_the_best_adapters_reach_the_stated_infimum(problems):
    problem = problems["too_small_rank"]
    U, s, Vt = np.linalg.svd(problem.data.base.M)
    best = Adapter(U[:, :2] * s[:2], Vt[:2])
    value, slope = once(lambda problem, x: (problem.value(x), problem.grad(x)))(problem, best)
    np.testing.assert_allclose(value, problem.constants.f_star, rtol=1e-12)
    assert optax.tree.norm(slope) < 1e-12
    assert problems["matrix_factorization"].constants.f_star == 0


@pytest.mark.parametrize("name", ["cosine", "escape_family", "too_small_rank"])
def test_the_weight_is_as_smooth_as_stated(problems, name):
    @once
    def quotients(problem, keys):
        slope = jax.grad(lambda W: problem.family.factored.loss(problem.data, W))

        def quotient(key):
            one, two = jax.random.split(key)
            W = jax.random.normal(one, problem.data.W0.shape)
            V = W + 0.1 * jax.random.normal(two, W.shape)
            return jnp.linalg.norm(slope(W) - slope(V)) / jnp.linalg.norm(W - V)

        return jax.vmap(quotient)(keys)

    problem = problems[name]
    assert np.max(quotients(problem, jax.random.split(KEY, 200))) <= problem.constants.L_weight * (1 + 1e-9)


def test_the_transcribed_step_is_unsafe_below_L_1(problems):
    problem = problems["tiny_L"]
    hp = HParams(rule="mk_theory")
    assert not lora.admits(problem.constants, hp) and lora.unsafe.admits(problem.constants, hp)
    gap, _, ((metric, bound),) = run(problem, hp, 3, (lora.unsafe,))
    assert abs(gap[1] / gap[0] - 70.2) < 0.5
    assert metric[1] <= bound[1] and np.isnan(bound[[0, 2, 3]]).all()
