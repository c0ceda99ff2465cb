"""Everything in the tree of one subvolume, in one pass: its items are in the order of the inodes.

Specification: btrfs.readthedocs.io, "On-disk format".
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage
from recipes.formats.io.bounds import NAME_WEIGHT, XATTR_WEIGHT
from recipes.formats.tree import posix_acl
from recipes.formats.tree.tree import Node

from .extents import target
from .items import attributes, entries
from .items import inode as decode
from .layout import DIR_INDEX, EXTENT_DATA, FIRST_FREE, INODE_ITEM, LAST_FREE, NODE, XATTR

if TYPE_CHECKING:
    from collections.abc import Callable

    from .btree import BTree
    from .extents import Extents, FileExtents
    from .items import DirEntry, Inode
    from .nodes import Node as TreeNode
    from .volume import Volume

#: Namespaces that the kernel has a handler for, and that mean something outside of btrfs (fs/btrfs/xattr.c): properties
#: such as btrfs.compression do not.
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACLS = (posix_acl.ACCESS, posix_acl.DEFAULT)
_ITEMS = frozenset({INODE_ITEM, XATTR, DIR_INDEX, EXTENT_DATA})


class Inodes:
    """The files of a subvolume, by the numbers of their inodes; `spend` is told what is read.

    Errors: `CorruptImage`, what `Extents` raises and what `spend` does.
    """

    def __init__(self, volume: Volume, extents: Extents, tree: BTree, spend: Callable[[int], None]) -> None:
        self._volume = volume
        self._extents = extents
        self._spend = spend
        self.nodes: dict[int, Node] = {}
        #: Of directories.
        self.names: dict[int, list[DirEntry]] = {}
        #: Those that no name may mean: the last was deleted while the file was open.
        self.orphans: set[int] = set()
        self._number = -1
        self._inode: Inode | None = None
        self._data: FileExtents | None = None
        for leaf in tree.leaves(spend):
            self._leaf(leaf)
        self._finish()

    def _leaf(self, leaf: TreeNode) -> None:
        raw = leaf.raw
        for number, kind, offset, at, size in leaf.items:
            if kind not in _ITEMS or not FIRST_FREE <= number <= LAST_FREE:
                continue
            at += NODE.size
            if kind == INODE_ITEM:
                self._finish()
                self._begin(number, raw[at : at + size])
            elif number != self._number or self._inode is None:
                raise self._volume.corrupt(f"there is an item of type {kind} for inode {number}, and no such inode")
            elif kind == EXTENT_DATA:
                self._extent(leaf, offset, at, size)
            elif kind == DIR_INDEX:
                self._entries(number, raw[at : at + size])
            else:
                self._attributes(number, raw[at : at + size])

    def _begin(self, number: int, body: bytes) -> None:
        self._number = number
        self._inode = inode = decode(self._volume, number, body)
        node = self.nodes[number] = Node(inode.mode, inode.uid, inode.gid, inode.mtime_ns)
        if node.is_file:
            node.size = inode.size
            self._data = self._extents.file(number, inode)
        elif node.is_device:
            node.device = (inode.device >> 20, inode.device & 0xFFFFF)
        if not inode.links:
            self.orphans.add(number)

    def _finish(self) -> None:
        """Give the latest inode its data."""
        if self._data is not None:
            self.nodes[self._number].data = tuple(self._data.found)
            self._data = None

    def _extent(self, leaf: TreeNode, offset: int, at: int, size: int) -> None:
        inode, number = self._inode, self._number
        assert inode is not None
        if self._data is not None:
            self._data.add(offset, leaf, at, size)
        elif stat.S_ISLNK(inode.mode) and not offset:
            self.nodes[number].target = target(self._volume, number, inode, leaf.raw[at : at + size])
        else:
            raise self._volume.corrupt(f"inode {number} of mode {inode.mode:#o} has data at {offset}")

    def _entries(self, number: int, body: bytes) -> None:
        found = entries(self._volume, number, body)
        self.names.setdefault(number, []).extend(found)
        self._spend(NAME_WEIGHT * len(found))

    def _attributes(self, number: int, body: bytes) -> None:
        xattrs = self.nodes[number].xattrs
        for name, value in attributes(self._volume, number, body):
            if name in xattrs:
                raise self._volume.corrupt(f"inode {number} has the extended attribute {name!r} twice")
            self._spend(XATTR_WEIGHT)
            if name in _ACLS:
                try:
                    posix_acl.check(value)
                except CorruptImage as error:
                    raise self._volume.corrupt(f"inode {number}: {error.message}") from error
                xattrs[name] = value
            elif name.startswith(_NAMESPACES):
                xattrs[name] = value
