"""Compile a segment once for each program, tree structure and shapes, its lanes split over the devices."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from algorithms.algorithm import InvalidSetting
from bench.engine import Carry, Lanes, Layout, Program, Record, layout_of, segment, start_all
from bench.errors import UserError
from bench.once import Once

Device = Any  # `jax.Device` is no type for a checker
FAST_TO_COMPILE: dict[str, Any] = {"xla_backend_optimization_level": 0}


@dataclass(frozen=True)
class Compiled:
    """A segment compiled for one set of shapes: `advance(lanes, carry, t, k)` gives back the carry and the record.

    `seconds` is the time of lowering and compiling, `bytes` what XLA plans to hold on one device.
    """

    advance: Callable[[Lanes, Carry, int, int], tuple[Carry, Record]]
    blank: Callable[[], Carry]
    restore: Callable[[tuple[np.ndarray, ...]], Carry]
    place: Callable[[Lanes], Lanes]
    seconds: float
    bytes: int


def split(tree: Any, axes: Any) -> Any:
    """Return, leaf by leaf, the partition over devices of the axis that `axes` names (an int for all, None: none)."""

    def spec(leaf: Any, axis: int | None) -> PartitionSpec:
        if axis is None:
            return PartitionSpec()
        return PartitionSpec(*("lanes" if i == axis % leaf.ndim else None for i in range(leaf.ndim)))

    one = axes is None or isinstance(axes, int)
    return jax.tree.map(lambda leaf: spec(leaf, axes), tree) if one else jax.tree.map(spec, tree, axes)


def split_lanes(lanes: Lanes, by_seed: bool) -> Lanes:
    """Return how a block of lanes lies on the devices: split by seed, or by setting where there are too few seeds."""
    return Lanes(
        problem=split(lanes.problem, 0 if by_seed and lanes.own_data else None),
        keys=split(lanes.keys, 0 if by_seed else None),
        hp=split(lanes.hp, 0 if by_seed else 1),
        own_data=lanes.own_data,
    )


def split_carry(carry: Carry, layout: Layout, by_seed: bool) -> Carry:
    """Return how the carry of a block of lanes lies on the devices."""
    after_seeds = jax.tree.map(lambda axis: 1 if axis == 0 else axis, layout.settings())
    return split(carry, layout.seeds() if by_seed else after_seeds)


def compile_segment(program: Program, lanes: Lanes, devices: tuple[Device, ...], brief: bool = False) -> Compiled:
    """Compile `segment` for the shapes of `lanes`, split over `devices` along seeds if they divide, else along
    settings.

    The lanes are independent, so every device runs the same program on its own lanes and nothing is communicated. What
    runs `brief`ly on a CPU is not optimised: that is a third of the time to compile it.
    """
    seeds, settings = lanes.shape
    by_seed = seeds % len(devices) == 0
    if not by_seed and settings % len(devices):
        devices = devices[:1]
    mesh = jax.make_mesh((len(devices),), ("lanes",), (AxisType.Auto,), devices=devices)
    shapes = jax.eval_shape(partial(start_all, program), lanes)
    carry_specs = split_carry(shapes, layout_of(program, lanes), by_seed)
    record_spec = PartitionSpec("lanes", None) if by_seed else PartitionSpec(None, "lanes")
    lanes_specs = split_lanes(lanes, by_seed)

    def on_mesh(spec: Any) -> Any:
        return jax.tree.map(lambda p: NamedSharding(mesh, p), spec)

    def place(tree: Any, spec: Any) -> Any:
        return jax.device_put(tree, on_mesh(spec))

    def promised(tree: Any, spec: Any) -> Any:
        return jax.tree.map(
            lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), tree, on_mesh(spec)
        )

    def blank() -> Carry:
        return place(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), carry_specs)

    def restore(leaves: tuple[np.ndarray, ...]) -> Carry:
        wanted, structure = jax.tree.flatten(shapes)
        return place(jax.tree.unflatten(structure, map(like, leaves, wanted)), carry_specs)

    mapped = jax.shard_map(
        partial(segment, program),
        mesh=mesh,
        in_specs=(lanes_specs, carry_specs, PartitionSpec(), PartitionSpec()),
        out_specs=(carry_specs, record_spec),
        check_vma=False,
    )
    began = time.perf_counter()
    step = jax.ShapeDtypeStruct((), np.int32)
    arguments = promised(lanes, lanes_specs), promised(shapes, carry_specs), step, step
    options: dict[str, Any] | None = FAST_TO_COMPILE if brief and devices[0].platform == "cpu" else None
    executable = jax.jit(mapped, donate_argnums=1).lower(*arguments).compile(options)
    memory = executable.memory_analysis()
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")

    def advance(lanes: Lanes, carry: Carry, t: int, k: int) -> tuple[Carry, Record]:
        return executable(lanes, carry, np.int32(t), np.int32(k))

    return Compiled(
        advance,
        blank,
        restore,
        lambda lanes: place(lanes, lanes_specs),
        time.perf_counter() - began,
        sum(getattr(memory, part, 0) for part in parts),
    )


def like(numbers: np.ndarray, leaf: jax.ShapeDtypeStruct) -> Array:
    """Return saved numbers as the leaf they were: an array, or a key made of its words again."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(jnp.asarray(numbers)) if is_key else jnp.asarray(numbers, leaf.dtype)


def signature(lanes: Lanes) -> tuple:
    """Return what a compiled segment depends on besides its program: tree structure (family included) and shapes."""
    leaves, structure = jax.tree.flatten(lanes)
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


class Compiler:
    """Compiles each program once per tree structure and shapes, whichever thread asks, and counts."""

    def __init__(self, devices: tuple[Device, ...]):
        self.devices = devices
        self.compiled: Once[Compiled] = Once()
        self.seconds = 0.0

    def __call__(self, program: Program, lanes: Lanes, brief: bool = False) -> Compiled:
        """Return the segment for the shapes of `lanes`, compiling it the first time; `brief` says that it runs briefly.

        Raises:
            UserError: the method refuses a setting on this problem, as only its shapes tell (more rows than records).
        """
        key = program, signature(lanes), brief
        try:
            compiled, mine = self.compiled(key, lambda: compile_segment(program, lanes, self.devices, brief))
        except InvalidSetting as error:
            family = lanes.problem.family.name
            raise UserError(f"{program.algorithm.name} on {family}: {error}") from None
        self.seconds += compiled.seconds if mine else 0.0
        return compiled


def never() -> bool:
    """Return False: no carry is wanted."""
    return False


def run_segments(
    compiled: Compiled,
    lanes: Lanes,
    checkpoints: np.ndarray,
    carry: Carry | None = None,
    done: int = 0,
    wanted: Callable[[], bool] = never,
) -> Iterator[tuple[int, Carry | None, Record]]:
    """Yield (checkpoint number, carry, record) along the run, from the start or from `carry` after `done` checkpoints.

    The next segment is dispatched before a record is fetched, so that the device never waits; it takes the carry with
    it. Only where `wanted()` says so is a carry yielded, and then the device waits until it has been read.
    """
    lanes = compiled.place(lanes)
    carry = compiled.blank() if carry is None else carry
    ahead: tuple[int, Record] | None = None
    for i in range(done, len(checkpoints)):
        t = int(checkpoints[i - 1]) if i else 0
        carry, record = compiled.advance(lanes, carry, t, int(checkpoints[i]) - t)
        if ahead is not None:
            yield ahead[0], None, jax.tree.map(np.asarray, ahead[1])
        ahead = i, record
        if wanted():
            yield i, carry, jax.tree.map(np.asarray, record)
            ahead = None
    if ahead is not None:
        yield ahead[0], None, jax.tree.map(np.asarray, ahead[1])
