"""The memory of every device at this moment, for people: which models live where, what is on its way, what there is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graph_engine.memory.devices import device_memory
from graph_engine.memory.pool import ModelPool
from graph_engine.telemetry import Copies, Telemetry


def view(pool: ModelPool, devices: Iterable[str], telemetry: Telemetry) -> list[dict[str, Any]]:
    """One entry per device that there is or that models were brought to.

    `share` of a model is the part of its weights that is on the device: 1 for a resident one, less for one that is
    streamed, 0 for one that is loading.
    """
    known = {entry["device"]: entry for entry in pool.stats()}
    names = list(dict.fromkeys([*devices, *known]))
    return [_device(name, known.get(name), pool, telemetry) for name in names]


def _device(name: str, entry: dict[str, Any] | None, pool: ModelPool, telemetry: Telemetry) -> dict[str, Any]:
    if entry is None:
        entry = {"budget_bytes": pool.budget_of(name), "used_bytes": 0, "reserved_bytes": 0, "models": []}
    free, total = host_memory() if name == "cpu" else pool.memory_of(name)
    now, copies = time.perf_counter(), telemetry.devices.get(name, Copies())
    return {
        "device": name,
        "total_bytes": total,
        "free_bytes": free,
        "budget_bytes": entry["budget_bytes"],
        "used_bytes": entry["used_bytes"],
        "reserved_bytes": entry["reserved_bytes"],
        "models": [_model(model) for model in entry["models"]],
        "transfers": [
            {
                "model": flight.model,
                "what": flight.what,
                "bytes": flight.bytes,
                "since_s": round(now - flight.begin_s, 3),
            }
            for flight in telemetry.flights(name)
        ],
        "loads": copies.loads,
        "evictions": copies.evictions,
        "copied_bytes": copies.copied_bytes,
    }


def _model(model: dict[str, Any]) -> dict[str, Any]:
    here = {"resident": model["weight_bytes"], "streaming": model.get("kept_bytes", 0)}.get(model["state"], 0)
    weights = model["weight_bytes"]
    return {
        "key": model["key"],
        "family": model["family"],
        "state": model["state"],
        "bytes": model["bytes"],
        "weight_bytes": weights,
        "beside_bytes": model["beside_bytes"],
        "share": round(min(1.0, here / weights), 4) if weights else 1.0,
        "leases": model["leases"],
        "next_use": model["next_use"],
    }


def host_memory() -> tuple[int, int]:
    """(free, total) bytes of the host; free is what programs can have before the system swaps, where it says so."""
    total = device_memory("cpu")[1]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, total), total
    except (OSError, ValueError, IndexError):
        pass
    return total, total


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
