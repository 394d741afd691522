"""f(K) = E sum_t gamma^t (z_t.Q z_t + u_t.R u_t) of the inputs u = -K z in z+ = A z + B u, infinite where unstable.

A is random with the spectral radius `radius`, Q, R and X0 = E z_0 z_0^T are random with eigenvalues at least 1/2; runs
start at K_0 = 0. The optimum is Riccati's, by structured doubling (`problems.linear_system`, whose symbols are used
here, sqrt(gamma) included).

Constants, on the set {f(K) <= f(K_0) = c}: |P| <= c/lmin(X0) = p, tr Sig <= c/lmin(Q) = s, |D| <= |R| + |B|^2 p = d.
- dominance: f(K) - f_star <= tr(Sig_* E^T D^-1 E) by completing the square, <= |Sig_*| |E|^2/lmin(R), and
  |grad f| = 2 |E Sig| >= 2 lmin(X0) |E|: dominance = |Sig_*|/(4 lmin(X0)^2 lmin(R)).
- level_L: f'' along a unit V is 2 tr(V^T D V Sig) - 4 tr(V^T B^T P' F Sig), P' = -sum_i (F^T)^i (V^T E + E^T V) F^i up
  to sign. One exact step K - D^-1 E lowers P by at least E^T D^-1 E, so |E|^2 <= d p; sum_i (F^T)^i F^i <= P/lmin(Q),
  so |P'| <= 2 sqrt(d p) p/lmin(Q); F Sig F^T <= Sig. Hence |f''| <= 2 d s + 8 |B| s p sqrt(d p)/lmin(Q).
- newton: policy iteration K+ = D^-1 B^T P A has D (K+ - K*) = B^T (P - P*) (A - B K*), D >= D_* and |P - P*|_F <=
  (f - f_star)/lmin(X0), so f(K+) - f_star <= s |B D_*^-1 B^T| |A - B K*|^2/lmin(X0)^2 (f(K) - f_star)^2.
Source: Fazel, Ge, Kakade & Mesbahi (2018); the constants on the level set are derived here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.linear_system import closed_loop, cost, input_curvature, riccati, spectral_radius, visited
from problems.oracles import LinearSystem
from problems.problem import Family, Problem


def init(data: LinearSystem, key: Array) -> Array:
    return jnp.zeros_like(data.K_star)


LINEAR_QUADRATIC = Family(
    name="linear_quadratic",
    regularity=Regularity.NONNEGATIVE | Regularity.LOWER_BOUNDED | Regularity.LINEAR_QUADRATIC,
    init=init,
    value=cost,
    system=lambda data: data,
)


def least(M: Array) -> Array:
    """Return the least eigenvalue of a symmetric matrix."""
    return jnp.linalg.eigvalsh(M)[0]


def size(M: Array) -> Array:
    """Return the spectral norm."""
    return jnp.linalg.norm(M, 2)


def constants_of(system: LinearSystem) -> Constants:
    """Return the constants of the module docstring."""
    K_star, P_star = system.K_star, system.P_star
    level = cost(system, jnp.zeros_like(K_star))
    start_min, cost_min, input_cost_min = least(system.X0), least(system.Q), least(system.R)
    p, s, B = level / start_min, level / cost_min, size(system.B)
    d = size(system.R) + B**2 * p
    visited_star = size(visited(system, K_star))
    reach = size(system.B @ jnp.linalg.solve(input_curvature(system, P_star), system.B.T))
    return Constants(
        f_star=jnp.trace(P_star @ system.X0),
        dominance=visited_star / (4 * start_min**2 * input_cost_min),
        start_share=start_min / visited_star,
        input_cost_min=input_cost_min,
        level_D=d,
        level_L=2 * d * s + 8 * B * s * p * jnp.sqrt(d * p) / cost_min,
        newton=s * reach * (size(closed_loop(system, K_star)) / start_min) ** 2,
    )


def solved(A: Array, B: Array, Q: Array, R: Array, X0: Array, gamma: Array) -> Problem[LinearSystem, Array]:
    """Return the problem with its optimum."""
    A, B = jnp.sqrt(gamma) * A, jnp.sqrt(gamma) * B
    P_star = riccati(A, B, Q, R)
    K_star = jnp.linalg.solve(R + B.T @ P_star @ B, B.T @ P_star @ A)
    system = LinearSystem(A=A, B=B, Q=Q, R=R, X0=X0, K_star=K_star, P_star=P_star)
    return Problem(LINEAR_QUADRATIC, system, constants_of(system), x_star=K_star)


def of_system(A: Array, B: Array, Q: Array, R: Array, X0: Array, gamma: float) -> Problem[LinearSystem, Array]:
    """Return the problem of a system of one's own.

    Raises:
        InvalidParameter: Q, R or X0 is not symmetric and positive definite, gamma is not in (0, 1], or sqrt(gamma) A,
            with which runs start, is unstable.
    """
    require(0 < gamma <= 1, f"gamma = {gamma}: a discount factor of a quadratic cost is in (0, 1]")
    for name, M in (("Q", Q), ("R", R), ("X0", X0)):
        known = np.asarray(M, float)
        require(np.array_equal(known, known.T), f"{name} is not symmetric")
        require(np.linalg.eigvalsh(known)[0] > 0, f"{name} is not positive definite")
    radius = gamma**0.5 * np.abs(np.linalg.eigvals(np.asarray(A, float))).max()
    require(radius < 1, f"sqrt(gamma) A has spectral radius {radius:.3g}: runs start at K_0 = 0, which must stabilise")
    return solved(A, B, Q, R, X0, jnp.asarray(gamma, float))


def positive_definite(M: Array) -> Array:
    """Return I/2 + M M^T/(2 n)."""
    return jnp.eye(len(M)) / 2 + M @ M.T / (2 * len(M))


def make(
    key: Array, *, n: int = 4, m: int = 2, radius: float = 0.5, gain: float = 0.5, gamma: float = 0.95
) -> Problem[LinearSystem, Array]:
    """Return a random system of `n` states and `m` inputs; B has N(0, gain^2/n) entries."""
    require(n >= 1 and m >= 1, f"n = {n}, m = {m}: a system has at least one state and one input")
    require(0 < gamma <= 1, f"gamma = {gamma}: a discount factor of a quadratic cost is in (0, 1]")
    require(gain > 0, f"gain = {gain}: inputs that do nothing control nothing")
    require(
        radius >= 0 and gamma * radius**2 < 1,
        f"radius = {radius} with gamma = {gamma}: runs start at K_0 = 0, so gamma radius^2 < 1 is needed",
    )
    shapes = ((n, n), (n, m), (n, n), (m, m), (n, n))
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    numbers = jnp.split(jax.random.normal(key, (int(ends[-1]),)), ends[:-1])  # one block: five would compile longer
    A, B, Q, R, X0 = (block.reshape(shape) for block, shape in zip(numbers, shapes, strict=True))
    Q, R, X0 = map(positive_definite, (Q, R, X0))
    return solved(radius * A / spectral_radius(A), gain / n**0.5 * B, Q, R, X0, jnp.asarray(gamma, float))
