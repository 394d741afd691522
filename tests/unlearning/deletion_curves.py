"""A plain oracle for unlearning runs: every step of every setting, a theorem's two sides and further metrics."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.metric import Metric
from algorithms.theorem import Control

FAST = {"xla_backend_optimization_level": 0}  # run briefly: compile fast


@partial(jax.jit, static_argnames=("algorithm", "theorem", "metrics", "steps"), compiler_options=FAST)
def lanes(algorithm, theorem, metrics, problem, hp, x0, keys, steps):
    def measured(state, every):
        return {m.name: m.measure(problem, algorithm.readout(state), state) for m in every}

    given = theorem.given if theorem else ()
    shown = (*metrics, theorem.metric) if theorem else metrics

    def lane(hp, key):
        def record(carry, t):
            state, folded = carry
            now = measured(state, given)
            folded = {m.name: m.fold(folded[m.name], now[m.name]) if m.fold else now[m.name] for m in given}
            sides = measured(state, shown)
            if theorem:
                sides["bound"] = theorem.bound(t, problem.constants, hp, *(folded[m.name] for m in given))
            step_key = jax.random.fold_in(key, t.astype(int))
            return (algorithm.step(problem, state, step_key, hp), folded), sides

        start = algorithm.init(problem, x0, key, hp)
        return jax.lax.scan(record, (start, measured(start, given)), jnp.arange(steps + 1.0))[1]

    return jax.vmap(lane)(hp, keys)


def curves(
    algorithm: Any,
    problem: Any,
    hp: Any,
    steps: int,
    theorem: Any = None,
    *metrics: Metric,
    x0: Any = None,
    seed: int = 1,
) -> dict[str, np.ndarray]:
    """Return metrics by name, the theorem's and its `bound` too, (lanes, steps + 1); the leaves of `hp` are lanes."""
    hp = algorithm.prepare(hp)
    count = np.broadcast_shapes(*(np.shape(leaf) for leaf in jax.tree.leaves(hp))) or (1,)
    hp = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, float), count), hp)
    start = problem.init(jax.random.key(seed)) if x0 is None else x0
    keys = jax.random.split(jax.random.key(seed + 100), count[0])
    return jax.tree.map(np.asarray, lanes(algorithm, theorem, metrics, problem, hp, start, keys, steps))


def misstated(problem: Any, control: Control) -> Any:
    """Return the problem with the constants that a control multiplies."""
    wrong = {name: factor * getattr(problem.constants, name) for name, factor in control.misstate.items()}
    return problem.replace(constants=problem.constants.replace(**wrong))
