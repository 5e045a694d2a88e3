"""What happened to memory and time, as data: waits, loads, copies, evictions, and how long node types take.

Noted where it happens, from any thread, and kept in a ring of bounded size; `timeline.py` and the metrics of the server
read it. Steps themselves are not noted here: the log of their run has them already. Nothing is done for a step that
takes less than `SLOW_S`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

KEPT = 20_000
"""Spans; some 4 MB."""
SLOW_S = 0.001
TYPES_KEPT = 200
"""Node types with times of their own; further ones are counted together as OTHER."""
OTHER = "other"
BUCKETS_S = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Span(NamedTuple):
    """Times are of `time.perf_counter`.

    what      load (a model came; 0 bytes where it comes in blocks), copy (one of its blocks), evict (it left; begin is end),
              weights (a step waited for a model), memory (a step waited until others left room)
    """

    what: str
    begin_s: float
    end_s: float
    device: str
    model: str = ""
    bytes: int = 0
    run: str = ""
    node: str = ""


class Times:
    """How long the steps of one type took: a histogram."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        """Steps up to each bound of BUCKETS_S and above the one before; the last one beyond all."""
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds


class Copies:
    """Of one device: what was brought there so far, and what is on its way."""

    __slots__ = ("copied_bytes", "evictions", "in_flight", "loads")

    def __init__(self) -> None:
        self.loads = 0
        """Models that came, whole or to be streamed."""
        self.copied_bytes = 0
        self.evictions = 0
        self.in_flight: dict[int, Span] = {}
        """Begun and not over; their end is 0."""


class Telemetry:
    """Of one engine. Every method may be called from any thread."""

    def __init__(self, keep: int = KEPT) -> None:
        self.epoch_s = time.time() - time.perf_counter()
        """Unix time = epoch_s + time of a span."""
        self.spans: deque[Span] = deque(maxlen=keep)
        self.devices: dict[str, Copies] = {}
        self.times: dict[str, Times] = {}
        self._lock = threading.Lock()
        self._tickets = 0

    def began(self, what: str, device: str, model: str, bytes: int) -> int:
        """A load or copy is on its way; a ticket for `ended`."""
        span = Span(what, time.perf_counter(), 0.0, device, model, bytes)
        with self._lock:
            self._tickets += 1
            self._device(device).in_flight[self._tickets] = span
            return self._tickets

    def ended(
        self,
        device: str,
        ticket: int,
        *,
        came: bool = True,
        bytes: int | None = None,
        times: tuple[float, float] | None = None,
    ) -> None:
        """came: False when it was given up. bytes, times: what it really was, and from when to when. A ticket counts once."""
        with self._lock:
            copies = self._device(device)
            span = copies.in_flight.pop(ticket, None)
            if span is None or not came:
                return
            begin_s, end_s = (span.begin_s, time.perf_counter()) if times is None else times
            span = span._replace(begin_s=begin_s, end_s=end_s, bytes=span.bytes if bytes is None else bytes)
            copies.copied_bytes += span.bytes
            copies.loads += span.what == "load"
            self.spans.append(span)

    def evicted(self, device: str, model: str, bytes: int) -> None:
        now = time.perf_counter()
        with self._lock:
            self._device(device).evictions += 1
            self.spans.append(Span("evict", now, now, device, model, bytes))

    def waited(self, what: str, begin_s: float, device: str, model: str, run: str, node: str) -> None:
        """Until now; what took next to nothing is not kept."""
        now = time.perf_counter()
        if now - begin_s >= SLOW_S:
            with self._lock:
                self.spans.append(Span(what, begin_s, now, device, model, 0, run, node))

    def taken(self, most: int) -> list[Span]:
        """The oldest spans, which are not kept here any more: somebody else will."""
        with self._lock:
            return [self.spans.popleft() for _ in range(min(most, len(self.spans)))]

    def adopt(self, spans: Iterable[Span], offset_s: float) -> None:
        """What another process noted. offset_s: our clock is ahead of its."""
        with self._lock:
            for span in spans:
                self.spans.append(span._replace(begin_s=span.begin_s + offset_s, end_s=span.end_s + offset_s))
                copies = self._device(span.device)
                copies.evictions += span.what == "evict"
                copies.loads += span.what == "load"
                copies.copied_bytes += span.bytes if span.what in ("load", "copy") else 0

    def lasted(self, type: str, seconds: float) -> None:
        """A step of this node type computed for so long."""
        with self._lock:
            if type not in self.times and len(self.times) >= TYPES_KEPT:
                type = OTHER
            self.times.setdefault(type, Times()).add(seconds)

    def of(self, run: str) -> list[Span]:
        """Waits of one run, and what happened to models of all, in the order in which they were told."""
        with self._lock:
            return [span for span in self.spans if span.run in ("", run)]

    def flights(self, device: str) -> list[Span]:
        with self._lock:
            copies = self.devices.get(device)
            return list(copies.in_flight.values()) if copies is not None else []

    def _device(self, name: str) -> Copies:
        found = self.devices.get(name)
        if found is None:
            found = self.devices[name] = Copies()
        return found
