"""The error of TD(0) without sampling:  N+ = the moments of (x - x_star, 1) after a step  (`algorithms.td_moments`).

A run is the exact law of TD(0) along the chain from any first state (`markov`), or with states drawn afresh (`iid`): x
is the mean of the weights, E|x_t - x_star|^2 its mean-square error. Beside it stands the same recursion from the
stationary law (`algorithms.td_starts`), from which the limit, its independence of the start, the factors r1, r2 and the
threshold r2 = 1 of stability are read. Small steps leave eta tr X, with the long-run covariance of the noise along the
chain and with its variance alone where states are drawn afresh.
Any first law nu: E_nu X <= max(nu/rho) E_rho X for every X >= 0 of the trajectory.
Sources: Hu & Syed (2019), arXiv:1906.06781; Bhandari, Russo & Singal (2018), arXiv:1806.02450; the rest derived here.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms import td_bounds, td_moments, td_starts
from algorithms.algorithm import Algorithm, InvalidSetting
from algorithms.metric import Metric, initial, keep_first
from algorithms.theorem import AnyTheorem, Control, Kind, Source, Theorem
from problems.constants import Regularity
from problems.oracles import Oracle
from problems.policy_evaluation import law

DERIVED = Source("derived here", 2026, "TD(0) as a Markov jump linear system", "algorithms/td_starts.py")
SAMPLINGS = ("markov", "iid")
MOST = 10**6  # S d^2, the size of the second moments


@struct.dataclass
class HParams:
    """eta, decay: step sizes eta/(1 + decay t); start: the first state, -1 for one drawn from rho; sampling: `markov`
    or `iid`.
    """

    eta: Array | float | str = "(1-modulus)/8"
    decay: Array | float | str = 0.0
    start: Array | int = -1
    sampling: str = struct.field(pytree_node=False, default="markov")


@struct.dataclass
class State:
    """x: the mean of the weights; rho (S,): the stationary law; eta: the first step size."""

    x: Array
    pair: td_starts.Pair
    rho: Array
    eta: Array
    t: Array
    sampling: str = struct.field(pytree_node=False)


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for a setting without meaning."""
    td_bounds.refuse_settings(hp, SAMPLINGS)
    return hp


def coupling_of(problem, rho, sampling):
    """Return the coefficients of the recursion under this sampling."""
    evaluation = problem.evaluation
    sampled = td_moments.independent(evaluation, rho) if sampling == "iid" else evaluation
    return td_moments.coupling(sampled, problem.x_star)


def init(problem, x0, key, hp):
    Phi = problem.evaluation.Phi
    if Phi.size * Phi.shape[1] > MOST:
        raise InvalidSetting(f"S d^2 = {Phi.size * Phi.shape[1]}: the exact recursion is for at most {MOST}")
    rho = law(problem.evaluation)
    pair = td_starts.begin(rho, td_bounds.first_law(hp, rho), x0 - problem.x_star)
    return State(x0, pair, rho, jnp.asarray(hp.eta, float), jnp.zeros((), jnp.int32), hp.sampling)


def step(problem, state, key, hp):
    eta, coupling = td_bounds.step_size(hp, state.t), coupling_of(problem, state.rho, hp.sampling)
    pair = td_starts.follow(coupling, eta, state.rho, state.pair)
    return state.replace(x=problem.x_star + td_starts.drift(pair), pair=pair, t=state.t + 1)


def readout(state):
    return state.x


def prediction(problem, x, state) -> Any:
    """Return what the recursion tends to at the constant step eta."""
    return td_starts.predict(coupling_of(problem, state.rho, state.sampling), state.eta)


def extrapolated(problem, x, state):
    """Return limit/eta extrapolated to eta = 0 from two steps and from three."""
    return td_starts.extrapolate(coupling_of(problem, state.rho, state.sampling), state.eta)


def slopes(problem, x, state):
    """Return tr X with the long-run covariance and with the variance alone, (2,)."""
    return jnp.stack(td_moments.steady_slope(problem.evaluation, problem.x_star))


def start_difference(problem, x, state):
    """Return how far E|x_t - x_star|^2 is from that of a stationary start."""
    return jnp.exp(state.pair.log_size) * jnp.abs(td_moments.mean_square_error(state.pair.apart))


MEAN_SQUARE_ERROR = Metric("mean_square_error", lambda problem, x, state: jnp.exp(state.pair.logs[0]))
STATIONARY_ERROR = Metric(
    "stationary_mean_square_error", lambda problem, x, state: td_moments.mean_square_error(state.pair.stationary)
)
SCALED_ERROR = Metric("scaled_mean_square_error", lambda problem, x, state: jnp.exp(state.pair.logs[0]) / state.eta)
START_DIFFERENCE = Metric("start_difference", start_difference)
GROWTH, DIFFERENCE_FACTOR, MEAN_FACTOR = (
    Metric(name, lambda problem, x, state, i=i: jnp.exp(state.pair.logs[i] - state.pair.before[i]))
    for i, name in enumerate(("growth", "difference_factor", "mean_difference_factor"))
)
PREDICTION = initial(Metric("prediction", prediction))
SLOPES, EXTRAPOLATED = initial(Metric("slopes", slopes)), initial(Metric("extrapolated", extrapolated))
STEADY_SLOPE = Metric("steady_slope", lambda problem, x, state: extrapolated(problem, x, state)[1], fold=keep_first)


def is_constant(c, hp):
    """Return whether the step size is constant."""
    return jnp.asarray(hp.decay) == 0


SHRINKING = Control(
    why="under steps that shrink the recursion has another limit, or decays for ever",
    problem="markov_reward_process",
    setting="eta=0.5,decay=0.01,start=0",
    steps=20000,
    seeds=1,
)

fresh_states: AnyTheorem = Theorem(
    name="temporal_difference_moments_iid",
    statement="x_T <= exp(-eta (1-m) w T) x_0 + 2 eta sig2/((1-m) w); x_T <= nu/(l+T) with eta_t = b/(l+t)",
    source=Source(
        "Bhandari, Russo & Singal",
        2018,
        "A finite time analysis of temporal difference learning with linear function approximation",
        "arXiv:1806.02450, after Theorem 2, constants derived here",
    ),
    assumes=Regularity.POLICY_EVALUATION,
    metric=MEAN_SQUARE_ERROR,
    given=(initial(MEAN_SQUARE_ERROR),),
    condition="states drawn afresh; eta <= (1-m)/8, or b = 2/((1-m) w), l = 16/((1-m)^2 w)",
    admits=lambda c, hp: (hp.sampling == "iid") & td_bounds.takes_fresh_step(c, hp),
    bound=td_bounds.fresh_states,
    control=Control(
        why="a step beyond mean-square stability diverges",
        problem="markov_reward_process",
        setting="sampling=iid,eta=5.0",
        seeds=1,
    ),
)

change_of_measure: AnyTheorem = Theorem(
    name="temporal_difference_moments_change_of_measure",
    statement="E_nu|x_t - x_star|^2 <= E_rho|x_t - x_star|^2/rho_min at every t, for any first state and step",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=MEAN_SQUARE_ERROR,
    given=(STATIONARY_ERROR,),
    condition="along the chain, any step sizes",
    admits=lambda c, hp: c.stationary_min > 0,
    bound=lambda t, c, hp, stationary: stationary / c.stationary_min,
    control=Control(
        why="a rare first state costs more than one that was always likely",
        problem="markov_reward_process",
        setting="eta=0.5,start=[0,1,2,3,4,5,6,7,8,9]",
        misstate={"stationary_min": 1e3},
        seeds=1,
    ),
)

limit: AnyTheorem = Theorem(
    name="temporal_difference_moments_limit",
    statement="r2 < 1: E|x_t - x_star|^2 -> the fixed point of the recursion, the same from every first state",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=MEAN_SQUARE_ERROR,
    given=(PREDICTION,),
    condition="constant step, r2 < 1; judged once max(r2, r1, |lambda_2|)^t <= e^-40",
    admits=is_constant,
    bound=td_starts.limit_bound,
    kind=Kind.EXACT,
    tolerance=1e-7,
    control=SHRINKING,
)

difference_factor: AnyTheorem = Theorem(
    name="temporal_difference_moments_difference_factor",
    statement="what the first state changes of E e e^T falls or grows by max(r2, r1, |lambda_2|) a step",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=DIFFERENCE_FACTOR,
    given=(PREDICTION,),
    condition="constant step, a state to start from, one real dominating eigenvalue; judged after 40 time constants",
    admits=is_constant,
    bound=td_starts.difference_bound,
    kind=Kind.EXACT,
    tolerance=1e-5,
    control=SHRINKING,
)

mean_factor: AnyTheorem = Theorem(
    name="temporal_difference_moments_mean_factor",
    statement="what the first state changes of E e falls or grows by max(r1, |lambda_2|) a step, whatever r2 is",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=MEAN_FACTOR,
    given=(PREDICTION,),
    condition="constant step, a state to start from, one real dominating eigenvalue; judged after 40 time constants",
    admits=is_constant,
    bound=td_starts.mean_difference_bound,
    kind=Kind.EXACT,
    tolerance=1e-5,
    control=SHRINKING,
)

threshold: AnyTheorem = Theorem(
    name="temporal_difference_moments_threshold",
    statement="E|x_(t+1) - x_star|^2/E|x_t - x_star|^2 -> max(1, r2): the mean square converges iff r2 < 1",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=GROWTH,
    given=(PREDICTION,),
    condition="constant step; judged after 40 time constants",
    admits=is_constant,
    bound=td_starts.growth_bound,
    kind=Kind.EXACT,
    tolerance=1e-6,
    control=Control(
        why="a step beyond stability that shrinks becomes stable",
        problem="markov_reward_process",
        setting="eta=5.0,decay=0.1,start=0",
        steps=400,
        seeds=1,
    ),
)

long_run: AnyTheorem = Theorem(
    name="temporal_difference_moments_long_run",
    statement="lim_t E|x_t - x_star|^2/eta -> tr X as eta -> 0, A X + X A^T = C_0 + sum_(k>=1) (C_k + C_k^T)",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=STEADY_SLOPE,
    given=(SLOPES, EXTRAPOLATED),
    condition="along the chain; judged where the extrapolation from eta, eta/2, eta/4 has settled to 0.25%",
    admits=lambda c, hp: jnp.asarray(hp.sampling == "markov"),
    bound=lambda t, c, hp, slopes, extrapolated: td_starts.slope_bound(slopes[0], extrapolated),
    kind=Kind.EXACT,
    tolerance=5e-3,
    control=Control(
        why="states drawn afresh have the noise's variance alone, which is not the long-run covariance",
        problem="markov_reward_process",
        setting="eta=0.01,sampling=iid",
        steps=1,
        seeds=1,
    ),
)

white_noise: AnyTheorem = Theorem(
    name="temporal_difference_moments_white_noise",
    statement="states drawn afresh: lim_t E|x_t - x_star|^2/eta -> tr X as eta -> 0, A X + X A^T = C_0",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=STEADY_SLOPE,
    given=(SLOPES, EXTRAPOLATED),
    condition="states drawn afresh; judged where the extrapolation from eta, eta/2, eta/4 has settled to 0.25%",
    admits=lambda c, hp: jnp.asarray(hp.sampling == "iid"),
    bound=lambda t, c, hp, slopes, extrapolated: td_starts.slope_bound(slopes[1], extrapolated),
    kind=Kind.EXACT,
    tolerance=5e-3,
    control=Control(
        why="along the chain successive noises correlate wherever the values are not representable",
        problem="markov_reward_process",
        setting="eta=0.01,sampling=markov",
        steps=1,
        seeds=1,
    ),
)

algorithm = Algorithm(
    name="temporal_difference_moments",
    source=DERIVED,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.EVALUATION,
    requires=Regularity.POLICY_EVALUATION,
    prepare=prepare,
    metrics=(MEAN_SQUARE_ERROR, STATIONARY_ERROR, SCALED_ERROR, START_DIFFERENCE),
    theorems=(fresh_states, change_of_measure, limit, difference_factor, mean_factor, threshold, long_run, white_noise),
)
