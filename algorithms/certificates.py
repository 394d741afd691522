"""Deletion certificates from declared constants alone:  sigma = Delta(n, m, G, L, mu, eta, T, K) * s(epsilon, delta).

(epsilon, delta)-certified deletion of m of n records: whatever event is looked at, the published unlearned model and
the published retrained one give it probabilities within e^epsilon and delta of each other, for *every* choice of the m
records. So the noise scale may depend on n, m, G, L, mu, eta, T, K alone, never on the realised data or run; what was
estimated from data, or a training that the lemmas of `algorithms.sensitivity` do not cover, certifies nothing.
Source: unlearned against retrained as in Ginart et al. (2019), arXiv:1907.05012; sensitivities derived here.
"""

import enum
import math
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from algorithms.algorithm import refuse_unless
from algorithms.gaussian_mechanism import analytic_sigma, check_target
from algorithms.sensitivity import (
    MARGIN,
    convex_sensitivity,
    nonconvex_sensitivity,
    strongly_convex_sensitivity,
)
from problems.constants import Constants

DELETION = "deletion of m records, n -> n - m"
DOUBLE, HORIZON = 2.0**-52, 1e-3
ROUNDING = 1e-13  # noise below this share of the parameters' size hides nothing that rounding does not


class LossClass(enum.Enum):
    """What every single record's loss is, hence by how much a step can move two runs apart."""

    STRONGLY_CONVEX = "strongly convex"
    CONVEX = "convex"
    NONCONVEX = "nonconvex"


class Void(enum.Flag):
    """What takes a certificate away: the lemmas do not cover it, or the numbers were read off the data."""

    NOTHING = 0
    ESTIMATED_CONSTANTS = enum.auto()
    MOMENTUM = enum.auto()
    ADAM = enum.auto()
    BATCH_NORM = enum.auto()
    DROPOUT = enum.auto()
    RELU = enum.auto()
    PERMUTATION_BATCHES = enum.auto()
    DATA_DEPENDENT_STOPPING = enum.auto()


BECAUSE = {
    Void.ESTIMATED_CONSTANTS: "constants estimated from data are lower bounds of L and G, and depend on the data",
    Void.MOMENTUM: "a momentum step is not gamma-Lipschitz with the gamma of a gradient step",
    Void.ADAM: "an Adam step is not Lipschitz: it divides by gradients",
    Void.BATCH_NORM: "with batch normalisation a record's loss depends on the others",
    Void.DROPOUT: "dropout changes the loss from step to step",
    Void.RELU: "a ReLU network has no smoothness constant L; take tanh, softplus or a smoothed ReLU",
    Void.PERMUTATION_BATCHES: "one permutation an epoch: D' has fewer batches than D; draw batches independently",
    Void.DATA_DEPENDENT_STOPPING: "the number of steps must not depend on the data",
}


@dataclass(frozen=True)
class Declared:
    """What is proven of every record's loss, for any data: its class, G, L, mu.

    G bounds the norm of a record's data gradient (ridge excluded), L its smoothness, mu its strong convexity.

    Raises:
        InvalidSetting: a constant is missing, negative or not finite; mu > L; mu = 0 in the strongly convex class.
    """

    loss_class: LossClass
    G: float
    L: float
    mu: float = 0.0

    def __post_init__(self):
        for name, value in (("G", self.G), ("L", self.L), ("mu", self.mu)):
            known = value is not None and math.isfinite(value) and value >= 0
            refuse_unless(known, f"{name} = {value}: declare a number >= 0 that is proven for every record")
        refuse_unless(self.L > 0, f"L = {self.L}: a smoothness constant must be positive")
        refuse_unless(self.mu <= self.L, f"mu = {self.mu} > L = {self.L}: no loss is more convex than smooth")
        if self.loss_class is LossClass.STRONGLY_CONVEX:
            refuse_unless(self.mu > 0, "mu = 0: a strongly convex loss has mu > 0")


@dataclass(frozen=True)
class Training:
    """How the model learns and what is deleted: step size, steps T, rewind K, records n, of which m = `forgotten`.

    `radius` is that of the ball the iterates are projected on, `start_norm` |x_0|, `batch_size` 0 for whole gradients;
    `void` lists what of the training takes a certificate away.

    Raises:
        InvalidSetting: a number without meaning; the message names it and its range.
    """

    eta: float
    T: int
    K: int
    n: int
    forgotten: int
    radius: float = math.inf
    start_norm: float = 0.0
    batch_size: int = 0
    void: Void = Void.NOTHING

    def __post_init__(self):
        refuse_unless(0 < self.eta < math.inf, f"eta = {self.eta}: a step size must be positive and finite")
        refuse_unless(self.T >= 0, f"T = {self.T}: learning steps must be >= 0")
        refuse_unless(0 <= self.K <= self.T, f"K = {self.K} with T = {self.T}: rewinding needs 0 <= K <= T")
        refuse_unless(0 <= self.forgotten < self.n, f"m = {self.forgotten} of n = {self.n}: 0 <= m < n records can go")
        refuse_unless(self.radius > 0, f"radius = {self.radius}: the ball must have a positive radius")
        refuse_unless(
            self.start_norm <= self.radius, f"|x_0| = {self.start_norm} lies outside the ball of radius {self.radius}"
        )
        left = self.n - self.forgotten
        refuse_unless(0 <= self.batch_size <= left, f"batch_size = {self.batch_size}: at most n - m = {left} records")


@dataclass(frozen=True)
class Certificate:
    """(epsilon, delta) for a sensitivity and the noise that hides it; `reasons` say why `certified` is false."""

    certified: bool
    reasons: tuple[str, ...]
    adjacency: str
    epsilon: float
    delta: float
    sensitivity: float
    sigma: float

    def __str__(self) -> str:
        if not self.certified:
            return f"uncertified: {'; '.join(self.reasons)}"
        return (
            f"certified ({self.epsilon:g}, {self.delta:g}) for the {self.adjacency}: "
            f"sensitivity {self.sensitivity:.4g}, sigma {self.sigma:.4g}"
        )


def step_range(declared: Declared) -> tuple[float, str]:
    """Return the largest step size that lemma (2) of `algorithms.sensitivity` covers, and its name."""
    match declared.loss_class:
        case LossClass.STRONGLY_CONVEX:
            return 2 / (declared.L + declared.mu), "2/(L + mu)"
        case LossClass.CONVEX:
            return 2 / declared.L, "2/L"
        case _:
            return math.inf, "infinity"


def rewind_sensitivity(declared: Declared, training: Training) -> float:
    """Return the bound on |u_T - v_T| (in expectation for minibatches) of Rewind-to-Delete; 0 for m = 0 or K = T.

    Raises:
        InvalidSetting: the step size is outside the range of the loss class, or the bound is not finite.
    """
    largest, name = step_range(declared)
    refuse_unless(
        training.eta <= largest * MARGIN,
        f"eta = {training.eta}: the {declared.loss_class.value} bound needs eta <= {name} = {largest:.6g}",
    )
    if training.forgotten == 0 or training.K == training.T:
        return 0.0
    learned = training.T - training.K
    with jax.enable_x64(True):
        numbers = (declared.G, declared.L, declared.mu, training.n, training.forgotten, learned, training.K)
        G, L, mu, n, m, learned, unlearned = (jnp.asarray(number, float) for number in numbers)
        c, hp = Constants(G=G, L_max=L, mu_min=mu, n=n, forgotten=m), SimpleNamespace(eta=training.eta)
        match declared.loss_class:
            case LossClass.STRONGLY_CONVEX:
                bound = strongly_convex_sensitivity(c, hp, learned, unlearned)
            case LossClass.CONVEX:
                bound = convex_sensitivity(c, hp, learned)
            case _:
                bound = nonconvex_sensitivity(c, hp, learned, unlearned)
        bound = min(float(bound), 2 * training.radius)
    refuse_unless(math.isfinite(bound), f"eta L T = {training.eta * declared.L * training.T:g}: the bound overflows")
    return bound


def check_descent(declared: Declared, training: Training) -> None:
    """Raise `InvalidSetting` unless the loss is strongly convex and the step size in range."""
    refuse_unless(
        declared.loss_class is LossClass.STRONGLY_CONVEX,
        f"Descent-to-Delete on a {declared.loss_class.value} loss: no bound decreases in K; rewind instead",
    )
    largest, name = step_range(declared)
    refuse_unless(training.eta <= largest * MARGIN, f"eta = {training.eta}: needs eta <= {name} = {largest:.6g}")


def descent_sensitivity(declared: Declared, training: Training) -> float:
    """Return the bound 2R gamma^K of Descent-to-Delete with projected steps on a strongly convex loss.

    Raises:
        InvalidSetting: the loss is not strongly convex (nothing that decreases in K is provable), no ball is given, or
            the step size is outside its range.
    """
    check_descent(declared, training)
    refuse_unless(math.isfinite(training.radius), "Descent-to-Delete needs the radius of the ball it projects on")
    if training.forgotten == 0:
        return 0.0
    return 2 * training.radius * (1 - training.eta * declared.mu) ** training.K


def sequential_sensitivity(declared: Declared, training: Training) -> float:
    """Return 8 G g^K/(mu n (1 - g^K)), g = 1 - eta mu: D2D with K steps a request, m requests so far, long learning.

    Raises:
        InvalidSetting: not strongly convex, more than half of the records deleted (the published form assumes n_i >=
            n/2), no step a request, or a step size outside its range.
    """
    check_descent(declared, training)
    refuse_unless(training.K >= 1, f"K = {training.K}: each request takes at least one step")
    refuse_unless(
        2 * training.forgotten <= training.n,
        f"m = {training.forgotten} of n = {training.n}: sequential Descent-to-Delete is proven up to half the records",
    )
    shrink = (1 - training.eta * declared.mu) ** training.K
    return 8 * declared.G * shrink / (declared.mu * training.n * (1 - shrink)) if training.forgotten else 0.0


def reconstructed_sensitivity(declared: Declared, training: Training, rounding: float = DOUBLE) -> float:
    """Return Rewind-to-Delete's sensitivity from a reconstructed checkpoint: g^K r more, r = rounding (1 - eta L)^-K.

    `rounding` is the relative error of one backward step, at least the precision's; g is that of the loss class.

    Raises:
        InvalidSetting: eta L >= 1 (no backward step), minibatches (they would have to be replayed), or K beyond the
            precision's horizon, where r > 1e-3: nothing is left of the checkpoint.
    """
    eta_L = training.eta * declared.L
    refuse_unless(eta_L < 1, f"eta L = {eta_L:g}: going back needs eta L < 1")
    refuse_unless(not training.batch_size, "minibatches: going back needs the very batches of learning, in reverse")
    error = rounding * (1 - eta_L) ** -training.K
    horizon = int(math.log(HORIZON / rounding) / -math.log1p(-eta_L))
    refuse_unless(error <= HORIZON, f"K = {training.K}: beyond {horizon} steps back rounding has eaten the checkpoint")
    growth = {LossClass.STRONGLY_CONVEX: 1 - training.eta * declared.mu, LossClass.CONVEX: 1.0}
    return rewind_sensitivity(declared, training) + growth.get(declared.loss_class, 1 + eta_L) ** training.K * error


def certify(
    declared: Declared | None,
    training: Training,
    epsilon: float,
    delta: float,
    *,
    sensitivity=rewind_sensitivity,
    sigma=analytic_sigma,
    parameter_size: float = 0.0,
    required: bool = False,
) -> Certificate:
    """Return the certificate of a training, or why there is none.

    `sensitivity(declared, training)` and `sigma(epsilon, delta, sensitivity)` choose method and mechanism;
    `parameter_size` is max |x|, against which noise below rounding is refused. With `required` a training that cannot
    be certified raises instead of returning an uncertified result.

    Raises:
        InvalidSetting: a setting without meaning, outside a bound's range, or `required` and not certifiable.
    """
    check_target(epsilon, delta)
    reasons = [text for void, text in BECAUSE.items() if void in training.void]
    if training.batch_size:
        reasons.append("minibatches: the bound holds in expectation; take algorithms.relaxed_mechanism for the noise")
    if declared is None:
        reasons.append("no constants are declared: G and L of every record must be proven")
    if reasons or declared is None:
        refuse_unless(not required, f"cannot be certified: {'; '.join(reasons)}")
        return Certificate(False, tuple(reasons), DELETION, epsilon, delta, math.nan, math.nan)
    bound = sensitivity(declared, training)
    noise = sigma(epsilon, delta, bound)
    floor = ROUNDING * parameter_size
    refuse_unless(
        noise == 0 or noise >= floor,
        f"sigma = {noise:.3g} is below the rounding {floor:.3g} of the parameters: meaningless",
    )
    return Certificate(True, (), DELETION, epsilon, delta, bound, noise)
