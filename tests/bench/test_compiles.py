"""One compile a tree structure and shapes, whatever the grid, the instances, the horizon: counted twice."""

from contextlib import contextmanager

import jax
import pytest
from plain_loop import plan_of

from bench.runner import run
from bench.task import Machine

COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def compilations():
    """Yield the list of the functions that XLA compiles meanwhile, by name."""
    names: list[str] = []

    def listen(event, seconds, **about):
        if event == COMPILED:
            names.append(about.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def segments(names):
    """Return how many of the compiled functions are segments."""
    return sum("segment" in name for name in names)


def sweep_of(machine, *pair, **numbers):
    """Run a plan and return what XLA compiled."""
    with compilations() as names:
        run(plan_of(*pair, **numbers).tasks, machine, 0, None)
    return names


def grid(first):
    return ",".join(f"{first + i / 100:.2f}/L" for i in range(100))


@pytest.mark.parametrize("instances", ["50", "1"])
def test_a_hundred_settings_and_fifty_instances_compile_once(instances):
    machine = Machine()
    names = sweep_of(
        machine,
        f"quadratic[d=5,kappa=10,instances={instances}]",
        f"gradient_descent[eta=[{grid(0.1)}]]",
        seeds=50,
        steps=5,
    )
    assert (len(machine.compiler.compiled), segments(names)) == (1, 1)
    again = sweep_of(
        machine,
        f"quadratic[d=5,kappa=30,L=2,instances={instances}]",
        f"gradient_descent[eta=[{grid(1.2)}]]",
        seeds=50,
        steps=9,
    )
    assert (len(machine.compiler.compiled), segments(again)) == (1, 0)
    assert len(again) <= 2, again  # the generator of the new problem's data, and slicing it


def test_new_seeds_and_horizons_compile_nothing():
    machine = Machine()
    pair = "logistic_regression[n=30,d=3,l2=0.1]", "rewind_to_delete[T=20,K=[0,5,20]]"
    one = {"theorems": ("rewind_to_delete_strongly_convex",)}
    assert segments(sweep_of(machine, *pair, seeds=2, steps=20, **one)) == 1
    longer = sweep_of(machine, pair[0], "rewind_to_delete[T=70,K=[1,2,60]]", seeds=2, steps=70, **one)
    assert segments(longer) == 0
    assert len(machine.compiler.compiled) == 1


def test_what_changes_a_shape_compiles_anew():
    machine = Machine()
    sgd = "stochastic_gradient_descent[batch_size=[1,2],eta=[0.1/L_max,0.2/L_max]]"
    names = sweep_of(machine, "logistic_regression[n=30,d=3,l2=0.1]", sgd, seeds=2, steps=3)
    assert (len(machine.compiler.compiled), segments(names)) == (2, 2)


def test_blocks_of_seeds_share_a_compile(monkeypatch):
    monkeypatch.setattr("bench.grid.LANES_A_TASK", 40)
    plan = plan_of("quadratic[d=5]", "gradient_descent[eta=[0.1/L,1/L]]", seeds=50, steps=20)
    assert [len(task.seeds) for task in plan.tasks] == [17, 17, 16]
    machine = Machine()
    with compilations() as names:
        run(plan.tasks, machine, 0, None)
    assert len(machine.compiler.compiled) == segments(names) == 1
