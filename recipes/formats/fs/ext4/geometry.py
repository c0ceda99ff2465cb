"""Where an ext4 file system of a given size has its metadata.

Specification: Linux, Documentation/filesystems/ext4, blockgroup.rst ("Flexible Block Groups", "Layout").

Everything follows from the size and the number of inodes. The bitmaps and inode tables of `FLEX_GROUPS` groups stand
together at the beginning of the first of them, as WSL makes it (``mkfs.ext4 -G 4096``), so that few places of a disk
are written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded
from recipes.formats.io.sparse import BLOCK

from .layout import FIRST_INODE, GROUP_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Blocks of a group: one block of bitmap describes them.
GROUP_BLOCKS = 8 * BLOCK
INODE_SIZE = 256
FLEX_GROUPS_LOG = 12

_INODES_PER_BLOCK = BLOCK // INODE_SIZE
#: Bytes of the disk for each inode, unless the tree needs more of them: mke2fs's default.
_INODE_RATIO = 16384
#: Without the feature 64bit, blocks have numbers of 32 bits.
_MAX_BLOCKS = (1 << 32) - 1
#: Blocks that make a last group worth having, besides its metadata; as mke2fs has it.
_LEAST_DATA = 50

#: Below so many blocks of the file system, a journal of so many: mke2fs's defaults, but never more than 128 MiB,
#: since a running system fills its journal however large it is, and a dynamic disk grows by as much.
_JOURNALS = ((1 << 15, 1 << 10), (1 << 18, 1 << 12), (1 << 19, 1 << 13), (1 << 22, 1 << 14))
_LARGEST_JOURNAL = 1 << 15


#: Blocks of descriptors that a file system which grows has room for, in all: those of 4 TiB. mke2fs has room for a
#: thousand times the size; each is a block of pointers here.
_DESCRIPTORS_MOST = 256


class Shape(NamedTuple):
    """What a file system has besides files."""

    journal: bool = True
    #: Whether it may grow while it is mounted: the feature resize_inode, with room for the descriptors of 4 TiB.
    grows: bool = False


#: With a journal, and grown offline only: what WSL's disks have.
FIXED = Shape()


class TooSmall(Exception):
    """The size is too small for what has to be on the disk."""


class Geometry:
    """The layout of a file system of `size` bytes, rounded down to blocks, with room for `inodes` files and more.

    A remainder at the end that is too small for a group stays unused, as with mke2fs. Errors: `TooSmall`;
    `LimitExceeded` for more than 16 TiB less a block.
    """

    def __init__(self, size: int, inodes: int, shape: Shape = FIXED) -> None:
        self.shape = shape
        self.blocks = size // BLOCK
        if self.blocks > _MAX_BLOCKS:
            raise LimitExceeded(
                f"an ext4 file system of {size} bytes: without the feature 64bit it has at most {_MAX_BLOCKS * BLOCK}"
            )
        # A tree that needs more inodes than usual gets a quarter more than that, to grow.
        wanted = max(self.blocks * BLOCK // _INODE_RATIO, (FIRST_INODE + inodes) * 5 // 4)
        while True:
            self.groups = max(1, -(-self.blocks // GROUP_BLOCKS))
            self.descriptor_blocks = -(-self.groups * GROUP_SIZE // BLOCK)
            #: Blocks behind the descriptors that more of them may take one day.
            self.reserved_blocks = max(0, _DESCRIPTORS_MOST - self.descriptor_blocks) if shape.grows else 0
            self.table_blocks = -(-wanted // (self.groups * _INODES_PER_BLOCK))
            last = self.blocks - (self.groups - 1) * GROUP_BLOCKS
            least = 2 + self.table_blocks + self.head(self.groups - 1) + _LEAST_DATA
            if self.groups == 1 or last >= least:
                break
            self.blocks -= last
        self.inodes_per_group = self.table_blocks * _INODES_PER_BLOCK
        self.journal_blocks = 0
        if shape.journal:
            self.journal_blocks = next((count for limit, count in _JOURNALS if self.blocks < limit), _LARGEST_JOURNAL)
        if self.inodes_per_group > GROUP_BLOCKS or last < least + self.journal_blocks * (self.groups == 1):
            raise TooSmall
        self.block_bitmaps = [0] * self.groups
        self.inode_bitmaps = [0] * self.groups
        self.inode_tables = [0] * self.groups
        #: The ``(start, stop)`` ranges of blocks that metadata has, in order; never adjacent.
        self.fixed = self._place()

    @property
    def free_blocks(self) -> int:
        """Return the blocks that are left for the journal and the files."""
        return self.blocks - sum(stop - start for start, stop in self.fixed)

    def group_blocks(self, group: int) -> range:
        """Return the blocks of a group; the last one may have less than the others."""
        return range(group * GROUP_BLOCKS, min((group + 1) * GROUP_BLOCKS, self.blocks))

    def free_runs(self) -> Iterator[tuple[int, int]]:
        """Yield the ``(start, stop)`` ranges that metadata has not."""
        at = 0
        for start, stop in self.fixed:
            if at < start:
                yield at, start
            at = stop
        if at < self.blocks:
            yield at, self.blocks

    def superblocks(self) -> Iterator[int]:
        """Yield the groups that begin with a superblock and the descriptors of all groups."""
        return filter(_has_superblock, range(self.groups))

    def head(self, group: int) -> int:
        """Return how many blocks a group begins with that have a superblock and descriptors, if any."""
        return 1 + self.descriptor_blocks + self.reserved_blocks if _has_superblock(group) else 0

    def _place(self) -> list[tuple[int, int]]:
        """Find a place for every bitmap and table, around the superblocks and what follows them."""
        heads = [(group * GROUP_BLOCKS, self.head(group)) for group in self.superblocks()]
        taken = [(start, start + count) for start, count in heads]
        obstacles = iter([*taken, (self.blocks, self.blocks)])
        obstacle = next(obstacles)
        at = 0
        for first in range(0, self.groups, 1 << FLEX_GROUPS_LOG):
            flex = range(first, min(first + (1 << FLEX_GROUPS_LOG), self.groups))
            at = max(at, first * GROUP_BLOCKS)
            for places, count in (
                (self.block_bitmaps, 1),
                (self.inode_bitmaps, 1),
                (self.inode_tables, self.table_blocks),
            ):
                for group in flex:
                    while at + count > obstacle[0] and obstacle[0] < self.blocks:
                        at = max(at, obstacle[1])
                        obstacle = next(obstacles)
                    places[group] = at
                    if taken[-1][1] == at:
                        taken[-1] = taken[-1][0], at + count
                    else:
                        taken.append((at, at + count))
                    at += count
        return _merged(taken)


def smallest_size(blocks: int, inodes: int, shape: Shape = FIXED) -> int:
    """Return a size, in whole MiB, that is enough for `blocks` blocks of files, and not much more than that."""
    mib = 1 << 20
    size = blocks * BLOCK
    while True:
        size = -(-size // mib) * mib
        try:
            geometry = Geometry(size, inodes, shape)
        except TooSmall:
            size += max(mib, size // 64)
            continue
        missing = blocks + geometry.journal_blocks - geometry.free_blocks
        if missing <= 0:
            return size
        size += missing * BLOCK


def _has_superblock(group: int) -> bool:
    """Say what the feature sparse_super says: the groups 0, 1 and the powers of 3, 5 and 7 have a copy."""
    return group < 2 or any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged
