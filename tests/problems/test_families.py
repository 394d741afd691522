"""Every family in the catalogue: what it claims is stated, and what is stated survives sampling."""

import importlib
import pkgutil
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import problems
from problems.constants import STATED_WITH, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

ROUNDING = 1e-9
DRAWS = 1000  # a pixel that few images have is in some of them
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast
OF_PAIRS = Regularity.SMOOTH | Regularity.CONVEX | Regularity.STRONGLY_CONVEX | Regularity.QUADRATIC
OF_RECORDS = (
    Regularity.FINITE_SUM | Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY | Regularity.RETAINS_STRONG_CONVEXITY
)
VARIANTS = {
    "problems.convex.logistic_regression": ({"l2": 0.01}, {"data": "breast_cancer", "l2": 0.001}),
    "problems.convex.huber": ({"N": 5, "h": 0.5, "L": 3.0},),
    "problems.convex.tight_deletion": ({"curvature": 0.0}, {"curvature": -2.0}),
    "problems.convex.softmax_regression": ({"data": "breast_cancer", "users": "one_label", "l2": 0.0, "start": 1.0},),
    "problems.nonconvex.sigmoid_loss": ({"data": "breast_cancer", "users": "adversarial"},),
    "problems.low_rank.symmetric_factorization": ({"rank": 2, "init": "generic"},),
    "problems.low_rank.matrix_factorization": ({"init": "nystrom", "rank": 6}, {"init": "spectral", "imbalance": 3.0}),
    "problems.low_rank.weighted_quadratic": ({"target": "random", "start": "normal"},),
    "problems.low_rank.cosine": ({"rank": 0, "N": 4, "noise": 0.5},),
    "problems.low_rank.noisy_target": ({"kind": "inner"}, {"kind": "weight", "alpha": 0.5}),
    "problems.nonconvex.double_well": ({"d": 3, "G": 2.0, "forgotten": 30},),
}


def families() -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Return module and parameters of every family file, with its defaults and with the variants above."""
    found = []
    for folder in pkgutil.iter_modules(problems.__path__, "problems."):
        if folder.ispkg:
            package = importlib.import_module(folder.name)
            found += [module.name for module in pkgutil.iter_modules(package.__path__, folder.name + ".")]
    return [(name, tuple(chosen.items())) for name in found for chosen in ({}, *VARIANTS.get(name, ()))]


every_family = pytest.mark.parametrize(
    ("module", "chosen"),
    families(),
    ids=lambda v: v.rsplit(".", 1)[-1] if isinstance(v, str) else str(dict(v)),
    scope="module",  # run family by family, so that a worker compiles each but once
)


@cache
def instance(module: str, chosen: tuple[tuple[str, Any], ...]) -> Problem:
    """Return one instance, made as the suite makes it: under `jit(vmap(make))`."""
    make = importlib.import_module(module).make
    made = once(jax.vmap(lambda key: make(key, **dict(chosen))))(jax.random.split(jax.random.key(7), 2))
    return jax.tree.map(lambda leaf: leaf[1], made)


def random_point(problem: Problem, key: jax.Array, scale: jax.Array | float) -> Any:
    """Return a start moved by `scale` times normal numbers."""
    start_key, move_key = jax.random.split(key)
    flat, unravel = ravel_pytree(problem.init(start_key))
    return unravel(flat + scale * jax.random.normal(move_key, flat.shape))


def pair_on(problem: Problem, x: Any, y: Any) -> dict[str, jax.Array]:
    """Return values, gradients and the move between two points, flat."""
    (f_x, g_x), (f_y, g_y) = ((problem.value(z), ravel_pytree(problem.grad(z))[0]) for z in (x, y))
    move = ravel_pytree(y)[0] - ravel_pytree(x)[0]
    return {"f_x": f_x, "f_y": f_y, "g_x": g_x, "g_y": g_y, "move": move}


@once
def pair(problem: Problem, key: jax.Array, scale: jax.Array, distance: jax.Array) -> dict[str, jax.Array]:
    """Return a random pair of points on the whole problem and, if it can be sampled, on two single records."""
    x_key, move_key, record_key = jax.random.split(key, 3)
    x = random_point(problem, x_key, scale)
    flat, unravel = ravel_pytree(x)
    y = unravel(flat + distance * jax.random.normal(move_key, flat.shape))
    seen = pair_on(problem, x, y)
    if Oracle.SAMPLE in problem.family.oracles:
        for name, single in zip("ij", jax.random.split(record_key), strict=True):
            record = problem.sample(single, 1)
            seen |= {f"{key}_{name}": value for key, value in pair_on(record, x, y).items()}
    if Oracle.RETAIN in problem.family.oracles:
        retained = problem.retained()
        seen |= {f"{key}_retained": value for key, value in pair_on(retained, x, y).items()}
    return seen


points = given(
    seed=st.integers(0, 2**31 - 1), scale=st.sampled_from([0.0, 0.3, 3.0]), distance=st.sampled_from([1e-3, 1.0])
)


def seen_at(problem: Problem, seed: int, scale: float, distance: float) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, pair(problem, jax.random.key(seed), scale, distance))


@every_family
def test_claimed_constants_are_stated(module, chosen):
    problem = instance(module, chosen)
    for regularity, names in STATED_WITH.items():
        if regularity in problem.family.regularity:
            for name in names:
                stated = getattr(problem.constants, name)
                assert stated is not None and stated.shape == () and jnp.isfinite(stated), name


@every_family
def test_gradient_is_the_slope_of_the_value(module, chosen):
    problem = instance(module, chosen)
    if problem.family.drawn:
        pytest.skip("its gradient is that of the scores of drawn trajectories, not the slope of their mean")

    @once
    def slopes(key):
        x_key, direction_key = jax.random.split(key)
        flat, unravel = ravel_pytree(random_point(problem, x_key, 0.3))
        direction = jax.random.normal(direction_key, flat.shape)
        direction, h = direction / jnp.linalg.norm(direction), 1e-5
        ahead, behind = (problem.value(unravel(flat + s * h * direction)) for s in (1, -1))
        grad = ravel_pytree(problem.grad(unravel(flat)))[0]
        return (ahead - behind) / (2 * h), grad @ direction, jnp.linalg.norm(grad), ahead

    for key in jax.random.split(jax.random.key(1), 5):
        difference, slope, size, level = slopes(key)
        assert abs(difference - slope) <= 1e-6 * max(size, abs(level), 1e-3)


def claims(module: str, chosen: tuple[tuple[str, Any], ...], flags: Regularity) -> bool:
    """Return whether the family claims one of the flags, so that its points are worth compiling."""
    return bool(instance(module, chosen).family.regularity & flags)


@every_family
@points
def test_smoothness_and_convexity(module, chosen, seed, scale, distance):
    if not claims(module, chosen, OF_PAIRS):
        pytest.skip("claims neither smoothness nor convexity")
    problem = instance(module, chosen)
    c, has, s = problem.constants, problem.family.regularity, seen_at(instance(module, chosen), seed, scale, distance)
    moved, slack = np.linalg.norm(s["move"]), ROUNDING * (1 + abs(s["f_x"]) + abs(s["f_y"]))
    change = s["g_y"] - s["g_x"]
    if Regularity.SMOOTH in has:
        assert np.linalg.norm(change) <= c.L * moved * (1 + ROUNDING) + slack
    if Regularity.CONVEX in has:
        assert s["f_y"] >= s["f_x"] + s["g_x"] @ s["move"] - slack
    if Regularity.STRONGLY_CONVEX in has:
        assert change @ s["move"] >= c.mu * moved**2 * (1 - ROUNDING) - slack * moved
        assert s["f_y"] >= s["f_x"] + s["g_x"] @ s["move"] + 0.5 * c.mu * moved**2 - slack
    if Regularity.QUADRATIC in has:
        assert abs(s["f_y"] - s["f_x"] - 0.5 * (s["g_x"] + s["g_y"]) @ s["move"]) <= slack


@once
def level(problem: Problem, key: jax.Array, scale: jax.Array) -> dict[str, jax.Array]:
    """Return value and gradient at a random point."""
    x = random_point(problem, key, scale)
    return {"f_x": problem.value(x), "g_x": ravel_pytree(problem.grad(x))[0]}


@every_family
@points
def test_lower_bounds(module, chosen, seed, scale, distance):
    problem = instance(module, chosen)
    c, has = problem.constants, problem.family.regularity
    if not claims(module, chosen, Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.PL):
        pytest.skip("claims no lower bound")
    compiled = claims(module, chosen, OF_PAIRS)
    s = seen_at(problem, seed, scale, distance) if compiled else level(problem, jax.random.key(seed), scale)
    if Regularity.NONNEGATIVE in has:
        assert s["f_x"] >= 0
    if Regularity.LOWER_BOUNDED in has:
        assert s["f_x"] >= c.f_star - ROUNDING * (1 + abs(c.f_star))
    if Regularity.PL in has:
        assert s["g_x"] @ s["g_x"] >= 2 * c.mu_pl * (s["f_x"] - c.f_star) * (1 - ROUNDING) - ROUNDING


@every_family
@points
def test_every_record(module, chosen, seed, scale, distance):
    if not claims(module, chosen, OF_RECORDS):
        pytest.skip("claims nothing of its records")
    problem = instance(module, chosen)
    c, has, s = problem.constants, problem.family.regularity, seen_at(instance(module, chosen), seed, scale, distance)
    if "g_x_i" in s:
        change, moved = s["g_y_i"] - s["g_x_i"], np.linalg.norm(s["move"])
        slack = ROUNDING * moved * (1 + np.linalg.norm(s["g_x_i"]))
        if has & (Regularity.FINITE_SUM | Regularity.DELETABLE):
            assert np.linalg.norm(change) <= c.L_max * moved * (1 + ROUNDING) + slack
        if Regularity.RETAINS_CONVEXITY in has:
            assert change @ s["move"] >= -slack * moved
        if Regularity.RETAINS_STRONG_CONVEXITY in has:
            assert change @ s["move"] >= c.mu_min * moved**2 - slack * moved
        if Regularity.DELETABLE in has:  # a regulariser cancels in the difference
            assert np.linalg.norm(s["g_x_i"] - s["g_x_j"]) <= 2 * c.G * (1 + ROUNDING)
    if Regularity.DELETABLE in has:
        disturbance = 2 * c.G * c.forgotten / c.n
        assert np.linalg.norm(s["g_x"] - s["g_x_retained"]) <= disturbance * (1 + ROUNDING)


@every_family
@points
def test_retained_records(module, chosen, seed, scale, distance):
    if not claims(module, chosen, Regularity.RETAINS_PL | Regularity.ATTAINS_DELETION):
        pytest.skip("claims nothing of retained records")
    problem = instance(module, chosen)
    c, has, s = problem.constants, problem.family.regularity, seen_at(instance(module, chosen), seed, scale, distance)
    if Regularity.RETAINS_PL in has:
        above = s["f_x_retained"] - c.f_star_retained
        assert above >= -ROUNDING * (1 + abs(c.f_star_retained))
        assert s["g_x_retained"] @ s["g_x_retained"] >= 2 * c.mu_pl_retained * above * (1 - ROUNDING) - ROUNDING
    if Regularity.ATTAINS_DELETION in has:
        assert s["move"].shape == (1,)
        gap, slack = np.abs(s["g_x"] - s["g_x_retained"]), ROUNDING * np.max(np.abs(s["g_x"]))
        assert np.allclose(gap, 2 * c.G * c.forgotten / c.n, rtol=1e-6, atol=slack)
        for change in (s["g_y"] - s["g_x"], s["g_y_retained"] - s["g_x_retained"]):
            assert np.allclose(change, c.spread * s["move"], rtol=1e-6, atol=slack)


@every_family
def test_two_basins(module, chosen):
    problem = instance(module, chosen)
    if Regularity.TWO_BASINS not in problem.family.regularity:
        pytest.skip("claims no two basins")
    eta = 0.5 / problem.constants.L_max

    @once
    def minimum(learned, key):
        x = jax.lax.fori_loop(0, 2000, lambda _, x: x - eta * learned.grad(x), problem.init(key))
        return x, learned.grad(x)

    for key in jax.random.split(jax.random.key(4), 5):
        (x, g), (y, h) = (minimum(learned, key) for learned in (problem, problem.retained()))
        assert jnp.linalg.norm(g) <= ROUNDING and jnp.linalg.norm(h) <= ROUNDING
        assert jnp.linalg.norm(x - y) == pytest.approx(float(problem.constants.basins), rel=ROUNDING)


@every_family
def test_minimiser(module, chosen):
    problem = instance(module, chosen)
    if problem.x_star is not None:
        start, grad, lowest = once(
            lambda p, key: (
                ravel_pytree(p.grad(p.init(key)))[0],
                ravel_pytree(p.grad(p.x_star))[0],
                p.value(p.x_star),
            )
        )(problem, jax.random.key(3))
        assert np.linalg.norm(grad) <= 1e-13 * (1 + np.linalg.norm(start))
        assert np.allclose(lowest, problem.constants.f_star, rtol=1e-12, atol=1e-15)


def z_score(draws: jax.Array, mean: jax.Array) -> jax.Array:
    """Return the largest |mean of the draws - mean| in standard errors, over coordinates."""
    error = draws.std(axis=0, ddof=1) / jnp.sqrt(len(draws))
    return jnp.max(jnp.abs(draws.mean(axis=0) - mean) / (error + 1e-12))


@every_family
def test_sampled_gradients_are_unbiased(module, chosen):
    whole = instance(module, chosen)
    if Oracle.SAMPLE not in whole.family.oracles:
        pytest.skip("offers no sampling")
    keys = jax.random.split(jax.random.key(6), DRAWS)

    @once
    def scores(whole, keys):
        offered = [whole, whole.retained()] if Oracle.RETAIN in whole.family.oracles else [whole]
        x, found = random_point(whole, jax.random.key(5), 0.3), []
        for problem in offered:
            draws = jax.vmap(lambda key, p=problem: ravel_pytree(p.sample(key, 2).grad(x))[0])(keys)
            found.append(z_score(draws, ravel_pytree(problem.grad(x))[0]))
        if Regularity.FINITE_SUM in whole.family.regularity and whole.x_star is not None:
            at_star = jax.vmap(lambda key: ravel_pytree(whole.sample(key, 1).grad(whole.x_star))[0])(keys)
            found.append(z_score(jnp.sum(at_star**2, axis=1)[:, None], whole.constants.sigma_star_sq))
        return found

    for score in scores(whole, keys):
        assert score <= 5
