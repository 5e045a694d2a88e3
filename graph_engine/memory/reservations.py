"""Reservations: what every job needs in memory, by its type and inputs; estimates that learn from failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from graph_engine.errors import AnyloomError, OutOfMemory
from graph_engine.graph.node import NodeType
from graph_engine.memory.admission import Admission, Claim
from graph_engine.memory.devices import is_host
from graph_engine.memory.pool import ModelPool
from graph_engine.models.spec import ModelSpec
from graph_engine.store.estimates import Estimates, row_of

FIRST_GUESS = 16
"""A type that ran out of memory without an estimate gets a 16th of the budget; every further failure doubles it."""
ALONE_KEPT = 1000
"""Keys whose second try has not come; of runs that were cancelled between both tries it never does."""


class Reservations:
    """Used on one thread. Jobs that use neither models nor activations are not its business."""

    def __init__(self, pool: ModelPool, estimates: Estimates | None = None) -> None:
        self._pool, self._estimates = pool, estimates or Estimates()
        self._devices: dict[str, Admission] = {}
        self._jobs: dict[int, tuple[str, str]] = {}
        """job -> the device it runs on or waits for, and the key of its work"""
        self._alone: dict[str, int] = {}
        """Key of work -> the job of it that ran out of memory. Until the next one is over, which has the device to itself."""

    def working_bytes(self, type: NodeType, values: Mapping[str, Any], device: str = "cpu") -> int:
        """What jobs of this type need beside their models: as the type states it, corrected by what was seen of such jobs.

        values: literals, and the inputs that are known.
        """
        return self._estimates.corrected(self.row(type, values, device), stated_bytes(type, values))

    def row(self, type: NodeType, values: Mapping[str, Any], device: str) -> str:
        """What jobs of this type and size on such a device are known by."""
        return row_of(type.id, type.version, device, stated_bytes(type, values))

    def saw(self, type: NodeType, values: Mapping[str, Any], device: str, bytes: int) -> None:
        """A job took so many bytes beside its models. Any thread."""
        self._estimates.saw(self.row(type, values, device), bytes)

    def close(self) -> None:
        self._estimates.save()

    def ask(
        self,
        job: int,
        key: str,
        device: str,
        type: NodeType,
        literals: Mapping[str, Any],
        inputs: Mapping[str, Any],
        process: str = "",
    ) -> bool:
        """May the job begin? If not, `left` names it later. process: what runs in different ones shares no weights."""
        working = self.working_bytes(type, {**literals, **inputs}, device)
        weights = {
            process + spec.key: self._pool.size_of(spec) + self._pool.beside_of(spec, device)
            for spec in models_of(type, literals, inputs)
        }
        alone = key in self._alone
        if not (weights or working or alone):
            return True
        self._jobs[job] = device, key
        return self._device(device).ask(job, Claim(weights, working, alone))

    def left(self, job: int) -> list[int]:
        """The job is over, or will not begin; returns those that begin now."""
        device, key = self._jobs.pop(job, ("", ""))
        if not device:
            return []
        if self._alone.get(key, job) != job:  # its second try is over, whatever came of it
            del self._alone[key]
        return self._device(device).end(job)

    def too_large(
        self, job: int, key: str, type: NodeType, values: Mapping[str, Any], device: str, error: OutOfMemory
    ) -> tuple[bool, str]:
        """A job ran out of memory. Whatever is idle leaves; whether to try once more, alone; and the numbers for people.

        If it was the host's memory, what the host keeps for models that are on no device goes, too. Not again when it was
        tried alone, or when no device of this budget could ever hold it (then the pool said so).
        """
        admission = self._device(device)
        said_by_pool = error.__cause__ is None
        company = any(other != job for other in admission.running)
        again = key not in self._alone and (company or not said_by_pool)
        stated = stated_bytes(type, values)
        row = row_of(type.id, type.version, device, stated)
        working = self._estimates.corrected(row, stated)
        # Begun here, on the loop; the job that is tried again waits for the end of it in its own thread.
        self._pool.clear(host=is_host(device) or _is_of_host(error.__cause__), wait=False)
        if not said_by_pool:
            guess = max(2 * working, admission.budget_bytes // FIRST_GUESS)
            self._estimates.too_little(row, max(working, min(guess, admission.budget_bytes // 2)))
        if again:
            self._alone[key] = job
            if len(self._alone) > ALONE_KEPT:
                del self._alone[next(iter(self._alone))]
        else:
            self._alone.pop(key, None)
        weights = sum(admission.running[job].weights.values()) if job in admission.running else 0
        budget = admission.budget_bytes
        numbers = f"(On {device}: budget {budget:,} bytes, its models {weights:,}, kept for its work {working:,}.)"
        return again, "" if said_by_pool else numbers

    def _device(self, name: str) -> Admission:
        found = self._devices.get(name)
        if found is None:
            found = self._devices[name] = Admission(self._pool.budget_of(name))
        elif not found.budget_bytes:  # the process of an accelerator had not said yet what there is
            found.budget_bytes = self._pool.budget_of(name)
        return found


def _is_of_host(cause: BaseException | None) -> bool:
    """Whether it was the host that had no more memory. Of a cause in another process there is only its `repr`."""
    if cause is None:
        return False
    told = str(cause)
    of_python = isinstance(cause, MemoryError | OSError) or told.startswith(("MemoryError(", "OSError("))
    return of_python or "can't allocate memory" in told  # what torch's allocator of the host says


def passes_of(type: NodeType, values: Mapping[str, Any]) -> int:
    """What a type says of its passes; 1 when that hangs on something nobody knows yet."""
    stated = type.needs.passes
    try:
        return max(1, int(stated(dict(values)))) if callable(stated) else stated
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):  # it is linked, or a model of another kind
        return 1


def stated_bytes(type: NodeType, values: Mapping[str, Any]) -> int:
    """What a type says that it needs beside its models; 0 when that hangs on something nobody knows yet."""
    stated = type.needs.working_bytes
    try:
        return max(0, int(stated(dict(values)))) if callable(stated) else stated
    except (KeyError, TypeError, IndexError, AttributeError):  # the size is linked, or a model of another kind
        return 0


def models_of(type: NodeType, literals: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[ModelSpec]:
    """The models that a job asks for: as its type says, else those that arrive. Empty when it will refuse them anyway."""
    if type.needs.models is not None:
        try:
            return [spec for spec in type.needs.models({**literals, **inputs}) if isinstance(spec, ModelSpec)]
        except (AnyloomError, AttributeError, KeyError, TypeError, ValueError):
            return []
    return list(specs_of(inputs.values()))


def specs_of(values: Iterable[Any]) -> Iterable[ModelSpec]:
    for value in values:
        if isinstance(value, ModelSpec):
            yield value
        elif isinstance(value, list):
            yield from (entry for entry in value if isinstance(entry, ModelSpec))
