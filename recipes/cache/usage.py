"""When an artifact was last used: the mtime of a mark beside it, ``KIND.used``.

A mark of our own, since the access time of the artifact says nothing: most systems mount with relatime or noatime,
backups and `larder verify` read without using, and a clone by reflink uses without reading. It is written without the
entry's lock.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .store import Entry


def mark(entry: Entry, kind: str) -> Path:
    """Return where the mark of `kind` is, or would be."""
    return entry.path / f"{kind}.used"


def record(entry: Entry, kind: str) -> None:
    """Remember that the artifact of `kind` is used now, where the cache can be written to."""
    with suppress(OSError):
        mark(entry, kind).touch()


def last_ns(entry: Entry, kind: str) -> int:
    """Return when the artifact of `kind` was last used, at the least made, in nanoseconds since the epoch."""
    try:
        used = mark(entry, kind).stat().st_mtime_ns
    except OSError:
        used = 0
    return max(used, entry.written_ns(kind))
