"""Rewind-to-Delete on logistic regression, by hand: unlearned and retrained iterates side by side, distance at checkpoints."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.engine import Lanes
from bench.rivals.logistic_regression import starts


def hand_written(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return T - K steps on all data and on the retained data, then K joint steps on the retained data."""
    data, eta = lanes.problem.data, lanes.hp.eta.reshape(-1)
    A, AT, l2 = data.design.A, data.design.AT, data.l2
    full, retained = data.weight[:, None], (data.kept / data.kept.sum())[:, None]
    T, K = int(lanes.hp.T[0, 0]), int(lanes.hp.K[0, 0])

    def descend(x, weight):
        return x + eta * (AT @ (weight * jax.nn.sigmoid(-(A @ x))) - l2 * x)

    def learn(x):
        return jax.lax.fori_loop(
            0, T - K, lambda _, pair: (descend(pair[0], full), descend(pair[1], retained)), (x, x)
        )

    def unlearn(pair, k):
        both = lambda _, pair: (descend(pair[0], retained), descend(pair[1], retained))  # noqa: E731
        pair = jax.lax.fori_loop(0, k, both, pair)
        return pair, jnp.linalg.norm(pair[0] - pair[1], axis=0)

    x0 = jnp.asarray(np.repeat(starts(lanes), lanes.shape[1], axis=1))
    first = jax.jit(learn).lower(x0).compile()
    then = jax.jit(unlearn, donate_argnums=0).lower((x0, x0), 0).compile()

    def run():
        pair, t, measured = first(x0), 0, None
        for checkpoint in checkpoints:
            pair, distance = then(pair, int(checkpoint) - t)
            measured, t = np.asarray(distance), int(checkpoint)
        return measured

    return run


def array_loop(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return the same in a library of arrays."""
    data, eta, l2 = lanes.problem.data, to(lanes.hp.eta).reshape(-1), float(lanes.problem.data.l2)
    A, AT = to(data.design.A), to(data.design.AT)
    full, retained = to(data.weight)[:, None], to(data.kept / data.kept.sum())[:, None]
    T, K = int(lanes.hp.T[0, 0]), int(lanes.hp.K[0, 0])
    x0, wanted = to(np.repeat(starts(lanes), lanes.shape[1], axis=1)), set(checkpoints.tolist())

    def descend(x, weight):
        return x + eta * (AT @ (weight / (1 + xp.exp(A @ x))) - l2 * x)

    def run():
        u = v = x0
        for _ in range(T - K):
            u, v = descend(u, full), descend(v, retained)
        measured = None
        for t in range(K + 1):
            if t in wanted:
                measured = xp.sqrt(((u - v) ** 2).sum(0))
            u, v = descend(u, retained), descend(v, retained)
        return np.asarray(measured)

    return run
