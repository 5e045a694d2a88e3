"""What processes of devices may hold: accelerators share the memory that the host locks for their copies."""

from __future__ import annotations

from graph_engine.execute.worker import budgets_of


def test_the_hosts_budget_is_shared_out_among_the_processes_of_accelerators() -> None:
    named = {"cpu": 90, "cuda:1": 7}
    three = ("cuda:0", "cuda:1", "cuda:2")
    assert budgets_of("cuda:1", three, named) == {"cpu": 30, "cuda:1": 7}
    assert budgets_of("cuda:0", ("cuda:0",), named) == named
    assert budgets_of("cpu:0", ("cpu:0", "cpu:1"), named) == named
