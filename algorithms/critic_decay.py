"""The bias of a critic with steps b/(l+t) falls to its floor:  (l + N) (E|b|^2 - |b_star|^2) -> constant.

With steps a_t = b/(l+t) along a chain of law rho, put m_i = rho_i m + a n_i for the mean error where s_t = i:
n - P~^T n = G, sum_i n_i = 0, G_j = sum_i E[d* Phi 1{s_t = i, s_(t+1) = j}], and m+ = m - a A m - a^2 h with
h = sum_i Abar_i n_i, Abar_i = Phi_i (Phi_i - gamma E Phi_j)^T. Since a+ = a - a^2/b + O(a^3), m/a and M/a tend to
    (A - I/b) nu = -h,   (A - I/(2b)) X + X (A - I/(2b))^T = C_inf := C_0 + sum_(k>=1) (C_k + C_k^T),
where every eigenvalue of A has real part above 1/b (1/(2b) for X), so that
    (l + N) (E|b|^2 - |b_star|^2) -> b (2 b_star.W nu + tr W X W^T).
Tabular critics have b_star = 0.
Derived here; the memory of the chain enters as in the central limit theorem for stochastic approximation.
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.critic_bias import Frozen, floor_bias
from algorithms.td_moments import lyapunov, noise_covariance
from problems.decision_process import chain
from problems.oracles import Evaluation
from problems.policy_evaluation import fixed_point, law, mean_update, restarted, td_errors


def mean_drift(evaluation: Evaluation, omega_star: Array) -> Array:
    """Return h (k,), what the chain's memory adds to the mean update in second order of the step."""
    mdp, Phi, rho, q = evaluation.mdp, evaluation.Phi, law(evaluation), evaluation.restart
    weight = rho[:, None, None] * evaluation.p[:, :, None] * mdp.P
    met = (1 - q) * jnp.einsum("iaj,ix->jx", weight * td_errors(evaluation, omega_star), Phi)
    n = jnp.linalg.solve((jnp.eye(rho.size) - restarted(evaluation) + rho).T, met)
    step = Phi - mdp.gamma * chain(mdp, evaluation.p) @ Phi
    return jnp.einsum("ix,iy,iy->x", Phi, step, n)


@struct.dataclass
class Decay:
    """What the excess of E|b|^2 over its floor decays by: A, h and C_inf of the critic, W and b_star of the bias."""

    A: Array
    h: Array
    C: Array
    W: Array
    b_star: Array

    def constant(self, b: Array) -> Array:
        """Return lim (l + N) (E|b|^2 - |b_star|^2) for steps b/(l+t), NaN unless Re eig A >= 3/b is known.

        Also NaN where drift and noise cancel to less than a quarter: what is left converges late.
        """
        one = jnp.eye(len(self.h))
        nu = -jnp.linalg.solve(self.A - one / b, self.h)
        X = lyapunov(self.A - one / (2 * b), self.C)
        drift, noise = 2 * self.b_star @ (self.W @ nu), jnp.trace(self.W @ X @ self.W.T)
        least = jnp.linalg.eigvalsh((self.A + self.A.T) / 2)[0]  # at most every Re eig A
        known = (b * least >= 3) & (jnp.abs(drift + noise) >= (jnp.abs(drift) + noise) / 4)
        return jnp.where(known, b * (drift + noise), jnp.nan)


def decay(policy: Frozen, evaluation: Evaluation) -> Decay:
    """Return the ingredients of the decay."""
    omega_star = fixed_point(evaluation)
    C_0, later = noise_covariance(evaluation, omega_star)
    A, _ = mean_update(evaluation)
    W, b_star = policy.B @ evaluation.Phi, floor_bias(policy, evaluation)
    return Decay(A, mean_drift(evaluation, omega_star), C_0 + later + later.T, W, b_star)
