"""doit's database, made to survive what happens to processes.

doit's own backends write once, at the end of a run: SIGKILL loses everything, and two runs on one file lose each
other's records or end in "database is locked". This one writes each record when its task is done. It lives in the
cache, so that every checkout shares it, and it may be lost at any time: receipts are the truth, it is an index.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, SqliteDB
from doit.exceptions import InvalidCommand

_BUSY_MILLISECONDS = 60_000
#: The field that doit sets last when it saves a task (doit.dependency.Dependency.save_success).
_LAST_FIELDS = ("deps:", "ignore:")


class WriteThrough(SqliteDB):  # type: ignore[misc]
    """One row per task, committed as soon as the task is done."""

    desc = "sqlite3, one commit per finished task; survives kills and concurrent runs"

    def _sqlite3(self, name: str) -> sqlite3.Connection:
        # A cache that is read-only, or whose database is not to be had, serves artifacts all the same. SQLite would
        # open the file and fail with the first record.
        if not os.access(name if Path(name).exists() else Path(name).parent, os.W_OK):
            return self._open(":memory:")
        try:
            if not _is_sqlite(Path(name)):
                Path(name).replace(f"{name}.broken")
            _wait(name)
            return self._open(name)
        except sqlite3.OperationalError:
            # Busy for all that time, or not to be opened: not broken, and others may be writing to it.
            return self._open(":memory:")
        except (DatabaseException, sqlite3.DatabaseError) as error:
            if isinstance(error.__context__, sqlite3.OperationalError):
                return self._open(":memory:")
            # An index over receipts is not worth asking anybody about; the broken one stays for whoever wonders.
            with suppress(OSError):
                Path(name).replace(f"{name}.broken")
                return self._open(name)
        except OSError:
            pass
        return self._open(":memory:")

    def _open(self, name: str) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._sqlite3(name)
        try:
            _require_sound(connection)
        except (DatabaseException, sqlite3.Error):
            connection.close()
            raise
        connection.isolation_level = None
        connection.execute(f"pragma busy_timeout={_BUSY_MILLISECONDS}")
        # The rollback journal works on network file systems, which WAL does not. Without fsync a power loss can cost
        # the file; it is an index, and a thousand tasks would otherwise wait for a thousand fsyncs.
        connection.execute("pragma synchronous=off")
        return connection

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a field; the task's row is written when its last field is."""
        super().set(task_id, dependency, value)
        if dependency in _LAST_FIELDS:
            row = task_id, self.codec.encode(self._cache[task_id])
            # A full disk, or somebody who holds the database: the task is done all the same.
            with suppress(sqlite3.Error):
                self._conn.execute("insert or replace into doit values (?, ?)", row)
            self._dirty.discard(task_id)

    def remove(self, task_id: str) -> None:
        """Remove the row of a task."""
        with suppress(sqlite3.Error):
            super().remove(task_id)

    def remove_all(self) -> None:
        """Remove the rows of all tasks, for `doit forget`."""
        try:
            super().remove_all()
        except sqlite3.Error as error:
            raise InvalidCommand(f"{self.name}: {error}") from error

    def records(self) -> dict[str, Any]:
        """Return what is recorded, by task."""
        try:
            rows = self._conn.execute("select task_id from doit order by task_id").fetchall()
        except sqlite3.Error as error:
            raise InvalidCommand(f"{self.name}: {error}") from error
        return {row["task_id"]: self._get_task_data(row["task_id"]) for row in rows}

    def dump(self) -> None:
        """Close the database."""
        with closing(self._conn), suppress(sqlite3.Error):
            super().dump()

    def _get_task_data(self, task_id: str) -> dict[str, Any]:
        try:
            data = super()._get_task_data(task_id)
        except (sqlite3.Error, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def _require_sound(connection: sqlite3.Connection) -> None:
    """Raise DatabaseException where the file is not a database as this one writes it."""
    try:
        (found,) = connection.execute("pragma quick_check(1)").fetchone().values()
        columns = {row["name"] for row in connection.execute("pragma table_info(doit)")}
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise DatabaseException(str(error)) from error
    if found != "ok" or columns != {"task_id", "task_data"}:
        raise DatabaseException(f"not a database of doit's: {found}, {sorted(columns)}")


def _wait(name: str) -> None:
    """Wait until the database can be read; doit gives up after five seconds, and calls it corrupted then.

    Errors: sqlite3.OperationalError where that takes too long; sqlite3.DatabaseError for what is no database.
    """
    with closing(sqlite3.connect(name, timeout=_BUSY_MILLISECONDS / 1000)) as connection:
        connection.execute("select 1 from sqlite_master")


def _is_sqlite(path: Path) -> bool:
    """Say whether SQLite would take the file for one of its own (SQLite, "Database File Format", section 1.3.1).

    doit leaves the connection open when it finds that out itself.
    """
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")
