"""What certified unlearning costs by published rules, recomputed, and by ours: facts to print beside our own runs.

100 records are replaced one after the other (logistic regression, |x| = 1, l2 = mu, G = 1, L = 1/4 + mu, eta = 1/L,
delta = 1/n), and after each request the model must again be (epsilon, delta)-indistinguishable from a retrained one.
With c = 1 - eta mu, s = sqrt(2 eta) sigma, batches of b and K_i epochs after request i, the distance before it is
  Z_i = c^(K_(i-1) n/b) Z_(i-1) + Z_B,  Z_B = 2 eta G/(b (1 - c^(n/b))), published with 1 - c, looser for b < n,
and K_i is the least number of epochs, k = K_i n/b steps, that a rule accepts:
  published  min over alpha in (2, 1e5) of alpha r + log(1/delta)/(alpha - 1) <= epsilon, r = (Z_i/s)^2 times
             c^(2k) (1 - c^2)/(1 - c^(2k)) (sharp) or c^(2k) (loose);
  ours       mu-GDP, mu = c^k (Z_i/s) sqrt((1 - c^2)/(1 - c^(2k))): mu^2 = r, of Renyi divergence alpha r/2;
  all noise  mu = c^k (Z_i/s) sqrt(1 - c^2), full batch: the noise of learning hides too (`algorithms.noisy_descent`).
Sources: Chien et al. (2024), arXiv:2403.17105 (PNSGD) and arXiv:2401.10371 (Langevin, with Descent-to-Delete of
Neel et al., arXiv:2007.02923, beside it), the numbers of their published runs. Langevin and Descent-to-Delete ran
with L = lambda_max(A^T A/n)/4 + mu, a number of the data A. Without the data, it is fitted to the total of
Descent-to-Delete: that row is then no check, those of Langevin are.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr

SIGMA, EPSILON, REQUESTS, MOST_STEPS, ORDERS = 0.03, 1.0, 100, 1 << 20, (2.0, 1e5)
EPSILONS = (0.05, 0.1, 0.5, 1.0, 2.0, 5.0)  # of `SIGMAS`
Row = tuple[str | float, ...]
COLUMNS = ["quantity", "setting", "published", "recomputed", "ours", "ours_all_noise", "rule"]


@dataclass(frozen=True)
class Setting:
    """A strongly convex problem and its step: n records, d parameters, mu, L; G = 1, eta = 1/L, delta = 1/n.

    Raises:
        ValueError: mu <= 0 or mu > L (the rules divide by 1 - c), n < 2.
    """

    name: str
    n: int
    d: int
    mu: float
    L: float

    def __post_init__(self) -> None:
        if not 0 < self.mu <= self.L or self.n < 2:
            raise ValueError(f"mu = {self.mu}, L = {self.L}, n = {self.n}: the rules need 0 < mu <= L and n >= 2")

    @property
    def eta(self) -> float:
        """Return the step size."""
        return 1 / self.L

    @property
    def c(self) -> float:
        """Return the contraction of a step."""
        return 1 - self.eta * self.mu

    @property
    def delta(self) -> float:
        """Return 1/n."""
        return 1 / self.n


def logistic(name: str, n: int, d: int, curvature: float = 0.25) -> Setting:
    """Return logistic regression with mu = 1e-6 n and L = curvature + mu; 1/4 bounds the curvature of every record."""
    return Setting(name, n, d, 1e-6 * n, curvature + 1e-6 * n)


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Return x > 0 with excess(log x) = 0, between low and high."""
    return math.exp(brentq(excess, math.log(low), math.log(high), xtol=1e-13))  # type: ignore[arg-type]


def gaussian_log_delta(epsilon: float, mu: float) -> float:
    """Return log delta(epsilon, mu) of two unit Gaussians that are mu > 0 apart."""
    first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(first + math.log(-math.expm1(second - first))) if second < first else -math.inf


@cache
def largest_gaussian(epsilon: float, delta: float) -> float:
    """Return the largest mu for which mu-GDP is (epsilon, delta)-indistinguishability."""
    most = max(10 * epsilon, 10.0)
    return _root(lambda x: max(gaussian_log_delta(epsilon, math.exp(x)), -1e6) - math.log(delta), 1e-3 * epsilon, most)


def renyi_epsilon(rate: float, delta: float) -> float:
    """Return min over alpha in (2, 1e5) of alpha rate + log(1/delta)/(alpha - 1)."""
    alpha = min(max(1 + math.sqrt(-math.log(delta) / rate), ORDERS[0]), ORDERS[1])
    return alpha * rate - math.log(delta) / (alpha - 1)


@cache
def largest_renyi(epsilon: float, delta: float) -> float:
    """Return the largest rate of `renyi_epsilon` at most epsilon; raise `ValueError` where no order allows any."""
    if renyi_epsilon(1e-300, delta) >= epsilon:
        raise ValueError(f"epsilon = {epsilon}: out of reach at delta = {delta} with orders up to {ORDERS[1]:g}")
    return _root(lambda log_rate: renyi_epsilon(math.exp(log_rate), delta) - epsilon, 1e-300, epsilon)


def gaussian_parameter(z: float, s: float, c: float, k: float) -> float:
    """Return mu of k noisy steps at distance z; infinite for k = 0."""
    return z / s * c**k * math.sqrt((1 - c**2) / (1 - c ** (2 * k))) if k else math.inf


def sharp_rate(z: float, s: float, c: float, k: float) -> float:
    """Return the published Renyi rate, sharp form: mu^2."""
    return gaussian_parameter(z, s, c, k) ** 2


def loose_rate(z: float, s: float, c: float, k: float) -> float:
    """Return the published Renyi rate, loose form."""
    return (z / s * c**k) ** 2


def all_noise_parameter(z: float, s: float, c: float, k: float) -> float:
    """Return mu when learning was as noisy and has converged: earlier requests disturb more, so (3) takes all noise."""
    return z / s * c**k * math.sqrt(1 - c**2)


@dataclass(frozen=True)
class Rule:
    """Accepts k steps at distance z where `cost(z, s, c, k) <= most(epsilon, delta)`; `fewest` epochs are always taken.

    `every_step`: Z_B as if the record were in every batch.
    """

    cost: Callable[[float, float, float, float], float]
    most: Callable[[float, float], float]
    every_step: bool = False
    fewest: int = 1


SHARP = Rule(sharp_rate, largest_renyi, every_step=True)
LOOSE = Rule(loose_rate, largest_renyi, every_step=True)
GAUSSIAN = Rule(gaussian_parameter, largest_gaussian)
ALL_NOISE = Rule(all_noise_parameter, largest_gaussian, fewest=0)


def noise(setting: Setting, sigma: float) -> float:
    """Return s = sqrt(2 eta) sigma; raise `ValueError` for sigma <= 0."""
    if sigma > 0:
        return math.sqrt(2 * setting.eta) * sigma
    raise ValueError(f"sigma = {sigma}: without noise nothing is hidden")


def disturbed(setting: Setting, b: int, every_step: bool = False) -> float:
    """Return Z_B of one record in batches of b; raise `ValueError` where b does not divide n."""
    if b < 1 or setting.n % b:
        raise ValueError(f"b = {b}: must divide n = {setting.n}")
    return 2 * setting.eta / b / (1 - setting.c ** (1 if every_step else setting.n / b))


def epochs(
    setting: Setting, b: int, rule: Rule, records: int = 1, requests: int = REQUESTS, sigma: float = SIGMA
) -> np.ndarray:
    """Return K_i for epsilon = 1, (requests,), each request replacing `records` records.

    Raises:
        ValueError: sigma <= 0, b does not divide n, or `ALL_NOISE` with minibatches, of which it is not proven.
    """
    if rule is ALL_NOISE and b != setting.n:
        raise ValueError(f"b = {b}: the noise of learning is counted on the full batch, b = n = {setting.n}")
    s, c, steps = noise(setting, sigma), setting.c, setting.n / b
    most, disturbance = rule.most(EPSILON, setting.delta), records * disturbed(setting, b, rule.every_step)
    z, K, taken = 0.0, 0, []
    for _ in range(requests):
        z, K = z * c ** (K * steps) + disturbance, rule.fewest
        while not rule.cost(z, s, c, K * steps) <= most:
            K += 1
        taken.append(K)
    return np.array(taken)


def descent_to_delete_steps(setting: Setting, requests: int = REQUESTS) -> np.ndarray:
    """Return the published steps I + ceil(log log(4 d i/delta)/log(1/gamma)) at request i, gamma = (L-mu)/(L+mu).

    The variant that keeps no secret state: I >= log(sqrt(2d)/((1-gamma)(sqrt(2 log(2/delta) + epsilon)
    - sqrt(2 log(2/delta)))))/log(1/gamma). Its noise follows from I; sigma is not given.
    """
    gamma, d, tail = (setting.L - setting.mu) / (setting.L + setting.mu), setting.d, 2 * math.log(2 / setting.delta)
    hidden = (1 - gamma) * (math.sqrt(tail + EPSILON) - math.sqrt(tail))
    first = math.ceil(math.log(math.sqrt(2 * d) / hidden) / -math.log(gamma))
    i = np.arange(1, requests + 1)
    return first + np.ceil(np.log(np.log(4 * d * i / setting.delta)) / -math.log(gamma)).astype(int)


def fitted_curvature(name: str, n: int, d: int, total: int) -> float:
    """Return the largest L - mu <= 1/4, to 1e-6, with which Descent-to-Delete takes no more than `total` steps."""
    steps = lambda i: descent_to_delete_steps(logistic(name, n, d, 1e-6 * i)).sum()  # noqa: E731
    return 1e-6 * bisect_right(range(1, 250_001), total, key=steps)


def langevin_epsilon(exponents: list[int], setting: Setting, records: int, sigma: float) -> float:
    """Return the published epsilon at delta after steps k_1, ..., k_i for i requests of `records` each.

    Renyi: eps_i(alpha) = exp(-eta mu k_i/alpha) ((alpha-1/2)/(alpha-1)) (eps_0(2 alpha) + eps_(i-1)(2 alpha)), the
    first exp(-eta mu k_1/alpha) eps_0(alpha), eps_0(alpha) = 4 alpha records^2/(mu sigma^2 n^2); the best alpha.
    """
    decay, unit = setting.eta * setting.mu, 4 * records**2 / (setting.mu * sigma**2 * setting.n**2)

    def divergence(alpha: float) -> float:
        order, weight, total = alpha, 1.0, 0.0
        for k in exponents[:0:-1]:
            weight *= math.exp(-decay * k / order) * (order - 0.5) / (order - 1)
            order *= 2
            total += weight * unit * order
        return total + weight * math.exp(-decay * exponents[0] / order) * unit * order

    epsilon = lambda alpha: divergence(alpha) - math.log(setting.delta) / (alpha - 1)  # noqa: E731
    return float(minimize_scalar(epsilon, bounds=ORDERS, method="bounded").fun)  # type: ignore[attr-defined]


def langevin_steps(setting: Setting, records: int, requests: int) -> list[int]:
    """Return the least k_i >= 1 for epsilon = 1, one request after the other, by the published rule."""
    taken: list[int] = []
    for _ in range(requests):
        kept = lambda k, before=tuple(taken): langevin_epsilon([*before, k], setting, records, SIGMA) <= EPSILON  # noqa: E731
        taken.append(1 + bisect_left(range(1, MOST_STEPS), True, key=kept))
    return taken


def one_step_sigma(setting: Setting, epsilon: float) -> tuple[float, ...]:
    """Return the least sigma for one step after one record: published for Langevin, ours, ours with all noise."""
    published = _root(lambda x: langevin_epsilon([1], setting, 1, math.exp(x)) - epsilon, 1e-4, 10.0)
    z, unit = disturbed(setting, setting.n), noise(setting, 1.0)
    gaussian, whole = (rule.cost(z, unit, setting.c, 1) for rule in (GAUSSIAN, ALL_NOISE))
    return published, *(mu / largest_gaussian(epsilon, setting.delta) for mu in (gaussian, whole))


PNSGD = {  # setting: published epochs in total by batch size, 0 for the full batch
    logistic("MNIST 3 v 8", 11264, 784): {128: 100, 256: 200, 512: 300, 0: 886},
    logistic("CIFAR-10 3 v 8", 9728, 512): {128: 200, 256: 200, 512: 350, 0: 1183},
}
MNIST, CIFAR = logistic("MNIST 3 v 8", 11982, 784), logistic("CIFAR-10 3 v 8", 10000, 512)
DESCENT = {MNIST: 9118, CIFAR: 10098}  # published epochs in total
LANGEVIN = {MNIST: {5: 19717, 10: 8739, 20: 5058}, CIFAR: {5: 23142, 10: 10504, 20: 6123}}  # by records a request
SIGMAS = {MNIST: (0.1872, 0.094, 0.019, 0.0096, 0.0049, 0.0021), CIFAR: (0.2431, 0.122, 0.025, 0.0125, 0.0064, 0.0028)}


def _noisy_rows() -> list[Row]:
    rows: list[Row] = []
    for setting, totals in PNSGD.items():
        for batch, published in totals.items():
            b, what = batch or setting.n, f"epochs, PNSGD, b = {batch or 'n'}"
            whole = math.nan if batch else epochs(setting, b, ALL_NOISE).sum()
            sharp, loose, ours = (epochs(setting, b, rule).sum() for rule in (SHARP, LOOSE, GAUSSIAN))
            rows.append((what, setting.name, published, sharp, ours, whole, "sharp, Z_B with 1 - c"))
            rows.append((what, setting.name, math.nan, loose, math.nan, math.nan, "loose, Z_B with 1 - c"))
    return rows


def _langevin_rows() -> list[Row]:
    rows: list[Row] = []
    for declared, total in DESCENT.items():
        name, n, d = declared.name, declared.n, declared.d
        fitted = logistic(name, n, d, fitted_curvature(name, n, d, total))
        for setting, rule in ((declared, "L = 1/4 + mu"), (fitted, f"L = {fitted.L:.4f}, fitted to this total")):
            steps = descent_to_delete_steps(setting).sum()
            rows.append(("epochs, Descent-to-Delete", name, total, steps, math.nan, math.nan, rule))
        for records, published in LANGEVIN[declared].items():
            what, requests = f"epochs, Langevin, {records} records a request", REQUESTS // records
            theirs = sum(langevin_steps(fitted, records, requests))
            ours = (epochs(fitted, n, rule, records, requests).sum() for rule in (GAUSSIAN, ALL_NOISE))
            rows.append((what, name, published, theirs, *ours, f"L = {fitted.L:.4f}"))
        for epsilon, published in zip(EPSILONS, SIGMAS[declared], strict=True):
            what = f"sigma for one step, Langevin, epsilon = {epsilon:g}"
            rows.append((what, name, published, *one_step_sigma(declared, epsilon), "L = 1/4 + mu"))
    return rows


def sequential_unlearning() -> pd.DataFrame:
    """Return published numbers beside the recomputed ones, by their rule and by ours, with the columns `COLUMNS`.

    100 records, epsilon = 1, sigma = 0.03. `ours_all_noise` is NaN for minibatches, `ours` for Descent-to-Delete, whose
    noise is not given but follows from its steps.
    """
    return pd.DataFrame([*_noisy_rows(), *_langevin_rows()], columns=pd.Index(COLUMNS))


def published_rewind() -> pd.DataFrame:
    """Return quantity, setting, published, recomputed for the curves of Mu & Klabjan (2024), arXiv:2409.09778.

    sigma(epsilon = 0.1)/sigma(4) of the analytic Gaussian mechanism at delta = 0.1 is free of all other constants. The
    growth eta L T that fits the curves of sigma over K needs more of their points than are at hand: NaN.
    """
    ratio = largest_gaussian(4.0, 0.1) / largest_gaussian(0.1, 0.1)
    facts = [
        ("sigma(epsilon = 0.1)/sigma(epsilon = 4)", "eICU", 5.88, ratio),
        ("sigma(epsilon = 0.1)/sigma(epsilon = 4)", "Lacuna-100", 5.84, ratio),
        ("eta L T fitted to sigma(K)", "eICU", 0.61, math.nan),
        ("eta L T fitted to sigma(K)", "Lacuna-100", 1.08, math.nan),
    ]
    return pd.DataFrame(facts, columns=pd.Index(COLUMNS[:4]))
