"""The SQLite file under the run queue: who may open it, its schema, and how an old or damaged one is treated."""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
import time
from pathlib import Path
from typing import IO

from graph_engine.errors import NotFoundError, StoreError

FILE_NAME = "runs.sqlite3"
LOCK_NAME = "runs.lock"
_CHECK_LIMIT_BYTES = 64 * 2**20
"""Files up to this size are checked whole when opened (about 0.1 s); in larger ones damage shows when it is read."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Documents live apart so that a change of status does not rewrite a megabyte of workflow.
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, name TEXT NOT NULL,
            client TEXT NOT NULL, priority INTEGER NOT NULL, nodes INTEGER NOT NULL, targets TEXT NOT NULL,
            created REAL NOT NULL, started REAL, finished REAL, boots INTEGER NOT NULL DEFAULT 0,
            starts INTEGER NOT NULL DEFAULT 0, result TEXT, error TEXT) STRICT""",
        "CREATE TABLE documents (number INTEGER PRIMARY KEY, body ANY NOT NULL) STRICT",
        """CREATE TABLE journal (
            run TEXT NOT NULL, key TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (run, key)) STRICT""",
        """CREATE TRIGGER runs_finish AFTER UPDATE OF status ON runs
            WHEN new.status NOT IN ('queued', 'running') BEGIN DELETE FROM journal WHERE run = new.id; END""",
        "CREATE INDEX runs_unfinished ON runs (number) WHERE status IN ('queued', 'running')",
        "CREATE INDEX runs_by_client ON runs (client, number)",
    ),
)
"""Entry n brings a file from version n to n + 1. Entries are only ever added."""


class FolderLock:
    """One engine per data folder. The kernel drops the lock when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError, naming the owner's pid, when another engine (or another queue of this one) has it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (folder / LOCK_NAME).open("a+")
        except OSError as error:
            raise StoreError(
                f"the data folder {folder} cannot be written: {error.strerror or error}.",
                remedy="Choose another data folder or correct its permissions.",
                code="store_folder",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(file)
            file.close()
            raise StoreError(
                f"the data folder {folder} is in use by another engine ({owner}).",
                remedy="Stop that engine, or give this one a data folder of its own.",
                code="store_locked",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        # The file stays: deleting it would let two engines hold locks on two files of one name.
        self._file.close()


def _owner(file: IO[str]) -> str:
    file.seek(0)
    text = file.read(20).strip()
    return f"process {text}" if text.isdigit() else "process unknown"


def connect(folder: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; commits reach the disk before they return (synchronous=FULL)."""
    connection = sqlite3.connect(folder / FILE_NAME, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def open_database(folder: Path) -> sqlite3.Connection:
    """Open or create the file and bring its schema up to date. The caller holds the folder's lock.

    Raises StoreError: code `queue_damaged` (see `move_aside`), `queue_version`, or `queue`.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(folder)
        if (folder / FILE_NAME).stat().st_size <= _CHECK_LIMIT_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        _migrate(connection, folder)
        return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error | OSError):
            raise described(error, folder) from error
        raise


def _migrate(connection: sqlite3.Connection, folder: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{folder / FILE_NAME} has schema version {version}; this Anyloom knows versions up to {len(MIGRATIONS)}.",
            remedy="Use the newer Anyloom that wrote it, or another data folder.",
            code="queue_version",
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def described(error: Exception, folder: Path) -> StoreError:
    """What SQLite or the system said, with the file and what to do about it."""
    path = folder / FILE_NAME
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _NOT_DAMAGE):
        return StoreError(
            f"the run queue {path} is damaged: {error}.",
            remedy=f"Restore it from a backup, or put it aside and start with an empty one: `{_command(folder)}`.",
            code="queue_damaged",
        )
    return StoreError(
        f"the run queue {path} cannot be used: {error}.",
        remedy="Check that the disk has room and that the file can be written.",
        code="queue",
    )


_NOT_DAMAGE = (sqlite3.OperationalError, sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError)


def _command(folder: Path) -> str:
    return f"anyloom reset-queue --data {shlex.quote(str(folder))}"


def move_aside(folder: Path) -> Path:
    """Rename the database (with its write-ahead log) so that the next start makes a new one; returns its new path.

    Raises StoreError when an engine uses the folder or the file cannot be renamed, NotFoundError when there is none.
    """
    if not (folder / FILE_NAME).exists():
        raise NotFoundError(
            f"there is no run queue {folder / FILE_NAME}.",
            remedy="Name the data folder that it lies in.",
            code="no_queue",
        )
    lock = FolderLock(folder)
    try:
        aside = folder / f"{FILE_NAME}.aside-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}"
        for suffix in (
            "-wal",
            "-shm",
            "",
        ):  # the log first: a log without its database would be applied to the next one
            if (source := folder / f"{FILE_NAME}{suffix}").exists():
                source.rename(f"{aside}{suffix}")
        return aside
    except OSError as error:
        raise described(error, folder) from error
    finally:
        lock.release()
