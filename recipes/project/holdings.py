"""What the cache holds, and what each file is to the projects that share it: the facts behind `doit prune`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recipes import declare
from recipes.cache import roots, store, usage
from recipes.cache.prune import Inode, Item, Standing
from recipes.derive import engine
from recipes.errors import LarderError, StoreError
from recipes.formats.io import sparse
from recipes.kinds import DERIVABLE
from recipes.sources.lists import ListRef

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.cache.store import Entry
    from recipes.model import Identity, Image

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
    images = _images(space)
    found: list[Item] = []
    for entry in space.session.store.entries():
        found += _Entry(space, entry, images.get((entry.image, entry.arch), [])).items()
    return [*found, *_leftovers(space, [image for same in images.values() for image in same])]


def _images(space: Workspace) -> dict[tuple[str, str], list[Image]]:
    """Return what the projects that share the cache declare, by name and architecture."""
    declarations = {space.settings.images: space.declaration}
    for file, path in roots.registered(space.session.store.root).items():
        if path in declarations or store.is_gone(path):
            continue
        try:
            declarations[path] = declare.load(path, validated=space.session.store.root / "validated")
        except LarderError as error:
            raise StoreError(
                f"another project shares this cache, and what it declares cannot be read:\n{error}",
                hint=f"repair it, or prune as somebody who may read it; if that project is no more, delete {file}",
            ) from error
    found: dict[tuple[str, str], list[Image]] = {}
    for declaration in declarations.values():
        for by_arch in declaration.images.values():
            for image in by_arch.values():
                found.setdefault((image.name, image.arch), []).append(image)
    return found


class _Entry:
    """One entry, and the images that it is of: none where nobody declares it, several where projects differ."""

    def __init__(self, space: Workspace, entry: Entry, images: list[Image]) -> None:
        self.entry = entry
        self.images = images
        #: None where the list of one of the images was never seen.
        self.identities = _identities(space, images)
        self.busy = _is_busy(entry)
        #: What is asked for, and what an asked-for derivation lacks.
        self.wanted: set[str] = set()
        #: What is made from what upstream serves.
        self.current: set[str] = set()
        self.asked = entry.asked().union(*(image.derive for image in images))
        for image, identity in self.identities or ():
            current = {kind for kind in entry.kinds() if engine.is_current(entry, kind, image, identity)}
            self.wanted |= engine.needed(image, {*image.derive, *entry.asked()}, current.__contains__)
            self.current |= current

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
        if not self.images and entry.is_spent():
            yield from self._item(entry.path, Standing.LEFTOVER)

    def _standing(self, kind: str) -> Standing:
        receipt = self.entry.receipt(kind)
        # One that this version does not read is a receipt all the same.
        if receipt is None and store.is_gone(self.entry.path / f"{kind}.json"):
            return Standing.LEFTOVER
        if not self.images:
            return Standing.UNDECLARED
        if self.identities is None or receipt is None:
            return Standing.UNKNOWN
        # What is asked for stays until another takes its place; as an input only what is current is of use.
        if kind in self.asked or (kind in self.wanted and kind in self.current):
            return Standing.WANTED
        keys = {
            engine.key_of(kind, image, identity) for image, identity in self.identities if kind in DERIVABLE[image.kind]
        }
        return Standing.UNASKED if receipt.key in keys else Standing.SUPERSEDED

    def _standing_of_part(self) -> Standing:
        if not self.images:
            return Standing.UNDECLARED
        if self.identities is None:
            return Standing.UNKNOWN
        status = _status(self.entry.part)
        old = status is not None and time.time_ns() - status.st_mtime_ns > _GIVEN_UP_NS
        return Standing.ABANDONED if old or "fetch" not in self.wanted else Standing.WANTED

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


def _identities(space: Workspace, images: list[Image]) -> list[tuple[Image, Identity]] | None:
    try:
        return [(image, space.identity(image)) for image in images]
    except LarderError:
        return None


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
