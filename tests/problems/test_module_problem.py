"""A user's own model as a problem: swept through the front door, certified by declared constants, mistakes named."""

from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.flatten_util import ravel_pytree

from algorithms.unlearning import rewind_to_delete
from bench import sweep
from bench.choice import ProblemChoice
from bench.grid import applicable
from problems.constants import Constants, InvalidParameter, Regularity
from problems.module import module_problem
from problems.oracles import Oracle

KEY = jax.random.key(0)
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # run briefly: compile fast


class Net(linen.Module):
    """Four hidden units."""

    @linen.compact
    def __call__(self, inputs):
        return linen.Dense(3)(linen.tanh(linen.Dense(4)(inputs)))


class Normalised(linen.Module):
    """Batch normalisation: a state beside the parameters."""

    @linen.compact
    def __call__(self, inputs):
        return linen.BatchNorm(use_running_average=True)(linen.Dense(3)(inputs))


def own_data(n=60):
    """Return inputs, labels and names of users."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 5)), rng.integers(0, 3, n), np.array(["alice", "bob", "carol"] * (n // 3))


def test_a_users_own_model_is_swept():
    inputs, labels, names = own_data()
    problem = module_problem(Net(), inputs, labels, names, forget="alice")
    frame = sweep(problem, "rewind_to_delete[eta=0.5,T=300,K=100]", seeds=4, steps=300).frame()
    assert set(frame.seed) == {0, 1, 2, 3} and set(frame.status) == {"ok"}
    assert {"sensitivity", "value", "forget_loss", "forget_accuracy"} <= set(frame.metric)
    assert frame[frame.metric == "sensitivity"].value.max() > 0
    assert frame.certificate.astype(str).str.startswith("uncertified").all()


def test_the_forgotten_users_records_come_last():
    inputs, labels, names = own_data()
    problem = module_problem(Net(), inputs, labels, names, forget=["carol", "alice"])
    kept = np.asarray(problem.data.kept).astype(bool)
    assert np.array_equal(problem.data.inputs[kept], inputs[names == "bob"])
    assert np.array_equal(problem.data.inputs[~kept], inputs[names != "bob"]) and not kept[-40:].any()
    assert (problem.constants.n, problem.constants.forgotten, problem.constants.dimension) == (60, 40, 5 * 4 + 4 + 15)
    assert Oracle.RETAIN | Oracle.SAMPLE | Oracle.SCORES in problem.family.oracles
    assert problem.family.regularity == Regularity.NONNEGATIVE


def test_without_users_records_are_named_by_number():
    inputs, labels, _ = own_data()
    problem = module_problem(Net(), inputs, labels, forget=7)
    assert np.array_equal(problem.data.inputs[-1], inputs[7]) and problem.constants.forgotten == 1


def linear(mu=None):
    """Return least squares through the front door, as a pair of functions, with declared constants."""
    model = SimpleNamespace(init=lambda key, inputs: jnp.zeros(inputs.shape[1]), apply=lambda x, inputs: inputs @ x)
    inputs, _, names = own_data()
    inputs = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    return module_problem(
        model, inputs, np.sign(inputs[:, 0]), names, "bob",
        loss=lambda margin, sign: jax.nn.softplus(-sign * margin),
        constants=Constants(L_max=0.25, G=1.0, mu_min=mu),
        regularity=Regularity.RETAINS_CONVEXITY,
    )  # fmt: skip


def test_declared_constants_make_it_certifiable():
    problem = linear()
    assert Regularity.DELETABLE | Regularity.RETAINS_CONVEXITY in problem.family.regularity
    choice = ProblemChoice("own", lambda key: problem)
    names = {theorem.name for theorem in applicable(rewind_to_delete.algorithm.theorems, choice, seeds=2)}
    assert {"rewind_to_delete_certificate", "rewind_to_delete_convex"} <= names


class Mistakes:
    """What is wrong with the arguments, and what the message must name."""

    inputs, labels, names = own_data()
    cases: ClassVar = {
        "no such user": (dict(forget="alise"), "alice"),
        "nobody": (dict(forget=[]), "nobody"),
        "everybody": (dict(forget=["alice", "bob", "carol"]), "all 3 users"),
        "lengths": (dict(labels=labels[:-1]), "59 labels"),
        "users' length": (dict(users=names[:-1]), "59 users"),
        "not finite": (dict(inputs=np.where(np.arange(5) == 2, np.nan, inputs)), "60 numbers are not finite"),
        "text": (dict(labels=names), "give numbers"),
        "labels beyond the scores": (dict(labels=labels + 1), "labels 1 to 3"),
        "labels are no classes": (dict(labels=labels + 0.5), "whole numbers"),
        "loss of the wrong shape": (dict(loss=lambda scores, labels: scores**2), r"\(60, 3\)"),
        "batch normalisation": (dict(module=Normalised()), "batch_stats"),
        "claim without a constant": (dict(regularity=Regularity.RETAINS_STRONG_CONVEXITY), "mu_min"),
        "deletable without constants": (dict(regularity=Regularity.DELETABLE), "L_max, G"),
        "negative": (dict(constants=Constants(L_max=-1.0, G=1.0)), "L_max = -1"),
        "infinite": (dict(constants=Constants(L_max=1.0, G=np.inf)), "G = inf"),
        "mu above L": (
            dict(constants=Constants(L_max=1.0, G=1.0, mu_min=2.0), regularity=Regularity.RETAINS_STRONG_CONVEXITY),
            "mu_min = 2.0 is above",
        ),
    }


@pytest.mark.parametrize(("wrong", "said"), Mistakes.cases.values(), ids=Mistakes.cases.keys())
def test_mistakes_are_named(wrong, said):
    arguments = dict(module=Net(), inputs=Mistakes.inputs, labels=Mistakes.labels, users=Mistakes.names, forget="bob")
    with pytest.raises(InvalidParameter, match=said):
        module_problem(**(arguments | wrong))


def test_the_networks_start_and_gradient_are_trees_of_the_sessions_precision():
    inputs, labels, names = own_data()
    problem = module_problem(linen.Sequential([linen.Dense(3)]), inputs, labels, names, forget="bob")
    flat = once(lambda key: ravel_pytree(problem.grad(problem.init(key)))[0])(KEY)
    assert flat.dtype == jnp.float64 and jnp.isfinite(flat).all()
