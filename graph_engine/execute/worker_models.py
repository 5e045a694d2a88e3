"""Fleet: the models of the server's own process and of the processes that it started, as far as they have told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory, is_host
from graph_engine.memory.divided import DividedPool, Holding, Holdings
from graph_engine.memory.residency import Residency
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec


class Far:
    """What the server knows of the models in another process.

    whole_bytes   the budget of its device; 0 until somebody could say
    room_bytes    how much of it that process may use; the server's own pool may use the rest
    memory        (free, total) bytes of its device as it said last; None until it has
    """

    def __init__(
        self, ask_to_give: Callable[[int], int], clear: Callable[[bool], None], forget: Callable[[str], None]
    ) -> None:
        self.ask_to_give, self.clear, self.forget = ask_to_give, clear, forget
        self.dividing = threading.Lock()
        """One per device: whoever holds it may wait for an answer that the loop must bring."""
        self.whole_bytes = 0
        self.room_bytes = 0
        self.holdings = Holdings(0, 0, {})
        self.stats: dict[str, Any] = {}
        self.loads = 0
        self.memory: tuple[int, int] | None = None


class Fleet(DividedPool):
    def __init__(self, catalog: Catalog, budgets: Mapping[str, int]) -> None:
        super().__init__(catalog, budgets)
        self._far: dict[str, Far] = {}
        self._promised: dict[str, dict[str, list[int]]] = {}
        """device -> model -> its bytes, for each job of this process that is about to lease it"""

    # --- what the executor tells ------------------------------------------------------------------------------------

    def join(self, device: str, far: Far) -> None:
        """From now on a process of its own has the device. Of the host's memory this process may still want some."""
        if is_host(device):
            far.whole_bytes = weight_budget(device, self._budgets, *device_memory(device))
        else:
            far.whole_bytes = self._budgets.get(device, 0)
        self._far[device] = far

    def begin(self, device: str, start: Callable[[int], None]) -> None:
        """A process begins, with nothing. start: is told its room; 0 when only it can say what its device has."""
        far = self._far[device]
        with far.dividing:  # nobody asks for room that it has not got yet
            far.holdings, far.stats = Holdings(far.whole_bytes, far.whole_bytes, {}), {}
            far.room_bytes = far.whole_bytes - self._own_room(device)
            if far.memory is not None:
                far.memory = (far.memory[1], far.memory[1])
            start(far.room_bytes)

    def told(self, device: str, form: Mapping[str, Any]) -> None:
        """What a process says of its models, now and then."""
        far = self._far[device]
        if not far.whole_bytes:
            far.whole_bytes = far.room_bytes = form["budget_bytes"]
        far.holdings = holdings_from(form)
        far.stats, far.loads = form["stats"], form["loads"]
        far.memory = (form["memory"][0], form["memory"][1])
        self.known.found.update(form["sizes"])

    def make_room(self, device: str, wanted_bytes: int) -> int:
        """Before a job begins in a process: what of this process's idle room it gets on top."""
        far = self._far[device]
        with far.dividing:
            lacking = wanted_bytes - far.room_bytes
            if lacking <= 0 or not self._own_room(device):
                return 0
            given = super().give(device, min(lacking, max(0, -self.lacking(device, self._wanted(device)))))
            far.room_bytes += given
            return given

    # --- as one pool --------------------------------------------------------------------------------------------------

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        far = self._far.get(device)
        if far is None or not isinstance(spec, ModelSpec):
            return super().lease(spec, device, next_use)
        with far.dividing:
            promised = self._promised.setdefault(device, {}).setdefault(spec.key, [])
            promised.append(self.size_of(spec))
            self._fetch_room(device)
        try:
            return super().lease(spec, device, next_use)
        finally:
            with far.dividing:
                promised.pop()

    def reserve(self, device: str, bytes: int) -> None:
        far = self._far.get(device)
        if far is None:
            super().reserve(device, bytes)
            return
        with far.dividing:
            self._fetch_room(device, bytes)
            super().reserve(device, bytes)

    def forget(self, run: str) -> None:
        super().forget(run)
        for far in self._far.values():
            far.forget(run)

    def beside_of(self, spec: ModelSpec, device: str) -> int:
        far = self._far.get(device)
        if far is None:
            return super().beside_of(spec, device)
        return sum(model["beside_bytes"] for model in far.stats.get("models", ()) if model["key"] == spec.key)

    def is_here(self, spec: ModelSpec) -> bool:
        return super().is_here(spec) or any(spec.key in far.holdings.models for far in self._far.values())

    def budget_of(self, device: str) -> int:
        far = self._far.get(device)
        return far.whole_bytes if far is not None and far.whole_bytes else super().budget_of(device)

    def memory_of(self, device: str) -> tuple[int, int]:
        """Of a device that lives in a process, what that said: to ask the device is to open it, which takes some of its memory.
        Zeros until it has said something."""
        far = self._far.get(device)
        if far is None or (far.memory is None and is_host(device)):
            return super().memory_of(device)
        return far.memory or (0, 0)

    def clear(self, host: bool = False, wait: bool = True) -> int:
        """Here at once, in other processes before their next job."""
        count = super().clear(host, wait)
        for far in self._far.values():
            idle = [key for key, model in far.holdings.models.items() if not model.leases]
            if idle or host:
                far.clear(host)
                count += len(idle)
        return count

    def holdings(self, device: str) -> Holdings:
        far = self._far.get(device)
        return far.holdings if far is not None else super().holdings(device)

    def stats(self) -> list[dict[str, Any]]:
        """One entry per device; the models of all processes in it."""
        mine = {entry["device"]: entry for entry in super().stats()}
        for device, far in self._far.items():
            own, there = mine.get(device, {}), far.stats
            mine[device] = {
                "device": device,
                "budget_bytes": far.whole_bytes,
                "used_bytes": own.get("used_bytes", 0) + there.get("used_bytes", 0),
                "reserved_bytes": own.get("reserved_bytes", 0) + there.get("reserved_bytes", 0),
                "brought_ahead": own.get("brought_ahead", 0) + there.get("brought_ahead", 0),
                "used_ahead": own.get("used_ahead", 0) + there.get("used_ahead", 0),
                "models": [*there.get("models", []), *own.get("models", [])],
            }
        return list(mine.values())

    # --- the room of this process -------------------------------------------------------------------------------------

    def _fetch_room(self, device: str, beside: int = 0) -> None:
        """Jobs of this process want more of a device than it has: the process that has it gives what it does not use."""
        far = self._far[device]
        lacking = self.lacking(device, self._wanted(device), beside)
        if lacking > 0:
            given = far.ask_to_give(min(lacking, far.room_bytes))
            far.room_bytes -= given
            self.take(device, given)

    def _wanted(self, device: str) -> dict[str, int]:
        return {key: sizes[0] for key, sizes in self._promised.get(device, {}).items() if sizes}

    def _own_room(self, device: str) -> int:
        with self._lock:
            found = self._residencies.get(device)
            return found.budget_bytes if found is not None else 0

    def residency(self, device: str) -> Residency:
        if device in self._far and device not in self._residencies:
            self._residencies[device] = Residency(device, 0)
        return super().residency(device)


def holdings_form(pool: DividedPool, device: str) -> dict[str, Any]:
    """What a process says of its models, as plain data."""
    found = pool.holdings(device)
    stats = [entry for entry in pool.stats() if entry["device"] == device]
    return {
        "budget_bytes": found.budget_bytes,
        "free_bytes": found.free_bytes,
        "models": {key: [model.bytes, model.leases, sorted(model.files)] for key, model in found.models.items()},
        "sizes": pool.sizes(found.models),
        "stats": stats[0] if stats else {},
        "loads": pool.loads,
        "memory": pool.memory_of(device),
    }


def holdings_from(form: Mapping[str, Any]) -> Holdings:
    models = {key: Holding(bytes, leases, frozenset(files)) for key, (bytes, leases, files) in form["models"].items()}
    return Holdings(form["budget_bytes"], form["free_bytes"], models)


def bytes_of(specs: Iterable[ModelSpec], pool: Fleet) -> int:
    """What these models take together, each once."""
    return sum({spec.key: pool.size_of(spec) for spec in specs}.values())
