"""Singular values and pseudo-inverses of thin factors X (m x r) by one-sided Jacobi rotations (Hestenes 1958).

X V has orthogonal columns once every pair of columns has been turned by the angle that makes it orthogonal, 8 + r/2
times round (12 suffice at r = 8 and condition number 1e10, 16 at r = 16). The Gram matrix X^T X is never formed, so
that singular values d are known down to eps d_1, not to sqrt(eps) d_1. Plain array operations: calls of LAPACK for many
lanes on several host devices have been seen to wait for one another for ever.
Values at most CUTOFF eps d_1 are rounding and count as 0. With CUTOFF = 4096 they lie below 1e-12 d_1 in double
precision, while a start A Omega of condition number kappa has d >= d_1/(kappa cond(Omega)): what is beyond the rank of
A is told apart up to kappa cond(Omega) = 1e11.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

CUTOFF = 4096


def next_seats(seats: int) -> np.ndarray:
    """Return who sits where in the next round of a round-robin of an even number of players, pairs side by side."""
    ring = [*range(2, seats, 2), *range(seats - 1, 0, -2)]
    turned = [ring[-1], *ring[:-1]]
    top, bottom = [0, *turned[: seats // 2 - 1]], turned[seats // 2 - 1 :][::-1]
    return np.array([seat for pair in zip(top, bottom, strict=True) for seat in pair])


def rotated(Z: Array, m: int) -> Array:
    """Return Z with every pair of neighbouring columns turned so that their first m entries are orthogonal."""
    x, y = Z[:, 0::2], Z[:, 1::2]
    alpha, beta, gamma = (jnp.sum(u[:m] * v[:m], axis=0) for u, v in ((x, x), (y, y), (x, y)))
    skewed = jnp.abs(gamma) > jnp.finfo(Z.dtype).eps * jnp.sqrt(alpha * beta)
    zeta = (beta - alpha) / (2 * jnp.where(skewed, gamma, 1))
    sign = jnp.where(zeta < 0, -1, 1)
    tangent = jnp.where(skewed, sign / (jnp.abs(zeta) + jnp.sqrt(1 + zeta**2)), 0)
    c = 1 / jnp.sqrt(1 + tangent**2)
    return jnp.stack([c * (x - tangent * y), c * (y + tangent * x)], axis=2).reshape(Z.shape)


def principal_axes(X: Array) -> tuple[Array, Array, Array]:
    """Return X V (m x r) of orthogonal columns, their norms d (r,), the singular values, and V^T (r x r)."""
    m, r = X.shape
    even = r + r % 2
    Z = jnp.pad(jnp.concatenate([X, jnp.eye(r, dtype=X.dtype)]), ((0, 0), (0, even - r)))
    seats = next_seats(even)
    rounds = (8 + r // 2) * (even - 1)
    Z = lax.fori_loop(0, rounds, lambda _, Z: rotated(Z, m)[:, seats], Z)[:, :r]
    return Z[:m], jnp.linalg.norm(Z[:m], axis=0), Z[m:].T


def singular_values(X: Array) -> Array:
    """Return the min(m, r) singular values of X, in no order."""
    return principal_axes(X if X.shape[0] >= X.shape[1] else X.T)[1]


def inverse_squares(d: Array) -> Array:
    """Return d^-2, and 0 for what is rounding next to the largest; of zeros, zeros."""
    kept = d > CUTOFF * jnp.finfo(d.dtype).eps * jnp.max(d)
    return jnp.where(kept, 1 / jnp.where(kept, d, 1) ** 2, 0)


def pseudo_inverse(X: Array) -> Array:
    """Return X^+ (r x m) of a tall X (m x r): V d^-2 (X V)^T."""
    XV, d, Vt = principal_axes(X)
    return (Vt.T * inverse_squares(d)) @ XV.T
