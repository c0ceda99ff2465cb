"""doit's database, made to survive what happens to processes.

doit's own backends write once, at the end of a run: SIGKILL loses everything, and two runs on one file lose each
other's records or end in "database is locked". This one writes each record when its task is done. It lives in the
cache, so that every checkout shares it, and it may be lost at any time: receipts are the truth, it is an index.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.dependency import DatabaseException, SqliteDB

if TYPE_CHECKING:
    from types import FrameType

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
            return self._open(name)
        except DatabaseException:
            # An index over receipts is not worth asking anybody about; the broken one stays for whoever wonders.
            with suppress(OSError):
                Path(name).replace(f"{name}.broken")
                return self._open(name)
        except (OSError, sqlite3.OperationalError):
            pass
        return self._open(":memory:")

    def _open(self, name: str) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._sqlite3(name)
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
            self._conn.execute(
                "insert or replace into doit values (?, ?)", (task_id, self.codec.encode(self._cache[task_id]))
            )
            self._dirty.discard(task_id)


def _is_sqlite(path: Path) -> bool:
    """Say whether SQLite would take the file for one of its own (SQLite, "Database File Format", section 1.3.1).

    doit leaves the connection open when it finds that out itself.
    """
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")


def raise_on_sigterm() -> None:
    """Make SIGTERM end a run as Ctrl-C does, with clean-up: CI systems cancel with it."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with suppress(ValueError):  # only the main thread may set handlers; an embedding program keeps its own
        signal.signal(signal.SIGTERM, interrupt)
