"""A linear critic trained by TD(0) on one chain:  omega+ = omega + a_t (r + gamma Phi(s').omega - Phi(s).omega) Phi(s).

The state follows the policy and restarts from mu with probability `restart`; the target always reads the successor.
Steps are a_t = critic_step/(1 + t/critic_decay) = b/(l+t), constant for an infinite critic_decay. The number of steps
is traced: lanes of different N share one loop to the largest, and one block of uniforms for all settings of a seed.
Source: Tsitsiklis & Van Roy (1997).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from algorithms.algorithm import refuse_unless, refuse_unless_positive
from problems.decision_process import draw
from problems.oracles import Evaluation

BLOCK = 128  # steps that share one block of uniforms


def random_features(S: int, rank: int, seed: int) -> Array:
    """Return Phi (S, rank) with max_s |Phi(s)| = 1, normal up to that scale; rank 0 is one feature a state."""
    if rank == 0:
        return jnp.eye(S)
    Phi = jax.random.normal(jax.random.key(seed), (S, rank))
    return Phi / jnp.linalg.norm(Phi, axis=-1).max()


def inner_step(t: Array, hp: Any) -> Array:
    """Return critic_step/(1 + t/critic_decay) = b/(l+t), constant for an infinite critic_decay."""
    return hp.critic_step / (1 + t / hp.critic_decay)


def prepare_critic(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for a step or decay <= 0, restart outside [0, 1], or an impossible state."""
    refuse_unless_positive(hp.critic_step, "critic_step")
    refuse_unless(np.asarray(hp.critic_decay, float) > 0, f"critic_decay = {hp.critic_decay}: must be positive, or inf")
    q = np.asarray(hp.restart, float)
    refuse_unless((q >= 0) & (q <= 1), f"restart = {hp.restart}: a probability is in [0, 1]")
    first = np.asarray(hp.first_state, float)
    refuse_unless((first >= 0) & (first == np.floor(first)), f"first_state = {hp.first_state}: states count from 0")
    refuse_unless(hp.rank >= 0, f"rank = {hp.rank}: a number of features, or 0 for one a state")
    return hp


@custom_vmap
def largest(n):
    """Return n; over a batch its largest, which is not batched: a loop that all lanes share draws once for all."""
    return n


@largest.def_vmap
def _(axis_size, batched, n):
    return largest(jnp.max(n)), False


def train(evaluation: Evaluation, omega, key, hp):
    """Return the weights after N steps of TD(0) from first_state, in masked blocks up to the lanes' largest N."""
    mdp, Phi, q = evaluation.mdp, evaluation.Phi, evaluation.restart
    act, move, first = jnp.cumsum(evaluation.p, -1), jnp.cumsum(mdp.P, -1), jnp.cumsum(mdp.mu)

    def walk(carry, drawn):
        (omega, s), (t, u) = carry, drawn
        a = draw(act[s], u[0])
        after = draw(move[s, a], u[1])
        delta = mdp.r[s, a] + mdp.gamma * Phi[after] @ omega - Phi[s] @ omega
        eta = jnp.where(t < hp.inner_steps, inner_step(t, hp), 0.0)
        return (omega + eta * delta * Phi[s], jnp.where(u[2] < q, draw(first, u[2] / q), after)), None

    def block(i, carry):
        uniforms = jax.random.uniform(jax.random.fold_in(key, i), (BLOCK, 3))
        return lax.scan(walk, carry, (i * BLOCK + jnp.arange(BLOCK), uniforms))[0]

    s = jnp.minimum(jnp.asarray(hp.first_state, jnp.int32), mdp.mu.size - 1)
    return lax.fori_loop(0, (largest(hp.inner_steps) + BLOCK - 1) // BLOCK, block, (omega, s))[0]
