"""Parameters of families that have no meaning are refused, with a message."""

import importlib

import jax
import pytest

from problems.constants import InvalidParameter


@pytest.mark.parametrize(
    ("module", "chosen"),
    [
        ("problems.convex.quadratic", {"d": 1}),
        ("problems.convex.logistic_regression", {"n": 20, "d": 10}),
        ("problems.convex.logistic_regression", {"data": "breast_cancer"}),
        ("problems.convex.logistic_regression", {"data": "nonsense", "l2": 0.1}),
        ("problems.convex.logistic_regression", {"forgotten": 500}),
        ("problems.convex.least_squares", {"n": 5}),
        ("problems.convex.rank_deficient_least_squares", {"rank": 60}),
        ("problems.convex.huber", {"h": 1.5}),
        ("problems.convex.tight_deletion", {"forgotten": 0}),
        ("problems.convex.overparameterised_deletion", {"d": 40}),
        ("problems.convex.softmax_regression", {"data": "wine"}),
        ("problems.convex.softmax_regression", {"users": "nobody"}),
        ("problems.convex.softmax_regression", {"user": 12}),
        ("problems.convex.softmax_regression", {"forgotten": 115}),
        ("problems.convex.softmax_regression", {"forgotten": 0}),
        ("problems.convex.softmax_regression", {"users": "random", "user": 3}),
        ("problems.convex.softmax_regression", {"data": "breast_cancer"}),
        ("problems.convex.softmax_regression", {"l2": -1.0}),
        ("problems.nonconvex.digits_network", {"users": "adversarial"}),
        ("problems.nonconvex.digits_network", {"width": 0}),
        ("problems.nonconvex.sigmoid_loss", {"users": "writers"}),
        ("problems.nonconvex.tanh_network", {"width": 0}),
        ("problems.nonconvex.double_well", {"G": 20.0}),
        ("problems.nonconvex.cosine_deletion", {"G": 0.0}),
        ("problems.nonconvex.tilted_sine", {"forgotten": 99}),
        ("problems.nonconvex.robust_regression", {"forgotten": 0}),
        ("problems.nonconvex.mlp_classifier", {"records": 1797}),
        ("problems.nonconvex.sine_squared", {"d": 0}),
        ("problems.low_rank.noisy_target", {"kind": "scalar"}),
        ("problems.low_rank.weighted_quadratic", {"corner": 0.0}),
        ("problems.low_rank.matrix_factorization", {"rank": 17}),
        ("problems.low_rank.escape_family", {"p": 2.5}),
    ],
)
def test_meaningless_parameters_are_refused(module, chosen):
    with pytest.raises(InvalidParameter):
        importlib.import_module(module).make(jax.random.key(0), **chosen)
