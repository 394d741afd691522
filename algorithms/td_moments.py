"""Exact second moments of linear TD(0):  N_j = E[b b^T 1{s_t = j}],  b = (omega_t - omega_star, 1).

With e = omega - omega_star and d* the TD error at omega_star, a step from state i by action a to the successor j is
    b+ = b + eta f_i (v_iaj . b),  f_i = (Phi_i, 0),  v_iaj = (gamma Phi_j - Phi_i, d*_iaj),
a Markov jump linear system: with w_iaj = p(a|i) P(j|i,a), W = sum_a w, g = sum_a w v, V = sum_a w v v^T
    T_j = sum_i [ W_ij N_i + eta (Z_ij + Z_ij^T) ],  Z_ij = f_i (N_i g_ij + (eta/2) <V_ij, N_i> f_i)^T,
    N+_j = (1-q) T_j + q mu_j sum_k T_k  (q the restart probability; the target has read the successor j).
N holds p_j = P(s_t = j), m_j = E[e 1{s_t=j}] and M_j = E[e e^T 1{s_t=j}]; E|e|^2 = tr sum_j M_j: no sampling. eta may
change from step to step. States drawn afresh from rho are the chain with q = 1 and mu = rho. Cost S^2 d^2 a step.

The recursion is linear in N: `lifted` is its matrix, block triangular with blocks for p, m and M whose spectral radii
are 1 (then |lambda_2|), r1 and r2. E|e|^2 converges from every start iff r2 < 1, to the fixed point `steady_state`,
and two starts differ by about max(r2, r1, |lambda_2|)^t.
Small steps: E|e|^2 -> eta tr X + o(eta) with A X + X A^T = C_0 + sum_(k>=1) (C_k + C_k^T), C_k the lag-k stationary
autocovariance of d* Phi; states drawn afresh have C_0 alone.
Sources: Costa, Fragoso & Marques (2005), jump linear systems; Hu & Syed (2019), arXiv:1906.06781; derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from problems.oracles import Evaluation
from problems.policy_evaluation import law, mean_update, restarted, td_errors

SQUARINGS = 26
SETTLED = 1e-6


@struct.dataclass
class Coupling:
    """What a step reads: f (S, d+1), W (S, S), g (S, S, d+1), V (S, S, d+1, d+1), mu (S,) and the restart q."""

    f: Array
    W: Array
    g: Array
    V: Array
    mu: Array
    restart: Array


def coupling(evaluation: Evaluation, omega_star: Array) -> Coupling:
    """Return the coefficients of the recursion, which no step size changes."""
    Phi, gamma = evaluation.Phi, evaluation.mdp.gamma
    w = evaluation.p[:, :, None] * evaluation.mdp.P
    errors = td_errors(evaluation, omega_star)
    W, first, second = w.sum(1), (w * errors).sum(1), (w * errors**2).sum(1)
    move = gamma * Phi[None] - Phi[:, None]
    cross = first[..., None] * move
    V = jnp.block([
        [W[..., None, None] * move[..., :, None] * move[..., None, :], cross[..., None]],
        [cross[..., None, :], second[..., None, None]],
    ])  # fmt: skip
    g = jnp.concatenate([W[..., None] * move, first[..., None]], -1)
    f = jnp.pad(Phi, ((0, 0), (0, 1)))
    return Coupling(f, W, g, V, evaluation.mdp.mu, evaluation.restart)


def independent(evaluation: Evaluation, rho: Array) -> Evaluation:
    """Return the evaluation whose states are drawn afresh from rho (S,), the law of the chain, at every step."""
    mdp = replace(evaluation.mdp, mu=rho)
    return replace(evaluation, mdp=mdp, restart=jnp.ones_like(evaluation.restart))


def start(nu: Array, e: Array) -> Array:
    """Return N (S, d+1, d+1) of s_0 ~ nu and omega_0 = omega_star + e."""
    b = jnp.append(e, 1.0)
    return nu[:, None, None] * jnp.outer(b, b)


def advance(c: Coupling, eta: Array, N: Array) -> Array:
    """Return N after one step of size eta."""
    h = jnp.einsum("ijx,ixy->ijy", c.g, N)
    q = jnp.einsum("ijxy,ixy->ij", c.V, N)
    Z = jnp.einsum("ix,ijy->jxy", c.f, h + eta / 2 * q[..., None] * c.f[:, None])
    T = jnp.einsum("ij,ixy->jxy", c.W, N) + eta * (Z + jnp.swapaxes(Z, -1, -2))
    return (1 - c.restart) * T + c.restart * c.mu[:, None, None] * T.sum(0)


def second_moment(N: Array) -> Array:
    """Return E[e e^T] (d, d)."""
    return N[:, :-1, :-1].sum(0)


def mean_square_error(N: Array) -> Array:
    """Return E|omega_t - omega_star|^2."""
    return jnp.trace(second_moment(N))


def mean_error(N: Array) -> Array:
    """Return E[omega_t] - omega_star (d,)."""
    return N[:, :-1, -1].sum(0)


def lifted(c: Coupling, eta: Array) -> Array:
    """Return the matrix (n, n), n = S (d+1)^2, of a step on flattened N; an argument is made symmetric first."""
    shape = (*c.f.shape, c.f.shape[1])
    basis = jnp.eye(c.f.size * c.f.shape[1]).reshape(-1, *shape)
    symmetric = (basis + jnp.swapaxes(basis, -1, -2)) / 2
    return jax.vmap(lambda N: advance(c, eta, N))(symmetric).reshape(len(basis), -1).T


def blocks(c: Coupling, eta: Array) -> tuple[Array, Array, Array]:
    """Return what a step does to M (S d^2 rows), to m (S d rows) and to p (S rows) by itself."""
    S, D = c.f.shape
    K = lifted(c, eta).reshape(S, D, D, S, D, D)
    M = K[:, :-1, :-1, :, :-1, :-1].reshape(S * (D - 1) ** 2, -1)
    m = 2 * K[:, :-1, -1, :, :-1, -1].reshape(S * (D - 1), -1)  # half of a symmetric pair stands in each corner
    return M, m, K[:, -1, -1, :, -1, -1]


def summed(B: Array, y: Array) -> Array:
    """Return sum_k B^k y = (I - B)^-1 y by doubling, for B that contracts: batched solves contend on a CPU."""

    def double(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        B, y = carry
        return B @ B, y + B @ y

    return lax.fori_loop(0, SQUARINGS, double, (B, y))[1]


def steady_state(c: Coupling, eta: Array) -> Array:
    """Return the fixed point N of total mass 1, the limit where r2 < 1; not finite where r2 > 1."""
    on_M, on_m, on_p = blocks(c, eta)
    S, d = len(on_p), c.f.shape[1] - 1
    N = start(limit_of_powers(on_p.T)[0], jnp.zeros(d))
    m = summed(on_m, advance(c, eta, N)[:, :-1, -1].ravel()).reshape(S, d)
    N = N.at[:, :-1, -1].set(m).at[:, -1, :-1].set(m)
    M = summed(on_M, advance(c, eta, N)[:, :-1, :-1].ravel())
    return N.at[:, :-1, :-1].set(M.reshape(S, d, d))


def spectral_radius(B: Array) -> tuple[Array, Array]:
    """Return r = |B^n|^(1/n) at n = 2^26, and whether one real eigenvalue has that modulus alone."""

    def norm(C: Array) -> Array:
        return jnp.maximum(jnp.abs(C).max(), 1e-300)

    def square(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        C, log_norm = carry
        C = C @ C
        return C / norm(C), 2 * log_norm + jnp.log(norm(C))

    C, log_norm = lax.fori_loop(0, SQUARINGS, square, (B / norm(B), jnp.log(norm(B))))
    r = jnp.exp(log_norm / 2**SQUARINGS)
    turned = jnp.minimum(jnp.abs(B @ C - r * C).max(), jnp.abs(B @ C + r * C).max())
    return r, turned <= SETTLED * r


@struct.dataclass
class Radii:
    """Spectral radii of the parts of the recursion, and whether each belongs to one real eigenvalue alone."""

    r2: Array  # of the second moments: E|e|^2 is stable iff r2 < 1
    r1: Array  # of the means
    mixing: Array  # |lambda_2| of the chain of states
    real: Array  # (3,), in this order

    @property
    def mean(self) -> Array:
        """Return the factor by which the mean error tends to its limit, or grows."""
        return jnp.maximum(self.r1, self.mixing)

    @property
    def mean_square(self) -> Array:
        """Return the factor by which E|e|^2 tends to its limit, or grows."""
        return jnp.maximum(self.r2, self.mean)

    @property
    def settled(self) -> Array:
        """Return whether `mean_square` belongs to one real eigenvalue: then it is the factor of every late step."""
        return self.real[jnp.argmax(jnp.stack([self.r2, self.r1, self.mixing]))]

    @property
    def mean_settled(self) -> Array:
        """Return whether `mean` belongs to one real eigenvalue."""
        return jnp.where(self.r1 >= self.mixing, self.real[1], self.real[2])


def radii(c: Coupling, eta: Array) -> Radii:
    """Return the spectral radii at step size eta."""
    M, m, p = blocks(c, eta)
    states = p.T
    found = [spectral_radius(block) for block in (M, m, states - limit_of_powers(states))]
    return Radii(*(r for r, _ in found), real=jnp.stack([real for _, real in found]))


def limit_of_powers(P: Array) -> Array:
    """Return 1 rho^T of an ergodic chain P (S, S)."""
    return lax.fori_loop(0, SQUARINGS, lambda _, Q: normalised(Q @ Q), P)


def normalised(P: Array) -> Array:
    """Return P with rows that sum to 1."""
    return P / P.sum(-1, keepdims=True)


def noise_covariance(evaluation: Evaluation, omega_star: Array) -> tuple[Array, Array]:
    """Return C_0 and sum_(k>=1) C_k (d, d) of the noise d* Phi, by the fundamental matrix of the chain."""
    Phi, rho, q = evaluation.Phi, law(evaluation), evaluation.restart
    weight = rho[:, None, None] * evaluation.p[:, :, None] * evaluation.mdp.P
    errors = td_errors(evaluation, omega_star)
    C_0 = jnp.einsum("iaj,ix,iy->xy", weight * errors**2, Phi, Phi)
    drift = jnp.sum(weight * errors, (1, 2))[:, None] / rho[:, None] * Phi
    ahead = jnp.linalg.solve(jnp.eye(rho.size) - restarted(evaluation) + rho, drift)
    met = jnp.einsum("iaj,ix->jx", weight * errors, Phi)  # sums to zero over j, so a restart adds nothing
    return C_0, (1 - q) * met.T @ ahead


def lyapunov(A: Array, C: Array) -> Array:
    """Return X with A X + X A^T = C."""
    one = jnp.eye(len(A))
    return jnp.linalg.solve(jnp.kron(A, one) + jnp.kron(one, A), C.ravel()).reshape(A.shape)


def steady_slope(evaluation: Evaluation, omega_star: Array) -> tuple[Array, Array]:
    """Return lim E|e|^2/eta as eta -> 0: along the chain, and with states drawn afresh."""
    A, _ = mean_update(evaluation)
    C_0, later = noise_covariance(evaluation, omega_star)
    return jnp.trace(lyapunov(A, C_0 + later + later.T)), jnp.trace(lyapunov(A, C_0))
