"""LoRA gradient descent with the self-normalised step on matrix factorisation, by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.engine import Lanes
from bench.rivals.logistic_regression import in_segments


def starts(lanes: Lanes) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts of all lanes, B (lanes, m, r) and A (lanes, r, n)."""
    x = jax.vmap(lambda keys: lanes.problem.init(keys[0]))(lanes.keys)
    return np.repeat(np.asarray(x.B), lanes.shape[1], 0), np.repeat(np.asarray(x.A), lanes.shape[1], 0)


def hand_written(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return the loop over checkpoints with one batched residual a step."""
    M, c, f_star = lanes.problem.data.base.M, lanes.hp.c.reshape(-1), lanes.problem.constants.f_star

    def norm_sq(x):
        return jnp.sum(x**2, (1, 2))

    def body(_, point):
        B, A = point
        G = B @ A - M
        eta = (c / (norm_sq(B) + norm_sq(A) + jnp.sqrt(norm_sq(G))))[:, None, None]
        return B - eta * (G @ A.swapaxes(1, 2)), A - eta * (B.swapaxes(1, 2) @ G)

    def segment(point, k):
        B, A = jax.lax.fori_loop(0, k, body, point)
        return (B, A), 0.5 * norm_sq(B @ A - M) - f_star

    point = tuple(map(jnp.asarray, starts(lanes)))
    compiled = jax.jit(segment, donate_argnums=0).lower(point, 0).compile()
    return lambda: in_segments(compiled, tuple(map(jnp.array, point)), checkpoints)


def array_loop(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return the same in a library of arrays."""
    M, c, f_star = to(lanes.problem.data.base.M), to(lanes.hp.c).reshape(-1), float(lanes.problem.constants.f_star)
    (B0, A0), wanted = map(to, starts(lanes)), set(checkpoints.tolist())

    def run():
        B, A, measured = B0, A0, None
        for t in range(int(checkpoints[-1]) + 1):
            G = B @ A - M
            G_sq = (G**2).sum((1, 2))
            if t in wanted:
                measured = 0.5 * G_sq - f_star
            eta = (c / ((B**2).sum((1, 2)) + (A**2).sum((1, 2)) + xp.sqrt(G_sq)))[:, None, None]
            B, A = B - eta * (G @ A.swapaxes(1, 2)), A - eta * (B.swapaxes(1, 2) @ G)
        return np.asarray(measured)

    return run
