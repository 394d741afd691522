"""What is proven about a problem: its regularity, and the numbers that are known for the very instance."""

import enum
from typing import Any

from flax import struct
from jax import Array

Scalar = Array
UNSTATED: Any = None  # no leaf in the tree: a constant that is not known, so that no bound can claim it


class Regularity(enum.Flag):
    """What is proven about every instance of a family. Claiming is stating: see `STATED_WITH`."""

    NONE = 0
    SMOOTH = enum.auto()  # |grad f(x) - grad f(y)| <= L |x - y|
    NONNEGATIVE = enum.auto()  # f >= 0 everywhere
    LOWER_BOUNDED = enum.auto()  # f >= f_star everywhere (f_star is the infimum, attained or not)
    PL = enum.auto()  # |grad f(x)|^2 >= 2 mu_pl (f(x) - f_star)
    CONVEX = enum.auto()
    STRONGLY_CONVEX = enum.auto()  # f - (mu/2)|x|^2 is convex
    QUADRATIC = enum.auto()
    FINITE_SUM = enum.auto()  # f = mean of L_max-smooth records
    DELETABLE = enum.auto()  # every record's data gradient is at most G and every record is L_max-smooth
    RETAINS_CONVEXITY = enum.auto()  # every record is convex, so that every retained set is
    RETAINS_STRONG_CONVEXITY = enum.auto()  # every record is mu_min-strongly convex
    RETAINS_PL = enum.auto()  # the mean over the retained records is mu_pl_retained-PL with infimum f_star_retained
    ATTAINS_DELETION = enum.auto()  # 1-D: |grad f_D - grad f_{D'}| = 2 G m/n and f'' = spread everywhere
    TWO_BASINS = enum.auto()  # f_D and f_{D'}, from the start that is drawn, end in minima that lie `basins` apart
    MATRIX = enum.auto()  # x is one m x n matrix
    BOUNDED_VARIANCE = (
        enum.auto()
    )  # the mean over records of |grad f_i(x) - grad f(x)|^2 is at most sigma_sq at every x
    BOUNDED_IN_WEIGHT = enum.auto()  # f(A, B) = ell(B A) with ell >= ell_star over all weights
    SMOOTH_IN_WEIGHT = enum.auto()  # f(A, B) = ell(B A) with an L_weight-smooth ell >= ell_star
    TARGET = enum.auto()  # f(A, B) = |B A - M|_F^2/2 with M of rank r, its singular values sigma_1 >= .. >= sigma_r > 0
    EXACT_RANK = enum.auto()  # a TARGET whose rank r is that of the adapters and less than both its sides
    PSD_TARGET = enum.auto()  # f(X) = |X X^T - A|_F^2/4, A of eigenvalues sigma_1 >= .. >= sigma_r > 0, else 0
    NYSTROM_START = enum.auto()  # B = M Omega, A = 0 (or A = Omega M, B = 0; X = A Omega), rank >= r, up to off_range
    RANK_ONE_FLOOR = enum.auto()  # the start is W = 0, and f(W) >= f_star_rank_1 for every W of rank at most 1
    NOISY_TARGET = enum.auto()  # f(A, B) = E |B A - T|_F^2, E |T - E T|^2 = noise_sq; every draw is L_weight-smooth
    ESCAPES = enum.auto()  # f(B, A) = (1 + (B A)^2)^(-p/2) of a scalar weight, p the `power`, from B = A = 1
    STRAIGHT_SLOPE = enum.auto()  # |grad f| stays as it is for `horizon` steps c/(L |V|^2 + |G|), c = step_factor
    DISCOUNTED_RETURN = enum.auto()  # minus the gamma-discounted return of a policy
    SOFTMAX_POLICY = enum.auto()  # a DISCOUNTED_RETURN whose policy is softmax, with logits linear in x
    TABULAR_MDP = enum.auto()  # a SOFTMAX_POLICY with one logit per state and action, nothing added to the return
    STRICT_SADDLE = enum.auto()  # x = 0 is a saddle with known escape direction and rate
    HESSIAN_LIPSCHITZ = enum.auto()  # |Hess f(x) - Hess f(y)| <= rho |x - y|
    POLICY_EVALUATION = (
        enum.auto()
    )  # x weighs features to approximate a policy's values, from the one start of all runs
    LINEAR_QUADRATIC = enum.auto()  # f(K) is the cost of u = -K x in a linear system, infinite where unstable
    KL_REGULARISED = enum.auto()  # minus E r - beta KL(pi | pi_ref) of a contextual bandit, pi = softmax(x)


@struct.dataclass
class Constants:
    """Numbers proven for this very instance; `UNSTATED` when unknown. A bound reads nothing else of the problem."""

    L: Scalar = UNSTATED  # smoothness of f
    mu: Scalar = UNSTATED  # strong convexity of f
    mu_pl: Scalar = UNSTATED  # Polyak-Lojasiewicz constant of f (a lower bound counts)
    f_star: Scalar = UNSTATED  # infimum of f
    L_max: Scalar = UNSTATED  # smoothness of every single record
    mu_min: Scalar = UNSTATED  # strong convexity of every single record
    sigma_star_sq: Scalar = UNSTATED  # mean over records of |grad f_i(x_star)|^2
    G: Scalar = UNSTATED  # upper bound on the norm of every record's data gradient, regulariser excluded
    n: Scalar = UNSTATED  # number of records
    forgotten: Scalar = UNSTATED  # number m of records to delete
    mu_pl_retained: Scalar = UNSTATED  # Polyak-Lojasiewicz constant of f_{D'} (a lower bound counts)
    f_star_retained: Scalar = UNSTATED  # infimum of f_{D'}
    spread: Scalar = UNSTATED  # second derivative, the same everywhere: a step multiplies distances by |1 - eta spread|
    basins: Scalar = UNSTATED  # distance between the minima that learning on D and on D' end in
    dimension: Scalar = UNSTATED  # number of parameters d
    rows: Scalar = UNSTATED  # number m of rows of x
    columns: Scalar = UNSTATED  # number n of columns of x
    sigma_sq: Scalar = UNSTATED  # upper bound, at every x, on the mean over records of |grad f_i(x) - grad f(x)|^2
    sigma_1: Scalar = UNSTATED  # largest singular value of the target M
    sigma_r: Scalar = UNSTATED  # smallest positive singular value of the target M
    off_range: Scalar = UNSTATED  # size of the entries by which a Nystrom start leaves the range of the target
    noise_sq: Scalar = UNSTATED  # variance E |T - E T|_F^2 of a target that is drawn anew
    f_star_rank_1: Scalar = UNSTATED  # infimum of f over matrices of rank at most 1
    power: Scalar = UNSTATED  # p of a loss that falls like |W|^-p
    horizon: Scalar = UNSTATED  # number T of steps that the straight slope lasts
    step_factor: Scalar = UNSTATED  # c of the steps that it lasts for
    drop: Scalar = UNSTATED  # by how much the loss would fall along the whole slope, from |V| = 0
    L_weight: Scalar = UNSTATED  # smoothness of ell as a function of the full weight
    ell_star: Scalar = UNSTATED  # a lower bound of ell over all full weights
    gamma: Scalar = UNSTATED  # discount factor
    states: Scalar = UNSTATED  # number S of states
    actions: Scalar = UNSTATED  # number A of actions a state
    R_c: Scalar = UNSTATED  # half range of the rewards
    r_mid: Scalar = UNSTATED  # mid-range of the rewards: |r - r_mid| <= R_c
    gap: Scalar = UNSTATED  # least lead of an optimal action: min over s, a != a* of Q*(s, a*) - Q*(s, a)
    score_sq: Scalar = UNSTATED  # G2 = sup_s E_a |score|^2
    fisher: Scalar = UNSTATED  # lamF = sup_s lambda_max(Cov_a phi(s, .))
    curvature: Scalar = UNSTATED  # lam: top eigenvalue of Hess J at the saddle
    estimator_sq: Scalar = (
        UNSTATED  # E (v.g)^2 of one trajectory along the escape direction v; 0: no score at the saddle
    )
    escape_radius: Scalar = UNSTATED  # distance along v at which the saddle counts as left
    delay_cost: Scalar = UNSTATED  # kappa: truncation bias along v at the saddle is kappa gamma^H/(4 sqrt2 (1-gamma))
    score_slope: Scalar = UNSTATED  # F = sup_(s,a) |Hess log pi(a|s)|
    rho: Scalar = UNSTATED  # Lipschitz constant of Hess f (an upper bound)
    start_min: Scalar = UNSTATED  # least probability of a first state
    modulus: Scalar = UNSTATED  # m < 1 with gamma |P_pi v|_D <= m |v|_D for every v
    feature_min: Scalar = UNSTATED  # w: least eigenvalue of Phi^T D Phi, D the stationary law of the chain
    stationary_min: Scalar = UNSTATED  # least probability of a state under the stationary law
    td_noise_sq: Scalar = UNSTATED  # E |delta(s, s') Phi(s)|^2 at x_star, s drawn from the stationary law
    value_error: Scalar = UNSTATED  # e_app = |Pi V - V|_D: what no weighted features can represent of the values V
    x_star_norm: Scalar = UNSTATED  # |x_star|
    R_max: Scalar = UNSTATED  # max |r|
    dominance: Scalar = UNSTATED  # f(x) - f_star <= dominance |grad f(x)|^2 wherever f is finite
    beta: Scalar = UNSTATED  # weight of the KL divergence
    reward_sd: Scalar = UNSTATED  # standard deviation of an observed reward
    start_share: Scalar = UNSTATED  # lambda_min(X0)/|Sig_K*|: the start's share of the states an optimal gain visits
    input_cost_min: Scalar = UNSTATED  # lambda_min(R)
    level_D: Scalar = UNSTATED  # upper bound on |R + B^T P_K B| where f(K) <= f(x_0)
    level_L: Scalar = UNSTATED  # smoothness of f where f(K) <= f(x_0) (an upper bound)
    newton: Scalar = UNSTATED  # f(K+) - f_star <= newton (f(K) - f_star)^2, K+ policy iteration, f(K) <= f(x_0)
    visit_min: Scalar = UNSTATED  # least probability rho(s) pi*(a|s) of a prompt with a response
    sources: Scalar = UNSTATED  # number W of source rewards
    source_gap: Scalar = UNSTATED  # least J(pi*) - J(pi_w) over the policies pi_w of the source rewards
    reference_gap: Scalar = UNSTATED  # J(pi*) - J(pi_ref)


STATED_WITH: dict[Regularity, tuple[str, ...]] = {
    Regularity.SMOOTH: ("L",),
    Regularity.LOWER_BOUNDED: ("f_star",),
    Regularity.PL: ("mu_pl",),
    Regularity.STRONGLY_CONVEX: ("mu",),
    Regularity.FINITE_SUM: ("L_max", "sigma_star_sq", "n"),
    Regularity.DELETABLE: ("L_max", "G", "n", "forgotten"),
    Regularity.RETAINS_STRONG_CONVEXITY: ("mu_min",),
    Regularity.RETAINS_PL: ("mu_pl_retained", "f_star_retained", "L_max", "G", "n", "forgotten"),
    Regularity.ATTAINS_DELETION: ("spread",),
    Regularity.TWO_BASINS: ("basins",),
    Regularity.MATRIX: ("rows", "columns"),
    Regularity.BOUNDED_VARIANCE: ("sigma_sq",),
    Regularity.BOUNDED_IN_WEIGHT: ("ell_star",),
    Regularity.TARGET: ("sigma_1", "sigma_r"),
    Regularity.PSD_TARGET: ("sigma_1", "sigma_r"),
    Regularity.NYSTROM_START: ("off_range",),
    Regularity.NOISY_TARGET: ("noise_sq", "L_weight", "f_star", "rows"),
    Regularity.RANK_ONE_FLOOR: ("f_star_rank_1",),
    Regularity.ESCAPES: ("power",),
    Regularity.STRAIGHT_SLOPE: ("horizon", "step_factor", "drop"),
    Regularity.SMOOTH_IN_WEIGHT: ("L_weight", "ell_star"),
    Regularity.DISCOUNTED_RETURN: ("gamma",),
    Regularity.SOFTMAX_POLICY: ("gamma", "R_c", "r_mid", "score_sq", "fisher", "score_slope"),
    Regularity.HESSIAN_LIPSCHITZ: ("rho",),
    Regularity.POLICY_EVALUATION: (
        "gamma",
        "modulus",
        "feature_min",
        "stationary_min",
        "td_noise_sq",
        "value_error",
        "x_star_norm",
        "R_max",
    ),
    Regularity.LINEAR_QUADRATIC: (
        "f_star",
        "dominance",
        "start_share",
        "input_cost_min",
        "level_D",
        "level_L",
        "newton",
    ),
    Regularity.KL_REGULARISED: (
        "f_star",
        "beta",
        "R_max",
        "reward_sd",
        "states",
        "actions",
        "visit_min",
        "sources",
        "source_gap",
        "reference_gap",
    ),
    Regularity.TABULAR_MDP: ("states", "actions", "gap", "start_min"),
    Regularity.STRICT_SADDLE: ("gamma", "curvature", "estimator_sq", "escape_radius", "delay_cost"),
}


class InvalidParameter(ValueError):  # noqa: N818
    """A parameter of `make` has no meaning for the family (no records, a negative condition number)."""


class Unavailable(InvalidParameter):
    """What is asked for stands in an optional extra that is not installed; says how to install it."""


def require(condition: bool, message: str) -> None:
    """Raise `InvalidParameter(message)` unless `condition` holds."""
    if not condition:
        raise InvalidParameter(message)
