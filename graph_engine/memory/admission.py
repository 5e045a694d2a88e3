"""Which jobs may begin: those whose models and activations fit beside the ones that run. Pure.

A job gets all it needs before it begins, or waits without holding anything; nobody waits for one that waits. Those who wait
begin in the order they came. A job that is alone always begins: if it fits not even then, the pool streams its models, or
says with the numbers why that is not possible. So there is no deadlock, and nobody starves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Claim(NamedTuple):
    """weights: bytes by model; working: bytes beside them; alone: it wants the device to itself."""

    weights: Mapping[str, int]
    working: int = 0
    alone: bool = False


class Admission:
    """Of one device. Law P5: the bytes of what was admitted never exceed the budget."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.running: dict[int, Claim] = {}
        self.waiting: dict[int, Claim] = {}

    @property
    def admitted_bytes(self) -> int:
        """Models that several jobs use count once; a job that exceeds the budget is alone and gets no more than that."""
        return min(self.budget_bytes, total(self.running.values()))

    def ask(self, job: int, claim: Claim) -> bool:
        """May it begin? If not, `end` of another names it."""
        self.waiting[job] = claim
        return job in self._admit()

    def end(self, job: int) -> list[int]:
        """The job is over, or does not want to begin any more; returns those that begin now."""
        if self.running.pop(job, None) is None and self.waiting.pop(job, None) is None:
            return []
        return self._admit()

    def _admit(self) -> list[int]:
        begun = []
        for job, claim in list(self.waiting.items()):
            if self.running and not self._fits(claim):
                break
            del self.waiting[job]
            self.running[job] = claim
            begun.append(job)
        return begun

    def _fits(self, claim: Claim) -> bool:
        if claim.alone or any(other.alone for other in self.running.values()):
            return False
        return total([*self.running.values(), claim]) <= self.budget_bytes


def total(claims: Iterable[Claim]) -> int:
    weights: dict[str, int] = {}
    working = 0
    for claim in claims:
        weights.update(claim.weights)
        working += claim.working
    return sum(weights.values()) + working
