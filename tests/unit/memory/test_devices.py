"""What a machine has, and what of it models get when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graph_engine.memory import devices
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory, host_bytes

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GB = 10**9


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, PHYSICAL),
        ({"memory.max": "max\n"}, PHYSICAL),
        ({"memory.max": "1048576\n"}, 1 << 20),
        ({"memory.max": ""}, PHYSICAL),
        ({"memory/memory.limit_in_bytes": "2097152\n"}, 1 << 21),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, PHYSICAL),
        ({"memory.max": "max\n", "memory/memory.limit_in_bytes": "2097152\n"}, 1 << 21),
    ],
)
def test_the_limit_of_a_container_is_what_the_host_has(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert host_bytes(tmp_path) == expected


def test_every_device_on_the_host_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "host_bytes", lambda: 5 * GB)
    assert device_memory("cpu") == device_memory("cpu:1") == (5 * GB, 5 * GB)


@pytest.mark.parametrize(
    ("device", "named", "free", "total", "expected"),
    [
        ("cpu", {}, 16 * GB, 16 * GB, 8 * GB),
        ("cpu:1", {}, 16 * GB, 16 * GB, 8 * GB),
        ("cpu", {}, 3 * GB, 16 * GB, 3 * GB),
        ("cuda:0", {}, 24 * GB, 24 * GB, 18 * GB),
        ("cuda:0", {}, 10 * GB, 24 * GB, 10 * GB),
        ("cuda:0", {"cuda:0": 30 * GB}, 10 * GB, 24 * GB, 30 * GB),
        ("cuda:0", {"cpu": 2 * GB, "cuda:1": 4 * GB}, 24 * GB, 24 * GB, 18 * GB),
        ("cpu", {"cpu": 0}, 16 * GB, 16 * GB, 0),
    ],
)
def test_what_models_get(device: str, named: dict[str, int], free: int, total: int, expected: int) -> None:
    assert weight_budget(device, named, free, total) == expected
