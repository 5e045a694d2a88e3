"""Clocks: how the clock of another process runs against ours, by what each of two messages can have taken: nothing or more.

A message that they sent at `there` and we had at `here` says that ours is ahead by at most `here - there`; one that we
sent says how much it is at least. On one machine both usually read the same clock of the kernel; then nothing is changed.
"""

from __future__ import annotations

import math


class Clocks:
    """offset_s: our time = their time + offset_s."""

    def __init__(self) -> None:
        self._least_s, self._most_s = -math.inf, math.inf

    def heard(self, there_s: float, here_s: float) -> None:
        """They sent it at `there_s` by their clock, we had it at `here_s` by ours."""
        self._most_s = min(self._most_s, here_s - there_s)

    def answered(self, here_s: float, there_s: float) -> None:
        """We sent it at `here_s` by our clock, they had it at `there_s` by theirs."""
        self._least_s = max(self._least_s, here_s - there_s)

    @property
    def offset_s(self) -> float:
        if self._least_s <= 0.0 <= self._most_s:
            return 0.0
        known = [bound for bound in (self._least_s, self._most_s) if math.isfinite(bound)]
        return sum(known) / len(known)
