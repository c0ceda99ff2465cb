"""The directories of an XFS file system: names come from the data blocks alone, the index is never read.

Specification: "XFS Algorithms & Data Structures" ("Directories") and, where that is silent, Linux,
fs/xfs/libxfs/xfs_dir2_data.c and xfs_dir2_sf.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recipes.formats.tree.tree import show

from .layout import DATA_BLOCK_HEAD, DATA_BLOCK_MAGIC, DIRECTORY_HEADER, LOCAL, ONE_BLOCK_MAGIC, U16, U32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.errors import CorruptImage

    from .extents import Extents, Run
    from .inode import Inode
    from .volume import Volume

#: Bytes of a directory from which on its blocks are the index (XFS_DIR2_LEAF_OFFSET).
_INDEX_AT = 32 << 30
_DOTS = (b".", b"..")
#: inode, bytes of the name.
_ENTRY = struct.Struct(">QB")
#: What unused space begins with, instead of an inode.
_UNUSED = 0xFFFF
#: Of a directory in its inode, per name: bytes of the name, where it would be in a block (names follow).
_SHORT_NAME = 3
#: Of the one block: a hash and a place for each name, and how many there are, at its end.
_HASHED, _TAIL = 8, 8


class Directories:
    """Reads directories, each of them once. Errors: `CorruptImage` for what no directory has."""

    def __init__(self, volume: Volume, extents: Extents) -> None:
        self._volume = volume
        self._extents = extents

    def names(self, inode: Inode) -> dict[bytes, int]:
        """Return the names in a directory with their inodes, without ``.`` and ``..``."""
        found: dict[bytes, int] = {}
        if inode.data.format == LOCAL:
            self._short(inode, found)
            return found
        runs = self._extents.data(inode)
        only = self._volume.dir_blocks
        is_all = sum(run.length for run in runs) == only
        for pieces in self._blocks(inode, runs):
            self._block(inode, pieces, found, is_all=is_all)
        return found

    def _short(self, inode: Inode, found: dict[bytes, int]) -> None:
        """Put the names that are in the inode itself into `found`."""
        data, size = inode.data.data, inode.size
        if not 2 < size <= len(data):
            raise self._damaged(inode, f"{size} bytes in its inode, which has room for {len(data)}")
        count, wide = data[0], data[1]
        # The parent's number has the same width as all others.
        width = 8 if wide else 4
        at = 2 + width
        behind = _SHORT_NAME + self._volume.ftype
        for _ in range(count):
            length = data[at] if at < size else 0
            end = at + behind + length + width
            if end > size:
                raise self._damaged(inode, f"an entry at byte {at} of {size}")
            name = data[at + _SHORT_NAME : at + _SHORT_NAME + length]
            self._put(inode, found, name, int.from_bytes(data[end - width : end], "big"))
            at = end

    def _blocks(self, inode: Inode, runs: list[Run]) -> Iterator[list[tuple[int, int]]]:
        """Yield block and length of the pieces of each data block; they may lie in several extents."""
        per, stop = self._volume.dir_blocks, _INDEX_AT >> self._volume.block_log
        pieces: list[tuple[int, int]] = []
        have = 0
        for run in runs:
            at = run.at
            end = min(at + run.length, stop)
            if at < end and run.unwritten:
                raise self._damaged(inode, f"blocks that were never written, from {at} on")
            while at < end:
                if at % per != have:
                    raise self._damaged(inode, f"a hole before block {at}")
                count = min(per - have, end - at)
                pieces.append((run.block + at - run.at, count))
                at, have = at + count, (have + count) % per
                if not have:
                    yield pieces
                    pieces = []
        if have:
            raise self._damaged(inode, "a hole at its end")

    def _block(self, inode: Inode, pieces: list[tuple[int, int]], found: dict[bytes, int], *, is_all: bool) -> None:
        """Put the names in one block into `found`."""
        volume = self._volume
        what = f"a block of directory inode {inode.number}"
        self._extents.claim(pieces[0][0], inode)
        places = [(volume.offset(block, count, what), count << volume.block_log) for block, count in pieces]
        data = b"".join(volume.disk.read(*place) for place in places)
        magic, end = data[:4], len(data)
        if magic == ONE_BLOCK_MAGIC[volume.v5] and is_all:
            end -= _TAIL + _HASHED * U32.unpack_from(data, end - _TAIL)[0]
        elif magic != DATA_BLOCK_MAGIC[volume.v5]:
            raise volume.corrupt(f"{what}, at byte {places[0][0]}, begins with {magic.hex()}")
        if volume.v5:
            volume.verify(data, DIRECTORY_HEADER, places, inode.number, what)
        at = DATA_BLOCK_HEAD[volume.v5]
        if end < at:
            raise self._damaged(inode, f"{-end} bytes of hashes in a block")
        behind = _ENTRY.size + volume.ftype + U16.size
        unpack, tag, put = _ENTRY.unpack_from, U16.unpack_from, self._put
        # The shortest piece of unused space has 8 bytes, one less than what is looked at.
        data += b"\0"
        while at < end:
            number, length = unpack(data, at)
            if number >> 48 == _UNUSED:
                size = number >> 32 & 0xFFFF
                if size < 8 or size % 8 or at + size > end:
                    raise self._damaged(inode, f"{size} unused bytes at {at} of {end}")
                at += size
                continue
            size = behind + length + 7 & ~7
            if at + size > end or tag(data, at + size - 2)[0] != at:
                raise self._damaged(inode, f"an entry of {size} bytes at byte {at} of {end}")
            put(inode, found, data[at + 9 : at + 9 + length], number)
            at += size

    def _put(self, inode: Inode, found: dict[bytes, int], name: bytes, number: int) -> None:
        if name in _DOTS:
            return
        if name in found or not name or b"/" in name or b"\0" in name:
            raise self._damaged(inode, f"the name {show(name)}, twice, or not allowed")
        found[name] = number

    def _damaged(self, inode: Inode, message: str) -> CorruptImage:
        return self._volume.corrupt(f"directory inode {inode.number} has {message}")
