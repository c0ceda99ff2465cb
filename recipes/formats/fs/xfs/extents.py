"""Which blocks of an XFS file system a fork has: lists of extents in the inode, and B+trees of them.

Specification: "XFS Algorithms & Data Structures" ("Data Extents", "B+tree Extent List") and, where that is silent,
Linux, fs/xfs/libxfs/xfs_bmap_btree.c.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded

from .layout import BTREE, BTREE_HEAD, BTREE_HEADER, BTREE_MAGIC, EXTENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .inode import Fork, Inode
    from .volume import BmapIntent, Volume

#: Extents that all files together may have; a badly fragmented disk of a terabyte has a tenth of them.
MAX_RUNS = 4_000_000
#: How many times as many blocks as there are the files may have together if they may share them. Copies of a whole
#: root that share everything come to a few times; nothing on the disk bounds what a damaged one claims.
MAX_SHARING = 16

#: Levels of a tree (XFS_BM_MAXLEVELS is less with every size of block).
_MAX_LEVELS = 9
_RECORD = struct.Struct(">QQ")
#: level, number of records.
_ROOT = struct.Struct(">HH")


class Run(NamedTuple):
    """These blocks of a fork are on the disk, one behind the other in one allocation group."""

    #: First block, counted from the fork's beginning.
    at: int
    length: int
    block: int
    #: Allocated and never written: they read as zeros, whatever is there.
    unwritten: bool


class Extents:
    """Reads the extents of many forks, each of them once.

    No two trees can share their blocks, nor can the files have many more blocks together than there are: that bounds
    what a damaged file system can make anybody read. Errors: `CorruptImage`, `LimitExceeded`.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._claimed: set[int] = set()
        self._mapped = 0
        self._most = volume.blocks * (MAX_SHARING if volume.shared else 1)
        self._runs = 0

    def data(self, inode: Inode) -> list[Run]:
        """Return where the data of `inode` is, in order, holes left out."""
        return self._of(inode, inode.data, attributes=False)

    def attributes(self, inode: Inode) -> list[Run]:
        """Return where the attributes of `inode` are, in order."""
        return self._of(inode, inode.attributes, attributes=True)

    def claim(self, block: int, inode: Inode) -> None:
        """Note that `block` holds metadata of this inode; raise CorruptImage if it does already for some inode."""
        if block in self._claimed:
            raise self._volume.corrupt(f"block {block:#x}, of inode {inode.number}, is in use twice")
        self._claimed.add(block)

    def _of(self, inode: Inode, fork: Fork, *, attributes: bool) -> list[Run]:
        volume = self._volume
        if fork.format == BTREE:
            records: Iterable[bytes] = self._leaves(inode, fork.data)
        elif fork.format == EXTENTS and fork.extents * _RECORD.size <= len(fork.data):
            records = (fork.data[: fork.extents * _RECORD.size],)
        else:
            raise volume.corrupt(f"inode {inode.number} has a fork of format {fork.format}, {fork.extents} extents")
        runs: list[Run] = []
        end = 0
        for piece in records:
            for high, low in _RECORD.iter_unpack(piece):
                at, length = high >> 9 & (1 << 54) - 1, low & (1 << 21) - 1
                block = (high & 511) << 43 | low >> 21
                if at < end or not length:
                    raise volume.corrupt(f"inode {inode.number} has block {at} of a fork twice, or out of order")
                volume.offset(block, length, f"block {at} of inode {inode.number}")
                end = at + length
                self._mapped += length
                runs.append(Run(at, length, block, bool(high >> 63)))
            if len(runs) > fork.extents:
                break
        if len(runs) != fork.extents:
            raise volume.corrupt(f"inode {inode.number}: expected {fork.extents} extents, found {len(runs)}")
        self._count(inode, len(runs))
        for intent in volume.disk.intents(inode.number):
            if intent.attributes == attributes:
                volume.offset(intent.block, intent.length, f"block {intent.at} of inode {inode.number}")
                self._count(inode, 1)
                runs = _finished(runs, intent)
        return runs

    def _count(self, inode: Inode, runs: int) -> None:
        self._runs += runs
        if self._runs > MAX_RUNS:
            raise LimitExceeded(f"{self._volume.name}: its files are in more than {MAX_RUNS} pieces")
        if self._mapped > self._most and self._volume.shared:
            raise LimitExceeded(
                f"{self._volume.name}: its files have more than {MAX_SHARING} times as many blocks as there are"
            )
        if self._mapped > self._most:
            raise self._volume.corrupt(f"inode {inode.number}: its files have more blocks than there are")

    def _leaves(self, inode: Inode, root: bytes) -> Iterator[bytes]:
        """Yield the records of each leaf of a tree, in order."""
        volume = self._volume
        if len(root) < _ROOT.size:
            raise volume.corrupt(f"inode {inode.number} has no room for a tree of extents")
        level, count = _ROOT.unpack_from(root)
        # The pointers stand behind the keys that there is room for, not behind those that there are.
        most = (len(root) - _ROOT.size) // _RECORD.size
        if not 0 < level <= _MAX_LEVELS or not 0 < count <= most:
            raise volume.corrupt(f"inode {inode.number}: a tree of {level} levels, {count} of {most} entries")
        todo = [(block, level - 1) for block in _pointers(root, _ROOT.size + 8 * most, count)]
        head = BTREE_HEAD[volume.v5]
        most = (volume.block_size - head) // _RECORD.size
        while todo:
            block, level = todo.pop()
            self.claim(block, inode)
            what = f"a block of the tree of extents of inode {inode.number}"
            offset = volume.offset(block, 1, what)
            node = volume.disk.read(offset, volume.block_size)
            found, count = _ROOT.unpack_from(node, 4)
            if node[:4] != BTREE_MAGIC[volume.v5] or found != level or not 0 < count <= most:
                raise volume.corrupt(
                    f"{what}, at byte {offset}: expected level {level} and at most {most} entries, found "
                    f"{node[:4].hex()}, {found} and {count}"
                )
            if volume.v5:
                volume.verify(node, BTREE_HEADER, [(offset, len(node))], inode.number, what)
            if level:
                todo += [(child, level - 1) for child in _pointers(node, head + 8 * most, count)]
            else:
                yield node[head : head + count * _RECORD.size]


def block_at(runs: list[Run], at: int) -> int | None:
    """Return the block of the disk that holds block `at` of a fork; None if that is a hole, or not written."""
    index = bisect_right(runs, at, key=_first) - 1
    if index < 0 or runs[index].unwritten or at >= runs[index].at + runs[index].length:
        return None
    return runs[index].block + at - runs[index].at


def _first(run: Run) -> int:
    return run.at


def _pointers(node: bytes, at: int, count: int) -> tuple[int, ...]:
    """Return the pointers of a node, the last one first."""
    return struct.unpack_from(f">{count}Q", node, at)[::-1]


def _finished(runs: list[Run], intent: BmapIntent) -> list[Run]:
    """Return `runs` with what is in the way of the intent taken out, and what it maps put in."""
    end = intent.at + intent.length
    result = []
    for run in runs:
        if run.at < intent.at and run.at + run.length > intent.at:
            result.append(run._replace(length=intent.at - run.at))
        if run.at < end < run.at + run.length:
            cut = end - run.at
            result.append(Run(end, run.length - cut, run.block + cut, run.unwritten))
        if run.at + run.length <= intent.at or run.at >= end:
            result.append(run)
    if not intent.unmap:
        result.append(Run(intent.at, intent.length, intent.block, intent.unwritten))
    return sorted(result)
