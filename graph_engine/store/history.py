"""What is known of the runs that were accepted: one row each, read without holding up the event loop."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from graph_engine.errors import StoreError
from graph_engine.store.database import connect, described

T = TypeVar("T")

UNFINISHED = ("queued", "running")
FINISHED = ("succeeded", "partial", "failed", "cancelled")
COMPRESS_ABOVE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class RunRow:
    """One accepted run. Times are unix seconds; targets, result and error are JSON text."""

    id: str
    document: str = ""
    """The workflow's JSON text as it was submitted; "" in listings, which do not read it."""
    name: str = ""
    targets: str = "[]"
    priority: int = 0
    client: str = ""
    nodes: int = 0
    """Number of nodes in the document."""
    created: float = field(default_factory=time.time)
    number: int = 0
    """Order of acceptance, given by the queue; never used twice."""
    status: str = "queued"
    started: float | None = None
    finished: float | None = None
    boots: int = 0
    """How many engines found the run unfinished when they started."""
    starts: int = 0
    """How often the run was begun. Judge a poisoned run by this: a run that only waited has boots and no starts."""
    result: str | None = None
    error: str | None = None
    journal: dict[str, bytes] = field(default_factory=dict)
    """Results of finished side-effecting steps by key; filled by `unfinished` and `recover` only."""


_NAMES = tuple(item.name for item in fields(RunRow) if item.name not in ("document", "journal"))
_COLUMNS = ", ".join(_NAMES)


_TIMES = ("created", "started", "finished")


def pack_document(text: str) -> str | bytes:
    """Compressed when that is worth it. Raises UnicodeEncodeError (a ValueError) for lone surrogates."""
    data = text.encode()
    return zlib.compress(data, 1) if len(data) > COMPRESS_ABOVE_BYTES else text


def unpack_document(body: str | bytes) -> str:
    """Raises zlib.error or UnicodeDecodeError for a damaged body."""
    return body if isinstance(body, str) else zlib.decompress(body).decode()


def _row(values: tuple[Any, ...], document: str = "") -> RunRow:
    return RunRow(document=document, **dict(zip(_NAMES, values, strict=True)))


def _listed(entry: list[Any]) -> RunRow:
    values = dict(zip(_NAMES, entry, strict=True))
    for name in _TIMES:
        values[name] = None if values[name] is None else float(values[name])
    return RunRow(**values)


class History:
    """The reader: a connection of its own in a thread of its own, so that a slow disk stops nobody else."""

    def __init__(self, folder: Path) -> None:
        """Call after the schema exists (see `open_database`)."""
        self._folder = folder
        self._local = threading.local()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anyloom-queue-reader")

    def close(self) -> None:
        """Waits for the reads under way."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=True)

    async def get(self, run_id: str) -> RunRow | None:
        """With its document."""

        def read(connection: sqlite3.Connection) -> RunRow | None:
            query = f"SELECT {_COLUMNS}, body FROM runs LEFT JOIN documents USING (number) WHERE id = ?"
            found = connection.execute(query, (run_id,)).fetchone()
            return _row(found[:-1], unpack_document(found[-1] or "")) if found else None

        return await self._read(read)

    async def unfinished(self) -> list[RunRow]:
        """In order of acceptance, each with its document and its journal."""

        def read(connection: sqlite3.Connection) -> list[RunRow]:
            query = (
                f"SELECT {_COLUMNS}, body FROM runs LEFT JOIN documents USING (number) "
                "WHERE status IN ('queued', 'running') ORDER BY number"
            )
            connection.execute("BEGIN")  # rows and journals of one moment
            try:
                rows = [_row(found[:-1], unpack_document(found[-1] or "")) for found in connection.execute(query)]
                entries = "SELECT key, payload FROM journal WHERE run = ?"
                return [replace(row, journal=dict(connection.execute(entries, (row.id,)))) for row in rows]
            finally:
                connection.execute("COMMIT")

        return await self._read(read)

    async def history(
        self,
        *,
        status: str | Iterable[str] | None = None,
        client: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[RunRow]:
        """Newest first, without documents. before: only smaller numbers (the last of the page before)."""
        where, values = _filter(status, client)
        if before is not None:
            where, values = f"{where} AND number < ?", [*values, before]

        def read(connection: sqlite3.Connection) -> list[RunRow]:
            # One JSON text instead of many rows: SQLite gives the interpreter lock back at every row, and a thread
            # waits up to 5 ms for it while another computes. Seventeen digits keep a double exact.
            columns = ", ".join(
                f"iif({name} IS NULL, NULL, printf('%!.17g', {name}))" if name in _TIMES else name for name in _NAMES
            )
            query = (
                f"SELECT json_group_array(json_array({columns})) FROM"
                f" (SELECT * FROM runs WHERE {where} ORDER BY number DESC LIMIT ?)"
            )
            (text,) = connection.execute(query, [*values, max(0, limit)]).fetchone()
            return [_listed(entry) for entry in json.loads(text)]

        return await self._read(read)

    async def naming_files(self) -> AsyncIterator[tuple[str, float, float | None]]:
        """(result as JSON text, created, finished) of each run whose result may name a file in `temp`, newest first."""
        before = 1 << 62

        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            # Few at a time, so that nobody who looks something up waits long for the one reader.
            query = (
                "SELECT result, created, finished, number FROM runs WHERE number < ?"
                """ AND (instr(result, '"temp"') OR instr(result, '"artifact"')) ORDER BY number DESC LIMIT 100"""
            )
            return connection.execute(query, (before,)).fetchall()

        while rows := await self._read(read):
            for result, created, finished, _ in rows:
                yield result, created, finished
            before = rows[-1][-1]

    async def count(self, *, status: str | Iterable[str] | None = None, client: str | None = None) -> int:
        where, values = _filter(status, client)

        def read(connection: sqlite3.Connection) -> int:
            return int(connection.execute(f"SELECT count(*) FROM runs WHERE {where}", values).fetchone()[0])

        return await self._read(read)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Raises StoreError for a closed or unreadable queue."""
        if self._closed:
            raise StoreError("the run queue is closed.", remedy="Start the engine again.", code="queue_closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect(self._folder)
                connection.execute("PRAGMA query_only=1")
            return query(connection)
        except (sqlite3.Error, OSError) as error:
            raise described(error, self._folder) from error
        except (zlib.error, UnicodeDecodeError) as error:
            raise described(sqlite3.DatabaseError(f"a document cannot be read: {error}"), self._folder) from error

    def _disconnect(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()


def _filter(status: str | Iterable[str] | None, client: str | None) -> tuple[str, list[Any]]:
    where, values = "1", list[Any]()
    if status is not None:
        wanted = [status] if isinstance(status, str) else list(status)
        where += f" AND status IN ({', '.join('?' * len(wanted))})"
        values += wanted
    if client is not None:
        where += " AND client = ?"
        values.append(client)
    return where, values
