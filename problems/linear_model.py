"""Two atoms that families of linear models use: a mat-vec with a contiguous adjoint, and a link with a cheap slope.

With them plain `jax.grad` of a loss costs what its hand-written formula costs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array


@struct.dataclass
class Design:
    """A data matrix beside its contiguous transpose: A is (n, d), AT is (d, n)."""

    A: Array
    AT: Array

    @staticmethod
    def of(A: Array) -> "Design":
        """Return the design of the matrix A."""
        return Design(A, jnp.asarray(A).T)

    def rows(self, index: Array) -> "Design":
        """Return the design of the rows at `index`."""
        return Design.of(self.A[index])


@jax.custom_vjp
def matvec(design: Design, x: Array) -> Array:
    """Return A x, whose adjoint is the gemm AT r over the contiguous transpose (no gradient in A)."""
    return design.A @ x


def _forward(design: Design, x: Array) -> tuple[Array, Design]:
    return design.A @ x, design


def _backward(design: Design, r: Array) -> tuple[None, Array]:
    return None, design.AT @ r


matvec.defvjp(_forward, _backward)


def link(value: Callable[..., Array], slope: Callable[..., Array]) -> Callable[..., Array]:
    """Return `value(margin, *labels)` as an elementwise function whose derivative in the margin is `slope`.

    Autodiff of a stable scalar loss costs several transcendentals; its slope usually costs one.
    """

    @jax.custom_jvp
    def linked(margin, *labels):
        return value(margin, *labels)

    @linked.defjvp
    def _(primals, tangents):
        return linked(*primals), slope(*primals) * tangents[0]

    return linked
