"""Gradient descent on plain logistic regression, by hand: data shared by all lanes, or one data set a lane."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.engine import Lanes


def starts(lanes: Lanes) -> np.ndarray:
    """Return the starts of the seeds, (d, seeds)."""
    problem, own = lanes.problem, lanes.own_data
    draw = jax.vmap(lambda problem, keys: problem.init(keys[0]), (0 if own else None, 0), -1)
    return np.asarray(draw(problem, lanes.keys))


def hand_written_shared(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return the loop over checkpoints with all lanes as columns of one gemm."""
    data, eta = lanes.problem.data, lanes.hp.eta.reshape(-1)
    A, AT, weight = data.design.A, data.design.AT, data.weight[:, None]
    f_star = lanes.problem.constants.f_star

    def segment(x, k):
        def body(_, x):
            return x + eta * (AT @ (weight * jax.nn.sigmoid(-(A @ x))))

        x = jax.lax.fori_loop(0, k, body, x)
        return x, jnp.sum(weight * jax.nn.softplus(-(A @ x)), 0) - f_star

    x0 = np.repeat(starts(lanes), lanes.shape[1], axis=1)
    compiled = jax.jit(segment, donate_argnums=0).lower(jnp.asarray(x0), 0).compile()
    return lambda: in_segments(compiled, jnp.asarray(x0), checkpoints)


def hand_written_own(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return the loop over checkpoints with batched mat-vecs, one data set a lane."""
    data, eta = lanes.problem.data, lanes.hp.eta
    A, AT, weight = data.design.A, data.design.AT, data.weight
    f_star = lanes.problem.constants.f_star

    def segment(x, k):
        def body(_, x):
            slope = weight * jax.nn.sigmoid(-jnp.einsum("snd,sd->sn", A, x))
            return x + eta * jnp.einsum("sdn,sn->sd", AT, slope)

        x = jax.lax.fori_loop(0, k, body, x)
        return x, jnp.sum(weight * jax.nn.softplus(-jnp.einsum("snd,sd->sn", A, x)), 1) - f_star

    x0 = starts(lanes).T
    compiled = jax.jit(segment, donate_argnums=0).lower(jnp.asarray(x0), 0).compile()
    return lambda: in_segments(compiled, jnp.asarray(x0), checkpoints)


def in_segments(compiled: Any, x: Any, checkpoints: np.ndarray) -> np.ndarray:
    """Run the segments between checkpoints, fetching the metric at each, and return the last."""
    measured, t = np.zeros(()), 0
    for checkpoint in checkpoints:
        x, value = compiled(x, int(checkpoint) - t)
        measured, t = np.asarray(value), int(checkpoint)
    return measured


def array_loop_shared(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return the same loop over arrays of a library `xp` (NumPy or PyTorch), made by `to`."""
    data = lanes.problem.data
    A, AT, weight = to(data.design.A), to(data.design.AT), to(data.weight)[:, None]
    eta, f_star = to(lanes.hp.eta).reshape(-1), float(lanes.problem.constants.f_star)
    x0 = to(np.repeat(starts(lanes), lanes.shape[1], axis=1))

    def run():
        x, measured = x0, None
        for t in range(int(checkpoints[-1]) + 1):
            if t in wanted:
                margin = A @ x
                measured = (weight * xp.logaddexp(0 * margin, -margin)).sum(0) - f_star
            x = x + eta * (AT @ (weight / (1 + xp.exp(A @ x))))
        return np.asarray(measured)

    wanted = set(checkpoints.tolist())
    return run


def array_loop_own(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return a loop over lanes, each with its own data in cache."""
    data, wanted = lanes.problem.data, set(checkpoints.tolist())
    A, AT, weight = to(data.design.A), to(data.design.AT), to(data.weight)
    eta, f_star, x0 = to(lanes.hp.eta)[:, 0], to(lanes.problem.constants.f_star), to(starts(lanes).T)

    def one(lane):
        x, measured = x0[lane], np.nan
        for t in range(int(checkpoints[-1]) + 1):
            margin = A[lane] @ x
            if t in wanted:
                measured = weight[lane] @ xp.logaddexp(0 * margin, -margin) - f_star[lane]
            x = x + eta[lane] * (AT[lane] @ (weight[lane] / (1 + xp.exp(margin))))
        return float(measured)

    return lambda: np.asarray([one(lane) for lane in range(len(x0))])
