"""What watchers see of a run: numbered events in one log per run, read by any number of cursors.

State events are kept for as long as the log lives, so a watcher that was away resumes after the last number it saw. What
only matters while it is fresh (progress, previews) is kept once per node: a slow reader misses intermediate ones and holds
no memory of its own (law P11), because a watcher is nothing but a position in the log.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Container
from time import perf_counter
from typing import Any, NamedTuple

from graph_engine.schedule.messages import NOTHING
from graph_engine.tuples import made

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
        seq, type, node, data = self
        entry: dict[str, Any] = {"seq": seq, "type": type, "node": node} if node else {"seq": seq, "type": type}
        if data:
            entry.update(data)
        return entry


FULL_BATCH = 500


def is_part(node: str, grown: Container[str]) -> bool:
    """An item of a mapped step, or a step that one of `grown` grew; not a node of the workflow, nor of its subgraphs."""
    return "#" in node or any(letter == "/" and node[:at] in grown for at, letter in enumerate(node))


def _wake(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


class EventLog:
    """The events of one run, in columns: a large run has very many, and most logs are read once or never.

    Written on the engine's loop only.
    """

    def __init__(self, first: int = 0) -> None:
        self._seqs = array("q")
        self._times = array("d")
        self._types: list[str] = []
        self._nodes: list[str] = []
        self._data: list[dict[str, Any]] = []
        self.latest: dict[tuple[str, str], Event] = {}
        self.seq = first
        self.first = first
        self.closed = False
        self._asleep: set[asyncio.Event] = set()
        """Watchers that have seen everything."""
        self._pauses: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """Events that stay."""
        return len(self._seqs)

    def add(self, type: str, node: str = "", data: dict[str, Any] = NOTHING) -> None:
        seq = self.seq = self.seq + 1
        if type in COALESCED:
            self.latest[(type, node)] = Event(seq, type, node, data)
        else:
            self._seqs.append(seq)
            self._times.append(perf_counter())
            self._types.append(type)
            self._nodes.append(node)
            self._data.append(data)
            if type == "finished":
                self.closed = True
                for pause in self._pauses:
                    _wake(pause)
        if self._asleep:
            self._wake_all()

    def kept(self, begin: int = 0) -> list[Event]:
        """The events that stay, from the one at place `begin` on."""
        part = slice(begin, None)
        rows = zip(self._seqs[part], self._types[part], self._nodes[part], self._data[part], strict=True)
        return [made(Event, row) for row in rows]

    @property
    def times(self) -> array[float]:
        """When each event that stays happened, on the clock of `time.perf_counter`."""
        return self._times[:]

    def _wake_all(self) -> None:
        for wake in self._asleep:
            wake.set()
        self._asleep.clear()

    def after(self, seq: int, limit: int = FULL_BATCH) -> list[Event]:
        """At most `limit` events with a higher number, in order."""
        low = bisect_right(self._seqs, seq)
        batch = self._rows(low, low + limit)
        whole = low + limit >= len(self)
        last = self.seq if whole else batch[-1].seq
        fresh = [event for event in self.latest.values() if seq < event.seq <= last]
        if fresh:
            batch = sorted([*batch, *fresh])[:limit]
        return batch

    @property
    def events(self) -> list[Event]:
        """All events that stay, made anew at each call."""
        return self._rows(0, len(self))

    def _rows(self, low: int, high: int) -> list[Event]:
        rows = zip(
            self._seqs[low:high], self._types[low:high], self._nodes[low:high], self._data[low:high], strict=True
        )
        return [made(Event, row) for row in rows]

    async def watch(self, after: int = 0, pace_s: float = 0.0) -> AsyncIterator[list[Event]]:
        """Batches of events after number `after`, until `finished` was delivered.

        pace_s: how long events are collected between two small batches; the end of the run is told at once.
        """
        wake = asyncio.Event()
        try:
            while True:
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
                    wake.clear()
                    self._asleep.add(wake)
                    await wake.wait()
        finally:
            self._asleep.discard(wake)

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
        self._wake_all()

    def forget_transient(self) -> None:
        """Drop progress and previews; called when the run has ended."""
        self.latest.clear()
