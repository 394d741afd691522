"""Rules for the step size eta on LoRA adapters, what (L2) and (A2) need to know of each, and the bounds that follow.

  selfnorm     c/(L |V|^2 + |G|), 0 < c <= 1
  selfnorm_bt  the same with Lhat for L, doubled from L0 on until J(V+) <= J(V) - kappa(c) eta N^2
  mk_theory    min(1/(4 sqrt2 L (|V|^2 + |G|)), 1), needs L >= 1
  adapt        min(alpha/(|V|^2 + |G|), 1), proven where alpha max(1, L) <= 1
  adapt2       min(alpha/(|V|^2 + sqrt J), 1)
  norm         min(alpha/sqrt N, 1)
  const        eta
Symbols and proofs stand in `algorithms.adapter_steps`. A rule that keeps p + q <= c and has
(l |V|^2 + w |G| + s) eta >= c in place of l = L, w = 1, s = 0 has the same (A2) and (A3) with l for L and
w sqrt(2 L Delta) + s for sqrt(2 L Delta). Where |V| grows and G fades, eta ~ k |V|^-j.
Source: Mu & Klabjan (2025), arXiv:2512.18248, for the last five; the others and all proofs are derived here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms import adapter_steps
from algorithms.adapter_steps import WEIGHT_GAP, kappa
from algorithms.algorithm import refuse_unless, refuse_unless_positive
from algorithms.balance import refuse_batch_size
from algorithms.metric import GRADIENT_NORM_SQ, Metric
from algorithms.recursions import descend_by
from problems.adapter import is_adapter
from problems.constants import Constants
from problems.problem import Problem

MK_C = 1 / (4 * 2**0.5)
ROUNDING = 100  # a loss is compared up to so many ulps
FAR = 500.0  # of v^4, from where on the law of the escape family is claimed


def smoothness(c: Constants) -> Any:
    """Return L of ell, NaN where it is not stated: no bound then claims anything."""
    return jnp.nan if c.L_weight is None else c.L_weight


def sound(problem: Problem, x0: Any) -> Any:
    """Return the start; not a number, hence diverged, if it is 0 (stationary) or its loss below the stated infimum."""
    loss, lowest = problem.value(x0), problem.constants.ell_star
    credit = ROUNDING * jnp.finfo(loss.dtype).eps * jnp.abs(lowest)
    possible = (optax.tree.norm(x0, squared=True) > 0) & (loss >= lowest - credit)
    return jax.tree.map(lambda leaf: jnp.where(possible, leaf, jnp.nan), x0)


@struct.dataclass
class Sizes:
    """What a step size may read: |V|^2, |G|, N^2, J."""

    v_sq: Array
    g: Array
    n_sq: Array
    loss: Array


def frobenius_sq(matrix: Array) -> Array:
    """Return |M|_F^2."""
    return jnp.sum(matrix**2)


def spectral_sq(matrix: Array) -> Array:
    """Return |M|_2^2 from above, tr(H^32)^(1/32) with H the smaller of M M^T and M^T M: for k x k up to k^(1/32) times.

    All proofs bear a norm that is too large. Plain products, for LAPACK at every step of many lanes is slow.
    """
    H = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    size = jnp.ones_like(H[0, 0])
    for i in range(6):
        H = H @ H if i else H
        trace = jnp.trace(H)
        H, size = H / jnp.where(trace > 0, trace, 1.0), size * trace ** (1 / 2**i)
    return size


NORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {  # of B and A, of G
    "frobenius": (frobenius_sq, frobenius_sq),
    "spectral_gradient": (frobenius_sq, spectral_sq),
    "spectral_weights": (spectral_sq, frobenius_sq),
}
ACROSS = ("together", "largest")


def joined(norm_sq: Callable[[Array], Array], matrices: list[Array]) -> Array:
    """Return the squared norm of the block-diagonal matrix with these blocks."""
    sizes = jnp.stack([norm_sq(matrix) for matrix in matrices])
    return jnp.max(sizes) if norm_sq is spectral_sq else jnp.sum(sizes)


def norms_of(x: Any, G: Any, hp: Any) -> tuple[Array, Array]:
    """Return |V|^2 and |G| in the pair `hp.norms`, of all adapters `together` or the `largest` of each."""
    of_factor, of_gradient = NORMS[hp.norms]
    adapters, gradients = jax.tree.leaves(x, is_leaf=is_adapter), jax.tree.leaves(G)
    if hp.across == "together":
        B, A = [adapter.B for adapter in adapters], [adapter.A for adapter in adapters]
        return joined(of_factor, B) + joined(of_factor, A), jnp.sqrt(joined(of_gradient, gradients))
    v_sq = jnp.stack([of_factor(adapter.B) + of_factor(adapter.A) for adapter in adapters])
    return jnp.max(v_sq), jnp.sqrt(jnp.max(jnp.stack([of_gradient(matrix) for matrix in gradients])))


@dataclass(frozen=True)
class Rule:
    """A step size eta(sizes, L, hp) and what is proven of it, given the problem's constants and hp.

    p + q <= c where it `admits`, and (l |V|^2 + w |G| + s) eta >= c for (l, w, s) = `under`. `far` is (k, j) of
    eta ~ k |V|^-j where |V| is large and G small. A rule that `searches` finds its own L.
    """

    step_size: Callable[[Sizes, Any, Any], Array]
    c: Callable[[Constants, Any], Any]
    admits: Callable[[Constants, Any], Any]
    under: Callable[[Constants, Any], tuple[Any, Any, Any]]
    far: Callable[[Constants, Any], tuple[Any, float]]
    reads_L: bool = False
    searches: bool = False


def over_sum(alpha: Callable[[Any, Any], Any]) -> Rule:
    """Return eta = min(alpha/(|V|^2 + |G|), 1): p + q <= alpha max(1, L), which (L2) needs to be at most 1."""

    def c_of(c: Constants, hp: Any) -> Any:
        return alpha(smoothness(c), hp) * jnp.maximum(1.0, smoothness(c))

    def under(c: Constants, hp: Any) -> tuple[Any, Any, Any]:
        l = jnp.maximum(1.0, smoothness(c))  # noqa: E741
        return l, l, c_of(c, hp)

    return Rule(
        step_size=lambda sizes, L, hp: jnp.minimum(alpha(L, hp) / (sizes.v_sq + sizes.g), 1.0),
        c=c_of,
        admits=lambda c, hp: c_of(c, hp) <= 1,
        under=under,
        far=lambda c, hp: (alpha(smoothness(c), hp), 2.0),
    )


def unknown_far(c: Constants, hp: Any) -> tuple[Any, float]:
    """Claim nothing of eta where |V| is large."""
    return jnp.nan, 0.0


SELFNORM = Rule(
    step_size=lambda sizes, L, hp: hp.c / (L * sizes.v_sq + sizes.g),
    c=lambda c, hp: hp.c,
    admits=lambda c, hp: (hp.c > 0) & (hp.c <= 1),
    under=lambda c, hp: (smoothness(c), 1.0, 0.0),
    far=lambda c, hp: (hp.c / smoothness(c), 2.0),
    reads_L=True,
)
SELFNORM_BT = replace(
    SELFNORM,
    under=lambda c, hp: (jnp.maximum(2 * smoothness(c), hp.L0), 1.0, 0.0),
    far=unknown_far,
    reads_L=False,
    searches=True,
)
MK_THEORY = replace(
    over_sum(lambda L, hp: MK_C / L),
    admits=lambda c, hp: smoothness(c) >= 1,  # as published; (L2) itself holds from L >= 1/(4 sqrt2) on
    reads_L=True,
)
ADAPT = over_sum(lambda L, hp: hp.alpha)
# these promise nothing: they are drawn against what `selfnorm` promises, and never judged
UNPROVEN = replace(SELFNORM, admits=lambda c, hp: jnp.zeros((), bool), far=unknown_far, reads_L=False)
CONST = replace(UNPROVEN, step_size=lambda sizes, L, hp: hp.eta, far=lambda c, hp: (hp.eta, 0.0))
ADAPT2 = replace(
    UNPROVEN,
    step_size=lambda sizes, L, hp: jnp.minimum(hp.alpha / (sizes.v_sq + jnp.sqrt(jnp.maximum(sizes.loss, 0.0))), 1.0),
)
NORM = replace(UNPROVEN, step_size=lambda sizes, L, hp: jnp.minimum(hp.alpha / sizes.n_sq**0.25, 1.0))
RULES = {
    "selfnorm": SELFNORM,
    "selfnorm_bt": SELFNORM_BT,
    "mk_theory": MK_THEORY,
    "adapt": ADAPT,
    "adapt2": ADAPT2,
    "norm": NORM,
    "const": CONST,
}


def found_L(problem: Problem, x: Any, gradient: Any, sizes: Sizes, L: Array, level: Array, hp: Any) -> Array:
    """Return the first of L, 2 L, 4 L, ... with which the step of `selfnorm` keeps (L2), up to rounding of `level`.

    Every L that ell is smooth with keeps it, so that 2 L of ell is never exceeded from below. Near a solution of loss 0
    losses differ by rounding alone, which `level`, the loss at the start, gives the size of.
    """
    credit = ROUNDING * jnp.finfo(sizes.loss.dtype).eps * jnp.maximum(level, jnp.abs(sizes.loss))

    def breaks(L: Array) -> Array:
        eta = SELFNORM.step_size(sizes, L, hp)
        wanted = sizes.loss - kappa(hp.c) * eta * sizes.n_sq + credit
        return ~(problem.value(descend_by(x, eta, gradient)) <= wanted) & jnp.isfinite(sizes.loss)

    return lax.while_loop(breaks, lambda L: 2 * L, L)


def prepare(hp: Any) -> Any:
    """Return `hp`; raise `InvalidSetting` for an unknown name, c outside (0, 1], or a number that is not positive."""
    for name, known in (("rule", RULES), ("norms", NORMS), ("across", ACROSS)):
        chosen = getattr(hp, name)
        refuse_unless(chosen in known, f"{name} = {chosen!r}: must be one of {', '.join(known)}")
    c = np.asarray(hp.c, float)
    refuse_unless((c > 0) & (c <= 1), f"c = {hp.c}: must lie in (0, 1]")
    for name in ("eta", "alpha", "L0"):
        refuse_unless_positive(getattr(hp, name), name)
    refuse_batch_size(hp.batch_size)
    return hp


def refuse_on(problem: Problem, hp: Any) -> None:
    """Raise `InvalidSetting` where the rule reads a smoothness that is not stated, or nothing can be sampled."""
    stated = problem.constants.L_weight is not None
    others = ", ".join(name for name, rule in RULES.items() if not rule.reads_L)
    refuse_unless(
        stated or not RULES[hp.rule].reads_L,
        f"rule = {hp.rule}: it reads the smoothness of the loss in the weight, which is not stated; take {others}",
    )
    refuse_batch_size(hp.batch_size, problem)


def admits(c: Constants, hp: Any) -> Array:
    """Return whether the rule keeps p + q <= c of (L2), on full batches."""
    return jnp.asarray(RULES[hp.rule].admits(c, hp) & (hp.batch_size == 0))


def descent_bound(t: Array, c: Constants, hp: Any, start_gap: Array, gap: Array) -> Array:
    """Return (J(V_0) - J(V_t))/kappa."""
    return (start_gap - gap) / kappa(RULES[hp.rule].c(c, hp))


def path_bound(t: Array, c: Constants, hp: Any, gap: Array, step_sum: Array) -> Array:
    """Return (A1) of a rule."""
    return adapter_steps.path_bound(RULES[hp.rule].c(c, hp), gap, step_sum)


def rate_bound(t: Array, c: Constants, hp: Any, gap: Array, v_sq: Array) -> Array:
    """Return (A2) of a rule; `v_sq` is |V_0|^2."""
    rule = RULES[hp.rule]
    return adapter_steps.rate_bound(t, rule.c(c, hp), rule.under(c, hp)[0], denominator(c, hp, 2 * v_sq, gap), gap)


def bounded_bound(t: Array, c: Constants, hp: Any, gap: Array, v_sq: Array) -> Array:
    """Return (A3) of a rule; `v_sq` is the largest |V|^2 so far."""
    return adapter_steps.bounded_bound(t, RULES[hp.rule].c(c, hp), denominator(c, hp, v_sq, gap), gap)


def denominator(c: Constants, hp: Any, v_sq: Array, gap: Array) -> Array:
    """Return l |V|^2 + w sqrt(2 L Delta) + s."""
    l, w, s = RULES[hp.rule].under(c, hp)  # noqa: E741
    return l * v_sq + w * jnp.sqrt(2 * smoothness(c) * gap) + s


def escape_law(t: Array, c: Constants, hp: Any) -> Array:
    """Return N^2 ~ 4 p^2 4^p v^-(4p + 2) on the escape family of power p, NaN until v^4 >= FAR.

    There J ~ 2^p v^(-2p), v = |V|, so v' = eta |J'| = k v^-j 2p 2^p v^(-2p - 1) and, with q = 2p + 2 + j,
    v^q = 2p 2^p q k t, with relative errors of order v^-4.
    """
    p, (k, j) = c.power, RULES[hp.rule].far(c, hp)
    q = 2 * p + 2 + j
    v_to_q = 2 * p * 2**p * q * k * t
    return jnp.where(v_to_q ** (4 / q) >= FAR, 4 * p**2 * 4**p * v_to_q ** (-(4 * p + 2) / q), jnp.nan)


def is_made_for(c: Constants, hp: Any) -> Array:
    """Return whether the steps are those that the straight slope is made for."""
    return jnp.asarray((hp.rule == "selfnorm") & (hp.batch_size == 0) & (jnp.abs(hp.c - c.step_factor) < 1e-6))


def slope_law(t: Array, c: Constants, hp: Any) -> Array:
    """Return N^2 = D^(3/2) sqrt(L/(3 c T)) on the straight slope of `horizon` T, NaN behind it."""
    squared = c.drop**1.5 * jnp.sqrt(smoothness(c) / (3 * c.step_factor * c.horizon))
    return jnp.where(t < c.horizon, squared, jnp.nan)


def inverse_rate(t: Array, c: Constants, hp: Any, gap: Array, v_sq: Array) -> Array:
    """Return sqrt 3/(kappa^(3/2) A2) at the last step of the straight slope, NaN elsewhere.

    As T grows, Delta -> D, a^2/(b c T) -> 0 and A2 -> (D/kappa)^(3/2) sqrt(L/(c T)), from below where c T >= 5.
    """
    last = (t >= c.horizon - 1) & (t < c.horizon)
    return jnp.where(last, 3**0.5 / (kappa(hp.c) ** 1.5 * rate_bound(t, c, hp, gap, v_sq)), jnp.nan)


INVERSE_GAP = Metric("inverse_weight_gap", lambda problem, x, state: 1 / WEIGHT_GAP.measure(problem, x, state))
INVERSE_GRADIENT = Metric(
    "largest_inverse_gradient_norm_sq",
    lambda problem, x, state: 1 / GRADIENT_NORM_SQ.measure(problem, x, state),
    fold=jnp.maximum,
)
