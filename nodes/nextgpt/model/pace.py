"""How far the host may run ahead of the device: far enough that the device never waits, not so far that a run that is
cancelled goes on, or that progress is told which was not made.
"""

from collections import deque
from typing import Any

import torch

AHEAD = 2
"""Steps that may be on their way besides the one that is computed."""


class Pace:
    """Called after every step. On a CPU, where a step is over when it was called, it does nothing."""

    def __init__(self, device: torch.device, ahead: int = AHEAD) -> None:
        self._ahead, self._on_device = ahead, device.type == "cuda"
        self._steps: deque[Any] = deque()

    def step(self) -> None:
        if not self._on_device:
            return
        self._steps.append(self.mark())
        if len(self._steps) > self._ahead:
            self._steps.popleft().synchronize()

    def mark(self) -> Any:
        """An event behind what was queued so far; waiting for it sleeps, it does not spin."""
        event = torch.cuda.Event(blocking=True)
        event.record()
        return event
