"""Transfer from imperfect rewards:  play the candidate, a source's policy or the plug-in one, of the largest value.

Sources are valued with optimism and the plug-in policy with pessimism: with v_w the mean of y - beta log(pi_w/pi_ref)
over the n_w rounds that source w was played, whose mean is J(pi_w),
    ucb_w = v_w + width R sqrt(2 log(t+2)/n_w)   (infinite before it is played),
    low   = J(pi; rhat) - sum_(s,a) rho pi sd/sqrt(max(n, 1/4)),   pi ~ pi_ref exp(rhat/beta),
every round's reward enters rhat. A plug-in policy that plays the same rounds (`algorithms.reward_estimates`) is
carried along, so that both regrets are compared within a run.
Source: Huang, Li, Dann & He (2025), arXiv:2502.19255, whose self-transfer this is round by round; widths chosen here.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless_positive
from algorithms.metric import Metric
from algorithms.reward_estimates import (
    CHI_SQUARE,
    CUMULATIVE_REGRET,
    REGRET,
    Estimates,
    PlugIn,
    estimated,
    next_round,
    nothing_seen,
    observe,
    play,
    refuse_prior,
    respond,
    start,
)
from algorithms.theorem import Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.kl_regularised import logits_for, objective, regret
from problems.oracles import Oracle

EARLY, LATE = 50, 1000  # rounds that the comparison speaks of
SEEN_AS = 0.25  # how often a response never seen counts as seen


@struct.dataclass
class HParams:
    """prior: the reward assumed of a response never seen, as a share of R; width: of a source's optimism, over R."""

    prior: Array | float | str = 0.5
    width: Array | float | str = 0.5


@struct.dataclass
class State:
    """The policy that is played next, whose it is (W: the plug-in one), and what is known of rewards and sources."""

    x: Array
    choice: Array
    estimates: Estimates
    worth: Array
    plays: Array
    regret: Array
    twin: PlugIn


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for a prior outside [0, 1] or a width that is not positive."""
    refuse_prior(hp.prior)
    refuse_unless_positive(hp.width, "width")
    return hp


def pessimistic_value(feedback, estimates, rhat):
    """Return low."""
    log_pi = jax.nn.log_softmax(logits_for(feedback, rhat))
    doubt = feedback.sd / jnp.sqrt(jnp.maximum(estimates.n, SEEN_AS))
    return objective(feedback, log_pi, rhat - doubt)


def choose(feedback, estimates, worth, plays, hp):
    """Return which candidate is played next, and its logits."""
    rhat = estimated(feedback, estimates, hp.prior)
    spread = hp.width * feedback.R * jnp.sqrt(2 * jnp.log(estimates.n.sum() + 2))
    played = jnp.maximum(plays, 1.0)
    optimistic = jnp.where(plays > 0, worth / played + spread / jnp.sqrt(played), jnp.inf)
    choice = jnp.argmax(jnp.append(optimistic, pessimistic_value(feedback, estimates, rhat)))
    rewards = jnp.concatenate([feedback.sources, rhat[None]])[choice]
    return choice, logits_for(feedback, rewards)


def init(problem, x0, key, hp):
    feedback = problem.feedback
    nothing, estimates = jnp.zeros(len(feedback.sources)), nothing_seen(feedback)
    choice, x = choose(feedback, estimates, nothing, nothing, hp)
    return State(x, choice, estimates, nothing, nothing, jnp.zeros(()), start(feedback, hp.prior))


def step(problem, state, key, hp):
    feedback = problem.feedback
    met = next_round(feedback, key)
    log_pi = jax.nn.log_softmax(state.x)
    a = respond(log_pi, met)
    y = feedback.r[met.s, a] + met.noise
    estimates = observe(state.estimates, met.s, a, y)
    chosen = jnp.where(jnp.arange(len(state.plays)) == state.choice, 1.0, 0.0)
    worth = state.worth + chosen * (y - feedback.beta * (log_pi - feedback.log_ref)[met.s, a])
    plays = state.plays + chosen
    choice, x = choose(feedback, estimates, worth, plays, hp)
    total = state.regret + regret(feedback, log_pi)
    return State(x, choice, estimates, worth, plays, total, play(feedback, state.twin, met, hp.prior))


def readout(state):
    return state.x


PLUG_IN_CUMULATIVE_REGRET = Metric("plug_in_cumulative_regret", lambda problem, x, state: state.twin.regret)
OWN_SHARE = Metric(
    "own_share", lambda problem, x, state: 1 - state.plays.sum() / jnp.maximum(state.estimates.n.sum(), 1.0)
)


def has_good_source(c, hp):
    """Return whether a source is ten times nearer to the optimum than pi_ref, among at least 100 rewards to learn."""
    return (10 * c.source_gap <= c.reference_gap) & (c.states * c.actions >= 100)


early_gain = Theorem(
    name="transfer_early_gain",
    statement="E sum_(k<t) (J* - J(pi_k)) is at most that of the plug-in policy, for 50 <= t <= 1000",
    source=Source("observed here, after Huang, Li, Dann & He", 2026, "early gain of transfer", "arXiv:2502.19255"),
    assumes=Regularity.KL_REGULARISED,
    metric=CUMULATIVE_REGRET,
    given=(PLUG_IN_CUMULATIVE_REGRET,),
    condition="least source gap <= a tenth of the gap of pi_ref, S A >= 100",
    admits=has_good_source,
    bound=lambda t, c, hp, plug_in: jnp.where((t >= EARLY) & (t <= LATE), plug_in, jnp.nan),
    control=Control(
        why="sources that are all bad cost more than they teach",
        problem="kl_bandit[nearest=2.0,farthest=2.0]",
        steps=1000,
        seeds=16,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.FINDING,
    fewest_seeds=10,
)

root_growth = Theorem(
    name="transfer_root_growth",
    statement="E sum_(k<t) (J* - J(pi_k)) <= R sqrt(W t)",
    source=Source("observed here, after Huang, Li, Dann & He", 2026, "the O~(sqrt(W T)) of TPO", "arXiv:2502.19255"),
    assumes=Regularity.KL_REGULARISED,
    metric=CUMULATIVE_REGRET,
    given=(),
    condition="least source gap <= a tenth of the gap of pi_ref, S A >= 100",
    admits=has_good_source,
    bound=lambda t, c, hp: c.R_max * jnp.sqrt(c.sources * t),
    control=Control(
        why="who starts without sources learns every reward alone",
        problem="kl_bandit",
        algorithm="plug_in_policy",
        steps=1000,
        seeds=16,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.FINDING,
    fewest_seeds=10,
)

algorithm = Algorithm(
    name="transfer_policy",
    source=Source(
        "Huang, Li, Dann & He",
        2025,
        "Can RLHF be more efficient with imperfect reward models? A policy coverage perspective",
        "arXiv:2502.19255",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.FEEDBACK,
    requires=Regularity.KL_REGULARISED,
    prepare=prepare,
    metrics=(REGRET, CUMULATIVE_REGRET, PLUG_IN_CUMULATIVE_REGRET, CHI_SQUARE, OWN_SHARE),
    theorems=(early_gain, root_growth),
)
