"""Low-rank adapters of frozen weights:  W = W0 + s B A  turns a problem in W into one in (B, A).

    problem = low_rank(problem_in_W, rank=4)

Every formula reads M -> ell(W0 + s M) at M = B A, so that a scale s is absorbed: smoothness s^2 L, gradient s G. With
G = grad of that function at M, the gradients of the factors are g_B = G A^T and g_A = B^T G (`Problem.weight_grad`,
`Problem.pull_back`): one backward pass gives every G. In a tree of parameters a matrix is a flax kernel, (inputs,
outputs), the transpose of W: B is (outputs, r), A is (r, inputs), and everything that is not adapted stays frozen.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from problems.constants import Constants, Regularity, require
from problems.oracles import Factored, FiniteSum
from problems.problem import Family, Problem

CARRIED = Regularity.NONNEGATIVE  # what is true of every W is true of the adapted ones


@struct.dataclass
class Adapter:
    """B is (m, r), A is (r, n)."""

    B: Array
    A: Array


@struct.dataclass
class Adapted:
    """The data of an adapted problem: `base` are those of the problem in W, W0 is the frozen point, a matrix or a tree.

    `size` is what a start may scale its factors with.
    """

    base: Any
    W0: Any
    scale: Array
    size: Array
    rank: int = struct.field(pytree_node=False)
    adapted: tuple[str, ...] = struct.field(pytree_node=False)  # paths of the adapted matrices; none: W0 is the matrix


Start = Callable[[Adapted, Array], Any]  # a start (B, A), or one a path, that the key draws


def is_adapter(node: Any) -> bool:
    """Return whether a node of a point is an adapter: the `is_leaf` of maps over adapters."""
    return isinstance(node, Adapter)


def each_matrix(start: Callable[[Array, tuple[int, int], int, Array], Adapter]) -> Start:
    """Return the start that draws `start(key, (m, n), rank, size)` for every adapted matrix."""

    def init(data: Adapted, key: Array) -> Any:
        if not data.adapted:
            return start(key, data.W0.shape, data.rank, data.size)
        kernels = by_path(data.W0)
        keys = jax.random.split(key, len(data.adapted))
        shapes = [(kernels[path].shape[1], kernels[path].shape[0]) for path in data.adapted]
        return {
            path: start(k, shape, data.rank, data.size)
            for path, k, shape in zip(data.adapted, keys, shapes, strict=True)
        }

    return init


def kaiming(key: Array, shape: tuple[int, int], rank: int, size: Array) -> Adapter:
    """Return LoRA's start (Hu et al. 2021): B = 0, A uniform on (-1/sqrt n, 1/sqrt n)."""
    m, n = shape
    radius = n**-0.5
    return Adapter(jnp.zeros((m, rank)), jax.random.uniform(key, (rank, n), minval=-radius, maxval=radius))


def gaussian(key: Array, shape: tuple[int, int], rank: int, size: Array) -> Adapter:
    """Return factors of independent normal entries with standard deviation `size`."""
    left, right = jax.random.split(key)
    return Adapter(size * jax.random.normal(left, (shape[0], rank)), size * jax.random.normal(right, (rank, shape[1])))


def constant(key: Array, shape: tuple[int, int], rank: int, size: Array) -> Adapter:
    """Return factors whose entries are all `size`."""
    return Adapter(jnp.full((shape[0], rank), size), jnp.full((rank, shape[1]), size))


lora_start, gaussian_start, constant_start = each_matrix(kaiming), each_matrix(gaussian), each_matrix(constant)


def by_path(tree: Any) -> dict[str, Array]:
    """Return the leaves of a tree by their path, `params/Dense_0/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def product(data: Adapted, x: Any) -> Any:
    """Return M = B A, or one a path."""
    return jax.tree.map(lambda adapter: adapter.B @ adapter.A, x, is_leaf=is_adapter)


def weight(data: Adapted, M: Any) -> Any:
    """Return the full weight W0 + s M, or the tree of parameters whose adapted kernels are W0 + s M^T."""
    if not data.adapted:
        return data.W0 + data.scale * M

    def moved(path: Any, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf + data.scale * M[name].T if name in M else leaf

    return jax.tree_util.tree_map_with_path(moved, data.W0)


def merged(problem: Problem[Adapted, Any], x: Any) -> Any:
    """Return the point of the problem in W that the adapters `x` stand for: the fine-tuned model."""
    return weight(problem.data, product(problem.data, x))


def within(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return the oracle `function(data, ...) -> data` of the problem in W as one of the adapted problem."""
    if function is None:
        return None
    return lambda data, *args: replace(data, base=function(data.base, *args))


@lru_cache
def family_of(base: Family, init: Start, claims: Regularity) -> Family:
    """Return the family of adapted problems: the same object for the same arguments, so that nothing recompiles."""

    def at_weight(function: Callable[[Any, Any], Any]) -> Callable[[Adapted, Any], Any]:
        return lambda data, x: function(data.base, weight(data, product(data, x)))

    def loss(data: Adapted, M: Any) -> Array:
        return base.value(data.base, weight(data, M))

    bounded = Regularity.LOWER_BOUNDED in base.regularity or Regularity.NONNEGATIVE in base.regularity
    known = (base.regularity & CARRIED) | claims
    if bounded:
        known |= Regularity.BOUNDED_IN_WEIGHT
        known |= Regularity.SMOOTH_IN_WEIGHT if Regularity.SMOOTH in base.regularity else Regularity.NONE
    records, deletion = base.records, base.deletion
    return Family(
        name=base.name,
        regularity=known,
        init=init,
        value=at_weight(base.value),
        sample=within(base.sample),
        records=records and FiniteSum(within(records.rows), lambda data: records.count(data.base)),  # type: ignore[arg-type]
        deletion=deletion
        and replace(
            deletion,
            retain=within(deletion.retain),
            forget=within(deletion.forget),
            substitute=within(deletion.substitute),
        ),
        factored=Factored(product, loss),
        scores=base.scores and at_weight(base.scores),
        measures=tuple((name, at_weight(measure)) for name, measure in base.measures),
    )


def low_rank(
    problem: Problem,
    rank: int,
    *,
    scale: float = 1.0,
    init: Start = lora_start,
    size: float = 1.0,
    W0: Any = None,
    matrices: tuple[str, ...] = (),
    claims: Regularity = Regularity.NONE,
    stated: Mapping[str, Any] | None = None,
) -> Problem[Adapted, Any]:
    """Return the LoRA version of a problem in a matrix, or in a tree of parameters, with its constants carried along.

    `rank` is that of every adapter, `scale` the factor s = alpha/r, `init` the start and `size` the number it may scale
    with, W0 the frozen point (by default the start that key 0 draws). In a tree every matrix is adapted, or those whose
    path contains one of `matrices`. L_weight = s^2 L and ell_star = f_star (0 where f is merely nonnegative) follow
    where the problem states them. `claims`, with the constants `stated`, is what is proven of f(B, A) beyond that.

    Raises:
        InvalidParameter: no matrix to adapt, a name among `matrices` that none has, a rank outside 1 .. min(m, n), or a
            scale that is not positive and finite.
    """
    require(0 < scale < np.inf, f"scale = {scale}: alpha/r must be positive and finite")
    W0 = jax.tree.map(full_precision, problem.init(jax.random.key(0)) if W0 is None else W0)
    paths = () if jax.tree_util.treedef_is_leaf(jax.tree.structure(W0)) else adapted_paths(W0, matrices)
    shapes = {path: by_path(W0)[path].shape for path in paths} or {"the weight": jnp.shape(W0)}
    for path, shape in shapes.items():
        require(len(shape) == 2, f"{path} has shape {shape}: an adapter adapts a matrix")
        m, n = shape
        require(1 <= rank <= min(m, n), f"rank = {rank}: adapters of {path}, {m} x {n}, have rank 1 to {min(m, n)}")
    data = Adapted(problem.data, W0, full_precision(scale), full_precision(size), rank, paths)
    family = family_of(problem.family, init, claims)
    return Problem(family, data, replace(carried(problem, family, shapes, data), **(stated or {})))


def adapted_paths(W0: Any, matrices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of the matrices to adapt."""
    found = [path for path, leaf in by_path(W0).items() if jnp.ndim(leaf) == 2]
    for name in matrices or ("",):
        there = any(name in path for path in found)
        require(there, f"matrices = {name or 'all'}: the matrices are {', '.join(found) or 'none'}")
    return tuple(path for path in found if not matrices or any(name in path for name in matrices))


def full_precision(number: Any) -> Any:
    """Return an array of floating numbers, in double precision on the host: a session may turn to that later."""
    return jnp.asarray(number, float) if isinstance(number, jax.Array) else np.asarray(number, float)


def carried(problem: Problem, family: Family, shapes: dict[str, tuple[int, ...]], data: Adapted) -> Constants:
    """Return the constants of the adapted problem that follow from those of the problem in W."""
    c, has = problem.constants, problem.family.regularity
    known = Constants(n=c.n, forgotten=c.forgotten)
    known = replace(known, dimension=full_precision(sum(data.rank * sum(shape) for shape in shapes.values())))
    if Regularity.BOUNDED_IN_WEIGHT in family.regularity:
        lowest = c.f_star if Regularity.LOWER_BOUNDED in has else full_precision(0.0)
        known = replace(known, ell_star=lowest)
    if Regularity.SMOOTH_IN_WEIGHT in family.regularity:
        known = replace(known, L_weight=data.scale**2 * c.L)
    return known
