"""What is proven about a method: a bound, where it applies, and the control on which the same check must fail."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from jax import Array

from algorithms.metric import Metric
from problems.constants import Constants, Regularity

H = TypeVar("H")
Scalar = Array


class Holds(enum.Enum):
    """Over what a theorem quantifies, hence how it is judged."""

    EVERY_RUN = "every run"  # lane by lane
    IN_EXPECTATION = "in expectation"  # the mean over seeds
    IN_MEDIAN = "in median"  # the median over seeds
    WITH_PROBABILITY = "with probability"  # the share of seeds beyond the bound, an upper one
    AUDITED = "audited"  # the epsilon by which `metric` and `against` can be told apart, over all seeds of a setting


class Kind(enum.Enum):
    """Which side a theorem is tested from."""

    UPPER = "upper bound"
    EXACT = "exact law"  # from both sides, at every checkpoint
    ASYMPTOTIC = "asymptotic law"  # from both sides, at the last checkpoint
    FINDING = "finding"  # an upper bound that is observed, not proven: the statement says on what


@dataclass(frozen=True)
class Source:
    """Where a statement stands, printed in tables: authors, year, title and place (`arXiv:..., Theorem 3.1`)."""

    authors: str
    year: int
    title: str
    where: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}), {self.where}"


@dataclass(frozen=True)
class Control:
    """A setting outside the assumptions on which the theorem's own check must say `violated`.

    `problem` and `setting` are selectors as on the command line. `misstate` multiplies constants of the problem, so
    that method and bound believe a wrong number; `algorithm` runs another method under this theorem's bound. A control
    is judged as if it were admitted.
    """

    why: str
    problem: str
    setting: str = ""
    algorithm: str = ""
    misstate: Mapping[str, float] = field(default_factory=dict, hash=False)
    steps: int = 200
    seeds: int = 4


@dataclass(frozen=True)
class Theorem(Generic[H]):
    """`metric(x_t) <= bound(t, constants, hp, *given)` whenever `admits(constants, hp)`.

    `given` are metrics whose values at the checkpoint the bound may read: usually `initial(metric)`; a folded metric
    where the bound is a posteriori. A bound is NaN where the theorem claims nothing. `condition` is `admits` in words.
    `tolerance` is the relative accuracy that an EXACT or ASYMPTOTIC law itself promises, `slack` an absolute one
    (a law for a count is off by up to one step). WITH_PROBABILITY the bound holds at each checkpoint with at least
    `probability` over seeds. An AUDITED theorem bounds the epsilon of (epsilon, delta)-indistinguishability of the
    scores `metric` and `against`, delta being the hyper-parameter of that name, by what samples of both reveal.
    `fewest_seeds` is how many runs it takes to say anything: with fewer the theorem is left out.
    `certifies` names what a run is certified against (an adjacency) where this theorem admits it; empty for the others.

    Raises:
        ValueError: `probability` is not in (0, 1], it is asked of a law, or an audit has nothing to compare with.
    """

    name: str
    statement: str
    source: Source
    assumes: Regularity
    metric: Metric
    given: tuple[Metric, ...]
    condition: str
    admits: Callable[[Constants, H], Array]
    bound: Callable[..., Scalar]
    control: Control
    holds: Holds = Holds.EVERY_RUN
    kind: Kind = Kind.UPPER
    tolerance: float = 0.0
    slack: float = 0.0
    probability: float = 1.0
    against: Metric | None = None
    fewest_seeds: int = 1
    certifies: str = ""

    @property
    def is_law(self) -> bool:
        """Return whether the statement is tested from both sides, to its own accuracy."""
        return self.kind in (Kind.EXACT, Kind.ASYMPTOTIC)

    def __post_init__(self) -> None:
        if (self.holds is Holds.AUDITED) != (self.against is not None):
            raise ValueError(f"{self.name}: an audited theorem, and no other, compares its metric `against` another")
        if not 0 < self.probability <= 1:
            raise ValueError(f"{self.name}: probability must be in (0, 1], not {self.probability}")
        if self.holds is Holds.WITH_PROBABILITY and self.kind is not Kind.UPPER:
            raise ValueError(f"{self.name}: only an upper bound holds with probability, not an {self.kind.value}")


AnyTheorem = Theorem[Any]
