"""KL-regularised bandits: the identity of the regret, the coverage lemma, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.constants import InvalidParameter
from problems.decision import kl_bandit
from problems.kl_regularised import chi_square, largest_ratio, logits_for, regret

RUNS, BETA, NEAREST = 300, 0.5, 0.03
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def seen():
    """Return regret and coverage of policies optimal for random rewards in [0, R], on random bandits."""

    def look(key):
        problem = kl_bandit.make(key, S=3, A=4, beta=BETA, nearest=NEAREST)
        log_star, rho = problem.x_star, problem.data.rho
        x = logits_for(problem.data, jax.random.uniform(key, (3, 4)))
        log_pi, near = jax.nn.log_softmax(x), jax.nn.log_softmax(log_star.at[0, 0].add(1e-7))
        p = jnp.exp(log_star)
        return {
            "difference": problem.value(x) - problem.constants.f_star,
            "regret": regret(problem.data, log_pi),
            "chi_square": chi_square(problem.data, log_pi),
            "largest": largest_ratio(problem.data, log_pi),
            "slope": jnp.abs(problem.grad(log_star)).max(),
            "near": regret(problem.data, near) / (BETA * rho[0] * p[0, 0] * (1 - p[0, 0]) * 1e-14 / 2),
            "source": problem.constants.source_gap / (NEAREST**2 * (1 - rho @ (p**2).sum(-1)) / (2 * BETA)),
        }

    return jax.tree.map(np.asarray, once(jax.vmap(look))(jax.random.split(jax.random.key(2), RUNS)))


def test_regret_is_the_divergence_from_the_optimum(seen):
    np.testing.assert_allclose(seen["regret"], seen["difference"], rtol=1e-9, atol=1e-14)
    assert seen["slope"].max() <= 1e-15


def test_coverage_lemma_and_how_tight_it_is(seen):
    def kappa(w):
        return (w - 1) ** 2 / (w - 1 - np.log(w))

    divergence = seen["regret"] / BETA
    assert (seen["largest"] <= np.exp(2 / BETA)).all()
    share = seen["chi_square"] / (kappa(seen["largest"]) * divergence)
    assert 0.7 < share.max() <= 1
    assert (kappa(seen["largest"]) <= kappa(np.exp(2 / BETA))).all()


def test_regret_keeps_its_digits_near_the_optimum(seen):
    np.testing.assert_allclose(seen["near"], 1, rtol=1e-5)


def test_sources_are_as_near_as_their_errors_say(seen):
    np.testing.assert_allclose(seen["source"].mean(), 1, rtol=0.1)  # Var(error)/(2 beta)


@pytest.mark.parametrize(
    "wrong",
    [{"beta": 0.0}, {"beta": -1.0}, {"R": 0.0}, {"sd": 0.0}, {"margin": -0.1}, {"margin": 0.6}, {"W": 0}, {"A": 1},
     {"tilt": 1000.0}, {"nearest": 0.0}, {"nearest": 0.5, "farthest": 0.1}],
)  # fmt: skip
def test_impossible_bandits_are_refused(wrong):
    with pytest.raises(InvalidParameter):
        kl_bandit.make(jax.random.key(0), **wrong)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("p_ref", [[1.0, 0.0]], "full support"),
        ("p_ref", [[0.5, 0.4]], "sum to 1"),
        ("rho", [0.9], "sum to 1"),
        ("r", [[0.5, 1.5]], "rewards lie in"),
        ("sources", [[[0.5, -0.1]]], "rewards lie in"),
        ("beta", 0.0, "beta"),
    ],
)
def test_rewards_of_ones_own_are_checked(name, value, said):
    given = {"rho": [1.0], "r": [[0.2, 0.8]], "p_ref": [[0.5, 0.5]], "sources": [[[0.5, 0.5]]], "beta": 0.5}
    given |= {name: value}
    arrays = {key: entry if key == "beta" else jnp.asarray(entry) for key, entry in given.items()}
    with pytest.raises(InvalidParameter, match=said):
        kl_bandit.of_rewards(**arrays, R=1.0, sd=0.1)
