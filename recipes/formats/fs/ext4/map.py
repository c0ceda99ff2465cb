"""Which blocks of an ext4 file system a file has: extent trees, and the block maps of ext2 and ext3.

Specification: Linux, Documentation/filesystems/ext4 (ifork.rst, blockmap.rst) and, where that is silent,
fs/ext4/extents.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded

from .layout import EXTENT, EXTENT_HEADER, EXTENT_INDEX, EXTENT_MAGIC, EXTENT_MAX_BLOCKS, EXTENT_MAX_DEPTH, InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .inode import Inode
    from .volume import Volume

#: Runs of blocks that all files together may have; a badly fragmented disk of a terabyte has a tenth of them.
MAX_RUNS = 4_000_000

_DIRECT = 12
#: Indirect, double and triple indirect: levels between the inode and the data.
_LEVELS = (1, 2, 3)
_CHECKSUM = struct.Struct("<I")


class Run(NamedTuple):
    """These blocks of a file are on the disk, one behind the other."""

    #: First block, counted from the file's beginning.
    at: int
    length: int
    block: int


class BlockMaps:
    """Reads the block maps of many files, each of them once.

    No two files can share their maps, nor have more blocks together than there are: that bounds what a damaged file
    system can make anybody read. Errors: `CorruptImage`, `LimitExceeded`.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._claimed: set[int] = set()
        self._mapped = 0
        self._runs = 0

    def runs(self, inode: Inode, blocks: int) -> list[Run]:
        """Return where the first `blocks` blocks of a file are: in order, neighbours merged, holes left out.

        Blocks that are allocated and were never written are holes too.
        """
        found = self._extents(inode) if inode.has(InodeFlag.EXTENTS) else self._block_map(inode, blocks)
        runs: list[Run] = []
        end = 0
        for at, count, block in found:
            if at < end:
                raise self._volume.corrupt(f"inode {inode.number} has block {at} of its file twice, or out of order")
            end = at + count
            if at >= blocks:
                continue
            self._volume.check_range(block, count, f"block {at} of inode {inode.number}")
            self._mapped += count
            if runs and at == runs[-1].at + runs[-1].length and block == runs[-1].block + runs[-1].length:
                runs[-1] = Run(runs[-1].at, min(end, blocks) - runs[-1].at, runs[-1].block)
            else:
                runs.append(Run(at, min(end, blocks) - at, block))
        if self._mapped > self._volume.blocks:
            raise self._volume.corrupt(f"inode {inode.number}: its files have more blocks than there are")
        self._runs += len(runs)
        if self._runs > MAX_RUNS:
            raise LimitExceeded(f"{self._volume.disk.name}: its files are in more than {MAX_RUNS} pieces")
        return runs

    def claim(self, block: int, inode: Inode) -> None:
        """Note that `block` holds metadata of this inode; raise CorruptImage where it does already for some inode."""
        if block in self._claimed:
            raise self._volume.corrupt(f"block {block}, of inode {inode.number}, is in use twice")
        self._claimed.add(block)

    def _node(self, block: int, inode: Inode, what: str) -> bytes:
        self.claim(block, inode)
        return self._volume.read(block, 1, f"{what} of inode {inode.number}")

    def _extents(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """Yield first block of the file, count and first block on the disk of every extent with data."""
        depth: int | None = None
        todo = [(0, 0)]
        while todo:
            block, level = todo.pop()
            node = self._node(block, inode, "the extent tree") if level else inode.block
            magic, entries, most, found, _generation = EXTENT_HEADER.unpack_from(node)
            depth = found if depth is None else depth
            end = EXTENT_HEADER.size + most * EXTENT.size
            if (
                magic != EXTENT_MAGIC
                or found != depth - level
                or found > EXTENT_MAX_DEPTH
                or not entries <= most
                or (found and not entries)
                or end > len(node)
            ):
                raise self._volume.corrupt(
                    f"inode {inode.number} has an extent tree with a damaged node (magic {magic:#x}, {entries} of "
                    f"{most} entries, depth {found})"
                )
            if level and self._volume.seed is not None:
                # The checksum follows the last entry that could be there.
                self._verify(inode, node, end)
            inside = node[EXTENT_HEADER.size : EXTENT_HEADER.size + entries * EXTENT.size]
            if found:
                children = EXTENT_INDEX.iter_unpack(inside)
                todo += [(low | high << 32, level + 1) for _at, low, high, _unused in children][::-1]
                continue
            for at, count, high, low in EXTENT.iter_unpack(inside):
                if not count:
                    raise self._volume.corrupt(f"inode {inode.number} has an extent without blocks")
                if count <= EXTENT_MAX_BLOCKS:
                    yield at, count, low | high << 32

    def _verify(self, inode: Inode, node: bytes, end: int) -> None:
        expected = _CHECKSUM.unpack_from(node, end)[0] if end + _CHECKSUM.size <= len(node) else None
        if expected != (found := self._volume.checksum(inode.salt, node[:end])):
            raise self._volume.corrupt(
                f"expected the checksum {expected} of a node of inode {inode.number}'s extent tree, found {found}"
            )

    def _block_map(self, inode: Inode, blocks: int) -> Iterator[tuple[int, int, int]]:
        """Yield what `_extents` does, of a file that has a block map instead."""
        pointers = struct.unpack("<15I", inode.block)
        yield from _pieces(pointers[:_DIRECT], 0)
        at = _DIRECT
        for level, pointer in zip(_LEVELS, pointers[_DIRECT:], strict=True):
            if at < blocks:
                yield from self._indirect(inode, pointer, level, at, blocks)
            at += (self._volume.block_size // 4) ** level

    def _indirect(self, inode: Inode, pointer: int, level: int, at: int, blocks: int) -> Iterator[tuple[int, int, int]]:
        """Yield the same of what is below an indirect block, whose first data is block `at` of the file."""
        size = self._volume.block_size
        span = (size // 4) ** (level - 1)
        if pointer:
            node = struct.unpack(f"<{size // 4}I", self._node(pointer, inode, "an indirect block"))
            if level == 1:
                yield from _pieces(node, at)
            else:
                for index, child in enumerate(node):
                    if child and at + index * span < blocks:
                        yield from self._indirect(inode, child, level - 1, at + index * span, blocks)


def _pieces(pointers: tuple[int, ...], at: int) -> Iterator[tuple[int, int, int]]:
    """Yield what these pointers to blocks of the file from `at` on say, as `BlockMaps._extents` does."""
    count = len(pointers)
    first = pointers[0]
    # Almost always, and a tenth of the time.
    if first and pointers[-1] == first + count - 1 and pointers == tuple(range(first, first + count)):
        yield at, count, first
        return
    for index, block in enumerate(pointers, at):
        if block:
            yield index, 1, block
