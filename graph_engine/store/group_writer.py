"""Group commit: everything that waits to be written goes to the disk in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, StoreError
from graph_engine.store.database import described
from graph_engine.store.statements import Command

_BATCH_LIMIT = 2000
PATIENCE_S = 0.01
"""Patient commands wait so long for company: who submits run after run then waits for one fsync each time, not for two."""
_STATEMENT_ROWS = 200

_ONE_RECORD = (
    AnyloomError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    ValueError,
    TypeError,
    OverflowError,
)
"""What concerns one record (a value that cannot be bound, a duplicate, bad text) and leaves the transaction whole."""


class _Write(NamedTuple):
    command: Command
    record: Any
    future: asyncio.Future[Any]


class GroupWriter:
    """The one thread that writes to a database. An fsync costs as much for a thousand rows as for one."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        """Takes the connection over, and closes it in `close`."""
        self._connection, self._folder = connection, folder
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="anyloom-queue-writer", daemon=True)
        self._thread.start()

    def submit(self, command: Command, record: Any) -> asyncio.Future[Any]:
        """Call in a running event loop. The future has the command's result once that is durable on disk.

        Raises StoreError after `close`.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._gate:
            if self._closed:
                raise StoreError("the run queue is closed.", remedy="Start the engine again.", code="queue_closed")
            self._waiting.put(_Write(command, record, future))
        return future

    def close(self) -> None:
        """Writes what waits, then ends the thread. Blocks for one commit."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_:
            batch: list[_Write] = []
            write = self._waiting.get()
            until = time.monotonic() + PATIENCE_S
            while True:
                if write is None:
                    open_ = False
                    break
                batch.append(write)
                if len(batch) >= _BATCH_LIMIT:
                    break
                if not write.command.patient:
                    until = 0.0
                try:
                    left = until - time.monotonic()
                    write = self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait()
                except queue.Empty:
                    break
            if batch:
                _deliver(batch, self._commit(batch))
            del batch, write
        self._connection.close()

    def _commit(self, batch: list[_Write]) -> list[Any]:
        """One result or exception per write."""
        singly: set[Command] = set()
        try:
            while True:
                self._connection.execute("BEGIN IMMEDIATE")
                odd, results = self._apply(batch, singly)
                if odd is None:
                    self._connection.execute("COMMIT")
                    return results
                self._connection.execute("ROLLBACK")
                singly.add(odd)
        except Exception as error:  # those who wait must hear it, and the thread must live
            failure = described(error, self._folder)
            failure.__cause__ = error
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # a disk that fails the rollback too: the log is rolled back when the file is next opened
            return [failure] * len(batch)

    def _apply(self, batch: list[_Write], singly: set[Command]) -> tuple[Command | None, list[Any]]:
        """The results; or the command that must be carried out singly, for one of its records is no ordinary case."""
        results: list[Any] = [None] * len(batch)
        for command, places in _groups(batch):
            records = [batch[place].record for place in places]
            if command.many is None or command in singly or len(records) == 1:
                answers = [self._apply_one(command, record) for record in records]
            else:
                try:
                    found = command.many(self._connection, records)
                except _ONE_RECORD:
                    found = None
                if found is None:
                    return command, results
                answers = found
            for place, answer in zip(places, answers, strict=True):
                results[place] = answer
        return None, results

    def _apply_one(self, command: Command, record: Any) -> Any:
        try:
            return command.one(self._connection, record)
        except AnyloomError as error:
            return error
        except _ONE_RECORD as error:
            failure = StoreError(
                f"a record for the run queue was refused: {error}.",
                remedy="Correct the value; text must be valid Unicode.",
                code="queue_record",
            )
            failure.__cause__ = error
            return failure


def _groups(batch: list[_Write]) -> Iterator[tuple[Command, list[int]]]:
    """The places of the writes that share a statement, in the order in which the statements go."""
    waiting: dict[Command, list[int]] = {}

    def flush() -> Iterator[tuple[Command, list[int]]]:
        for command in sorted(waiting, key=lambda command: command.rank):
            places = waiting[command]
            for first in range(0, len(places), _STATEMENT_ROWS):
                yield command, places[first : first + _STATEMENT_ROWS]
        waiting.clear()

    for place, write in enumerate(batch):
        if write.command.many is None:
            yield from flush()
            yield write.command, [place]
        else:
            waiting.setdefault(write.command, []).append(place)
    yield from flush()


def _deliver(batch: list[_Write], results: list[Any]) -> None:
    """Wake each loop once per batch, however many futures it waits for."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for write, result in zip(batch, results, strict=True):
        by_loop.setdefault(write.future.get_loop(), []).append((write.future, result))
    for loop, answers in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more, and the rows are safe
            loop.call_soon_threadsafe(_resolve, answers)


def _resolve(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in answers:
        if future.done():  # cancelled by whoever waited
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
