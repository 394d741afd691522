"""How far apart deletion can leave two coupled stochastic runs: in mean, surely and in the tail, any step sizes.

One step on B instead of B', which differ in j records, adds at most 2 G eta_s j_s/b to the distance, and the joint
step of size eta_s (then projected) multiplies it by at most g_s = 1 + eta_s rate: rate = -mu if every record is
mu-strongly convex and eta <= 2/(L + mu), 0 if every record is convex and eta <= 2/L, L otherwise. So
  e_{s+1} <= min(2 radius, g_s e_s + (2 G/b) eta_s j_s),  j_s independent over s, j_s = 0 once both run on D'.

j_s ~ Hypergeometric(n, m, b) for b-subsets, of mean bm/n and never above min(b, m). Its law is the same with m and b
exchanged and is below Binomial(min(b, m), max(b, m)/n) in convex order (Hoeffding 1963, theorem 4), so that one
bounds its moment generating function; with replacement j_s ~ Binomial(b, m/n). On the whole of D nothing is random:
a step adds 2 G eta_s m/n. With a_s = (2 G/b) eta_s g_{s+1} ... g_{t-1} the tail of sum_s a_s j_s is Chernoff's,
  D_p = min_{z>0} [count sum_s log(1 + q (e^{z a_s} - 1)) + log(1/p)]/z.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.relaxed_mechanism import Distance, chernoff_radius
from problems.constants import Constants


@struct.dataclass
class Course:
    """Steps first, ..., steps - 1 of two runs that begin at most `start` apart; those before `learned` disturb.

    `rate` is that of the class of losses. Step s has the size eta decay^s in both runs.
    """

    steps: Array
    learned: Array
    rate: Array
    first: Array | int = 0
    start: Array | float = 0.0


@struct.dataclass
class Hits:
    """j ~ Binomial(count, probability), at most in convex order; a hit at step s adds eta_s unit to the distance."""

    unit: Array
    count: Array
    probability: Array


def hits(c: Constants, hp: Any) -> Hits:
    """Return the law of the number of forgotten records in a step's minibatch."""
    b, m = hp.batch_size, c.forgotten
    if b == 0:
        return Hits(2 * c.G * m / c.n, jnp.ones(()), jnp.ones(()))
    if hp.sampling == "independent":
        return Hits(2 * c.G / b, jnp.asarray(b, float), m / c.n)
    return Hits(2 * c.G / b, jnp.minimum(b, m), jnp.maximum(b, m) / c.n)


def step_size(s: Array, hp: Any) -> Array:
    """Return eta decay^s."""
    return hp.eta * hp.decay**s


def growth(s: Array, hp: Any, rate: Array) -> Array:
    """Return g_s = 1 + eta_s rate, kept above 0 where eta_s mu = 1 (an upper bound there)."""
    return jnp.maximum(1 + step_size(s, hp) * rate, jnp.finfo(jnp.zeros(()).dtype).eps)


def whole(steps: Array | int) -> Array:
    """Return a number of steps as an integer >= 0."""
    return jnp.maximum(jnp.asarray(steps, jnp.int32), 0)


def recursion(course: Course, hp: Any, disturbance: Array | float) -> Array:
    """Return e after the course, e_{s+1} = min(2 radius, g_s e_s + eta_s disturbance) while s < learned."""

    def advance(s: Array, e: Array) -> Array:
        added = jnp.where(s < course.learned, step_size(s, hp) * disturbance, 0.0)
        return jnp.minimum(growth(s, hp, course.rate) * e + added, 2 * hp.radius)

    start = jnp.asarray(course.start, float)
    return jax.lax.fori_loop(whole(course.first), whole(course.steps), advance, start)


def expected(course: Course, c: Constants, hp: Any) -> Array:
    """Return the bound on E |u - v|: that of the full batch, since E j = bm/n."""
    return recursion(course, hp, 2 * c.G * c.forgotten / c.n)


def surely(course: Course, c: Constants, hp: Any) -> Array:
    """Return the bound on |u - v| in every run: every minibatch holds as many forgotten records as it can."""
    law = hits(c, hp)
    return recursion(course, hp, law.unit * law.count)


def tail(course: Course, c: Constants, hp: Any, p: Array | float) -> Array:
    """Return D_p: |u - v| exceeds it with probability at most p."""
    law = hits(c, hp)
    log_unit = jnp.log(law.unit)
    first, steps = whole(course.first), whole(course.steps)

    def backwards(update: Any, start: Any) -> Any:
        """Fold update(value, log a_s) over s = steps - 1, ..., first."""

        def advance(i: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
            log_product, value = carry
            s = steps - 1 - i
            log_a = jnp.where(s < course.learned, log_unit + jnp.log(step_size(s, hp)) + log_product, -jnp.inf)
            return log_product + jnp.log(growth(s, hp, course.rate)), update(value, log_a)

        return jax.lax.fori_loop(0, steps - first, advance, (jnp.zeros(()), start))

    log_product, log_largest = backwards(jnp.maximum, jnp.asarray(-jnp.inf))
    largest = jnp.where(jnp.isneginf(log_largest), 0.0, log_largest)

    def cumulant(z: Array) -> Array:
        def update(total: Array, log_a: Array) -> Array:
            return total + jnp.log1p(law.probability * jnp.expm1(z * jnp.exp(log_a - largest)))

        return law.count * backwards(update, jnp.zeros_like(z))[1]

    jumps = jnp.where(jnp.isneginf(log_largest), 0.0, jnp.exp(largest) * chernoff_radius(cumulant, jnp.asarray(p)))
    from_start = jnp.where(jnp.asarray(course.start) > 0, jnp.exp(log_product) * course.start, 0.0)
    return jnp.minimum(from_start + jumps, surely(course, c, hp))


def distance(course: Course, c: Constants, hp: Any) -> Distance:
    """Return all that is known of |u - v| after the course."""
    return Distance(expected(course, c, hp), surely(course, c, hp), lambda p: tail(course, c, hp, p))
