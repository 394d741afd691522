"""GPOMDP on a tabular MDP, by hand: all lanes' trajectories drawn step by step, gradients by scatter-add."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.engine import Lanes
from bench.rivals.logistic_regression import in_segments


def hand_written(lanes: Lanes, checkpoints: np.ndarray) -> Any:
    """Return the loop over checkpoints, lanes first, with the same draws as the engine."""
    mdp, f_star = lanes.problem.data.mdp, lanes.problem.constants.f_star
    hp, S = lanes.hp, lanes.problem.data.mdp.mu.size
    H, B, settings = hp.max_horizon, hp.max_batch, lanes.shape[1]
    discount = jnp.where(jnp.arange(H) < hp.horizon.reshape(-1, 1), mdp.gamma ** jnp.arange(H), 0)[:, None, :]
    move, first = jnp.cumsum(mdp.P, -1)[..., :-1], jnp.cumsum(mdp.mu)[:-1]
    seed_keys, eta = lanes.keys[:, 2], hp.eta.reshape(-1, 1, 1)
    size = hp.batch_size.reshape(-1, 1)
    share = jnp.where(jnp.arange(B) < size, 1 / size, 0)[:, :, None]

    def uniforms(t):
        keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t), B))(seed_keys)
        u = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (2 * H + 1,))))(keys)
        return jnp.repeat(u, settings, 0)

    def trajectories(p, u):
        lane, act = jnp.arange(len(p))[:, None], jnp.cumsum(p, -1)[..., :-1]

        def advance(s, u):
            a = (u[..., 0, None] >= act[lane, s]).sum(-1, dtype=jnp.int32)
            return (u[..., 1, None] >= move[s, a]).sum(-1, dtype=jnp.int32), (s, a)

        s0 = (u[..., :1] >= first).sum(-1, dtype=jnp.int32)
        pairs = jnp.moveaxis(u[..., 1:].reshape(*u.shape[:2], H, 2), 2, 0)
        _, (s, a) = jax.lax.scan(advance, s0, pairs)
        return jnp.moveaxis(s, 0, -1), jnp.moveaxis(a, 0, -1)

    def body(t, x):
        p = jax.nn.softmax(x)
        s, a = trajectories(p, uniforms(t))
        to_go = jax.lax.cumsum(discount * (mdp.r[s, a] - hp.baseline.reshape(-1, 1, 1)), 2, reverse=True)
        W = jnp.zeros_like(x).at[jnp.arange(len(x))[:, None, None], s, a].add(share * to_go)
        return x + eta * (W - p * W.sum(-1, keepdims=True))

    def segment(carry, k):
        x, t = carry
        x = jax.lax.fori_loop(t, t + k, body, x)
        p = jax.nn.softmax(x)
        chain = jnp.eye(S) - mdp.gamma * jnp.einsum("lsa,sat->lst", p, mdp.P)
        V = jnp.linalg.solve(chain, (p * mdp.r).sum(-1)[..., None])[..., 0]
        return (x, t + k), -V @ mdp.mu - f_star

    x0 = jnp.repeat(jax.vmap(lambda keys: lanes.problem.init(keys[0]))(lanes.keys), settings, 0)
    compiled = jax.jit(segment, donate_argnums=0).lower((x0, 0), 0).compile()
    return lambda: in_segments(compiled, (jnp.array(x0), 0), checkpoints)


def numpy_loop(lanes: Lanes, checkpoints: np.ndarray, to: Any, xp: Any) -> Any:
    """Return the same in NumPy, all lanes and trajectories advanced together (its own draws)."""
    mdp, hp, f_star = lanes.problem.data.mdp, lanes.hp, float(lanes.problem.constants.f_star)
    P, r, mu, gamma = to(mdp.P), to(mdp.r), to(mdp.mu), float(mdp.gamma)
    H, B, eta = hp.max_horizon, hp.max_batch, to(hp.eta).reshape(-1, 1, 1)
    size = np.asarray(hp.batch_size).reshape(-1, 1)
    share = np.where(np.arange(B) < size, 1 / size, 0)[:, :, None]
    discount = np.where(np.arange(H) < np.asarray(hp.horizon).reshape(-1, 1), gamma ** np.arange(H), 0)[:, None, :]
    baseline, move, first = to(hp.baseline).reshape(-1, 1, 1), np.cumsum(P, -1)[..., :-1], np.cumsum(mu)[:-1]
    x0 = np.repeat(to(jax.vmap(lambda keys: lanes.problem.init(keys[0]))(lanes.keys)), lanes.shape[1], 0)
    wanted, index = set(checkpoints.tolist()), np.arange(len(x0))[:, None]

    def softmax(x):
        p = np.exp(x - x.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    def run():
        random, x, measured = np.random.default_rng(0), x0, None
        for t in range(int(checkpoints[-1]) + 1):
            p = softmax(x)
            if t in wanted:
                chain = np.eye(len(mu)) - gamma * np.einsum("lsa,sat->lst", p, P)
                measured = -np.linalg.solve(chain, (p * r).sum(-1)[..., None])[..., 0] @ mu - f_star
            act, states, actions = np.cumsum(p, -1)[..., :-1], [], []
            s = (random.random((len(x), B, 1)) >= first).sum(-1)
            for _ in range(H):
                a = (random.random((len(x), B, 1)) >= act[index, s]).sum(-1)
                states.append(s)
                actions.append(a)
                s = (random.random((len(x), B, 1)) >= move[s, a]).sum(-1)
            s, a = np.stack(states, -1), np.stack(actions, -1)
            to_go = np.cumsum((discount * (r[s, a] - baseline))[..., ::-1], -1)[..., ::-1] * share
            W = np.zeros_like(x)
            np.add.at(W, (np.arange(len(x))[:, None, None], s, a), to_go)
            x = x + eta * (W - p * W.sum(-1, keepdims=True))
        return measured

    return run
