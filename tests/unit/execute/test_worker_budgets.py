"""What processes of devices may hold, and what the server knows of it: it opens no device that a process has."""

from __future__ import annotations

import pytest

from graph_engine.execute.worker import budgets_of
from graph_engine.execute.worker_models import Far, Fleet
from graph_engine.memory import pool, view
from graph_engine.models.catalog import Catalog


def test_the_hosts_budget_is_shared_out_among_the_processes_of_accelerators() -> None:
    named = {"cpu": 90, "cuda:1": 7}
    three = ("cuda:0", "cuda:1", "cuda:2")
    assert budgets_of("cuda:1", three, named) == {"cpu": 30, "cuda:1": 7}
    assert budgets_of("cuda:0", ("cuda:0",), named) == named
    assert budgets_of("cpu:0", ("cpu:0", "cpu:1"), named) == named


def test_the_server_asks_no_device_that_lives_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask CUDA for the memory of a device makes a context on it, of some hundred megabytes."""

    def opened(device: str) -> tuple[int, int]:
        assert device == "cpu", f"{device} was opened"
        return 1_000, 1_000

    monkeypatch.setattr(view, "device_memory", opened)
    monkeypatch.setattr(pool, "device_memory", opened)
    fleet = Fleet(Catalog(), {})
    fleet.join("cuda:0", Far(lambda bytes: 0, lambda: None, lambda run: None))

    def seen() -> list[int]:
        [device] = view.view(fleet, ("cuda:0",), fleet.telemetry)
        return [device[f"{name}_bytes"] for name in ("free", "total", "budget")]

    assert seen() == [0, 0, 0], "it has not said anything yet"
    form = {
        "budget_bytes": 70,
        "free_bytes": 70,
        "models": {},
        "sizes": {},
        "stats": {},
        "loads": 0,
        "memory": [60, 80],
    }
    fleet.told("cuda:0", form)
    assert seen() == [60, 80, 70]
    fleet.begin("cuda:0", lambda room_bytes: None)
    assert seen() == [80, 80, 70], "what it had is free with its process"
