"""ell(W) = sum_ij (H_ij W_ij^2/2 - b_ij W_ij), H_11 = `corner`, every other H_ij = 1: minimised entry by entry.

M = b/H is the minimiser, L = max H, mu = min H, ell_star = -sum b_ij^2/(2 H_ij). Targets: `ones` b = 1 (3 x 3 with
H_11 = 10: the quadratic on which low-rank methods part); `last_entry` M = e_m e_n^T, which adapters that live in the
first columns never see; `random` M = U diag(geomspace(1, 1/kappa, rank_star)) V^T with random rotations.
f_star_rank_1, the infimum over W of rank 1, is known twice.
H = 1: ell_star + (1/2) sum_(i>1) sigma_i(M)^2 (Eckart & Young 1936).
b = 1: for W = u v^T the best v leaves -(1/2) sum_j (sum_i u_i)^2/(sum_i H_ij u_i^2). Given u_1 and |u|, equal u_i = 1,
i > 1, are best; with p = m - 1 and u_1 = x >= 0 that is -phi(x)/2,
  phi(x) = (x + p)^2 (1/(H_11 x^2 + p) + (n - 1)/(x^2 + p)),
largest where x = 0, x -> inf, or phi' = 0, a root of a polynomial: 26/45 above ell_star for 3 x 3, H_11 = 10.
Source: Malinovsky et al. (2024), arXiv:2410.08305, whose example has vec Hessian Diag(10, 1, .., 1) and a linear term
that it does not print; the linear term is ours, the rest derived here.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from numpy.polynomial import Polynomial

from problems.adapter import low_rank
from problems.constants import Constants, Regularity, require
from problems.problem import Family, Problem

TARGETS, STARTS = ("ones", "last_entry", "random"), ("zero", "optimum", "normal")


@struct.dataclass
class Data:
    """H, b and the centre of the start are (m, n); `spread` is the standard deviation of the start around it."""

    H: Array
    b: Array
    centre: Array
    spread: Array


def init(data: Data, key: Array) -> Array:
    return data.centre + data.spread * jax.random.normal(key, data.b.shape)


def value(data: Data, W: Array) -> Array:
    return jnp.sum((0.5 * data.H * W - data.b) * W)


WEIGHTED_QUADRATIC = Family(
    name="weighted_quadratic",
    regularity=Regularity.SMOOTH
    | Regularity.STRONGLY_CONVEX
    | Regularity.CONVEX
    | Regularity.PL
    | Regularity.QUADRATIC
    | Regularity.LOWER_BOUNDED
    | Regularity.MATRIX,
    init=init,
    value=value,
)
BOUNDED_AT_RANK_1 = replace(WEIGHTED_QUADRATIC, regularity=WEIGHTED_QUADRATIC.regularity | Regularity.RANK_ONE_FLOOR)


def rank_1_gain(m: int, n: int, corner: float) -> float:
    """Return sup phi, twice what the best W of rank 1 gains over W = 0 where b = 1."""
    p = m - 1
    if p == 0 or n == 1:
        return m * n - 1 + 1 / corner  # every W has rank 1
    x2, s = Polynomial([0.0, 0.0, 1.0]), Polynomial([float(p), 1.0])
    first, other = corner * x2 + p, x2 + p
    # phi' = 0 times (first other)^2/(2 s)
    slope = first * other**2 + (n - 1) * first**2 * other
    slope -= s * Polynomial([0.0, 1.0]) * (corner * other**2 + (n - 1) * first**2)
    roots = slope.roots()
    inner = roots.real[(np.abs(roots.imag) < 1e-6) & (roots.real > 0)]
    phi = [float(s(x) ** 2 * (1 / first(x) + (n - 1) / other(x))) for x in (0.0, *inner)]
    return max(*phi, 1 / corner + n - 1)


def minimiser(key: Array, m: int, n: int, H: Array, target: str, rank_star: int, kappa: float, scale: float) -> Array:
    """Return M, `scale` times what the target names."""
    if target == "ones":
        return scale / H
    if target == "last_entry":
        return scale * jnp.zeros((m, n)).at[-1, -1].set(1.0)
    left_key, right_key = jax.random.split(key)
    U = jnp.linalg.qr(jax.random.normal(left_key, (m, rank_star)))[0]
    V = jnp.linalg.qr(jax.random.normal(right_key, (n, rank_star)))[0]
    return scale * (U * jnp.geomspace(1.0, 1.0 / kappa, rank_star)) @ V.T


def make(
    key: Array,
    *,
    m: int = 3,
    n: int = 3,
    rank: int = 0,
    corner: float = 10.0,
    target: str = "ones",
    rank_star: int = 2,
    kappa: float = 10.0,
    scale: float = 1.0,
    start: str = "zero",
) -> Problem:
    """Return the quadratic with H_11 = `corner`, in W itself, or seen through adapters of rank `rank` > 0.

    `start` is where a method in W begins: zero, the optimum M, or normal entries. `scale` multiplies M.
    """
    require(m >= 1 and n >= 1, f"m = {m}, n = {n}: at least one row and one column")
    require(corner > 0 and scale > 0, f"corner = {corner}, scale = {scale}: both must be positive")
    require(target in TARGETS, f"target = {target}: must be one of {', '.join(TARGETS)}")
    require(start in STARTS, f"start = {start}: must be one of {', '.join(STARTS)}")
    require(1 <= rank_star <= min(m, n), f"rank_star = {rank_star}: must lie in 1 .. {min(m, n)}")
    require(kappa >= 1, f"kappa = {kappa}: a condition number is at least 1")
    H = jnp.ones((m, n)).at[0, 0].set(corner)
    M = minimiser(key, m, n, H, target, rank_star, kappa, scale)
    f_star = -0.5 * jnp.sum(H * M**2)
    constants = Constants(
        L=jnp.max(H),
        mu=jnp.min(H),
        mu_pl=jnp.min(H),
        f_star=f_star,
        rows=jnp.asarray(float(m)),
        columns=jnp.asarray(float(n)),
    )
    at_rank_1 = lowest_at_rank_1(m, n, corner, target, M, f_star, scale)
    data = Data(H, H * M, M if start == "optimum" else jnp.zeros_like(M), jnp.asarray(float(start == "normal")))
    if at_rank_1 is None or start != "zero":
        problem = Problem(WEIGHTED_QUADRATIC, data, constants, M)
    else:
        problem = Problem(BOUNDED_AT_RANK_1, data, replace(constants, f_star_rank_1=at_rank_1), M)
    if not rank:
        return problem
    reached = rank >= {"ones": min(2, m, n), "last_entry": 1, "random": rank_star}[target]
    lowest = f_star if reached else at_rank_1 if rank == 1 else None
    if lowest is None:
        return low_rank(problem, rank, W0=jnp.zeros_like(M))
    return low_rank(problem, rank, W0=jnp.zeros_like(M), claims=Regularity.LOWER_BOUNDED, stated={"f_star": lowest})


def lowest_at_rank_1(m: int, n: int, corner: float, target: str, M: Array, f_star: Array, scale: float) -> Array | None:
    """Return the infimum of ell over matrices of rank 1, or None where it is not known."""
    if target == "last_entry":
        return f_star
    if corner == 1:
        return f_star + 0.5 * jnp.sum(jnp.linalg.svd(M, compute_uv=False)[1:] ** 2)
    return -0.5 * jnp.asarray(scale**2 * rank_1_gain(m, n, corner)) if target == "ones" else None
