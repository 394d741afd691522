"""The words of what is minimised: Family and Problem.

A family is the pure functions that all its instances share; a problem is a family, explicit data and the
constants proven for that very data (`problems.constants`). A stochastic or a deletion oracle (`problems.oracles`) is
the same problem on other data: `problem.sample(key, b).grad(x)` is a minibatch gradient,
`problem.retained().grad(x)` the unlearning gradient, `problem.truncated(H).grad(x)` the policy gradient of the
horizon-`H` return.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic

import jax
from flax import struct
from jax import Array

from problems.constants import UNSTATED, Constants, Regularity
from problems.oracles import (
    MDP,
    D,
    Deletion,
    Evaluation,
    Factored,
    FiniteSum,
    Key,
    LinearSystem,
    Oracle,
    Policy,
    RewardFeedback,
    Scalar,
    Target,
    X,
)


@dataclass(frozen=True)
class Family(Generic[D, X]):
    """The pure functions that all instances of a problem share: hashable, so static under `jit`.

    `init(data, key)` draws a start, `value(data, x)` is the objective, `sample(data, key, b)` is a minibatch of `b`
    records as smaller data, `scores(data, x)` are a classifier's logits (records, classes). Oracles that a family lacks
    are None. `measures` are further quantities worth a column, by name: `(data, x) -> scalar`. A family that is `drawn`
    has for value a mean over trajectories of fixed keys, whose derivative is their score-function gradient.
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
    evaluation: Callable[[D], Evaluation] | None = None  # the policy whose values x approximates
    system: Callable[[D], LinearSystem] | None = None  # that the gain x controls
    feedback: Callable[[D], RewardFeedback] | None = None  # that the policy of the logits x earns
    scores: Callable[[D, X], Array] | None = None
    measures: tuple[tuple[str, Callable[[D, X], Scalar]], ...] = ()
    drawn: bool = False

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
            (Oracle.TABLE, self.policy and self.policy.tabular),
            (Oracle.OUTCOMES, self.policy and self.policy.outcomes),
            (Oracle.EVALUATION, self.evaluation),
            (Oracle.SYSTEM, self.system),
            (Oracle.FEEDBACK, self.feedback),
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
    def mdp(self) -> MDP:
        """Return the finite process of a policy problem."""
        assert self.policy.tabular is not None
        return self.policy.tabular.mdp(self.data)

    def log_policy(self, x: X) -> Array:
        """Return log pi(a|s) as a table (S, A)."""
        assert self.policy.tabular is not None
        return self.policy.tabular.log_policy(self.data, x)

    @property
    def optimum(self) -> tuple[Array, Array]:
        """Return the actions a*(s) of an optimal policy and its occupancy d*(s)."""
        assert self.policy.optimum is not None
        return self.policy.optimum(self.data)

    @property
    def evaluation(self) -> Evaluation:
        """Return the policy that is evaluated, its chain and the features."""
        assert self.family.evaluation is not None
        return self.family.evaluation(self.data)

    @property
    def system(self) -> LinearSystem:
        """Return the linear system that points are gains of."""
        assert self.family.system is not None
        return self.family.system(self.data)

    @property
    def feedback(self) -> RewardFeedback:
        """Return the contextual bandit that points are logits of."""
        assert self.family.feedback is not None
        return self.family.feedback(self.data)

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
