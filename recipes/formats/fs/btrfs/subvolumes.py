"""The subvolumes of a file system: the root tree, and how subvolumes are in each other.

Specification: btrfs.readthedocs.io, "On-disk format", and fs/btrfs/root-tree.c. A subvolume is a tree of its own, which
a directory of another subvolume has a name for. A snapshot is one that began as a copy: it shares nodes, and has the
names of the subvolumes that were in the other one, without these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.tree.tree import NAME_MAX, PATH_MAX

from .btree import BTree
from .items import entries
from .layout import (
    DIR_ITEM,
    FIRST_FREE,
    INODE_REF,
    INODE_REF_BODY,
    LAST_FREE,
    LAST_OFFSET,
    ROOT_INODE,
    ROOT_ITEM,
    ROOT_ITEM_BODY,
    ROOT_READ_ONLY,
    ROOT_REF,
    ROOT_REF_BODY,
    TOP_LEVEL,
)
from .nodes import Pointer

if TYPE_CHECKING:
    from .btree import Item
    from .nodes import Nodes

_DEFAULT = b"default"
_TREE = "the root tree"


class Root(NamedTuple):
    """Where the tree of a subvolume begins."""

    pointer: Pointer
    read_only: bool


class Reference(NamedTuple):
    """Where a subvolume is: the name in the directory of another one."""

    parent: int
    directory: int
    name: bytes


class Subvolumes:
    """All trees that files are in, and the tree of checksums."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._volume = volume = nodes.volume
        superblock = volume.superblock
        #: The subvolume that is mounted if none is named.
        self.default = TOP_LEVEL
        #: Every tree that is not about to be deleted, by its number.
        self.roots: dict[int, Root] = {}
        #: Where a subvolume is, by its number.
        self.references: dict[int, Reference] = {}
        pointer = Pointer(superblock.root, superblock.root_level, superblock.generation)
        for item in BTree(nodes, pointer, _TREE).items():
            number, kind, offset = item.key
            if kind == ROOT_ITEM:
                self._add(number, item)
            elif kind == ROOT_REF:
                self._refer(number, offset, item)
            elif number == superblock.root_dir and kind == DIR_ITEM:
                for entry in entries(volume, number, item.body):
                    if entry.name == _DEFAULT:
                        self.default = entry.location[0]
        if TOP_LEVEL not in self.roots or self.default not in self.roots:
            raise volume.corrupt(f"the subvolume {self.default} is the default, and is not there")

    def numbers(self) -> list[int]:
        """Return the numbers of all subvolumes that have a place, in ascending order; the top level is the first."""
        return sorted(number for number in self.roots if number == TOP_LEVEL or number in self.references)

    def tree(self, number: int) -> BTree:
        """Return the tree with this number, which is one of `roots`."""
        return BTree(self._nodes, self.roots[number].pointer, f"the tree {number}")

    def is_at(self, number: int, place: Reference) -> bool:
        """Say whether the subvolume `number` is there, and not only its name as in a snapshot of its parent."""
        return self.references.get(number) == place and number in self.roots

    def path(self, number: int) -> bytes:
        """Return the path of a subvolume from the top level on, which has an empty one.

        Raise CorruptImage for one without a place, and for a place that leads nowhere.
        """
        parts: list[bytes] = []
        here = number
        length = 0
        while here != TOP_LEVEL:
            reference = self.references.get(here)
            if reference is None or reference.parent not in self.roots:
                raise self._volume.corrupt(f"the subvolume {number} has no place in another one")
            parts.append(reference.name)
            directory = reference.directory
            while directory != ROOT_INODE and length <= PATH_MAX:
                directory, name = self._parent(reference.parent, directory)
                parts.append(name)
                length += len(name) + 1
            here = reference.parent
            length += len(reference.name) + 1
            if length > PATH_MAX:
                raise self._volume.corrupt(f"the subvolume {number} has a path of more than {PATH_MAX} bytes")
        return b"/".join(reversed(parts))

    def _parent(self, tree: int, directory: int) -> tuple[int, bytes]:
        """Return the directory that a directory is in, and the name that it has there."""
        first, last = (directory, INODE_REF, 0), (directory, INODE_REF, LAST_OFFSET)
        for item in self.tree(tree).range(first, last):
            if len(item.body) >= INODE_REF_BODY.size:
                _index, length = INODE_REF_BODY.unpack_from(item.body)
                name = item.body[INODE_REF_BODY.size : INODE_REF_BODY.size + length]
                if 0 < len(name) == length <= NAME_MAX:
                    return item.key[2], name
        raise self._volume.corrupt(f"the directory {directory} of the subvolume {tree} has no name")

    def _add(self, number: int, item: Item) -> None:
        if len(item.body) < ROOT_ITEM_BODY.size:
            raise self._volume.corrupt(f"{_TREE}: the root of the tree {number} has {len(item.body)} bytes")
        generation, bytenr, flags, references, level = ROOT_ITEM_BODY.unpack_from(item.body)
        if references:
            self.roots[number] = Root(Pointer(bytenr, level, generation), bool(flags & ROOT_READ_ONLY))

    def _refer(self, parent: int, child: int, item: Item) -> None:
        if len(item.body) < ROOT_REF_BODY.size:
            raise self._volume.corrupt(f"{_TREE}: where the subvolume {child} is has {len(item.body)} bytes")
        directory, _sequence, length = ROOT_REF_BODY.unpack_from(item.body)
        name = item.body[ROOT_REF_BODY.size : ROOT_REF_BODY.size + length]
        if len(name) != length or not FIRST_FREE <= child <= LAST_FREE or child in self.references:
            raise self._volume.corrupt(f"{_TREE}: the subvolume {child} has a second place, or a name that is cut off")
        self.references[child] = Reference(parent, directory, name)
