"""What a family may be asked for beyond its value: optional functions, and the records that they answer with."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flax import struct
from jax import Array

D = TypeVar("D")  # the data of an instance
X = TypeVar("X")  # a point: an array or any tree of arrays
Scalar = Array
Key = Array


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
    TABLE = enum.auto()  # the finite process and the policy's table are at hand
    OUTCOMES = enum.auto()  # the few trajectories that differ in score or reward can be listed
    EVALUATION = enum.auto()
    FEEDBACK = enum.auto()
    SYSTEM = enum.auto()


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


@struct.dataclass
class MDP:
    """P is (S, A, S), r (S, A), mu (S,); `horizon` is absent for the untruncated return."""

    P: Array
    r: Array
    mu: Array
    gamma: Array
    horizon: Array | None = None


@struct.dataclass
class Evaluation:
    """What TD(0) sees of a policy: the process, the policy's table (S, A), features (S, d) with |Phi(s)| <= 1.

    After a step the state is drawn from mu with probability `restart`, else it is the successor: 0 is the policy's own
    chain, 1 - gamma the restart chain, whose stationary law is the normalised occupancy. The TD target always reads
    the successor.
    """

    mdp: MDP
    p: Array
    Phi: Array
    restart: Array


@struct.dataclass
class LinearSystem:
    """State z+ = A z + B u with cost z.Q z + u.R u a step and E z_0 z_0^T = X0; A and B carry a factor sqrt(gamma).

    K_star is the gain of the optimal inputs u = -K_star z, P_star its cost-to-go.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    X0: Array
    K_star: Array
    P_star: Array


@struct.dataclass
class RewardFeedback:
    """Prompts s ~ rho (S,), responses a, rewards r (S, A) seen with N(0, sd^2) noise, log pi_ref (S, A).

    The objective is E r - beta KL(pi | pi_ref); `sources` (W, S, A) are reward models of unknown quality.
    """

    rho: Array
    r: Array
    log_ref: Array
    sources: Array
    beta: Array
    R: Array
    sd: Array


@dataclass(frozen=True)
class Tabular(Generic[D, X]):
    """A policy on a finite process."""

    mdp: Callable[[D], MDP]
    log_policy: Callable[[D, X], Array]  # log pi(a|s), (S, A)


@dataclass(frozen=True)
class Policy(Generic[D, X]):
    """What a policy problem offers beyond its value, which is minus the expected return (and a regulariser)."""

    truncate: Callable[[D, Array], D]  # data on which `value` is minus the return cut after `horizon` steps
    rollout: Callable[[D, X, Key, int], Rollout]  # a trajectory of `length` steps (static)
    log_prob: Callable[[D, X, Array, Array], Array]  # log pi(a_t | s_t) along states and actions
    tabular: Tabular[D, X] | None = None
    escape: Callable[[D, X], Scalar] | None = None  # signed distance from the saddle along the escape direction
    optimum: Callable[[D], tuple[Array, Array]] | None = None  # a*(s) and d*(s) of an optimal policy, both (S,)
    outcomes: Callable[[D, int], Rollout] | None = None  # the ways that score and reward can go, (length, m)


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
