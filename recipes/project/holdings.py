"""What the cache holds, and what each file is to the projects that share it: the facts behind `larder prune`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recipes.cache import roots, store, usage
from recipes.cache.prune import Inode, Item, Standing
from recipes.errors import LarderError
from recipes.formats.io import sparse
from recipes.sources.lists import ListRef

from . import look

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.cache.store import Entry
    from recipes.model import Image

    from .look import Look
    from .workspace import Workspace

_DAY_NS = 86400 * 10**9
#: A download that nobody went on with for so long is not gone on with any more.
_GIVEN_UP_NS = 7 * _DAY_NS
#: A stamp says that a version of images.toml is valid; of older ones a second look costs a tenth of a second.
_STAMP_NS = 30 * _DAY_NS
#: Nobody takes so long to write a checksum list.
_DRAFT_NS = _DAY_NS


def items(space: Workspace) -> list[Item]:
    """Return the files of the cache; raise LarderError where the declarations of a project cannot be read."""
    everybodys = look.everybodys(space, strict=True)
    found: list[Item] = []
    for entry in space.session.store.entries():
        found += _Entry(look.look(space, entry, everybodys.get((entry.image, entry.arch), ()))).items()
    return [*found, *_leftovers(space, [each.image for same in everybodys.values() for each in same])]


class _Entry:
    """One entry: what each of its files is to the projects that declare its image."""

    def __init__(self, seen: Look) -> None:
        self.entry = seen.entry
        self.seen = seen
        self.busy = _is_busy(seen.entry)

    def items(self) -> Iterator[Item]:
        entry = self.entry
        kinds = entry.kinds()
        for kind in kinds:
            yield from self._item(entry.artifact(kind), self._standing(kind), kind)
        yield from self._item(entry.part, self._standing_of_part())
        if self.busy:
            return
        for path in entry.leftovers():
            yield from self._item(path, Standing.LEFTOVER)
        if not self.seen.declared and entry.is_spent():
            yield from self._item(entry.path, Standing.LEFTOVER)

    def _standing(self, kind: str) -> Standing:
        found = self.seen.found[kind]
        # One that this version does not read is a receipt all the same.
        if found.receipt is None and store.is_gone(self.entry.path / f"{kind}.json"):
            return Standing.LEFTOVER
        if not self.seen.declared:
            return Standing.UNDECLARED
        if not self.seen.known or found.receipt is None:
            return Standing.UNKNOWN
        # What is asked for stays until another takes its place; as an input only what is current is of use.
        if found.asked or (found.wanted and found.state == "current"):
            return Standing.WANTED
        return Standing.UNASKED if found.receipt.key in found.keys else Standing.SUPERSEDED

    def _standing_of_part(self) -> Standing:
        if not self.seen.declared:
            return Standing.UNDECLARED
        if not self.seen.known:
            return Standing.UNKNOWN
        status = _status(self.entry.part)
        old = status is not None and time.time_ns() - status.st_mtime_ns > _GIVEN_UP_NS
        return Standing.ABANDONED if old or not self.seen.found["fetch"].wanted else Standing.WANTED

    def _item(self, path: Path, standing: Standing, kind: str = "") -> Iterator[Item]:
        """Yield the item of `path`, where it is there."""
        status = _status(path)
        if status is None:
            return
        yield Item(
            path=path,
            standing=standing,
            inode=Inode(status.st_dev, status.st_ino),
            links=status.st_nlink,
            allocated=0 if path == self.entry.path else sparse.allocated(status),
            used_ns=usage.last_ns(self.entry, kind) if kind else status.st_mtime_ns,
            busy=self.busy,
            image=self.entry.image,
            arch=self.entry.arch,
            kind=kind,
        )


def _is_busy(entry: Entry) -> bool:
    """Say whether a process holds the lock of `entry`; nothing is changed."""
    from filelock import FileLock, Timeout

    if not store.is_there(entry.path / ".lock"):
        return False
    try:
        with FileLock(entry.path / ".lock", timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        # Nobody can write to it then.
        return False


def _leftovers(space: Workspace, images: list[Image]) -> Iterator[Item]:
    """Yield what no declaration needs of the lists, the stamps and the roots."""
    cache, now = space.session.store.root, time.time_ns()
    try:
        followed = {ref.key for ref in map(ListRef.declared, (image.source for image in images)) if ref}
    except LarderError:
        followed = None
    for path in sorted((cache / "lists").glob("*")):
        status = _status(path)
        if status is None:
            continue
        age = now - status.st_mtime_ns
        if age > _DRAFT_NS if path.name.startswith(".") else followed is not None and path.stem not in followed:
            yield _leftover(path, status)
    for path in sorted((cache / "validated").glob("*")):
        status = _status(path)
        if status is not None and now - status.st_mtime_ns > _STAMP_NS:
            yield _leftover(path, status)
    for path in sorted((cache / "roots").glob(".*")):
        status = _status(path)
        if status is not None and now - status.st_mtime_ns > _DRAFT_NS:
            yield _leftover(path, status)
    for file, path in roots.registered(cache).items():
        status = _status(file)
        if status is not None and store.is_gone(path):
            yield _leftover(file, status)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file, None where it cannot be had: taken away just now, another user's, on a bad disk."""
    try:
        return path.stat()
    except OSError:
        return None


def _leftover(path: Path, status: os.stat_result) -> Item:
    return Item(
        path=path,
        standing=Standing.LEFTOVER,
        inode=Inode(status.st_dev, status.st_ino),
        links=status.st_nlink,
        allocated=sparse.allocated(status),
        used_ns=status.st_mtime_ns,
    )
