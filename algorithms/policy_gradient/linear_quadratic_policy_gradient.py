"""Policy gradient on a linear-quadratic gain:  K+ = K - eta G,  G = 2 E Sig, 2 E or 2 D^-1 E.

The gradient, the natural gradient (times Sig^-1) and the Gauss-Newton direction (times D^-1 as well), with the symbols
of `problems.linear_system`: D = R + B^T P B, E = D K - B^T P A, Sig the states visited. Gauss-Newton with eta = 1/2 is
policy iteration.

Proofs. For any stabilising K, K' with V = K' - K: f(K') - f(K) = tr(Sig_K' M), M = V^T E + E^T V + V^T D V, and
P_K - F'^T P_K F' = Q + K'^T R K' - M. Where M <= 0 the right side is positive definite, so that K' stabilises, and
f falls by at least lmin(X0) tr(-M). Below share = lmin(X0)/|Sig_*|.
- Gauss-Newton: V = -2 eta D^-1 E has M = -4 eta (1 - eta) E^T D^-1 E <= 0 for 0 < eta < 1; the gap is at most
  |Sig_*| tr(E^T D^-1 E): a factor 1 - 4 eta (1 - eta) share a step. It is the exact local factor (1 - 2 eta)^2 where
  the optimal gain visits the start alone. At eta = 1/2 also gap+ <= newton gap^2 (proof with the constant).
- natural: V = -2 eta E has M = -4 eta E^T (I - eta D) E <= -4 eta (1 - eta d) E^T E, d >= |D|, and the gap is at
  most |Sig_*| |E|^2/lmin(R): a factor 1 - 4 eta (1 - eta d) lmin(R) share.
- gradient: along K - s grad f, 0 <= s <= eta < 2/L, f <= f(K) - s (1 - s L/2) |grad f|^2 until the level set, which is
  compact, is left: it never is. With dominance a factor 1 - eta (1 - eta L/2)/dominance.
Source: Fazel, Ge, Kakade & Mesbahi (2018), Lemmas 8, 11 and Theorem 7; the ranges of eta and the constants of the last
two are derived here.
"""

import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from algorithms.algorithm import Algorithm, refuse_unless, refuse_unless_positive
from algorithms.metric import GRADIENT_NORM_SQ, Metric, initial
from algorithms.theorem import AnyTheorem, Control, Source, Theorem
from problems.constants import Regularity
from problems.linear_system import cost_gap, cost_to_go, input_curvature, slope, visited
from problems.oracles import Oracle

DIRECTIONS = ("gradient", "natural", "gauss_newton")
MOST_SQUARINGS = 64
FAZEL_GE_KAKADE_MESBAHI_2018 = Source(
    "Fazel, Ge, Kakade & Mesbahi",
    2018,
    "Global convergence of policy gradient methods for the linear quadratic regulator",
    "ICML, Theorem 7",
)


@struct.dataclass
class HParams:
    """eta: step size, in (0, 1) for Gauss-Newton; direction: gradient, natural or gauss_newton."""

    eta: Array | float | str = 0.5
    direction: str = struct.field(pytree_node=False, default="gauss_newton")


@struct.dataclass
class State:
    x: Array


def prepare(hp):
    """Return `hp`; raise `InvalidSetting` for an unknown direction, or a step size that is not positive."""
    refuse_unless(hp.direction in DIRECTIONS, f"direction = {hp.direction}: one of {', '.join(DIRECTIONS)}")
    refuse_unless_positive(hp.eta)
    return hp


def init(problem, x0, key, hp):
    return State(x0)


def step(problem, state, key, hp):
    system, K = problem.system, state.x
    P = cost_to_go(system, K)
    E = slope(system, K, P)
    if hp.direction == "gradient":
        E = E @ visited(system, K)
    if hp.direction == "gauss_newton":
        E = jnp.linalg.solve(input_curvature(system, P), E)
    return State(K - 2 * hp.eta * E)


def readout(state):
    return state.x


# the gap is a square: rounding of K* by about 100 eps is all that it can see
COST_GAP = Metric(
    "cost_gap",
    lambda problem, x, state: cost_gap(problem.system, x),
    scale=lambda problem, x, state: 100 * jnp.finfo(x.dtype).eps * problem.value(x),
)


def goes(hp, direction):
    """Return whether the method goes in that direction."""
    return jnp.asarray(hp.direction == direction)


def gauss_newton_factor(c, eta):
    """Return 1 - 4 eta (1 - eta) share."""
    return 1 - 4 * eta * (1 - eta) * c.start_share


def natural_factor(c, eta):
    """Return 1 - 4 eta (1 - eta d) lmin(R) share."""
    return 1 - 4 * eta * (1 - eta * c.level_D) * c.input_cost_min * c.start_share


def gradient_factor(c, eta):
    """Return 1 - eta (1 - eta L/2)/dominance."""
    return 1 - eta * (1 - eta * c.level_L / 2) / c.dominance


def policy_iteration_bound(t, c, hp, gap):
    """Return the gap after t times g+ = min((1 - share) g, newton g^2); 64 steps end below any rounding."""

    def fall(_, g):
        return jnp.minimum(gauss_newton_factor(c, 0.5) * g, c.newton * g**2)

    steps = jnp.minimum(t, MOST_SQUARINGS).astype(int)
    return jnp.where(t <= MOST_SQUARINGS, lax.fori_loop(0, steps, fall, gap), jnp.nan)


dominance: AnyTheorem = Theorem(
    name="linear_quadratic_dominance",
    statement="f(K) - f_star <= |Sig_*|/(4 lmin(X0)^2 lmin(R)) |grad f(K)|_F^2 at every gain that is met",
    source=Source("Fazel, Ge, Kakade & Mesbahi", 2018, FAZEL_GE_KAKADE_MESBAHI_2018.title, "ICML, Lemma 11"),
    assumes=Regularity.LINEAR_QUADRATIC,
    metric=COST_GAP,
    given=(GRADIENT_NORM_SQ,),
    condition="wherever f is finite",
    admits=lambda c, hp: jnp.asarray(True),
    bound=lambda t, c, hp, gradient_norm_sq: c.dominance * gradient_norm_sq,
    control=Control(
        why="a dominance fifty times too small lets gradients vanish away from the optimum",
        problem="linear_quadratic[radius=0.1]",
        misstate={"dominance": 0.02},
        steps=10,
    ),
)

gauss_newton: AnyTheorem = Theorem(
    name="linear_quadratic_gauss_newton",
    statement="f(K_t) - f_star <= (1 - 4 eta (1 - eta) lmin(X0)/|Sig_*|)^t (f(K_0) - f_star)",
    source=Source("derived here, after Fazel, Ge, Kakade & Mesbahi", 2026, "any eta in (0, 1)", "module docstring"),
    assumes=Regularity.LINEAR_QUADRATIC,
    metric=COST_GAP,
    given=(initial(COST_GAP),),
    condition="direction gauss_newton, 0 < eta < 1",
    admits=lambda c, hp: goes(hp, "gauss_newton") & (hp.eta > 0) & (hp.eta < 1),
    bound=lambda t, c, hp, gap: gauss_newton_factor(c, hp.eta) ** t * gap,
    control=Control(
        why="no gain makes the states it visits fewer than the start",
        problem="linear_quadratic[radius=0.1]",
        setting="eta=0.1",
        misstate={"start_share": 4.0},
    ),
)

policy_iteration: AnyTheorem = Theorem(
    name="linear_quadratic_policy_iteration",
    statement="eta = 1/2: the gap g = f(K) - f_star obeys g+ <= min((1 - share) g, newton g^2)",
    source=Source(
        "derived here", 2026, "quadratic convergence with its constant", "problems/decision/linear_quadratic.py"
    ),
    assumes=Regularity.LINEAR_QUADRATIC,
    metric=COST_GAP,
    given=(initial(COST_GAP),),
    condition="direction gauss_newton, eta = 1/2",
    admits=lambda c, hp: goes(hp, "gauss_newton") & (hp.eta == 0.5),
    bound=policy_iteration_bound,
    control=Control(
        why="any other step converges linearly",
        problem="linear_quadratic[radius=0.1]",
        setting="eta=0.3",
        steps=20,
    ),
)

natural: AnyTheorem = Theorem(
    name="linear_quadratic_natural",
    statement="f(K_t) - f_star <= (1 - 4 eta (1 - eta d) lmin(R) lmin(X0)/|Sig_*|)^t (f(K_0) - f_star)",
    source=Source("derived here, after Fazel, Ge, Kakade & Mesbahi", 2026, "any eta below 1/d", "module docstring"),
    assumes=Regularity.LINEAR_QUADRATIC,
    metric=COST_GAP,
    given=(initial(COST_GAP),),
    condition="direction natural, 0 < eta < 1/d, d = |R| + |B|^2 f(K_0)/lmin(X0)",
    admits=lambda c, hp: goes(hp, "natural") & (hp.eta > 0) & (hp.eta * c.level_D < 1),
    bound=lambda t, c, hp, gap: natural_factor(c, hp.eta) ** t * gap,
    control=Control(
        why="inputs that cost more than they do would be given up faster",
        problem="linear_quadratic[radius=0.1]",
        setting="direction=natural,eta=0.05",
        misstate={"input_cost_min": 5.0, "level_D": 0.1},
    ),
)

gradient: AnyTheorem = Theorem(
    name="linear_quadratic_gradient",
    statement="f(K_t) - f_star <= (1 - eta (1 - eta L/2)/dominance)^t (f(K_0) - f_star), L of {f <= f(K_0)}",
    source=Source("derived here", 2026, "descent on the level set, with dominance", "module docstring"),
    assumes=Regularity.LINEAR_QUADRATIC,
    metric=COST_GAP,
    given=(initial(COST_GAP),),
    condition="direction gradient, 0 < eta < 2/L",
    admits=lambda c, hp: goes(hp, "gradient") & (hp.eta > 0) & (hp.eta * c.level_L < 2),
    bound=lambda t, c, hp, gap: gradient_factor(c, hp.eta) ** t * gap,
    control=Control(
        why="believed far smoother than it is, the cost is left for gains that do not stabilise",
        problem="linear_quadratic",
        setting="direction=gradient,eta=1/level_L",
        misstate={"level_L": 1e-5},
    ),
)

algorithm = Algorithm(
    name="linear_quadratic_policy_gradient",
    source=FAZEL_GE_KAKADE_MESBAHI_2018,
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.SYSTEM,
    requires=Regularity.LINEAR_QUADRATIC,
    prepare=prepare,
    theorems=(dominance, gauss_newton, policy_iteration, natural, gradient),
)
