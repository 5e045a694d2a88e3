"""What a job takes of a device beside its models, from the most that the device held while it ran."""

from __future__ import annotations

from graph_engine.memory import devices
from graph_engine.memory.residency import Residency


class JobPeak:
    """Of one pool; all its methods but `begin` are called with the pool's lock held."""

    def __init__(self) -> None:
        self._moves: dict[str, int] = {}
        """Device -> how often a model has left it or was brought ahead."""
        self._begun: dict[str, int | None] = {}
        """The same when a job began to be watched; None: something was on its way then."""

    def moved(self, device: str) -> None:
        """A model leaves the device, or is brought ahead."""
        self._moves[device] = self._moves.get(device, 0) + 1

    def about_to_begin(self, device: str, coming: bool) -> None:
        """coming: some model is on its way to the device."""
        self._begun[device] = None if coming else self._moves.get(device, 0)

    @staticmethod
    def begin(device: str) -> bool:
        """From now on; False where nobody can tell."""
        return devices.watch_peak(device)

    def taken(self, residency: Residency, own_bytes: int) -> int | None:
        """The most since `begin` beside the models that are there now; None when that would say nothing of the job, which
        reserved `own_bytes`: another one reserved some of it, too, or models left or were brought ahead meanwhile."""
        device = residency.device
        if residency.reserved_bytes > own_bytes or self._begun.get(device) != self._moves.get(device, 0):
            return None
        return max(0, devices.peak_bytes(device) - residency.used_bytes)
