"""Federated RAC-LoRA and FedHL: reductions to one client, the common optimum, the jump of the truncated baseline."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import sketches
from algorithms.algorithm import InvalidSetting
from algorithms.low_rank import fed_hl, federated_rac_lora, rac_lora
from problems.low_rank import cosine, weighted_quadratic

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
KEY = jax.random.key(0)
COSINE = once(lambda key: cosine.make(key, m=6, n=4, rank=0, N=8, noise=0.5))(KEY)
SPECTRUM = jnp.array([3, 2, 1, 0.5, 0.25, 0.1])
RANKS = np.array([1, 2, 4, 6])


@once
def common_optimum():
    """Return the isotropic quadratic of a 12 x 12 target with the spectrum above, begun at it."""
    problem = weighted_quadratic.make(KEY, m=12, n=12, corner=1.0, target="random", rank_star=6, start="optimum")
    U, _, Vt = jnp.linalg.svd(problem.data.b)
    M = (U[:, :6] * SPECTRUM) @ Vt[:6]
    return replace(problem, data=replace(problem.data, b=M, centre=M), x_star=M)


SHARED = common_optimum()


def rounds(method, problem, hp, count, W=None):
    """Return the weight after `count` rounds, each under the key of its number."""

    @once
    def run(problem, W):
        state = method.init(problem, W, KEY, hp)
        step = lambda t, state: method.step(problem, state, jax.random.fold_in(KEY, t), hp)  # noqa: E731
        return jax.lax.fori_loop(0, count, step, state).W

    return run(problem, problem.init(KEY) if W is None else W)


def test_one_local_step_is_rac_lora_on_the_mean_of_the_clients():
    alone = rounds(rac_lora, COSINE, rac_lora.HParams(gamma=0.4, rank=2), 3)
    for clients in (1, 4):
        hp = federated_rac_lora.HParams(gamma=0.4, rank=2, clients=clients, K=1)
        np.testing.assert_allclose(rounds(federated_rac_lora, COSINE, hp, 3), alone, atol=1e-14)


def test_local_steps_stray_from_a_sketched_step_by_no_more_than_the_lemma_says():
    gamma, K = 0.5, 5
    hp = federated_rac_lora.HParams(gamma=gamma, rank=2, clients=4, K=K)
    parts = jnp.arange(8).reshape(4, 2)

    @once
    @jax.vmap
    def both(key):
        W = 3 * jax.random.normal(key, (6, 4))
        end = federated_rac_lora.step(COSINE, sketches.State(W, key), key, hp).W
        Q = sketches.draw(sketches.State(W, key), key, hp)
        seen = jax.vmap(lambda index: jnp.sum((Q.T @ COSINE.rows(index).grad(W)) ** 2))(parts)
        off = (W - end) / gamma - sketches.project(Q, COSINE.grad(W), "left")
        return jnp.sum(off**2), sketches.drift(1.0, gamma, K, 1 / 3) * jnp.mean(seen)

    off, allowed = both(jax.random.split(KEY, 200))
    assert np.all(off <= allowed)
    assert np.max(off / allowed) > 0.02


def test_fed_hl_stays_at_the_common_optimum_and_the_baseline_jumps_by_the_formula():
    settled = rounds(fed_hl, SHARED, fed_hl.HParams(eta=0.05, ranks="1-2-4-6"), 20)
    assert np.linalg.norm(settled - SHARED.x_star) < 1e-13
    baseline = rounds(fed_hl, SHARED, fed_hl.HParams(eta=0.05, ranks="1-2-4-6", aggregate="truncated"), 1)
    unheard = np.array([np.mean(i > RANKS) for i in range(1, 7)])
    promised = np.linalg.norm(SPECTRUM * unheard)
    np.testing.assert_allclose(np.linalg.norm(baseline - SHARED.x_star), promised, rtol=1e-12)


def test_fed_hl_approaches_the_common_optimum_and_the_baseline_settles_elsewhere():
    start = jax.random.normal(KEY, (12, 12))

    def distance(aggregate, count):
        hp = fed_hl.HParams(eta=0.05, ranks="1-2-4-6", aggregate=aggregate)
        return np.linalg.norm(rounds(fed_hl, SHARED, hp, count, start) - SHARED.x_star)

    assert distance("full_rank", 300) < 0.5 * distance("truncated", 300)


def test_one_client_that_keeps_everything_has_nothing_to_correct():
    W = jax.random.normal(KEY, (6, 2)) @ jax.random.normal(KEY, (2, 4))
    both = [
        rounds(fed_hl, COSINE, fed_hl.HParams(eta=0.05, ranks="2", aggregate=aggregate), 3, W)
        for aggregate in fed_hl.AGGREGATES
    ]
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)


def test_drift_weights_minimise_the_weighted_square_of_what_is_cut_off():
    hp = fed_hl.HParams(eta=0.05, ranks="1-2-4", weights="drift")
    kept = fed_hl.kept(hp, (12, 6))
    np.testing.assert_array_equal(kept.sum(1), [1, 2, 4])
    p = np.asarray(fed_hl.weights_of(SPECTRUM, kept, hp))
    cut = (1 - np.asarray(kept)) @ SPECTRUM**2
    others = np.random.default_rng(0).dirichlet(np.ones(3), 1000)
    assert abs(p.sum() - 1) < 1e-14
    assert p**2 @ cut <= np.min(others**2 @ cut)
    capped = fed_hl.weights_of(SPECTRUM, fed_hl.kept(replace(hp, ranks="1-6"), (12, 6)), hp)
    np.testing.assert_allclose(capped, [0, 1], atol=1e-10)


@pytest.mark.parametrize(
    ("method", "hp", "message"),
    [
        (federated_rac_lora, federated_rac_lora.HParams(gamma=0.1, clients=0), "clients = 0"),
        (federated_rac_lora, federated_rac_lora.HParams(gamma=0.1, K=0), "K = 0"),
        (federated_rac_lora, federated_rac_lora.HParams(gamma=-0.1), "gamma"),
        (fed_hl, fed_hl.HParams(eta=0.1, ranks="1-0"), "ranks"),
        (fed_hl, fed_hl.HParams(eta=0.1, ranks="one"), "ranks"),
        (fed_hl, fed_hl.HParams(eta=0.1, K=0), "K = 0"),
        (fed_hl, fed_hl.HParams(eta=0.1, aggregate="mean"), "aggregate"),
        (fed_hl, fed_hl.HParams(eta=0.1, weights="best"), "weights"),
    ],
)
def test_impossible_settings_are_refused(method, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        method.algorithm.prepare(hp)


@pytest.mark.parametrize(
    ("method", "hp", "message"),
    [
        (federated_rac_lora, federated_rac_lora.HParams(gamma=0.1, clients=3), "divisor"),
        (fed_hl, fed_hl.HParams(eta=0.1, ranks="1-1-2"), "divisor"),
        (fed_hl, fed_hl.HParams(eta=0.1, ranks="1-5"), "1 to 4"),
    ],
)
def test_settings_that_do_not_fit_the_problem_are_refused(method, hp, message):
    with pytest.raises(InvalidSetting, match=message):
        method.init(COSINE, COSINE.init(KEY), KEY, hp)
