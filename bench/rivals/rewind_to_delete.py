"""Rewind-to-Delete on logistic regression, by hand: model and retraining side by side, distance at checkpoints."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.engine import Lanes
from bench.rivals.logistic_regression import starts


def hand_written(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return T - K steps on all data and K on the retained data, beside T steps on the retained data."""
    data, eta = lanes.problem.data, lanes.hp.eta.reshape(-1)
    A, AT, l2 = data.design.A, data.design.AT, data.l2
    full, retained = data.weight[:, None], (data.kept / data.kept.sum())[:, None]
    switch = int(lanes.hp.T[0, 0] - lanes.hp.K[0, 0])

    def descend(x, weight):
        return x + eta * (AT @ (weight * jax.nn.sigmoid(-(A @ x))) - l2 * x)

    def steps(pair, k, weight):
        both = lambda _, pair: (descend(pair[0], weight), descend(pair[1], retained))  # noqa: E731
        return jax.lax.fori_loop(0, k, both, pair)

    def segment(pair, learned, unlearned):
        pair = steps(steps(pair, learned, full), unlearned, retained)
        return pair, jnp.linalg.norm(pair[0] - pair[1], axis=0)

    x0 = np.repeat(starts(lanes), lanes.shape[1], axis=1)
    compiled = jax.jit(segment, donate_argnums=0).lower((jnp.asarray(x0), jnp.asarray(x0)), 0, 0).compile()

    def run():
        pair, t, measured = (jnp.asarray(x0), jnp.asarray(x0)), 0, None
        for checkpoint in checkpoints.tolist():
            learned = max(min(checkpoint, switch) - t, 0)
            pair, distance = compiled(pair, learned, checkpoint - t - learned)
            measured, t = np.asarray(distance), checkpoint
        return measured

    return run


def array_loop(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return the same in a library of arrays."""
    data, eta, l2 = lanes.problem.data, to(lanes.hp.eta).reshape(-1), float(lanes.problem.data.l2)
    A, AT = to(data.design.A), to(data.design.AT)
    full, retained = to(data.weight)[:, None], to(data.kept / data.kept.sum())[:, None]
    switch = int(lanes.hp.T[0, 0] - lanes.hp.K[0, 0])
    x0, wanted = to(np.repeat(starts(lanes), lanes.shape[1], axis=1)), set(checkpoints.tolist())

    def descend(x, weight):
        return x + eta * (AT @ (weight / (1 + xp.exp(A @ x))) - l2 * x)

    def run():
        u, v, measured = x0, x0, None
        for t in range(int(checkpoints[-1]) + 1):
            if t in wanted:
                measured = xp.sqrt(((u - v) ** 2).sum(0))
            u, v = descend(u, full if t < switch else retained), descend(v, retained)
        return np.asarray(measured)

    return run
