"""The SQL of the run queue: each command for one record, and for many records at once.

A thread that waits for the interpreter lock waits up to 5 ms each time SQLite gives it back, which is several times per
statement. So while anything else computes in Python, the cost of a batch is its number of statements, not of rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from graph_engine.errors import NotFoundError, StoreError
from graph_engine.store.history import RunRow, pack_document

_UNFINISHED = "status IN ('queued', 'running')"
_FINISHED = "status NOT IN ('queued', 'running')"


class Command(NamedTuple):
    """one(connection, record) -> its result; raises an AnyloomError only before it wrote anything.

    many(connection, records) -> their results, or None when some record is no ordinary case: the transaction is
    then undone and each record goes through `one`. Without `many` a command is never moved past another.
    rank: in a batch, commands of smaller rank go first; a run is added, begun, journalled and finished in that order.
    patient: nobody waits for it, so it may wait a moment for a commit that somebody does wait for.
    """

    rank: int
    one: Callable[[sqlite3.Connection, Any], Any]
    many: Callable[[sqlite3.Connection, list[Any]], list[Any] | None] | None = None
    patient: bool = False


def _values(records: list[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """`(?, ?), (?, ?)` and what is bound to it."""
    row = f"({', '.join('?' * len(records[0]))})"
    return ", ".join([row] * len(records)), [value for record in records for value in record]


# --- add: a RunRow ------------------------------------------------------------------------------------------------

_ADD = "INSERT {mode} INTO runs (status, id, name, client, priority, nodes, targets, created) SELECT 'queued', * FROM "


def _fields(row: RunRow) -> tuple[Any, ...]:
    return row.id, row.name, row.client, row.priority, row.nodes, row.targets, row.created


def _add(connection: sqlite3.Connection, row: RunRow) -> int:
    body = pack_document(row.document)
    values, bound = _values([_fields(row)])
    try:
        number = connection.execute(_ADD.format(mode="") + f"(VALUES {values})", bound).lastrowid
    except sqlite3.IntegrityError as error:
        if "UNIQUE" not in str(error):
            raise
        raise StoreError(
            f"the run {row.id!r} was accepted before.",
            remedy="Submit it without an id, or with one that was not used before.",
            code="run_exists",
        ) from error
    connection.execute("INSERT INTO documents VALUES (?, ?)", (number, body))
    return int(number or 0)


def _add_many(connection: sqlite3.Connection, rows: list[RunRow]) -> list[int] | None:
    bodies = [pack_document(row.document) for row in rows]
    values, bound = _values([_fields(row) for row in rows])
    cursor = connection.execute(_ADD.format(mode="OR IGNORE") + f"(VALUES {values})", bound)
    if cursor.rowcount != len(rows):
        return None
    # One writer, one statement: AUTOINCREMENT gave consecutive numbers in the order of the rows.
    last = int(cursor.lastrowid or 0)
    numbers = list(range(last - len(rows) + 1, last + 1))
    values, bound = _values(list(zip(numbers, bodies, strict=True)))
    connection.execute(f"INSERT INTO documents VALUES {values}", bound)
    return numbers


# SQLite names the columns of VALUES column1, column2, ... The statements begin with their verb and not with WITH,
# because Python's sqlite3 counts the changed rows of those only.

# --- start: (id, unix seconds) ------------------------------------------------------------------------------------


def _start(connection: sqlite3.Connection, record: tuple[str, float]) -> bool:
    return _start_many(connection, [record]) == [True]


def _start_many(connection: sqlite3.Connection, records: list[tuple[str, float]]) -> list[bool] | None:
    values, bound = _values(records)
    query = (
        "UPDATE runs SET status = 'running', started = column2, starts = starts + 1"
        f" FROM (VALUES {values}) WHERE id = column1 AND {_UNFINISHED}"
    )
    return [True] * len(records) if connection.execute(query, bound).rowcount == len(records) else None


# --- journal: (run id, key, payload) ------------------------------------------------------------------------------


def _journal(connection: sqlite3.Connection, record: tuple[str, str, bytes]) -> bool:
    return _journal_many(connection, [record]) == [True]


def _journal_many(connection: sqlite3.Connection, records: list[tuple[str, str, bytes]]) -> list[bool] | None:
    values, bound = _values(records)
    query = (
        "INSERT OR IGNORE INTO journal SELECT column1, column2, column3"
        f" FROM (VALUES {values}) JOIN runs ON id = column1 WHERE {_UNFINISHED}"
    )
    return [True] * len(records) if connection.execute(query, bound).rowcount == len(records) else None


# --- finish: (id, status, unix seconds, result, error); a trigger drops the journal -------------------------------


def _finish(connection: sqlite3.Connection, record: tuple[str, str, float, str | None, str | None]) -> bool:
    if _finish_many(connection, [record]) == [True]:
        return True
    run_id = record[0]
    if connection.execute("SELECT count(*) FROM runs WHERE id = ?", (run_id,)).fetchone()[0]:
        return False
    raise NotFoundError(f"there is no run {run_id!r} to finish.", remedy="It may have been deleted from the history.")


def _finish_many(
    connection: sqlite3.Connection, records: list[tuple[str, str, float, str | None, str | None]]
) -> list[bool] | None:
    values, bound = _values(records)
    query = (
        "UPDATE runs SET status = column2, finished = column3, result = column4, error = column5"
        f" FROM (VALUES {values}) WHERE id = column1 AND {_UNFINISHED}"
    )
    return [True] * len(records) if connection.execute(query, bound).rowcount == len(records) else None


# --- the rare ones ------------------------------------------------------------------------------------------------


def _recover(connection: sqlite3.Connection, last_number: int) -> int:
    query = f"UPDATE runs SET boots = boots + 1, status = 'queued', started = NULL WHERE {_UNFINISHED} AND number <= ?"
    return connection.execute(query, (last_number,)).rowcount


def _release(connection: sqlite3.Connection, _: None) -> int:
    query = "UPDATE runs SET status = 'queued', started = NULL, starts = max(starts - 1, 0) WHERE status = 'running'"
    return connection.execute(query).rowcount


def _delete(connection: sqlite3.Connection, run_ids: list[str]) -> int:
    return _forget(connection, f"{_FINISHED} AND id IN (SELECT value FROM json_each(?))", json.dumps(run_ids))


def _prune(connection: sqlite3.Connection, record: tuple[int | None, float | None]) -> int:
    """record: how many to keep, and the moment before which a run must have finished to be forgotten."""
    keep, before = record
    deleted = 0
    if keep is not None:
        beyond = f"SELECT number FROM runs WHERE {_FINISHED} ORDER BY number DESC LIMIT -1 OFFSET ?"
        deleted += _forget(connection, f"number IN ({beyond})", max(0, keep))
    if before is not None:
        deleted += _forget(connection, f"{_FINISHED} AND finished < ?", before)
    return deleted


def _forget(connection: sqlite3.Connection, where: str, value: Any) -> int:
    connection.execute(f"DELETE FROM documents WHERE number IN (SELECT number FROM runs WHERE {where})", (value,))
    return connection.execute(f"DELETE FROM runs WHERE {where}", (value,)).rowcount


ADD = Command(0, _add, _add_many)
START = Command(1, _start, _start_many)
JOURNAL = Command(2, _journal, _journal_many)
FINISH = Command(3, _finish, _finish_many, patient=True)
RECOVER = Command(0, _recover)
RELEASE = Command(4, _release)
DELETE = Command(0, _delete)
PRUNE = Command(0, _prune)
