"""The segment of every method lowers for cpu, cuda and tpu on any machine: nothing is CPU-only."""

from functools import partial

import jax
import numpy as np
import pytest

from bench.data import shapes_of
from bench.engine import segment, start_all
from bench.grid import Request, cross
from bench.plan import Chunk
from bench.task import program_of

PAIRS = (
    ("quadratic", "gradient_descent"),
    ("logistic_regression[l2=0.1]", "nesterov"),
    ("least_squares", "stochastic_gradient_descent"),
    ("mlp_classifier", "adam"),
    ("logistic_regression[l2=0.1]", "rewind_to_delete"),
    ("logistic_regression[l2=0.1]", "descent_to_delete"),
    ("matrix_factorization", "lora_gradient_descent"),
    ("garnet", "softmax_policy_gradient"),
    ("garnet", "truncated_exact_policy_gradient"),
    ("garnet", "truncated_policy_gradient"),
)


@pytest.mark.parametrize(("problem", "algorithm"), PAIRS)
def test_a_segment_lowers_everywhere(problem, algorithm):
    (task,) = cross(Request((problem,), (algorithm,), seeds=4, steps=10), 0, "float64").tasks
    program, lanes = program_of(task), shapes_of(task, Chunk(4, len(task.settings)))
    carry = jax.eval_shape(partial(start_all, program), lanes)
    step = jax.ShapeDtypeStruct((), np.int32)
    lowered = jax.export.export(jax.jit(partial(segment, program)), platforms=("cpu", "cuda", "tpu"))
    assert lowered(lanes, carry, step, step).platforms == ("cpu", "cuda", "tpu")
