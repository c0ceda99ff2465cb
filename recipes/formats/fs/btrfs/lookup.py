"""One path at a time: names are looked up by their hashes, without a pass over the tree.

Specification: btrfs.readthedocs.io, "On-disk format", DIR_ITEM.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.fs import follow
from recipes.formats.tree.tree import PATH_MAX, split

from .extents import target
from .items import entries, inode
from .layout import DIR_ITEM, EXTENT_DATA, INODE_ITEM, ROOT_INODE, TOP_LEVEL
from .subvolumes import Reference

if TYPE_CHECKING:
    from .items import Inode
    from .subvolumes import Subvolumes
    from .volume import Volume

#: State of a CRC32C, as google_crc32c has it, that the hashes of names go on from; and what undoes its last inversion
#: (fs/btrfs/ctree.h, btrfs_name_hash: the seed is ~1).
_SEED = 1
_INVERT = 0xFFFFFFFF


class Place(NamedTuple):
    """An inode of a subvolume."""

    tree: int
    inode: int


class Lookup:
    """Looks paths up in the subvolumes of a file system, and remembers what it found."""

    def __init__(self, volume: Volume, subvolumes: Subvolumes) -> None:
        self._volume = volume
        self._subvolumes = subvolumes
        self._inodes: dict[Place, Inode] = {}
        self._names: dict[tuple[Place, bytes], Place | None] = {}
        self._targets: dict[Place, bytes] = {}

    def exists(self, tree: int, path: bytes) -> bool:
        """Say whether something is at `path` of the subvolume `tree`.

        Symbolic links are followed within it, as by chroot(2), and so are names of other subvolumes.
        """
        return follow.exists(path, Place(tree, ROOT_INODE), self._child, self._target)

    def subvolume(self, path: bytes) -> int | None:
        """Return the number of the subvolume at `path` from the top level on; None if there is none.

        Symbolic links are not followed: mount(8) does not either.
        """
        place = Place(TOP_LEVEL, ROOT_INODE)
        for name in split(path):
            child = self._child(place, name)
            if child is None:
                return None
            place = child
        return place.tree if place.inode == ROOT_INODE else None

    def _inode(self, place: Place) -> Inode:
        found = self._inodes.get(place)
        if found is None:
            key = (place.inode, INODE_ITEM, 0)
            for item in self._subvolumes.tree(place.tree).range(key, key):
                found = inode(self._volume, place.inode, item.body)
                self._inodes[place] = found
                return found
            raise self._volume.corrupt(f"there is a name for inode {place.inode}, and no such inode")
        return found

    def _child(self, place: Place, name: bytes) -> Place | None:
        """Return what a name in a directory means; None if there is none, or if `place` is no directory."""
        at = place, name
        if at not in self._names:
            self._names[at] = self._look_up(place, name) if stat.S_ISDIR(self._inode(place).mode) else None
        return self._names[at]

    def _look_up(self, place: Place, name: bytes) -> Place | None:
        from google_crc32c import extend

        key = (place.inode, DIR_ITEM, extend(_SEED, name) ^ _INVERT)
        for item in self._subvolumes.tree(place.tree).range(key, key):
            for entry in entries(self._volume, place.inode, item.body):
                if entry.name != name:
                    continue
                number = entry.location[0]
                if not entry.is_subvolume:
                    return Place(place.tree, number)
                there = Reference(place.tree, place.inode, name)
                # An empty directory where it is not: as if nothing was there, but for nothing that anybody looks for.
                return Place(number, ROOT_INODE) if self._subvolumes.is_at(number, there) else None
        return None

    def _target(self, place: Place) -> bytes | None:
        """Return where a symbolic link leads; None for what is none."""
        found = self._inode(place)
        if not stat.S_ISLNK(found.mode):
            return None
        if place not in self._targets:
            if found.size >= PATH_MAX:
                raise self._volume.corrupt(f"symbolic link inode {place.inode} has {found.size} bytes")
            key = (place.inode, EXTENT_DATA, 0)
            bodies = [item.body for item in self._subvolumes.tree(place.tree).range(key, key)]
            self._targets[place] = target(self._volume, place.inode, found, bodies[0] if bodies else b"")
        return self._targets[place]
