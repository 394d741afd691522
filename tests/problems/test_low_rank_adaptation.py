"""Adapters of any problem: constants and oracles are carried, a user's flax model is adapted, mistakes are named."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx, struct
from jax.flatten_util import ravel_pytree

from algorithms.adapter_steps import kappa
from algorithms.from_optax import from_optax
from algorithms.low_rank import lora_gradient_descent as lora
from algorithms.theorem import Source
from problems.adapter import Adapter, by_path, gaussian_start, is_adapter, low_rank, merged
from problems.constants import Constants, InvalidParameter, Regularity
from problems.low_rank import cosine, matrix_completion, matrix_sensing, mlp_adapter, softmax_adapter, tiny_transformer
from problems.module import module_problem
from problems.oracles import Oracle
from problems.problem import Family, Problem

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


class Net(linen.Module):
    """Six hidden units."""

    @linen.compact
    def __call__(self, inputs):
        return linen.Dense(3)(linen.tanh(linen.Dense(6)(inputs)))


def own_data(n=60):
    """Return inputs, labels and names of users."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 5)), rng.integers(0, 3, n), np.array(["alice", "bob", "carol"] * (n // 3))


BASE = module_problem(Net(), *own_data(), forget="alice", unseen=own_data(12)[:2])  # type: ignore[call-arg]
W0 = once(BASE.init)(jax.random.key(3))
ADAPTED = low_rank(BASE, rank=2, scale=0.5, init=gaussian_start, size=0.3, W0=W0)
PATHS = ("params/Dense_0/kernel", "params/Dense_1/kernel")


@struct.dataclass
class Regression:
    """Inputs (N, a) and (N, b) of two linear maps, and outputs (N, c)."""

    X: Any
    Z: Any
    Y: Any


def two_maps(key) -> Problem[Regression, Any]:
    """Return |X K_1 + Z K_2 + bias - Y|^2/2N, whose joint smoothness is that of both maps together."""
    X, Z, Y = (jax.random.normal(jax.random.fold_in(key, i), (30, d)) for i, d in enumerate((4, 5, 3)))

    def init(data, key):
        return {"a": {"kernel": jnp.ones((4, 3))}, "b": {"kernel": jnp.zeros((5, 3))}, "bias": jnp.ones(3)}

    def value(data, x):
        error = data.X @ x["a"]["kernel"] + data.Z @ x["b"]["kernel"] + x["bias"] - data.Y
        return jnp.sum(error**2) / 60

    together = jnp.concatenate([X, Z, jnp.ones((30, 1))], axis=1)
    known = Constants(L=jnp.linalg.eigvalsh(together.T @ together / 30)[-1], f_star=jnp.zeros(()))
    family = Family("two_maps", Regularity.SMOOTH | Regularity.LOWER_BOUNDED, init, value)
    return Problem(family, Regression(X, Z, Y), known)


def descends(problem, c=1.0, steps=200):
    """Return per step the change of the loss and the decrease that the descent lemma promises, c/(L |V|^2 + |G|)."""
    hp = lora.HParams(c=c)

    def step(state, _):
        after = lora.step(problem, state, KEY, hp)
        return after, (problem.value(after.x), after.dissipated)

    state = lora.init(problem, problem.init(KEY), KEY, hp)
    value, dissipated = jax.lax.scan(step, state, None, length=steps)[1]
    return jnp.diff(value), kappa(c) * jnp.diff(dissipated)


SCALED = {
    "one matrix": lambda s: low_rank(cosine.make(KEY, rank=0), 2, scale=s, init=gaussian_start, W0=jnp.ones((8, 8))),
    "several": lambda s: low_rank(two_maps(KEY), 2, scale=s, init=gaussian_start),
}


@pytest.mark.parametrize("name", SCALED)
def test_a_scale_is_absorbed_in_gradient_and_smoothness(name):
    @once
    def look(key):
        problem = SCALED[name](3.0)
        x = problem.init(key)
        flat, unravel = ravel_pytree(problem.weight(x))
        direction = jax.random.normal(key, flat.shape)

        def loss(M):
            return problem.family.factored.loss(problem.data, unravel(M))

        ahead, behind = (loss(flat + h * direction) for h in (1e-5, -1e-5))
        curvature = jax.jvp(jax.grad(loss), (flat,), (direction,))[1]
        slopes = (ahead - behind) / 2e-5, ravel_pytree(problem.weight_grad(x))[0] @ direction
        smoothness = SCALED[name](1.0).constants.L_weight, problem.constants.L_weight
        L = problem.constants.L_weight / 9  # forgetting the scale
        wrong = replace(problem, constants=replace(problem.constants, L_weight=L))
        steepness = jnp.linalg.norm(curvature) / jnp.linalg.norm(direction)
        return slopes, smoothness, steepness, descends(problem), descends(wrong)

    (difference, slope), (plain, scaled), steepness, (change, promised), (wrong, broken) = look(KEY)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    np.testing.assert_allclose(scaled, 9 * plain, rtol=1e-12)
    assert 0.05 * scaled < steepness <= scaled
    assert np.all(change <= -promised + 1e-12) and change.min() < -1e-6
    assert np.any(wrong > -broken + 1e-6)


def test_gradients_in_the_factors_are_those_of_the_kernels_pulled_back():
    @once
    def gradients(adapted, base):
        adapted, base = ((p.retained(jnp.asarray(7)).substituted(), p.forgotten()) for p in (adapted, base))
        x = ADAPTED.init(KEY)
        return x, *([p.grad(x) for p in adapted], [p.grad(merged(ADAPTED, x)) for p in base])

    x, *pairs = gradients(ADAPTED, BASE)
    for mine, theirs in zip(*pairs, strict=True):
        for path in PATHS:
            G = 0.5 * theirs["params"][path.split("/")[1]]["kernel"].T
            np.testing.assert_allclose(mine[path].B, np.matmul(G, x[path].A.T), rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(mine[path].A, np.matmul(x[path].B.T, G), rtol=1e-12, atol=1e-15)
    one, other = pairs[0]
    assert not np.allclose(one[PATHS[0]].B, other[PATHS[0]].B, rtol=0.1)


def test_the_adapted_model_is_the_merged_one_with_all_its_oracles():
    unseen, index = "unseen_accuracy", jnp.array([3, 1, 4])

    @once
    def look(adapted, base):
        x = adapted.init(KEY)
        model = merged(adapted, x)
        measured = [dict(p.family.measures)[unseen](p.data, at) for p, at in ((adapted, x), (base, model))]
        seen = []
        for part in (lambda p: p, lambda p: p.rows(index), lambda p: p.sample(KEY, 4), lambda p: p.retained()):
            seen.append((part(adapted).value(x), part(base).value(model)))
        return x, model, measured, seen, (adapted.scores(x), base.scores(model))

    x, model, (mine, theirs), seen, scores = jax.device_get(look(ADAPTED, BASE))
    assert jax.tree.structure(model) == jax.tree.structure(W0) and mine == theirs
    moved, before = model["params"]["Dense_0"], W0["params"]["Dense_0"]
    np.testing.assert_array_equal(moved["bias"], before["bias"])
    adapter = x[PATHS[0]]
    np.testing.assert_allclose(moved["kernel"], np.asarray(before["kernel"]) + 0.5 * (adapter.B @ adapter.A).T)
    np.testing.assert_allclose(*zip(*seen, strict=True), rtol=1e-13)
    np.testing.assert_allclose(*scores, rtol=1e-12)
    assert ADAPTED.records == BASE.records == 60
    assert Oracle.WEIGHT_GRADIENT | BASE.family.oracles == ADAPTED.family.oracles
    assert (ADAPTED.constants.n, ADAPTED.constants.forgotten) == (60, 20)
    assert ADAPTED.constants.dimension == 2 * (5 + 6) + 2 * (6 + 3)
    assert ADAPTED.family.regularity == Regularity.NONNEGATIVE | Regularity.BOUNDED_IN_WEIGHT
    assert ADAPTED.constants.ell_star == 0


def test_loras_start_is_the_frozen_model_and_only_named_matrices_move():
    problem = low_rank(BASE, rank=1, W0=W0, matrices=("Dense_1",))
    x = jax.device_get(problem.init(KEY))
    assert set(x) == {PATHS[1]} and isinstance(x[PATHS[1]], Adapter)
    assert (x[PATHS[1]].B.shape, x[PATHS[1]].A.shape) == ((6, 1), (1, 5))
    np.testing.assert_array_equal(ravel_pytree(merged(problem, x))[0], ravel_pytree(W0)[0])
    assert np.abs(x[PATHS[1]].A).max() <= 5**-0.5
    moved = merged(problem, jax.tree.map(lambda leaf: leaf + 1.0, x))
    np.testing.assert_array_equal(moved["params"]["Dense_0"]["kernel"], W0["params"]["Dense_0"]["kernel"])


class Mistakes:
    """What is wrong with the arguments, and what the message must name."""

    vector = replace(BASE, family=Family("vector", Regularity.NONE, lambda data, key: jnp.ones(5), BASE.family.value))
    cases: ClassVar[dict[str, tuple[Callable[[], Any], str]]] = {
        "no such matrix": (lambda: low_rank(BASE, 1, matrices=("Dense_0", "Dense_7")), f"Dense_7.*{', '.join(PATHS)}"),
        "no matrix": (lambda: low_rank(BASE, 1, W0={"bias": np.ones(3)}), "all: the matrices are none"),
        "rank too large": (lambda: low_rank(BASE, 4), "rank = 4: adapters of params/Dense_0/kernel, 6 x 3"),
        "rank 0": (lambda: low_rank(BASE, 0), "rank = 0: .* have rank 1 to 3"),
        "a vector": (lambda: low_rank(Mistakes.vector, 1), r"the weight has shape \(5,\)"),
        "scale": (lambda: low_rank(BASE, 1, scale=0.0), "scale = 0.0"),
        "infinite scale": (lambda: low_rank(BASE, 1, scale=np.inf), "scale = inf"),
    }


@pytest.mark.parametrize(("wrong", "said"), Mistakes.cases.values(), ids=Mistakes.cases.keys())
def test_mistakes_are_named(wrong, said):
    with pytest.raises(InvalidParameter, match=said):
        wrong()


def test_equal_problems_share_one_family_and_one_program():
    program = once(lambda problem, x: problem.value(x))
    for seed in (1, 2):
        problem = low_rank(replace(BASE, data=replace(BASE.data, inputs=seed * BASE.data.inputs)), 2, W0=W0)
        program(problem, ADAPTED.init(KEY))
    assert program._cache_size() == 1
    assert low_rank(BASE, 2).family is low_rank(BASE, 1).family
    assert mlp_adapter.network(4, "tanh") is mlp_adapter.network(4, "tanh")


def test_constants_made_outside_double_precision_are_not_rounded():
    base = replace(once(two_maps)(KEY), constants=Constants(L=np.asarray(1 / 3), f_star=np.asarray(0.1)))
    with jax.enable_x64(False):
        problem = low_rank(base, 1, scale=1.1, W0={"a": np.full((4, 3), 1 / 3, np.float32)})
    assert problem.constants.L_weight == 1.1**2 / 3 and problem.constants.ell_star == 0.1
    assert problem.data.W0["a"].dtype == np.float64
    jitted = low_rank(base, 1, W0={"a": jnp.full((4, 3), 1 / 3, jnp.float32)})
    assert jitted.data.W0["a"].dtype == jnp.float64


def test_nnx_lora_is_the_same_function():
    layer = nnx.LoRA(4, 2, 3, base_module=nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype=float), rngs=nnx.Rngs(1),
                     param_dtype=float)  # fmt: skip
    layer.lora_b[...] = jax.random.normal(KEY, (2, 3))
    kernel = jnp.asarray(layer.base_module.kernel[...])
    inputs = jax.random.normal(jax.random.key(1), (7, 4))
    problem = low_rank(BASE, 2, W0={"a": {"kernel": kernel}})
    x = {"a/kernel": Adapter(B=layer.lora_b[...].T, A=layer.lora_a[...].T)}
    ours = inputs @ merged(problem, x)["a"]["kernel"] + layer.base_module.bias[...]
    np.testing.assert_allclose(ours, layer(inputs), rtol=1e-12)


@struct.dataclass
class Rate:
    """rate: the learning rate."""

    rate: Any = 0.05


OPTIMISERS = {
    "adamw": lambda hp: optax.adamw(hp.rate),
    "muon": lambda hp: optax.contrib.muon(hp.rate),
    "momentum": lambda hp: optax.sgd(hp.rate, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_any_optimiser_of_optax_runs_on_adapters(name):
    method = from_optax(name, OPTIMISERS[name], Rate, Source("Hu et al.", 2021, "LoRA", "arXiv:2106.09685"))

    @once
    def run(problem):
        hp, x = Rate(), problem.init(KEY)
        state = method.init(problem, x, KEY, hp)
        state = jax.lax.fori_loop(0, 60, lambda _, state: method.step(problem, state, KEY, hp), state)
        return problem.value(x), problem.value(method.readout(state)), method.readout(state)

    before, after, x = run(ADAPTED)
    assert after < 0.9 * before
    assert all(is_adapter(leaf) for leaf in jax.tree.leaves(x, is_leaf=is_adapter))


@pytest.mark.parametrize("chosen", [{"N": 60}, {"noise": 0.1}], ids=str)
def test_sensing_states_its_extreme_eigenvalues_and_its_residual(chosen):
    first = jnp.arange(1)

    @once
    def look(key):
        problem = matrix_sensing.make(key, rank=0, **chosen)
        best, data = problem.x_star, problem.data
        flattest = jnp.linalg.svd(data.C, full_matrices=False)[2][-1].reshape(best.shape)
        points = [(problem.grad(W), problem.value(W)) for W in (best, best + flattest)]
        return problem, points, problem.rows(first).grad(best)

    problem, ((slope, lowest), (uphill, above)), single = jax.device_get(look(KEY))
    c, data = problem.constants, problem.data
    N, d = data.C.shape
    spectrum = np.linalg.svd(data.C, compute_uv=False) ** 2 / N
    np.testing.assert_allclose([c.L, c.mu_pl], [spectrum[0], spectrum[min(N, d) - 1]], rtol=1e-9)
    np.testing.assert_allclose(lowest, c.f_star, atol=1e-15)
    np.testing.assert_allclose(np.sum(uphill**2), 2 * c.mu_pl * (above - c.f_star), rtol=1e-8)
    lengths, errors = np.sum(data.C**2, axis=1), data.C @ problem.x_star.ravel() - data.y
    np.testing.assert_allclose(c.sigma_star_sq, np.mean(lengths * errors**2), atol=1e-15)
    np.testing.assert_allclose(np.sum(single**2), lengths[0] * errors[0] ** 2, rtol=1e-9)
    assert np.linalg.norm(slope) < 1e-12 and c.L_max == pytest.approx(lengths.max())


@pytest.mark.parametrize(("rank", "noise", "claimed"), [(3, 0.0, True), (2, 0.0, False), (3, 0.1, False)])
def test_sensing_claims_an_infimum_over_adapters_only_where_it_is_in_reach(rank, noise, claimed):
    shape = jax.eval_shape(partial(matrix_sensing.make, rank=rank, noise=noise), KEY)
    assert (Regularity.LOWER_BOUNDED in shape.family.regularity) == claimed == (shape.constants.f_star is not None)


def test_completion_is_one_pl_but_leaves_what_nobody_saw():
    @once
    def look(key):
        problem, adapted = (matrix_completion.make(key, rank=rank, observed=0.3) for rank in (0, 2))
        W, x = jax.random.normal(key, (12, 10)), jax.tree.map(lambda leaf: leaf + 0.1, adapted.init(key))
        G, single = problem.grad(W), jax.vmap(lambda i: problem.rows(i[None]).value(W))(jnp.arange(36))
        adapters = adapted.value(x), problem.value(merged(adapted, x))
        return problem, W, G, problem.value(W), problem.value(W - G), jnp.mean(single), adapters

    problem, W, G, value, after, mean, adapters = jax.device_get(look(KEY))
    np.testing.assert_allclose([np.sum(G**2), 2 * mean], 2 * value, rtol=1e-12)
    assert len(problem.data.observed) == 36 == np.count_nonzero(G)
    assert after < 1e-25 < np.sum((W - G - problem.x_star) ** 2)
    np.testing.assert_allclose(*adapters, rtol=1e-13)


def test_a_softmax_records_gradient_varies_no_more_than_stated():
    X, y = jax.random.normal(KEY, (40, 5)), jnp.arange(40) % 10
    data = softmax_adapter.Data(X, y, jnp.full(40, 1 / 40), jnp.zeros((10, 5)), jnp.asarray(0.1))

    @once
    def variance(W):
        slope = jax.grad(softmax_adapter.value, argnums=1)
        each = jax.vmap(lambda i: slope(softmax_adapter.rows(data, i[None]), W))(jnp.arange(40))
        return jnp.mean(jnp.sum((each - jnp.mean(each, axis=0)) ** 2, axis=(1, 2))), softmax_adapter.variance(X)

    saturated = 100 * jax.random.normal(jax.random.key(1), (10, 5))  # nearly always wrong, and sure of it
    seen, bound = variance(saturated)
    assert 0.5 * bound < seen <= bound


def test_a_network_knows_five_digits_before_it_is_adapted():
    chosen = dict(activation="relu", width=16, records=300)

    @once
    def look(key):
        problem, whole = mlp_adapter.make(key, **chosen), mlp_adapter.make(key, rank=0, **chosen)
        x, labels = problem.init(key), problem.data.base.labels
        right = jnp.argmax(problem.scores(x), axis=1) == labels
        return problem.value(x), whole.value(whole.init(key)), right, labels < 5

    value, start, right, known = jax.device_get(look(jax.random.key(5)))
    np.testing.assert_allclose(value, start, rtol=1e-12)
    assert right[known].mean() > 0.97 and right[~known].mean() < 0.1


@pytest.mark.parametrize(("make", "matrices"), [(mlp_adapter.make, 3), (partial(tiny_transformer.make, blocks=2), 10)])
def test_every_linear_map_of_a_network_has_an_adapter(make, matrices):
    adapters, whole = (jax.eval_shape(lambda key, rank=rank: make(key, rank=rank).init(key), KEY) for rank in (2, 0))
    kernels = {path: leaf for path, leaf in by_path(whole).items() if path.endswith("kernel")}
    assert set(adapters) == set(kernels) and len(kernels) == matrices
    for path, kernel in kernels.items():
        assert (adapters[path].A.shape[1], adapters[path].B.shape[0]) == kernel.shape


@pytest.mark.parametrize(
    ("make", "chosen", "said"),
    [
        (mlp_adapter.make, {"activation": "gelu"}, "activation = gelu"),
        (mlp_adapter.make, {"records": 5}, "records = 5"),
        (mlp_adapter.make, {"rank": 11}, "rank = 11: adapters of params/layers_4/kernel"),
        (tiny_transformer.make, {"width": 7}, "width = 7"),
        (tiny_transformer.make, {"blocks": 0}, "blocks = 0"),
        (matrix_sensing.make, {"noise": -1.0}, "noise"),
        (matrix_sensing.make, {"rank_star": 11}, "rank_star"),
        (matrix_completion.make, {"observed": 0.0}, "observed"),
        (matrix_completion.make, {"observed": 1.1}, "observed"),
    ],
)
def test_meaningless_parameters_are_refused(make, chosen, said):
    with pytest.raises(InvalidParameter, match=said):
        jax.eval_shape(lambda key: make(key, **chosen), KEY)
