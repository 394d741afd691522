"""Plug-in policy of a KL-regularised bandit:  pi_t ~ pi_ref exp(rhat_t/beta), rhat_t the mean of noisy rewards.

Coverage. With w = pi*/pi, chi^2(pi* | pi) = E_pi (w - 1)^2 and KL(pi | pi*) = E_pi (w - 1 - log w); the quotient
kappa(w) = (w - 1)^2/(w - 1 - log w) increases, so chi^2 <= kappa(M) KL = kappa(M) (J* - J)/beta with M = max w.
For a policy ~ pi_ref exp(q/beta) with q in [0, R], M <= e^(2R/beta): Lemma 3.1 of Huang et al., Cov = 1 + chi^2.

Regret. After t rounds response a to prompt s was seen about rho(s) pi*(a|s) t times, so rhat - r has the variance
sd^2/(rho pi* t). KL(pi | pi*) = Var_pi*(rhat - r)/(2 beta^2) to leading order, of mean sum_a pi* (1 - pi*)
sd^2/(rho pi* t)/(2 beta^2) = (A - 1) sd^2/(2 beta^2 rho t): the regret is
    J* - J(pi_t) ~ S (A - 1) sd^2/(2 beta t),
whatever rho, the rewards and pi_ref: the sum over rounds grows like log t.
Sources: Huang, Li, Dann & He (2025), arXiv:2502.19255, Lemma 3.1; the form with M and the law derived here.
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm
from algorithms.reward_estimates import (
    CHI_SQUARE,
    CUMULATIVE_REGRET,
    LARGEST_RATIO,
    REGRET,
    next_round,
    play,
    refuse_prior,
    start,
)
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle

ONSET = 50.0  # visits of the rarest prompt with response from which the law speaks
SOURCE = Source(
    "Huang, Li, Dann & He",
    2025,
    "Can RLHF be more efficient with imperfect reward models? A policy coverage perspective",
    "arXiv:2502.19255, Lemma 3.1",
)


@struct.dataclass
class HParams:
    """prior: the reward assumed of a response never seen, as a share of R."""

    prior: Array | float | str = 0.5


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for a prior outside [0, 1]."""
    refuse_prior(hp.prior)
    return hp


def init(problem, x0, key, hp):
    return start(problem.feedback, hp.prior)


def step(problem, state, key, hp):
    return play(problem.feedback, state, next_round(problem.feedback, key), hp.prior)


def readout(state):
    return state.x


def kappa_of_log(log_w):
    """Return kappa(w) = (w - 1)^2/(w - 1 - log w) of log w > 0."""
    excess = jnp.expm1(log_w)
    return excess**2 / (excess - log_w)


def law(t, c, hp):
    """Return S (A - 1) sd^2/(2 beta t) once the rarest pair was seen 50 times."""
    promised = c.states * (c.actions - 1) * c.reward_sd**2 / (2 * c.beta * t)
    return jnp.where(t * c.visit_min >= ONSET, promised, jnp.nan)


coverage = Theorem(
    name="plug_in_coverage",
    statement="Cov(pi* | pi) - 1 <= kappa(e^(2R/beta)) (J* - J(pi))/beta, kappa(w) = (w-1)^2/(w - 1 - log w)",
    source=SOURCE,
    assumes=Regularity.KL_REGULARISED,
    metric=CHI_SQUARE,
    given=(REGRET,),
    condition="rewards and their estimates lie in [0, R]",
    admits=lambda c, hp: jnp.asarray(True),
    bound=lambda t, c, hp, gap: kappa_of_log(2 * c.R_max / c.beta) * gap / c.beta,
    control=Control(
        why="rewards of a range ten times smaller would keep the policies closer",
        problem="kl_bandit[margin=0.0]",
        misstate={"R_max": 0.01},
        steps=20,
    ),
)

ratio = Theorem(
    name="plug_in_coverage_by_ratio",
    statement="Cov(pi* | pi) - 1 <= kappa(M) (J* - J(pi))/beta with M = max pi*/pi",
    source=Source("derived here", 2026, "kappa increases", "module docstring"),
    assumes=Regularity.KL_REGULARISED,
    metric=CHI_SQUARE,
    given=(REGRET, LARGEST_RATIO),
    condition="any policy",
    admits=lambda c, hp: jnp.asarray(True),
    bound=lambda t, c, hp, gap, M: kappa_of_log(jnp.log(M)) * gap / c.beta,
    control=Control(
        why="a divergence three times smaller would cover less",
        problem="kl_bandit[beta=1.0]",
        misstate={"beta": 3.0},
        steps=20,
    ),
)

regret_law = Theorem(
    name="plug_in_regret",
    statement="t E(J* - J(pi_t)) = S (A - 1) sd^2/(2 beta), whatever rho, the rewards and pi_ref",
    source=Source("derived here", 2026, "the law of the plug-in policy's regret", "module docstring"),
    assumes=Regularity.KL_REGULARISED,
    metric=REGRET,
    given=(),
    condition="speaks once t min rho(s) pi*(a|s) >= 50",
    admits=lambda c, hp: jnp.asarray(True),
    bound=law,
    control=Control(
        why="noise a fifth stronger than it is promises another constant",
        problem="kl_bandit[A=3,S=2,beta=1.0]",
        misstate={"reward_sd": 1.2},
        steps=2000,
        seeds=300,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
    tolerance=0.05,
    fewest_seeds=64,
)

algorithm = Algorithm(
    name="plug_in_policy",
    source=SOURCE,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.FEEDBACK,
    requires=Regularity.KL_REGULARISED,
    prepare=prepare,
    metrics=(REGRET, CUMULATIVE_REGRET, CHI_SQUARE, LARGEST_RATIO),
    theorems=(coverage, ratio, regret_law),
)
