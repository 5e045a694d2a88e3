"""Ledger: which results runs hold, and the news for their watchers. What every part of the scheduler writes into."""

from __future__ import annotations

from typing import Any

from graph_engine.schedule.messages import Drop, Instruction, Notify
from graph_engine.schedule.states import DONE, Run, StepState
from graph_engine.store.artifacts import Shape
from graph_engine.tuples import made


class Ledger:
    """A result is held by every step that has it, until the step's last reader is over; then it is dropped."""

    def __init__(self) -> None:
        self.known: dict[str, Shape] = {}
        """Shapes of the results that some run holds."""
        self.fleeting: set[str] = set()
        """Keys of those among them that hold for no later run."""
        self.holds: dict[str, int] = {}
        self._out: list[Instruction] = []

    def _hold(self, state: StepState) -> None:
        if not state.held:
            state.held, key = True, state.key
            self.holds[key] = self.holds.get(key, 0) + 1

    def _unuse(self, state: StepState) -> None:
        """Drop the result of a step whose last reader is over."""
        if state.uses <= 0 and state.held and not state.is_target and state.state is DONE:
            state.held = False
            self._unhold(state.key)

    def _unhold(self, key: str) -> None:
        left = self.holds[key] - 1
        if left:
            self.holds[key] = left
        else:
            del self.holds[key]
            self.known.pop(key, None)
            self.fleeting.discard(key)
            self._out.append(made(Drop, (key,)))

    def _release_unheld(self, key: str) -> None:
        if key not in self.holds:
            self.known.pop(key, None)
            self._out.append(Drop(key))

    def _notify(self, run: Run, type: str, node: str, data: dict[str, Any]) -> None:
        self._out.append(made(Notify, (run.id, type, node, data)))
