"""The words of what is minimised: Family, Problem, Constants, Regularity, Oracle.

A family is the pure functions that all its instances share; a problem is a family, explicit data and the
constants proven for that very data. A stochastic or a deletion oracle is the same problem on other data:
`problem.sample(key, b).grad(x)` is a minibatch gradient, `problem.retained().grad(x)` the unlearning gradient,
`problem.truncated(H).grad(x)` the policy gradient of the horizon-`H` return.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import jax
from flax import struct
from jax import Array

D = TypeVar("D")  # the data of an instance
X = TypeVar("X")  # a point: an array or any tree of arrays
Scalar = Array
Key = Array
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
    TABULAR_MDP = enum.auto()  # minus the return of a softmax policy with one logit per state and action
    STRICT_SADDLE = enum.auto()  # the start is a saddle with known escape direction and rate
    SOFTMAX_POLICY = enum.auto()  # minus the return of a softmax policy whose logits are linear in x


class Oracle(enum.Flag):
    """What a family lets a method ask for, beyond the value."""

    GRADIENT = enum.auto()
    SAMPLE = enum.auto()
    RETAIN = enum.auto()
    WEIGHT_GRADIENT = enum.auto()
    TRUNCATE = enum.auto()
    ROLLOUT = enum.auto()
    SUBSTITUTE = enum.auto()
    SCORES = enum.auto()
    ROWS = enum.auto()


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
    estimator_sq: Scalar = UNSTATED  # E (v.g)^2 of the one-trajectory estimator along the escape direction v
    escape_radius: Scalar = UNSTATED  # distance along v at which the saddle counts as left
    delay_cost: Scalar = UNSTATED  # kappa: truncation bias along v at the saddle is kappa gamma^H/(4 sqrt2 (1-gamma))


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
    Regularity.SOFTMAX_POLICY: ("gamma", "R_c", "r_mid", "score_sq", "fisher"),
    Regularity.TABULAR_MDP: ("states", "actions", "gap"),
    Regularity.STRICT_SADDLE: ("gamma", "curvature", "estimator_sq", "escape_radius", "delay_cost"),
}


@struct.dataclass
class Rollout:
    """One trajectory drawn with the policy at `x`: states, actions and rewards, time along the first axis."""

    states: Array
    actions: Array
    rewards: Array


@dataclass(frozen=True)
class Factored(Generic[D, X]):
    """How a point `x` of adapters becomes a weight M, a matrix or one a path: f(x) = loss(data, merge(data, x))."""

    merge: Callable[[D, X], Any]
    loss: Callable[[D, Any], Scalar]


@dataclass(frozen=True)
class Target(Generic[D, X]):
    """Where a factor X stands relative to the target A = Q Sigma Q^T of X X^T."""

    whitened: Callable[[D, X], Array]  # Sigma^{-1/2} Q^T X (r_A x r), whose singular values are all 1 at a solution
    off_range: Callable[[D, X], Scalar]  # |X - Q Q^T X|_F


@dataclass(frozen=True)
class Policy(Generic[D, X]):
    """What a policy problem offers beyond its value, which is minus the expected return."""

    truncate: Callable[[D, Array], D]  # data on which `value` is minus the return cut after `horizon` steps
    rollout: Callable[[D, X, Key, int], Rollout]  # a trajectory of `length` steps (static)
    log_prob: Callable[[D, X, Array, Array], Array]  # log pi(a_t | s_t) along states and actions
    escape: Callable[[D, X], Scalar] | None = None  # signed distance from the saddle along the escape direction
    mismatch: Callable[[D, X], Scalar] | None = None  # C(theta) of the Lojasiewicz inequality (Mei et al. 2020)


@dataclass(frozen=True)
class FiniteSum(Generic[D]):
    """The records that an objective is the mean over."""

    rows: Callable[[D, Array], D]  # the records at `index` (b,), equally weighted: smaller data
    count: Callable[[D], int]  # n, static


@dataclass(frozen=True)
class Deletion(Generic[D]):
    """What a mean over records offers to unlearning; the last m of its n records are the ones to forget."""

    retain: Callable[[D, Array | None], D]  # without the forgotten records, or without the last `deleted` of them
    forget: Callable[[D], D]  # the forgotten records alone
    substitute: Callable[[D], D] | None = None  # the forgotten records replaced by others: n stays


@dataclass(frozen=True)
class Family(Generic[D, X]):
    """The pure functions that all instances of a problem share: hashable, so static under `jit`.

    `init(data, key)` draws a start, `value(data, x)` is the objective, `sample(data, key, b)` is a minibatch of `b`
    records as smaller data, `scores(data, x)` are a classifier's logits (records, classes). Oracles that a family lacks
    are None. `measures` are further quantities worth a column, by name: `(data, x) -> scalar`.
    """

    name: str
    regularity: Regularity
    init: Callable[[D, Key], X]
    value: Callable[[D, X], Scalar]
    sample: Callable[[D, Key, int], D] | None = None
    records: FiniteSum[D] | None = None
    deletion: Deletion[D] | None = None
    factored: Factored[D, X] | None = None
    target: Target[D, X] | None = None  # of a PSD_TARGET
    policy: Policy[D, X] | None = None
    scores: Callable[[D, X], Array] | None = None
    measures: tuple[tuple[str, Callable[[D, X], Scalar]], ...] = ()

    @property
    def oracles(self) -> Oracle:
        """Return the oracles this family offers."""
        offered = Oracle.GRADIENT
        for oracle, provider in (
            (Oracle.SAMPLE, self.sample),
            (Oracle.ROWS, self.records),
            (Oracle.RETAIN, self.deletion),
            (Oracle.SUBSTITUTE, self.deletion and self.deletion.substitute),
            (Oracle.WEIGHT_GRADIENT, self.factored),
            (Oracle.TRUNCATE | Oracle.ROLLOUT, self.policy),
            (Oracle.SCORES, self.scores),
        ):
            if provider is not None:
                offered |= oracle
        return offered


@struct.dataclass
class Problem(Generic[D, X]):
    """One instance: family (static), data and constants (leaves), so that random instances `vmap`.

    `constants` always speak of the whole problem, also on a sample, a retained or a truncated one.
    `x_star` is a minimiser (the one that distances are measured to), absent where none is known.
    """

    family: Family[D, X] = struct.field(pytree_node=False)
    data: D
    constants: Constants
    x_star: X = UNSTATED

    def value(self, x: X) -> Scalar:
        """Return f(x)."""
        return self.family.value(self.data, x)

    def grad(self, x: X) -> X:
        """Return grad f(x)."""
        return jax.grad(self.family.value, argnums=1)(self.data, x)

    def init(self, key: Key) -> X:
        """Return the start that `key` draws."""
        return self.family.init(self.data, key)

    def sample(self, key: Key, batch_size: int) -> "Problem[D, X]":
        """Return the problem of `batch_size` records drawn independently and uniformly."""
        assert self.family.sample is not None
        return replace(self, data=self.family.sample(self.data, key, batch_size))

    @property
    def finite_sum(self) -> FiniteSum[D]:
        """Return the records' oracles."""
        assert self.family.records is not None
        return self.family.records

    @property
    def deletion(self) -> Deletion[D]:
        """Return the deletion oracles."""
        assert self.family.deletion is not None
        return self.family.deletion

    def retained(self, deleted: Array | None = None) -> "Problem[D, X]":
        """Return the problem on D': without the forgotten records, or without the last `deleted` of them (traced)."""
        return replace(self, data=self.deletion.retain(self.data, deleted))

    def forgotten(self) -> "Problem[D, X]":
        """Return the problem on Z, the forgotten records alone."""
        return replace(self, data=self.deletion.forget(self.data))

    def substituted(self) -> "Problem[D, X]":
        """Return the problem whose forgotten records are replaced by others."""
        assert self.deletion.substitute is not None
        return replace(self, data=self.deletion.substitute(self.data))

    def rows(self, index: Array) -> "Problem[D, X]":
        """Return the problem of the records at `index`, a minibatch (b,); the retained ones have index < n - m."""
        return replace(self, data=self.finite_sum.rows(self.data, index))

    @property
    def records(self) -> int:
        """Return the number n of records, static."""
        return self.finite_sum.count(self.data)

    def scores(self, x: X) -> Array:
        """Return the logits of every record (records, classes), whatever its weight."""
        assert self.family.scores is not None
        return self.family.scores(self.data, x)

    @property
    def policy(self) -> Policy[D, X]:
        """Return the policy oracles."""
        assert self.family.policy is not None
        return self.family.policy

    @property
    def target(self) -> Target[D, X]:
        """Return where points stand relative to the target."""
        assert self.family.target is not None
        return self.family.target

    def truncated(self, horizon: Array) -> "Problem[D, X]":
        """Return the problem of the return cut after `horizon` steps (an integer >= 1, may be traced)."""
        return replace(self, data=self.policy.truncate(self.data, horizon))

    def weight(self, x: X) -> Any:
        """Return M = B A, the weight that the adapters `x` add to the frozen one (before a scale), or one a path."""
        assert self.family.factored is not None
        return self.family.factored.merge(self.data, x)

    def weight_grad(self, x: X) -> Any:
        """Return G = grad ell at the weight M = B A of the adapters `x`, or one a path."""
        factored = self.family.factored
        assert factored is not None
        return jax.grad(factored.loss, argnums=1)(self.data, factored.merge(self.data, x))

    def pull_back(self, x: X, weight_grad: Any) -> X:
        """Return the gradient in the adapters that belongs to the gradient G in the weight."""
        factored = self.family.factored
        assert factored is not None
        _, adjoint = jax.vjp(lambda adapters: factored.merge(self.data, adapters), x)
        return adjoint(weight_grad)[0]


class InvalidParameter(ValueError):  # noqa: N818
    """A parameter of `make` has no meaning for the family (no records, a negative condition number)."""


def require(condition: bool, message: str) -> None:
    """Raise `InvalidParameter(message)` unless `condition` holds."""
    if not condition:
        raise InvalidParameter(message)
