"""What TD(0) converges to on the chain of a policy, and the constants of its theorems, by linear solves.

The states follow P~ = (1-q) P_pi + q 1 mu^T (q = `restart`) with the stationary law rho, D = diag(rho). With features
Phi (S, d), the mean update at weights x is b - A x:
    A = Phi^T D (I - gamma P_pi) Phi,   b = Phi^T D r_pi,   x_star = A^-1 b.
At q = 1 - gamma rho is the normalised occupancy (1-gamma) d: rho^T = (1-q) rho^T P_pi + q mu^T. |.|_D is the norm
sqrt(sum_s rho(s) v(s)^2). Since (1-q) rho^T P_pi <= rho^T, |P_pi v|_D^2 <= rho^T P_pi v^2 <= |v|_D^2/(1-q): gamma P_pi
has the modulus gamma/sqrt(1-q), which is gamma on the policy's own chain and sqrt(gamma) on the restart chain.
Sources: Tsitsiklis & Van Roy (1997); the restart chain derived here.
"""

import jax.numpy as jnp
from jax import Array

from problems.decision_process import chain, state_values, stationary
from problems.oracles import Evaluation


def restarted(evaluation: Evaluation) -> Array:
    """Return P~ (S, S)."""
    q = evaluation.restart
    return (1 - q) * chain(evaluation.mdp, evaluation.p) + q * evaluation.mdp.mu


def law(evaluation: Evaluation) -> Array:
    """Return rho (S,)."""
    return stationary(restarted(evaluation))


def modulus(evaluation: Evaluation) -> Array:
    """Return m = gamma/sqrt(1-q), with gamma |P_pi v|_D <= m |v|_D."""
    return evaluation.mdp.gamma / jnp.sqrt(1 - evaluation.restart)


def mean_update(evaluation: Evaluation) -> tuple[Array, Array]:
    """Return A (d, d) and b (d,)."""
    mdp, Phi = evaluation.mdp, evaluation.Phi
    weighted = law(evaluation)[:, None] * Phi
    r_pi = (evaluation.p * mdp.r).sum(-1)
    return weighted.T @ (Phi - mdp.gamma * chain(mdp, evaluation.p) @ Phi), weighted.T @ r_pi


def fixed_point(evaluation: Evaluation) -> Array:
    """Return x_star (d,)."""
    return jnp.linalg.solve(*mean_update(evaluation))


def norm_D(evaluation: Evaluation, v: Array) -> Array:
    """Return |v|_D of values v (S,)."""
    return jnp.sqrt(law(evaluation) @ v**2)


def value_error(evaluation: Evaluation) -> Array:
    """Return e_app = |V - Pi V|_D, Pi the D-orthogonal projection on the span of the features."""
    V, Phi, rho = state_values(evaluation.mdp, evaluation.p), evaluation.Phi, law(evaluation)
    weights = jnp.linalg.solve(Phi.T @ (rho[:, None] * Phi), Phi.T @ (rho * V))
    return norm_D(evaluation, V - Phi @ weights)


def td_errors(evaluation: Evaluation, x: Array) -> Array:
    """Return delta(s, a, s') = r(s, a) + gamma Phi(s').x - Phi(s).x, (S, A, S)."""
    mdp, values = evaluation.mdp, evaluation.Phi @ x
    return mdp.r[:, :, None] + mdp.gamma * values - values[:, None, None]


def td_noise_sq(evaluation: Evaluation, x: Array) -> Array:
    """Return E |delta Phi(s)|^2 at weights x, s drawn from rho."""
    weight = law(evaluation)[:, None, None] * evaluation.p[:, :, None] * evaluation.mdp.P
    return jnp.sum(weight * td_errors(evaluation, x) ** 2 * jnp.sum(evaluation.Phi**2, -1)[:, None, None])
