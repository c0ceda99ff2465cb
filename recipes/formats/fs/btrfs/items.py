"""The items of a subvolume, decoded.

Specification: btrfs.readthedocs.io, "On-disk format", and fs/btrfs/tree-checker.c for what an item has to be like.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.tree.tree import NAME_MAX, show

from .layout import DIR_ENTRY, FILE_TYPES, INODE_BODY, INODE_ITEM, ROOT_ITEM

if TYPE_CHECKING:
    from .nodes import Key
    from .volume import Volume

_TYPES = frozenset(kind << 12 for kind in FILE_TYPES.values())
_NS = 1_000_000_000
_INT64_MAX = (1 << 63) - 1


class Inode(NamedTuple):
    """What an inode says; what is in no archive is left out."""

    size: int
    links: int
    uid: int
    gid: int
    mode: int
    #: Major number << 20, minor number.
    device: int
    flags: int
    mtime_ns: int


class DirEntry(NamedTuple):
    """A name in a directory."""

    name: bytes
    #: Key of the inode, or of the root of a subvolume.
    location: Key
    #: A key of `FILE_TYPES`.
    type: int

    @property
    def is_subvolume(self) -> bool:
        """Say whether another subvolume is there, or was when this one was a part of what a snapshot was made of."""
        return self.location[1] == ROOT_ITEM


def inode(volume: Volume, number: int, body: bytes) -> Inode:
    """Decode the inode with this number. Raise CorruptImage for what is no file."""
    if len(body) < INODE_BODY.size:
        raise volume.corrupt(f"inode {number} has {len(body)} bytes")
    size, links, uid, gid, mode, device, flags, seconds, nanoseconds = INODE_BODY.unpack_from(body)
    if stat.S_IFMT(mode) not in _TYPES or mode >> 16 or nanoseconds >= _NS or size > _INT64_MAX:
        raise volume.corrupt(
            f"inode {number} is no file: mode {mode:#o}, {size} bytes, {nanoseconds} nanoseconds behind the second"
        )
    return Inode(size, links, uid, gid, mode, device, flags, seconds * _NS + nanoseconds)


def entries(volume: Volume, directory: int, body: bytes) -> list[DirEntry]:
    """Return the names of an item of a directory: of DIR_INDEX one, of DIR_ITEM those whose hashes are the same."""
    found = []
    for name, _data, location, kind in _named(volume, directory, body):
        wanted = location[1]
        if name in (b".", b"..") or b"/" in name or kind not in FILE_TYPES:
            raise volume.corrupt(f"directory inode {directory} has the name {show(name)} of type {kind}")
        if wanted not in (INODE_ITEM, ROOT_ITEM):
            raise volume.corrupt(f"directory inode {directory}: {show(name)} is no inode, but {location}")
        found.append(DirEntry(name, location, kind))
    return found


def attributes(volume: Volume, number: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of an item of extended attributes: those whose names have the same hash."""
    return [(name, value) for name, value, _location, _kind in _named(volume, number, body)]


def _named(volume: Volume, number: int, body: bytes) -> list[tuple[bytes, bytes, Key, int]]:
    """Return name, data, location and type of what an item lists."""
    found = []
    at = 0
    while at < len(body):
        if at + DIR_ENTRY.size > len(body):
            raise volume.corrupt(f"inode {number} has names that end in the middle of one")
        target, wanted, offset, _transaction, data_length, length, kind = DIR_ENTRY.unpack_from(body, at)
        at += DIR_ENTRY.size
        name = body[at : at + length]
        at += length
        data = body[at : at + data_length]
        at += data_length
        if at > len(body) or not 0 < length <= NAME_MAX or b"\0" in name:
            raise volume.corrupt(f"inode {number} has the name {show(name)}, of {length} bytes with {data_length} more")
        found.append((name, data, (target, wanted, offset), kind))
    return found
