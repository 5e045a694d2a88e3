"""The run queue: whatever was accepted is on disk before its id is given out, and stays until it is finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from graph_engine.store import statements
from graph_engine.store.database import FolderLock, move_aside, open_database
from graph_engine.store.group_writer import GroupWriter
from graph_engine.store.history import FINISHED, History, RunRow


class RunQueue(History):
    """Accepted runs in SQLite, with their history. One per data folder; use it from one event loop.

    Writing methods return a future that is done once the change is durable: await it to be sure of that, or let it
    go. A run's writes happen in the order of their calls. Every method raises StoreError when the disk fails.
    """

    def __init__(self, folder: Path | str) -> None:
        """Opens or creates the database in `folder`; blocks for some milliseconds.

        Raises StoreError: `store_locked` (another engine, named by its pid), `queue_damaged`, `queue_version`.
        """
        folder = Path(folder)
        super().__init__(folder)
        self._lock = FolderLock(folder)
        try:
            connection = open_database(folder)
            self._last_before = int(connection.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()[0])
        except BaseException:
            self._lock.release()
            raise
        self._recovered = False
        self._writer = GroupWriter(connection, folder)

    @staticmethod
    def move_aside(folder: Path | str) -> Path:
        """Put a damaged database out of the way, at a person's explicit request; returns where it is now."""
        return move_aside(Path(folder))

    def close(self) -> None:
        """Everything that was called is written. Blocks; call it in a thread."""
        self._writer.close()
        super().close()
        self._lock.release()

    def add(self, row: RunRow) -> asyncio.Future[int]:
        """Accept a run; the result is its number. Its id may be given out once the future is done.

        Uses the row's id, document, name, targets, priority, client, nodes and created.
        Raises StoreError: `run_exists` for an id that is taken, `queue_record` for text that is not valid Unicode.
        """
        return self._writer.submit(statements.ADD, row)

    def started(self, run_id: str, *, at: float | None = None) -> asyncio.Future[bool]:
        """The run was begun (once more) at unix second `at`.

        The result is False, and nothing changes, when it is finished or unknown.
        """
        return self._writer.submit(statements.START, (run_id, time.time() if at is None else at))

    def finish(
        self, run_id: str, status: str, *, result: str | None = None, error: str | None = None, at: float | None = None
    ) -> asyncio.Future[bool]:
        """The result is whether this was the first finish; a later one changes nothing. Drops the run's journal.

        status: succeeded, partial, failed or cancelled (else ValueError); result, error: JSON text; at: unix seconds.
        Raises NotFoundError for an unknown run.
        """
        if status not in FINISHED:
            raise ValueError(f"a run cannot finish as {status!r}; it may be one of {', '.join(FINISHED)}")
        record = (run_id, status, time.time() if at is None else at, result, error)
        return self._writer.submit(statements.FINISH, record)

    def journal(self, run_id: str, key: str, payload: bytes) -> asyncio.Future[bool]:
        """Remember the result of a finished side-effecting step, so that after a crash it is not done twice.

        The result is False, and nothing changes, when the key is there already or the run is finished or unknown.
        """
        return self._writer.submit(statements.JOURNAL, (run_id, key, payload))

    async def recover(self) -> list[RunRow]:
        """At start-up: what earlier engines left unfinished, queued again with `boots` raised by one.

        In order of acceptance, with documents and journals. Called again it raises no boots.
        """
        first, self._recovered = not self._recovered, True
        if first:
            await self._writer.submit(statements.RECOVER, self._last_before)
        return [row for row in await self.unfinished() if row.number <= self._last_before]

    def prioritise(self, run_id: str, priority: int) -> asyncio.Future[bool]:
        """The result is False, and nothing changes, when the run is finished or unknown."""
        return self._writer.submit(statements.PRIORITISE, (run_id, priority))

    def release(self) -> asyncio.Future[int]:
        """A clean stop: runs that were begun wait in line again, and their beginning counts against none of them.

        The result is how many there were.
        """
        return self._writer.submit(statements.RELEASE, None)

    def delete(self, run_ids: Iterable[str]) -> asyncio.Future[int]:
        """Forget finished runs; unfinished and unknown ones are left alone. The result is how many were deleted."""
        return self._writer.submit(statements.DELETE, list(run_ids))

    def prune(
        self, *, keep: int | None = None, older_than_s: float | None = None, now: float | None = None
    ) -> asyncio.Future[int]:
        """Forget finished runs beyond the newest `keep`, and those finished more than `older_than_s` seconds ago.

        The result is how many were deleted.
        """
        now = time.time() if now is None else now
        before = None if older_than_s is None else now - older_than_s
        return self._writer.submit(statements.PRUNE, (keep, before))
