"""What watchers see of a run: numbered events in one log per run, read by any number of cursors.

State events are kept for as long as the log lives, so a watcher that was away resumes after the last number it saw. What
only matters while it is fresh (progress, previews) is kept once per node: a slow reader misses intermediate ones and holds
no memory of its own (law P11), because a watcher is nothing but a position in the log.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, NamedTuple

COALESCED = frozenset({"progress", "preview"})
"""Of these only the latest per node is kept. All other types are delivered completely and in order."""


class Event(NamedTuple):
    """seq counts from 1 within a run, with gaps where coalesced events were replaced.

    type       node      data
    queued               {number}                         accepted and durable
    started              {nodes}                          the scheduler has it
    cached     -         {nodes: [id]}                    results that were there already
    running    id        {attempt?, device?, shared?}       shared: another run does the work
    paused     id        {inputs: {port: {artifact, port, item?}}}     a breakpoint: what has arrived
    continued  id        {}
    progress   id        {done, total, message?}
    preview    id        {media_type, image: bytes}
    chunk      id        {text}
    log        id        {message}
    done       id        {ms, attempt?}
    skipped    id        {message}
    grown      id        {nodes: [id]}
    retrying   id        {attempt, error}
    failed     id        {error}
    blocked    id        {by: id}                         something before it failed
    cancelled  id        {}
    output     id        {outputs}                        results of a target, as in RunRecord.result
    finished             {status, seconds, errors?}       always the last
    """

    seq: int
    type: str
    node: str
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"seq": self.seq, "type": self.type}
        if self.node:
            entry["node"] = self.node
        entry.update(self.data)
        return entry


FULL_BATCH = 500


def _wake(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


class EventLog:
    """The events of one run. Written on the engine's loop only."""

    def __init__(self, first: int = 0) -> None:
        self.events: list[Event] = []
        self.times = array("d")
        """When each of `events` happened, on the clock of `time.perf_counter`."""
        self.latest: dict[tuple[str, str], Event] = {}
        self.seq = first
        self.first = first
        self.closed = False
        self._wake: set[asyncio.Event] = set()
        self._pauses: set[asyncio.Future[None]] = set()

    def add(self, type: str, node: str = "", data: dict[str, Any] | None = None) -> None:
        self.seq += 1
        event = Event(self.seq, type, node, data if data is not None else {})
        if type in COALESCED:
            self.latest[(type, node)] = event
        else:
            self.events.append(event)
            self.times.append(perf_counter())
            if type == "finished":
                self.closed = True
                for pause in self._pauses:
                    _wake(pause)
        if self._wake:
            for wake in self._wake:
                wake.set()

    def after(self, seq: int, limit: int = FULL_BATCH) -> list[Event]:
        """At most `limit` events with a higher number, in order."""
        events = self.events
        low, high = 0, len(events)
        while low < high:
            middle = (low + high) // 2
            if events[middle].seq <= seq:
                low = middle + 1
            else:
                high = middle
        batch = events[low : low + limit]
        whole = low + limit >= len(events)
        last = self.seq if whole else batch[-1].seq
        fresh = [event for event in self.latest.values() if seq < event.seq <= last]
        if fresh:
            batch = sorted([*batch, *fresh])[:limit]
        return batch

    async def watch(self, after: int = 0, pace_s: float = 0.0) -> AsyncIterator[list[Event]]:
        """Batches of events after number `after`, until `finished` was delivered.

        pace_s: how long events are collected between two small batches; the end of the run is told at once.
        """
        wake = asyncio.Event()
        self._wake.add(wake)
        try:
            while True:
                wake.clear()
                batch = self.after(after)
                if batch:
                    after = batch[-1].seq
                    yield batch
                    if batch[-1].type == "finished":
                        return
                    if pace_s and len(batch) < FULL_BATCH and not self.closed:
                        await self._collect(pace_s)
                elif self.closed:
                    return
                else:
                    await wake.wait()
        finally:
            self._wake.discard(wake)

    async def _collect(self, seconds: float) -> None:
        """Sleep, or wake when the log is closed."""
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        self._pauses.add(pause)
        timer = loop.call_later(seconds, _wake, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def close(self) -> None:
        """The engine closes: watchers end where they are."""
        self.closed = True
        for pause in self._pauses:
            _wake(pause)
        for wake in self._wake:
            wake.set()

    def forget_transient(self) -> None:
        """Drop progress and previews; called when the run has ended."""
        self.latest.clear()
