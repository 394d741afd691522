"""Any optax optimiser on LoRA adapters:  V+ = V + optimiser(eta).update(grad J(V)),  V = (B, A), J(V) = ell(W0 + B A).

`optimiser` is one of optax, or of optax.contrib, that takes a learning rate and needs nothing else: adamw, sgd, lion,
muon, ... Nothing is proven. `sgd` is `lora_gradient_descent[rule=const]`; the others break its balance identity, whose
sum over gradient steps of size eta stands in the state.
Source: Hu et al. (2021), LoRA, who train adapters with AdamW.
"""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import FunctionType
from typing import Any

import optax
from flax import struct
from jax import Array

from algorithms import adapter_steps
from algorithms.adapter_steps import ADAPTER_NORM_SQ, WEIGHT_GAP, Balance
from algorithms.algorithm import refuse_unless, refuse_unless_positive
from algorithms.balance import batch_calls, minibatch, refuse_batch_size
from algorithms.from_optax import OptaxState, from_optax
from algorithms.theorem import Source
from problems.constants import Regularity
from problems.oracles import Oracle

LEFT_OUT = ("noisy_sgd", "optimistic_adam", "sophia")  # need a key, are deprecated, need a loss of their own
NEAREST = 3


@struct.dataclass
class HParams:
    """optimiser: its name; eta: its learning rate; batch_size: records of a minibatch, 0 the whole objective."""

    optimiser: str = struct.field(pytree_node=False, default="adamw")
    eta: Array | float | str = 1e-3
    batch_size: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class State:
    opt: OptaxState
    balance: Balance


@cache
def optimisers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Return the optimisers that run with a learning rate and defaults, by name."""
    offered = {name: getattr(module, name) for module in (optax.contrib, optax) for name in dir(module)}
    names = (name for name in offered if not name.startswith(("_", "scale_by")) and name not in LEFT_OUT)
    return {name: offered[name] for name in names if needs_only_a_rate(offered[name])}


def needs_only_a_rate(function: Any) -> bool:
    """Return whether a function takes `learning_rate` and has defaults for everything else."""
    if not isinstance(function, FunctionType | partial):
        return False
    parameters = dict(inspect.signature(function).parameters)
    rate = parameters.pop("learning_rate", None)
    return rate is not None and all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters.values())


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for an optimiser that is not there (names the nearest) or eta <= 0."""
    near = difflib.get_close_matches(hp.optimiser, optimisers(), NEAREST, cutoff=0.0)
    refuse_unless(
        hp.optimiser in optimisers(),
        f"optimiser = {hp.optimiser!r}: optax has none of that name that runs on a learning rate alone; "
        f"the nearest are {', '.join(near)}",
    )
    refuse_unless_positive(hp.eta)
    refuse_batch_size(hp.batch_size)
    return hp


plain = from_optax(
    name="lora_optax",
    make=lambda hp: optimisers()[hp.optimiser](learning_rate=hp.eta),
    hparams=HParams,
    source=Source("Hu et al.", 2021, "LoRA: low-rank adaptation of large language models", "arXiv:2106.09685"),
)


def init(problem, x0, key, hp):
    refuse_batch_size(hp.batch_size, problem)
    return State(plain.init(problem, x0, key, hp), adapter_steps.balance_at(x0))


def step(problem, state, key, hp):
    batch = minibatch(problem, key, hp.batch_size)
    balance = adapter_steps.rebalanced(state.balance, hp.eta, batch.grad(state.opt.x))
    return State(plain.step(batch, state.opt, key, hp), balance)


algorithm = replace(
    plain,
    init=init,
    step=step,
    readout=lambda state: state.opt.x,
    needs=Oracle.WEIGHT_GRADIENT,
    requires=Regularity.BOUNDED_IN_WEIGHT,
    calls=lambda problem, hp: batch_calls(problem, hp.batch_size),
    prepare=prepare,
    metrics=(WEIGHT_GAP, ADAPTER_NORM_SQ),
)
