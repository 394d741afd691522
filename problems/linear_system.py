"""The cost of a gain K, u = -K z, in a linear system with quadratic cost:  f(K) = tr(P X0).

With F = A - B K (A and B carry a factor sqrt(gamma)), by doubling
    P = Q + K^T R K + F^T P F,   Sig = X0 + F Sig F^T,   D = R + B^T P B,   E = D K - B^T P A,
and grad f = 2 E Sig. All sums diverge where F is unstable: f = inf there. For any two gains
    f(K') - f(K) = tr(Sig_K' (2 (K' - K)^T E_K + (K' - K)^T D_K (K' - K))),
so that f(K) - f_star = tr(Sig_K (K - K*)^T D_* (K - K*)), which has no cancellation.
Source: Fazel, Ge, Kakade & Mesbahi (2018), Lemmas 1, 6 and 10.
"""

import jax.numpy as jnp
from jax import Array, lax

from problems.oracles import LinearSystem

DOUBLINGS = 32  # sums of 2^32 terms: a radius above 1 + 2e-7 overflows, one below 1 - 1e-8 is summed to rounding
RICCATI_DOUBLINGS = 30


def summed(F: Array, W: Array) -> Array:
    """Return sum_i (F^T)^i W F^i, not finite where F is unstable (and W positive definite)."""

    def double(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        total, F = carry
        return (total + F.T @ total @ F, F @ F), None

    (total, _), _ = lax.scan(double, (W, F), None, length=DOUBLINGS)
    return total


def closed_loop(system: LinearSystem, K: Array) -> Array:
    """Return F = A - B K."""
    return system.A - system.B @ K


def cost_to_go(system: LinearSystem, K: Array) -> Array:
    """Return P_K."""
    return summed(closed_loop(system, K), system.Q + K.T @ system.R @ K)


def visited(system: LinearSystem, K: Array) -> Array:
    """Return Sig_K, the sum over time of E z_t z_t^T."""
    return summed(closed_loop(system, K).T, system.X0)


def cost(system: LinearSystem, K: Array) -> Array:
    """Return f(K), inf where K does not stabilise."""
    P = cost_to_go(system, K)
    return jnp.where(jnp.isfinite(P).all(), jnp.trace(P @ system.X0), jnp.inf)


def input_curvature(system: LinearSystem, P: Array) -> Array:
    """Return D = R + B^T P B."""
    return system.R + system.B.T @ P @ system.B


def slope(system: LinearSystem, K: Array, P: Array) -> Array:
    """Return E = D K - B^T P A, half the gradient before Sig."""
    return input_curvature(system, P) @ K - system.B.T @ P @ system.A


def cost_gap(system: LinearSystem, K: Array) -> Array:
    """Return f(K) - f_star as a sum of squares, inf where K does not stabilise."""
    away, Sig = K - system.K_star, visited(system, K)
    gap = jnp.trace(Sig @ away.T @ input_curvature(system, system.P_star) @ away)
    return jnp.where(jnp.isfinite(Sig).all(), gap, jnp.inf)


def riccati(A: Array, B: Array, Q: Array, R: Array) -> Array:
    """Return P* = Q + A^T P* (I + B R^-1 B^T P*)^-1 A by structured doubling, quadratically convergent."""
    identity = jnp.eye(len(A))

    def double(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        A, G, H = carry
        inverse = jnp.linalg.inv(identity + G @ H)
        return A @ inverse @ A, G + A @ inverse @ G @ A.T, H + A.T @ H @ inverse @ A

    return lax.fori_loop(0, RICCATI_DOUBLINGS, double, (A, B @ jnp.linalg.solve(R, B.T), Q))[2]


def spectral_radius(A: Array) -> Array:
    """Return the largest modulus of an eigenvalue: |A^(2^k)|^(1/2^k), normalised at every squaring."""

    def square(k: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        A, logarithm = carry
        size = jnp.linalg.norm(A)
        return (A / size) @ (A / size), logarithm + jnp.log(size) / 2.0**k

    return jnp.exp(lax.fori_loop(0, DOUBLINGS, square, (A, jnp.zeros(())))[1])
