"""f(x) = |Phi (x - x_star)|_D^2: how far weights x of features are from the ones TD(0) rests at, in values.

A random process (every state and action leads to `branching` random states) under a fixed random policy: its chain is
P <- (1 - mix) [(1 - slow) P + slow I] + mix 1 1^T/S. States follow the chain, or the restart chain, which starts anew
from the uniform mu with probability 1 - gamma; rho is the stationary law of the one chosen, D = diag(rho). Rewards are
U[0, 1]. Features, |Phi(s)| <= 1:
    random         d columns, rows uniform on the unit sphere: V is not representable for d < S
    representable  the values V, scaled, beside d - 1 random columns: x_star has no approximation error
    tabular        Phi = I, d = S
f is quadratic with Hessian 2 Phi^T D Phi: L and mu are twice its extreme eigenvalues, mu = 2 w. Every run starts at x =
`start` (1, ..., 1)/sqrt d. All constants are of the very instance; those that divide by w are NaN where w <= 1e-12.
Sources: Archibald, McKinnon & Thomas (1995), Garnets; Tsitsiklis & Van Roy (1997); the restart chain derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.decision_process import random_process, state_values
from problems.oracles import MDP, Evaluation
from problems.policy_evaluation import fixed_point, law, modulus, td_noise_sq, value_error
from problems.problem import Family, Problem

FEATURES = ("random", "representable", "tabular")
SINGULAR = 1e-12


@struct.dataclass
class Data:
    """rho (S,) is the stationary law, x0 (d,) the start of every run."""

    evaluation: Evaluation
    rho: Array
    x_star: Array
    x0: Array


def init(data: Data, key: Array) -> Array:
    return data.x0


def value(data: Data, x: Array) -> Array:
    return data.rho @ (data.evaluation.Phi @ (x - data.x_star)) ** 2


MARKOV_REWARD_PROCESS = Family(
    name="markov_reward_process",
    regularity=Regularity.SMOOTH
    | Regularity.NONNEGATIVE
    | Regularity.LOWER_BOUNDED
    | Regularity.PL
    | Regularity.CONVEX
    | Regularity.STRONGLY_CONVEX
    | Regularity.QUADRATIC
    | Regularity.POLICY_EVALUATION,
    init=init,
    value=value,
    evaluation=lambda data: data.evaluation,
)


def random_features(key: Array, mdp: MDP, p: Array, d: int, features: str) -> Array:
    """Return Phi (S, d)."""
    S = mdp.mu.size
    if features == "tabular":
        return jnp.eye(S)
    rows = jax.random.normal(key, (S, d))
    rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    if features == "random":
        return rows
    V = state_values(mdp, p)
    Phi = rows.at[:, 0].set(V / jnp.abs(V).max())
    return Phi / jnp.linalg.norm(Phi, axis=-1).max()


def check(S: int, A: int, d: int, branching: int, gamma: float, slow: float, mix: float, features: str) -> None:
    """Raise `InvalidParameter` for a process or features that do not exist."""
    require(S >= 2, f"S = {S}: a chain has at least two states")
    require(A >= 1, f"A = {A}: a policy has at least one action")
    require(features in FEATURES, f"features = {features}: one of {', '.join(FEATURES)}")
    require(1 <= d <= S, f"d = {d}: between 1 and S = {S} features are independent")
    require(features != "tabular" or d == S, f"d = {d}: tabular features are as many as states, S = {S}")
    require(1 <= branching <= S, f"branching = {branching}: between 1 and S = {S} successors")
    require(0 < gamma < 1, f"gamma = {gamma}: a discount factor in (0, 1)")
    require(0 <= slow < 1, f"slow = {slow}: a probability below 1")
    require(0 < mix <= 1, f"mix = {mix}: a probability in (0, 1], so that the stationary law is unique")


def make(
    key: Array,
    *,
    S: int = 10,
    A: int = 1,
    d: int = 3,
    branching: int = 3,
    gamma: float = 0.9,
    slow: float = 0.0,
    mix: float = 0.02,
    restart: bool = False,
    features: str = "random",
    start: float = 0.0,
) -> Problem[Data, Array]:
    """Return a random chain of `S` states with `d` features; `restart` starts it anew with probability 1 - gamma."""
    check(S, A, d, branching, gamma, slow, mix, features)
    process_key, policy_key, feature_key = jax.random.split(key, 3)
    mdp = random_process(process_key, S, A, branching, jnp.asarray(gamma, float))
    mdp = replace(mdp, P=(1 - mix) * ((1 - slow) * mdp.P + slow * jnp.eye(S)[:, None]) + mix / S)
    p = jax.nn.softmax(jax.random.normal(policy_key, (S, A)))
    Phi = random_features(feature_key, mdp, p, d, features)
    evaluation = Evaluation(mdp, p, Phi, jnp.asarray(1 - gamma if restart else 0.0))
    rho, x_star = law(evaluation), fixed_point(evaluation)
    data = Data(evaluation, rho, x_star, jnp.full((d,), start / d**0.5))
    return Problem(MARKOV_REWARD_PROCESS, data, constants_of(evaluation, rho, x_star), x_star)


def constants_of(evaluation: Evaluation, rho: Array, x_star: Array) -> Constants:
    """Return what is known of the very instance."""
    Phi = evaluation.Phi
    spectrum = jnp.linalg.eigvalsh(Phi.T @ (rho[:, None] * Phi))
    w = jnp.where(spectrum[0] > SINGULAR, spectrum[0], jnp.nan)
    return Constants(
        L=2 * spectrum[-1],
        mu=2 * w,
        mu_pl=2 * w,
        f_star=jnp.zeros(()),
        gamma=evaluation.mdp.gamma,
        modulus=modulus(evaluation),
        states=jnp.asarray(len(Phi), float),
        dimension=jnp.asarray(Phi.shape[1], float),
        feature_min=w,
        stationary_min=rho.min(),
        td_noise_sq=td_noise_sq(evaluation, x_star),
        value_error=value_error(evaluation),
        x_star_norm=jnp.linalg.norm(x_star),
        R_max=jnp.abs(evaluation.mdp.r).max(),
    )
