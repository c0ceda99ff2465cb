"""Extent trees: where the blocks of a file are.

Specification: Linux, Documentation/filesystems/ext4/ifork.rst ("Extent Tree").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.io.sparse import BLOCK

from .layout import EXTENT, EXTENT_HEADER, EXTENT_INDEX, EXTENT_MAGIC, EXTENT_MAX_BLOCKS, EXTENTS_IN_INODE

if TYPE_CHECKING:
    from .alloc import FreeBlocks

_PER_BLOCK = (BLOCK - EXTENT_HEADER.size) // EXTENT.size


class Extents:
    """The extents of one file, in order."""

    def __init__(self) -> None:
        #: Blocks that the file takes; those of its extent tree are added when it is packed.
        self.blocks = 0
        self._runs: list[tuple[int, int, int]] = []

    @property
    def first(self) -> int:
        """Return the file's first block on the disk."""
        return self._runs[0][1]

    def add(self, logical: int, physical: int, count: int) -> None:
        """Add `count` blocks at `physical` of the disk, which are those from `logical` on of the file."""
        self.blocks += count
        if self._runs:
            at, first, length = self._runs[-1]
            if at + length == logical and first + length == physical:
                self._runs[-1] = at, first, length + count
                return
        self._runs.append((logical, physical, count))

    def pack(self, free: FreeBlocks) -> bytes:
        """Return what ``i_block`` of the inode has, having written the nodes below it to `free` blocks."""
        entries = [
            EXTENT.pack(at + done, min(length - done, EXTENT_MAX_BLOCKS), 0, first + done)
            for at, first, length in self._runs
            for done in range(0, length, EXTENT_MAX_BLOCKS)
        ]
        depth = 0
        while len(entries) > EXTENTS_IN_INODE:
            parents = []
            for start in range(0, len(entries), _PER_BLOCK):
                node = entries[start : start + _PER_BLOCK]
                ((block, _),) = free.append(_node(node, _PER_BLOCK, depth))
                # Every entry, of a leaf or not, begins with the first block of the file that it is about.
                parents.append(node[0][:4] + EXTENT_INDEX.pack(0, block, 0, 0)[4:])
                self.blocks += 1
            entries = parents
            depth += 1
        return _node(entries, EXTENTS_IN_INODE, depth)


def _node(entries: list[bytes], room: int, depth: int) -> bytes:
    return EXTENT_HEADER.pack(EXTENT_MAGIC, len(entries), room, depth, 0) + b"".join(entries)
