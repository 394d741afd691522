"""TD(0) with linear values:  x+ = x + eta_t delta Phi(s),  delta = r(s,a) + gamma Phi(s').x - Phi(s).x.

(s, a, s') comes from a policy whose values Phi x approximates, eta_t = eta/(1 + decay t), and x+ may be projected on
|x| <= radius. Where the states s come from is the `sampling`:
    markov     s follows the chain, from any first state; after a restart the target still reads the successor
    iid        s is drawn afresh from the stationary law rho at every step
    mean_path  no sample: x+ = x + eta_t (b - A x), the mean of the update under rho
Proofs of the bounds are in `algorithms.td_bounds`, of the exact law in `algorithms.td_moments`.
Sources: Sutton (1988); Tsitsiklis & Van Roy (1997); Bhandari, Russo & Singal (2018), arXiv:1806.02450.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from algorithms import td_bounds, td_moments
from algorithms.algorithm import Algorithm, refuse_unless
from algorithms.metric import DISTANCE_SQ, VALUE, Metric, initial
from algorithms.recursions import projected
from algorithms.theorem import AnyTheorem, Control, Holds, Kind, Source, Theorem
from problems.constants import Regularity
from problems.decision_process import chain, draw
from problems.oracles import Oracle
from problems.policy_evaluation import law, restarted

BHANDARI = Source(
    "Bhandari, Russo & Singal",
    2018,
    "A finite time analysis of temporal difference learning with linear function approximation",
    "arXiv:1806.02450, after Theorems 1 and 2, constants derived here",
)
DERIVED = Source("derived here", 2026, "TD(0) from any first state", "algorithms/td_bounds.py")
SAMPLINGS = ("markov", "iid", "mean_path")


@struct.dataclass
class HParams:
    """eta, decay: step sizes eta/(1 + decay t); start: the first state, -1 for one drawn from rho; radius: of the ball
    that x is projected on; sampling: `markov`, `iid` or `mean_path`.
    """

    eta: Array | float | str = "(1-modulus)/8"
    decay: Array | float | str = 0.0
    start: Array | int = -1
    radius: Array | float | str = float("inf")
    sampling: str = struct.field(pytree_node=False, default="markov")


@struct.dataclass
class State:
    """s: the present state; average: the mean of x_0, ..., x_(t-1); rho (S,): the stationary law."""

    x: Array
    s: Array
    average: Array
    t: Array
    rho: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for a setting without meaning."""
    td_bounds.refuse_settings(hp, SAMPLINGS)
    refuse_unless(np.asarray(hp.radius, float) > 0, f"radius = {hp.radius}: a ball has a positive radius")
    return hp


def init(problem, x0, key, hp):
    rho = law(problem.evaluation)
    first = td_bounds.first_law(hp, rho)
    s = draw(jnp.cumsum(first), jax.random.uniform(key))
    x = jnp.where(jnp.isnan(first).any(), jnp.nan, projected(x0, hp.radius))
    return State(x, s, x, jnp.zeros((), jnp.int32), rho)


def sampled(evaluation, rho, hp):
    """Return the evaluation whose states follow the sampling."""
    return td_moments.independent(evaluation, rho) if hp.sampling == "iid" else evaluation


def sampled_update(evaluation, x, s, u):
    """Return delta Phi(s) of one transition from s, and the state after it, by the uniforms u (4,)."""
    mdp, Phi = evaluation.mdp, evaluation.Phi
    a = draw(jnp.cumsum(evaluation.p, -1)[s], u[0])
    successor = draw(jnp.cumsum(mdp.P, -1)[s, a], u[1])
    delta = mdp.r[s, a] + mdp.gamma * Phi[successor] @ x - Phi[s] @ x
    after = jnp.where(u[2] < evaluation.restart, draw(jnp.cumsum(mdp.mu), u[3]), successor)
    return delta * Phi[s], after


def mean_update(evaluation, x, rho):
    """Return b - A x = E delta Phi(s), s drawn from rho."""
    values = evaluation.Phi @ x
    r_pi = (evaluation.p * evaluation.mdp.r).sum(-1)
    ahead = evaluation.mdp.gamma * chain(evaluation.mdp, evaluation.p) @ values
    return evaluation.Phi.T @ (rho * (r_pi + ahead - values))


def step(problem, state, key, hp):
    eta, x, s = td_bounds.step_size(hp, state.t), state.x, state.s
    if hp.sampling == "mean_path":
        update = mean_update(problem.evaluation, x, state.rho)
    else:
        evaluation = sampled(problem.evaluation, state.rho, hp)
        update, s = sampled_update(evaluation, x, s, jax.random.uniform(key, (4,)))
    average = state.average + (x - state.average) / (state.t + 1)
    return State(projected(x + eta * update, hp.radius), s, average, state.t + 1, state.rho)


def readout(state):
    return state.x


def discount_norm(problem, x, state):
    """Return the norm of gamma P_pi in |.|_D, the least modulus."""
    scale = jnp.sqrt(state.rho)
    B = problem.evaluation.mdp.gamma * chain(problem.evaluation.mdp, problem.evaluation.p)
    B = scale[:, None] * B / scale
    return jnp.sqrt(td_moments.spectral_radius(B.T @ B)[0])


def evaluation_of(problem, x, state) -> Any:
    """Return the process, the policy and the features."""
    return problem.evaluation


def start_of(problem, x, state) -> Any:
    """Return the one start of all runs, and x_star."""
    return problem.init(jax.random.key(0)), problem.x_star


AVERAGE_VALUE = Metric("average_value", lambda problem, x, state: problem.value(state.average))
DISCOUNT_NORM = Metric("discount_norm", discount_norm)
# what the predictions read is the same for all seeds: the start is, and the process
EVALUATION, START = Metric("evaluation", evaluation_of), Metric("start", start_of)


def exact_error(t, c, hp, evaluation, start):
    """Return E|x_t - x_star|^2 of the exact recursion."""
    x0, x_star = start
    rho = law(evaluation)
    coupling = td_moments.coupling(sampled(evaluation, rho, hp), x_star)

    def advance(k, N):
        return td_moments.advance(coupling, td_bounds.step_size(hp, k), N)

    N = td_moments.start(td_bounds.first_law(hp, rho), x0 - x_star)
    return td_moments.mean_square_error(lax.fori_loop(0, jnp.asarray(t, int), advance, N))


def projected_bound(t, c, hp, x_0, evaluation):
    """Return the bound along the chain, projected."""
    tau, total = td_bounds.mixing(restarted(evaluation), law(evaluation), jnp.asarray(hp.eta))
    return td_bounds.projected_states(t, c, hp, x_0, tau, total)


mean_path_average: AnyTheorem = Theorem(
    name="temporal_difference_mean_path_average",
    statement="|V_star - V of mean(x_0..x_(T-1))|_D^2 <= 4 |x_0 - x_star|^2/(T (1-m)^2), eta = (1-m)/4",
    source=BHANDARI,
    assumes=Regularity.POLICY_EVALUATION,
    metric=AVERAGE_VALUE,
    given=(initial(DISTANCE_SQ),),
    condition="mean path, eta = (1-m)/4, m = gamma on the policy's chain, sqrt(gamma) on the restart chain",
    admits=lambda c, hp: (hp.sampling == "mean_path") & td_bounds.takes_mean_step(c, hp),
    bound=lambda t, c, hp, x_0: td_bounds.mean_path_average(t, c, x_0),
    control=Control(
        why="a step beyond 2/lambda_max(A) diverges",
        problem="markov_reward_process",
        setting="sampling=mean_path,eta=10.0",
        steps=100,
        seeds=1,
    ),
)

mean_path_rate: AnyTheorem = Theorem(
    name="temporal_difference_mean_path_rate",
    statement="|x_T - x_star|^2 <= exp(-(1-m)^2 w T/4) |x_0 - x_star|^2, eta = (1-m)/4",
    source=BHANDARI,
    assumes=Regularity.POLICY_EVALUATION,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ),),
    condition="mean path, eta = (1-m)/4, m = gamma on the policy's chain, sqrt(gamma) on the restart chain",
    admits=lambda c, hp: (hp.sampling == "mean_path") & td_bounds.takes_mean_step(c, hp),
    bound=lambda t, c, hp, x_0: td_bounds.mean_path_rate(t, c, x_0),
    control=Control(
        why="features said to be a hundred times better conditioned than they are would be learned faster",
        problem="markov_reward_process",
        setting="sampling=mean_path,eta=(1-modulus)/4",
        misstate={"feature_min": 100.0},
        steps=3000,
        seeds=1,
    ),
)

contraction: AnyTheorem = Theorem(
    name="temporal_difference_contraction",
    statement="|gamma P_pi v|_D <= m |v|_D for every v: m = gamma/sqrt(1-q), sqrt(gamma) on the restart chain",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=DISCOUNT_NORM,
    given=(),
    condition="any chain, whose states start anew with probability q",
    admits=lambda c, hp: c.modulus < 1,
    bound=lambda t, c, hp: jnp.asarray(c.modulus),
    control=Control(
        why="on the restart chain gamma = 0.9 itself is no modulus, though sqrt(0.9) is",
        problem="markov_reward_process[restart=true,gamma=0.9]",
        misstate={"modulus": 0.9**0.5},
        steps=0,
        seeds=1,
    ),
)

fresh_states: AnyTheorem = Theorem(
    name="temporal_difference_iid",
    statement="x_T <= exp(-eta (1-m) w T) x_0 + 2 eta sig2/((1-m) w); x_T <= nu/(l+T) with eta_t = b/(l+t)",
    source=BHANDARI,
    assumes=Regularity.POLICY_EVALUATION,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ),),
    condition="states drawn afresh; eta <= (1-m)/8, or b = 2/((1-m) w), l = 16/((1-m)^2 w)",
    admits=lambda c, hp: (hp.sampling == "iid") & (hp.radius == jnp.inf) & td_bounds.takes_fresh_step(c, hp),
    bound=td_bounds.fresh_states,
    control=Control(
        why="a step beyond mean-square stability diverges",
        problem="markov_reward_process",
        setting="sampling=iid,eta=5.0",
        seeds=32,
    ),
    holds=Holds.IN_EXPECTATION,
)

exact_law: AnyTheorem = Theorem(
    name="temporal_difference_exact",
    statement="E|x_t - x_star|^2 is that of the exact second-moment recursion, from the given first state",
    source=Source("derived here", 2026, "TD(0) as a Markov jump linear system", "algorithms/td_moments.py"),
    assumes=Regularity.POLICY_EVALUATION,
    metric=DISTANCE_SQ,
    given=(EVALUATION, START),
    condition="samples along the chain or drawn afresh, any step sizes, no projection",
    admits=lambda c, hp: (hp.sampling != "mean_path") & (hp.radius == jnp.inf),
    bound=exact_error,
    control=Control(
        why="projected on a ball without x_star, x stays away from it",
        problem="markov_reward_process",
        setting="eta=0.1,start=0,radius=0.1",
        steps=500,
        seeds=32,
    ),
    holds=Holds.IN_EXPECTATION,
    kind=Kind.EXACT,
)

projected_chain: AnyTheorem = Theorem(
    name="temporal_difference_projected",
    statement="x_T <= (1-q)^T x_0 + eta G^2 (9+12 tau)/(2(1-m)w) + 8 eta G^2 [sum_(t<tau) tv(t)] (1-q)^(T-tau)",
    source=DERIVED,
    assumes=Regularity.POLICY_EVALUATION,
    metric=DISTANCE_SQ,
    given=(initial(DISTANCE_SQ), EVALUATION),
    condition="along the chain from any first state, q = 2 eta (1-m) w < 1, radius >= |x_star|",
    admits=lambda c, hp: (hp.sampling == "markov") & td_bounds.contracts_projected(c, hp),
    bound=projected_bound,
    control=Control(
        why="features said to be a million times better conditioned than they are would be learned faster",
        problem="markov_reward_process",
        setting="eta=1e-6,start=0,radius=x_star_norm",
        misstate={"feature_min": 1e6},
        steps=300,
        seeds=32,
    ),
    holds=Holds.IN_EXPECTATION,
)

algorithm = Algorithm(
    name="temporal_difference",
    source=Source("Sutton", 1988, "Learning to predict by the methods of temporal differences", "Mach. Learn. 3"),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.EVALUATION,
    requires=Regularity.POLICY_EVALUATION,
    prepare=prepare,
    metrics=(VALUE, DISTANCE_SQ),
    theorems=(mean_path_average, mean_path_rate, contraction, fresh_states, exact_law, projected_chain),
)
