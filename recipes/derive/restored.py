"""Adopt what a copy or an archive brought back: the bytes are right, and the rest is put right."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from recipes.errors import StoreError
from recipes.formats.io import sparse

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.progress import Progress

#: Bytes on disk beyond the recorded ones that another file system may take for the same file.
_SLACK = 1 << 20


def adopt(entry: Entry, receipt: Receipt, *, jobs: int, progress: Progress) -> bool:
    """Say whether the artifact of `receipt` is what it records, and have it match, and take its room, as it did then.

    * Where the mtime alone differs (tar's default format drops the fractions of a second) the bytes are hashed.
    * Where it takes clearly more room on the disk (tar without ``--sparse``, an archive of CI) its zeros become holes.

    Each is done once: a file that cannot have holes is recorded as large as it is. In a cache that cannot be written
    to, or is being written to, the artifact serves as it is, and this is tried again the next time.
    """
    path = entry.artifact(receipt.kind)
    seen, swollen = _stamp(path), _is_swollen(entry, receipt)
    matches = entry.matches(receipt)
    if matches and not swollen:
        return True
    if not matches and _is_damaged(entry, receipt, jobs, progress):
        return False
    with suppress(StoreError, OSError), entry.hold() as held:
        if entry.receipt(receipt.kind) != receipt or _stamp(path) != seen:
            # Another process has put something else in its place.
            return False
        if swollen:
            # Not a new, sparse file in its place: other entries, and other kinds here, may name this one as well.
            with progress.meter(f"{receipt.kind}:{receipt.image}: making it sparse again") as meter:
                sparse.punch(path, meter=meter)
        held.restamp(receipt)
        if swollen and _is_swollen(entry, receipt):
            held.publish(path, receipt)
    return True


def _is_damaged(entry: Entry, receipt: Receipt, jobs: int, progress: Progress) -> bool:
    from . import verify

    return verify.damage(entry, receipt, jobs=jobs, progress=progress) is not None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced or written to."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_swollen(entry: Entry, receipt: Receipt) -> bool:
    """Say whether the artifact takes clearly more room than its receipt recorded, and is this user's to change."""
    try:
        found = entry.artifact(receipt.kind).stat()
    except OSError:
        return False
    recorded = receipt.artifact.allocated
    return sparse.allocated(found) > recorded + max(_SLACK, recorded // 8) and found.st_uid == os.geteuid()
