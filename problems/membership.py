"""What a model still knows of the forgotten records Z, beside records never trained on. Descriptive, no certificate.

  forget_accuracy, retained_accuracy, unseen_accuracy    share of right labels on Z, D' and unseen records
  forget_loss                                            mean loss on Z
  membership_auc    P(loss on Z < loss on unseen) + P(equal)/2: the chance that an attacker who calls the record with
                    the smaller loss the member is right. Retraining is the reference, not 1/2: users differ in style.
Data must offer inputs, labels, kept and, for the last two, unseen_inputs and unseen_labels (`problems.users.Records`).
Source: Yeom et al. (2018), Privacy risk in machine learning, for the loss attack.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from problems.problem import Problem

Measure = Callable[[Any, Any], Array]
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def measures(
    scores: Callable[[Any, Any], Array],
    loss: Callable[[Array, Array], Array] = cross_entropy,
    unseen: bool = True,
    classes: bool = True,
    forgets: bool = True,
) -> tuple[tuple[str, Measure], ...]:
    """Return the measures of a model: `scores(x, inputs)` (b, C) of a point x, `loss(scores, labels)` (b,).

    Without `unseen` records what compares with them is left out, without `classes` what needs a right label,
    without `forgets` what speaks of forgotten records.
    """

    def losses(x: Any, inputs: Any, labels: Array) -> Array:
        return loss(scores(x, inputs), labels)

    def right(x: Any, inputs: Any, labels: Array) -> Array:
        return jnp.argmax(scores(x, inputs), axis=-1) == labels

    def forget_loss(data: Any, x: Any) -> Array:
        return mean_over(1 - data.kept, losses(x, data.inputs, data.labels))

    def forget_accuracy(data: Any, x: Any) -> Array:
        return mean_over(1 - data.kept, right(x, data.inputs, data.labels))

    def retained_accuracy(data: Any, x: Any) -> Array:
        return mean_over(data.kept, right(x, data.inputs, data.labels))

    def unseen_accuracy(data: Any, x: Any) -> Array:
        return jnp.mean(right(x, data.unseen_inputs, data.unseen_labels))

    def membership_auc(data: Any, x: Any) -> Array:
        members = losses(x, data.inputs, data.labels)
        others = losses(x, data.unseen_inputs, data.unseen_labels)
        return mean_over(1 - data.kept, chance_below(members, others))

    found: list[tuple[str, Measure]] = [("forget_loss", forget_loss)] if forgets else []
    if classes and forgets:
        found += [("forget_accuracy", forget_accuracy)]
    if classes:
        found += [("retained_accuracy" if forgets else "accuracy", retained_accuracy)]
    if classes and unseen:
        found += [("unseen_accuracy", unseen_accuracy)]
    if unseen and forgets:
        found += [("membership_auc", membership_auc)]
    return tuple(found)


def mean_over(mask: Array, values: Array) -> Array:
    """Return the mean of the values (n,) where the mask (n,) is 1."""
    return jnp.sum(mask * values) / jnp.sum(mask)


def chance_below(members: Array, others: Array) -> Array:
    """Return, for each member, the share of others that are larger, ties counted half."""
    ordered = jnp.sort(others)
    not_above, below = (jnp.searchsorted(ordered, members, side=side) for side in ("right", "left"))
    return 1 - 0.5 * (not_above + below) / len(others)


def loss_barrier(problem: Problem, u: Any, v: Any, points: int = 21) -> Array:
    """Return max over t in [0, 1] of f_{D'}((1-t) u + t v) - (1-t) f_{D'}(u) - t f_{D'}(v): 0 where they connect."""
    retained = problem.retained()
    t = jnp.linspace(0.0, 1.0, points)
    between = jax.vmap(lambda s: retained.value(jax.tree.map(lambda a, b: (1 - s) * a + s * b, u, v)))(t)
    return jnp.max(between - (1 - t) * between[0] - t * between[-1])
