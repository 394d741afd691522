"""NoRA+:  B+ = B - eta g_B P_A/|P_A|_F,  A+ = A - eta (P_B/|P_B|_F) g_A,  P_A = (A A^T + damping I)^{-1}, P_B likewise.

g_B = G A^T, g_A = B^T G; ScaledGD whose preconditioners are damped and divided by their Frobenius norm, as the
published code does it (damping 1e-6), so that eta is not ScaledGD's: the step vanishes with the smallest eigenvalue of
A A^T. The published start is lora_A = sigma Omega W_pre, lora_B = 0, the start `nora` of `matrix_factorization`; with
B = 0 the first update of A vanishes by itself. Nothing is proven about the normalised step.
Source: Li, Zhang, Mokhtari & He (2025), arXiv:2410.18965.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from algorithms.algorithm import Algorithm, refuse_unless_positive
from algorithms.metric import VALUE
from algorithms.theorem import Source
from problems.adapter import Adapter, is_adapter
from problems.oracles import Oracle


@struct.dataclass
class HParams:
    """eta: step size; damping: what is added to the Gram matrices."""

    eta: Array | float | str = 0.5
    damping: Array | float | str = 1e-6


@struct.dataclass
class State:
    x: Any


def prepare(hp: HParams) -> HParams:
    """Return `hp`; raise `InvalidSetting` for a step size or a damping that is not positive and finite."""
    refuse_unless_positive(hp.eta)
    refuse_unless_positive(hp.damping, "damping")
    return hp


def init(problem, x0, key, hp):
    return State(x0)


def normalised_inverse(gram: Array, damping: Array) -> Array:
    """Return (gram + damping I)^{-1} divided by its Frobenius norm."""
    inverse = jnp.linalg.inv(gram + damping * jnp.eye(len(gram)))
    return inverse / jnp.linalg.norm(inverse)


def step(problem, state, key, hp):
    def preconditioned(x: Adapter, g: Adapter) -> Adapter:
        P_A, P_B = normalised_inverse(x.A @ x.A.T, hp.damping), normalised_inverse(x.B.T @ x.B, hp.damping)
        return Adapter(x.B - hp.eta * g.B @ P_A, x.A - hp.eta * P_B @ g.A)

    gradient = problem.pull_back(state.x, problem.weight_grad(state.x))
    return State(jax.tree.map(preconditioned, state.x, gradient, is_leaf=is_adapter))


def readout(state):
    return state.x


algorithm = Algorithm(
    name="nora",
    source=Source(
        "Li, Zhang, Mokhtari & He",
        2025,
        "On the Crucial Role of Initialization for Matrix Factorization",
        "arXiv:2410.18965",
    ),
    hparams=HParams,
    init=init,
    step=step,
    readout=readout,
    needs=Oracle.WEIGHT_GRADIENT,
    prepare=prepare,
    metrics=(VALUE,),
)
