"""Ahead: while a step computes, the models that plans need next are brought, by one thread per pool.

`Residency.bring` decides what comes and what leaves for it; here are the thread, and the uses that each run expects. What is
on its way counts like what is there. It yields to everybody: jobs' own loads go first, a job that wants its room has it as
soon as the piece at hand is read, and a run that is cancelled or over takes its expectations with it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from graph_engine.memory.residency import Coming
from graph_engine.models.spec import ModelSpec

if TYPE_CHECKING:
    from graph_engine.memory.outline import Outline
    from graph_engine.memory.pool import ModelPool


class Expected(NamedTuple):
    """A use of a model that a run will make.

    after, again   how many uses of models after the present one; and when after that once more, None for never
    working_bytes  what its step needs beside its models
    """

    spec: ModelSpec
    after: int
    again: int | None = None
    working_bytes: int = 0


class Loading:
    """A model on its way. Two jobs that want one model wait for one load."""

    def __init__(self, ahead: bool = False) -> None:
        self.done = threading.Event()
        self.ahead = ahead
        self.wanted = False
        """A job waits for what was begun ahead."""
        self.dropped = False
        """Its room was given to others: it is to end without a result."""


class Dropped(Exception):
    """Raised between two pieces of what is brought, to end it."""


class _Use(NamedTuple):
    spec: ModelSpec
    coming: Coming


class Task(NamedTuple):
    """Bring a model, into so much room; outline: of one that comes in pieces. Without `loading`: only make its outline, so
    that its pieces are known."""

    device: str
    spec: ModelSpec
    room: int = 0
    outline: Outline | None = None
    loading: Loading | None = None


class Ahead:
    """All its methods but `live` are called with the pool's lock held."""

    def __init__(self, pool: ModelPool, lock: threading.Lock) -> None:
        self._pool = pool
        self._changed = threading.Condition(lock)
        self._uses: dict[str, dict[str, list[_Use]]] = {}
        """device -> run -> its uses, the soonest first"""
        self._thread: threading.Thread | None = None
        self._closed = False
        self.brought = self.used = 0
        """Models that were brought ahead, and those of them that a job then found."""

    def expect(self, run: str, device: str, expected: Sequence[Expected], before: int) -> None:
        """From now on this run uses these on the device, and no others.

        before: uses that its present step made already, from whose first one they are counted.
        """
        residency = self._pool.residency(device)
        begin, working, uses = residency.clock - before + 1, 0, []
        for one in sorted(expected, key=lambda one: one.after):
            working = max(working, one.working_bytes)
            again = float("inf") if one.again is None else float(begin + one.again)
            size = self._pool.size_of(one.spec)
            coming = Coming(one.spec.key, size, float(begin + one.after), again, working)
            uses.append(_Use(one.spec, coming))
        residency.expect(use.coming for use in uses)
        runs = self._uses.setdefault(device, {})
        runs[run] = uses
        if uses:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self.live, name="anyloom ahead", daemon=True)
                self._thread.start()
            self.wake()

    def forget(self, run: str) -> None:
        """The run is over or cancelled: what was brought for it alone makes room first, and what is on its way ends."""
        for device, runs in self._uses.items():
            mine = runs.pop(run, ())
            others = {use.spec.key for uses in runs.values() for use in uses}
            for key in {use.spec.key for use in mine} - others:
                self._pool.nobody_waits_for(device, key)

    def clear(self) -> None:
        """Nothing is brought until jobs say again what they expect."""
        self._uses.clear()

    def wake(self) -> None:
        """Something changed: there may be room now, or something else to bring."""
        if self._thread is not None:
            self._changed.notify_all()

    def close(self) -> threading.Thread | None:
        """The thread ends soon; it is returned to be waited for, without the lock."""
        self._closed = True
        self.clear()
        self.wake()
        thread, self._thread = self._thread, None
        return thread

    # --- in the thread, which takes the lock itself ---------------------------------------------------------------------------

    def live(self) -> None:
        while (task := self._next()) is not None:
            try:
                if task.loading is None:
                    outline = self._pool.outline(task.spec, task.device)
                    with self._changed:
                        self._pool.hollow.outlines[task.device, task.spec.key] = outline
                else:
                    self._pool.load_ahead(task, task.loading, self._go_on)
            except Dropped:
                pass
            except Exception:  # whatever it is, the job that uses the model will meet it and say what is wrong
                with self._changed:
                    self._give_up(task.spec.key)

    def _next(self) -> Task | None:
        with self._changed:
            while not self._closed:
                for device in self._uses:
                    task = self._pick(device)
                    if task is not None:
                        return task
                self._changed.wait()
            return None

    def _pick(self, device: str) -> Task | None:
        pool = self._pool
        uses = sorted((use for uses in self._uses[device].values() for use in uses), key=lambda use: use.coming.use)
        if any(loading.ahead and place[0] == device for place, loading in pool.loading.items()):
            return None
        known: list[Coming] = []
        for spec, coming in uses:
            if (device, spec.key) in pool.loading or not pool.may_come_ahead(spec):
                continue
            if spec.key not in pool.hollow.prepared and spec.key not in pool.residency(device).residents:
                break  # a job's thread builds it first
            if pool.movers.in_pieces(device, spec):
                outline = pool.hollow.outlines.get((device, spec.key))
                if outline is not None:
                    coming = coming._replace(bytes=outline.bytes, least_bytes=outline.least_room)
                elif coming.key not in pool.residency(device).residents:
                    return Task(device, spec)
            known.append(coming)
        found = pool.residency(device).bring(known)
        if found is None:
            return None
        key, room, leaving = found
        pool.make_way(device, leaving)
        spec = next(use.spec for use in uses if use.spec.key == key)
        loading = pool.loading[device, key] = Loading(ahead=True)
        return Task(device, spec, room, pool.hollow.outlines.pop((device, key), None), loading)

    def _go_on(self, loading: Loading) -> None:
        """Between two pieces: jobs' own loads come first. Raises Dropped when the rest is not wanted any more."""
        with self._changed:
            while self._pool.urgent and not (loading.wanted or loading.dropped or self._closed):
                self._changed.wait()
            if loading.dropped or self._closed:
                raise Dropped

    def _give_up(self, key: str) -> None:
        for runs in self._uses.values():
            for run, uses in runs.items():
                runs[run] = [use for use in uses if use.spec.key != key]
