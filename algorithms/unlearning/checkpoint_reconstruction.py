"""Checkpoint reconstruction:  K times u+ = argmin_w |w - u|^2/2 - eta f_D(w), which undoes u = w - eta grad f_D(w).

A run of T + 2K steps: T descend on D from x_0 to w_T, K go back to an estimate of w_{T-K}, that was not stored, and K
descend on D' as Rewind-to-Delete does; v descends on D' for T steps beside it. For eta L < 1 a backward step has one
solution, the limit of w <- u + eta grad f_D(w), which contracts by eta L: `inner` gradients of D, Z included.
Source: Mu & Klabjan (2024), arXiv:2409.09778, Algorithm 3. The rest is derived here, with F(w) = w - eta grad f_D(w):

(1) (1 - eta L)|a - b| <= |F(a) - F(b)|. Let u_k be k steps back and d_k = |F(u_k) - u_{k-1}| what is left of the
    inner iteration, d_k <= (eta L)^inner |its first update|. Then r_k = |u_k - w_{T-k}| has
    r_k <= (r_{k-1} + d_k)/(1 - eta L),  r_K <= sum_k d_k (1 - eta L)^-(K-k+1).
    An inner error of tau in every step gives the uniform form tau ((1-eta L)^-K - 1)/((1-eta L)^-1 - 1).
(2) An evaluation of F errs by rounding, credited 100 eps (|w| + eta|grad f(w)|) and added to d_k. Hence the horizon:
    however many inner gradients, the error grows as eps (1 - eta L)^-K, in the stiffest direction and on a run that
    still moves; the law compares r_K with r_{K//2}, a factor that no rounding unit enters. On a converged run w_{T-K} =
    w_T to rounding, and any K looks perfect.
(3) K steps on D' multiply the error by g^K, so |u - v| <= Delta + g^K r_K, Delta the sensitivity of Rewind-to-Delete.
    r_K belongs to D: the bound is a diagnosis after the run, and nothing is published with noise.
A problem without records has nothing to delete: there D' is D.
"""

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.deletion import choose, count
from algorithms.metric import VALUE, Metric
from algorithms.recursions import descend_by
from algorithms.sensitivity import (
    MARGIN,
    is_strongly_convex_step,
    log_contraction,
    nonconvex_sensitivity,
    strongly_convex_sensitivity,
)
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import Constants, Regularity
from problems.oracles import Oracle
from problems.problem import Problem

TITLE = "Rewind-to-Delete: certified machine unlearning for nonconvex functions"
SOURCE = Source("derived here", 2026, TITLE, "algorithms/unlearning/checkpoint_reconstruction.py")
LEFT = 1e-3  # relative error up to which a theorem speaks of a reconstruction: three digits must be left


@struct.dataclass
class HParams:
    """eta_L: step size times smoothness, in (0, 1); L: the smoothness; T, K: steps there and back; inner: gradients a
    backward step, from `tol`, the share of an inner error that may stay, where not given. `prepare` fills eta.
    """

    eta_L: Array | float = 0.5
    L: Array | float | str = "L"
    T: Array | int = 40
    K: Array | int = 20
    tol: Array | float = 1e-17
    inner: Array | float = math.nan
    eta: Array | float = math.nan


@struct.dataclass
class State:
    """x: u; retrained: v; t: steps done; checkpoint, halfway: w_{T-K}, w_{T-K//2}; error, half_error: r_K, r_{K//2};
    radius: the bound (1) on r_K, with (2).
    """

    x: Any
    checkpoint: Any
    halfway: Any
    retrained: Any
    t: Array
    radius: Array
    error: Array
    half_error: Array


def prepare(hp: Any) -> Any:
    """Return `hp` with eta and inner; raise `InvalidSetting` for K > T and where no backward step exists."""
    eta_L, L, T, K, tol, inner = (np.asarray(v, float) for v in (hp.eta_L, hp.L, hp.T, hp.K, hp.tol, hp.inner))
    refuse_unless((eta_L > 0) & (eta_L < 1), f"eta_L = {hp.eta_L}: a backward step exists only for 0 < eta L < 1")
    refuse_unless(L > 0, f"L = {hp.L}: the smoothness must be positive")
    refuse_unless((K >= 0) & (K <= T), f"K = {hp.K} with T = {hp.T}: going back needs 0 <= K <= T")
    refuse_unless((tol > 0) & (tol < 1), f"tol = {hp.tol}: must lie in (0, 1)")
    inner = np.where(np.isnan(inner), np.ceil(np.log(tol) / np.log(eta_L)), inner)
    refuse_unless(inner >= 1, f"inner = {hp.inner}: a backward step takes at least one gradient")
    return replace(hp, eta=eta_L / L, inner=inner)


def remaining(problem: Problem) -> Problem:
    """Return the problem on D', the problem itself where there is nothing to delete."""
    return problem.retained() if Oracle.RETAIN in problem.family.oracles else problem


def init(problem, x0, key, hp):
    return State(x0, x0, x0, x0, count(0), *jnp.zeros(3))


def backward(problem: Problem, u: Any, hp: Any, inner: Array) -> tuple[Any, Array]:
    """Return w after `inner` iterations w <- u + eta grad f(w) from u, and what is left: |F(w) - u| with rounding."""

    def iterate(_: Any, w: Any) -> Any:
        return descend_by(u, -hp.eta, problem.grad(w))

    w = lax.fori_loop(count(0), inner, iterate, u)
    move = optax.tree.scale(hp.eta, problem.grad(w))
    left = optax.tree.norm(optax.tree.sub(optax.tree.sub(w, move), u))
    rounding = 100 * jnp.finfo(left.dtype).eps * (optax.tree.norm(w) + optax.tree.norm(move))
    return w, left + rounding


def step(problem, state, key, hp):
    t, u, retained = state.t, state.x, remaining(problem)
    is_back = (t >= hp.T) & (t < hp.T + hp.K)
    w, left = backward(problem, u, hp, count(jnp.where(is_back, hp.inner, 0)))
    eta = jnp.where(t < hp.T + 2 * hp.K, hp.eta, 0.0)
    descended = descend_by(u, eta, choose(t < hp.T, problem, retained).grad(u))
    retraining_eta = jnp.where(t < hp.T, hp.eta, 0.0)
    checkpoint, error = compare(state.checkpoint, state.error, hp.K, t, u, w, hp)
    halfway, half_error = compare(state.halfway, state.half_error, hp.K // 2, t, u, w, hp)
    return State(
        x=optax.tree.where(is_back, w, descended),
        checkpoint=checkpoint,
        halfway=halfway,
        retrained=descend_by(state.retrained, retraining_eta, retained.grad(state.retrained)),
        t=t + 1,
        radius=jnp.where(is_back, (state.radius + left) / (1 - hp.eta_L), state.radius),
        error=error,
        half_error=half_error,
    )


def compare(kept: Any, error: Array, k: Array, t: Array, u: Any, w: Any, hp: Any) -> tuple[Any, Array]:
    """Return w_{T-k}, kept from step T - k on, and r_k, read as step T + k, the k-th step back, arrives at w."""
    kept = optax.tree.where(t == hp.T - k, u, kept)
    arrived = (k > 0) & (t + 1 == hp.T + k)
    return kept, jnp.where(arrived, optax.tree.norm(optax.tree.sub(w, kept)), error)


def readout(state):
    return state.x


def calls(problem, hp):
    return (hp.T + hp.K * (hp.inner + 1)) / (hp.T + 2 * hp.K)


def digits_lost(problem: Problem, x: Any, state: State) -> Array:
    """Return log10(r_K/r_{K//2}), each at least eps |w|; 0 before there is anything to compare."""

    def visible(error: Array, w: Any) -> Array:
        return jnp.maximum(error, jnp.finfo(error.dtype).eps * optax.tree.norm(w))

    lost, half = visible(state.error, state.checkpoint), visible(state.half_error, state.halfway)
    return jnp.log10(jnp.where((lost > 0) & (half > 0), lost / half, 1.0))


def distance(problem: Problem, x: Any, state: State) -> Array:
    """Return |u - v|."""
    return optax.tree.norm(optax.tree.sub(state.x, state.retrained))


def extent(problem: Problem, x: Any, state: State) -> Array:
    """Return |u| + |v| + |grad f_{D'}(x_0)|: also from x_0 = 0, the size of the points to come."""
    at_start = optax.tree.norm(remaining(problem).grad(state.x))
    return optax.tree.norm(state.x) + optax.tree.norm(state.retrained) + at_start


RECONSTRUCTION_ERROR = Metric("reconstruction_error", lambda problem, x, state: state.error)
RECONSTRUCTION_RADIUS = Metric("reconstruction_radius", lambda problem, x, state: state.radius)
DIGITS_LOST = Metric("digits_lost", digits_lost, scale=lambda problem, x, state: jnp.ones(()))
SENSITIVITY = Metric("sensitivity", distance, scale=extent)


def is_reversible(c: Constants, hp: Any) -> Array:
    """Return whether the L that is told is at least that of f_D, and eps (1 - eta L)^-K leaves three digits."""
    eps = jnp.finfo(jnp.zeros(()).dtype).eps
    return (hp.L * MARGIN >= c.L) & (-hp.K * jnp.log1p(-hp.eta_L) <= jnp.log(LEFT / eps))


def is_left_to_rounding(c: Constants, hp: Any) -> Array:
    """Return whether moreover rounding alone decides: L exact, inner iterations to the end, the run unconverged."""
    eps, exact = jnp.finfo(jnp.zeros(()).dtype).eps, jnp.abs(hp.L / c.L - 1) <= 1e-12
    unconverged = hp.eta * c.mu * hp.T <= 1
    return is_reversible(c, hp) & exact & unconverged & (hp.inner * jnp.log(hp.eta_L) <= jnp.log(eps))


def horizon(t: Array, c: Constants, hp: Any) -> Array:
    """Return (K - K//2) log10(1/(1 - eta L)) from t = T + K on, NaN before and where K loses less than eight digits."""
    a_step = -jnp.log10(1 - hp.eta * c.L)
    return jnp.where((t >= hp.T + hp.K) & (hp.K * a_step >= 8), (hp.K - hp.K // 2) * a_step, jnp.nan)


def reconstructed_sensitivity(t: Array, hp: Any, sensitivity: Array, log_g: Array, radius: Array) -> Array:
    """Return Delta + g^K r after all T + 2K steps, NaN before; Delta is that of Rewind-to-Delete."""
    return jnp.where(t >= hp.T + 2 * hp.K, sensitivity + jnp.exp(hp.K * log_g) * radius, jnp.nan)


error = Theorem(
    name="checkpoint_reconstruction_error",
    statement="|u_K - w_{T-K}| <= sum_k d_k (1 - eta L)^-(K-k+1), d_k the residual |F(u_k) - u_{k-1}| and rounding",
    source=SOURCE,
    assumes=Regularity.SMOOTH,
    metric=RECONSTRUCTION_ERROR,
    given=(RECONSTRUCTION_RADIUS,),
    condition="eta L < 1 with an L of f_D, eps (1 - eta L)^-K <= 1e-3; claimed from t = T + K on",
    admits=is_reversible,
    bound=lambda t, c, hp, radius: jnp.where(t >= hp.T + hp.K, radius, jnp.nan),
    control=Control(
        why="smoothness understated: a backward step stretches more than is believed",
        problem="tight_deletion[curvature=1.0]",
        setting="eta_L=0.3,T=20,inner=3",
        misstate={"L": 0.4},
        steps=40,
    ),
)

digits = Theorem(
    name="checkpoint_reconstruction_horizon",
    statement="log10(r_K/r_{K//2}) = (K - K//2) log10(1/(1 - eta L)) within 10 %, in median over starts, "
    "r_k = |u_k - w_{T-k}|: rounding grows as eps (1 - eta L)^-K",
    source=SOURCE,
    assumes=Regularity.QUADRATIC | Regularity.STRONGLY_CONVEX,
    metric=DIGITS_LOST,
    given=(),
    condition="L exact, eps (1 - eta L)^-K <= 1e-3, (eta L)^inner <= eps, unconverged: eta mu T <= 1; from t = T + K, "
    "eight digits lost",
    admits=is_left_to_rounding,
    bound=horizon,
    holds=Holds.IN_MEDIAN,
    kind=Kind.EXACT,
    tolerance=0.1,
    control=Control(
        why="a converged run: every checkpoint is the last iterate, and going back looks perfect",
        problem="quadratic[kappa=2.0]",
        setting="eta_L=0.5,T=300,K=40",
        steps=340,
        seeds=20,
    ),
)

strongly_convex = Theorem(
    name="checkpoint_reconstruction_strongly_convex",
    statement="|u - v| <= (2Gm/(n mu)) (g^K - g^T) + g^K r, g = 1 - eta mu, r the bound on |u_K - w_{T-K}|",
    source=SOURCE,
    assumes=Regularity.SMOOTH | Regularity.DELETABLE | Regularity.RETAINS_STRONG_CONVEXITY,
    metric=SENSITIVITY,
    given=(RECONSTRUCTION_RADIUS,),
    condition="eta L < 1, an L of f_D, eps (1 - eta L)^-K <= 1e-3, eta <= 2/(L + mu) of a record; from t = T + 2K on",
    admits=lambda c, hp: is_reversible(c, hp) & is_strongly_convex_step(c, hp),
    bound=lambda t, c, hp, radius: reconstructed_sensitivity(
        t, hp, strongly_convex_sensitivity(c, hp, hp.T - hp.K, hp.K), log_contraction(c, hp), radius
    ),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=1.0]",
        setting="eta_L=0.05,T=100",
        misstate={"G": 0.1},
    ),
)

nonconvex = Theorem(
    name="checkpoint_reconstruction_nonconvex",
    statement="|u - v| <= (2Gm/(n L)) (g^T - g^K) + g^K r, g = 1 + eta L, r the bound on |u_K - w_{T-K}|",
    source=SOURCE,
    assumes=Regularity.SMOOTH | Regularity.DELETABLE,
    metric=SENSITIVITY,
    given=(RECONSTRUCTION_RADIUS,),
    condition="eta L < 1 with an L of f_D, eps (1 - eta L)^-K <= 1e-3; claimed from t = T + 2K on",
    admits=is_reversible,
    bound=lambda t, c, hp, radius: reconstructed_sensitivity(
        t, hp, nonconvex_sensitivity(c, hp, hp.T - hp.K, hp.K), jnp.log1p(hp.eta * c.L_max), radius
    ),
    control=Control(
        why="record gradients ten times as large as declared",
        problem="tight_deletion[curvature=-1.0]",
        setting="eta_L=0.05,T=100",
        misstate={"G": 0.1},
    ),
)

algorithm = Algorithm(
    name="checkpoint_reconstruction",
    source=Source("Mu & Klabjan", 2024, TITLE, "arXiv:2409.09778, Algorithm 3"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    calls=calls,
    prepare=prepare,
    metrics=(RECONSTRUCTION_ERROR, RECONSTRUCTION_RADIUS, DIGITS_LOST, SENSITIVITY, VALUE),
    theorems=(error, digits, strongly_convex, nonconvex),
)
