"""Where the data of a file is, from its EXTENT_DATA items.

Specification: btrfs.readthedocs.io, "On-disk format", EXTENT_DATA, and fs/btrfs/tree-checker.c.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.io.bounds import PIECE_WEIGHT, content_limit
from recipes.formats.tree.tree import Extent

from .codecs import require
from .data import KEPT, Compressed, Decompressor, Stored, Where
from .layout import (
    EXTENT_HEAD,
    FILE_EXTENT,
    INLINE,
    MAX_COMPRESSED,
    MAX_DECOMPRESSED,
    NODATASUM,
    PREALLOCATED,
    REGULAR,
    UNCOMPRESSED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.errors import CorruptImage

    from .items import Inode
    from .nodes import Node
    from .sums import Sums
    from .volume import Volume

#: Pieces that all files together may have; a badly fragmented disk of a terabyte has a tenth of them.
MAX_PIECES = 4_000_000


class Cost:
    """Bounds what reading all files costs by what they have on the disk.

    An item of 53 bytes can stand for 128 KiB of an extent that others refer to as well, and a page of it may cost the
    whole to decompress. Snapshots and reflinks do that for a good reason, so there is room: `content_limit`.
    """

    def __init__(self, volume: Volume, spend: Callable[[int], None]) -> None:
        self._volume = volume
        self._spend = spend
        self._known: set[int] = set()
        self._stored = self._cost = self._pieces = 0

    def add(self, address: int, stored: int, cost: int) -> None:
        """Count a piece of an extent at `address` with `stored` bytes, which costs `cost` bytes to read or decompress.

        Raise LimitExceeded if the bytes on the disk justify no more.
        """
        self._spend(PIECE_WEIGHT)
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise LimitExceeded(f"{self._volume.name}: its files are in more than {MAX_PIECES} pieces")
        if address not in self._known:
            self._known.add(address)
            # Extents may overlap too.
            self._stored = min(self._volume.source.size, self._stored + stored)
        self._cost += cost
        if self._cost > content_limit(self._stored):
            raise LimitExceeded(
                f"{self._volume.name}: reading its files takes more than {self._cost - cost} bytes, and the extents "
                f"that they are in have {self._stored} on the disk"
            )


class Extents:
    """Makes the extents of files; those that share a compressed extent share its source."""

    def __init__(self, volume: Volume, sums: Sums, spend: Callable[[int], None]) -> None:
        self._volume = volume
        self._stored = Stored(volume, sums)
        self._decompressor = Decompressor(volume, self._stored)
        self._compressed: dict[int, Compressed] = {}
        self._cost = Cost(volume, spend)

    def file(self, number: int, inode: Inode) -> FileExtents:
        """Return what takes the items of a file."""
        return FileExtents(self, self._volume, number, inode)

    def stored(self, at: int, where: tuple[int, int, int, int], length: int, inode: Inode) -> Extent:
        """Return `length` bytes of an uncompressed extent."""
        address, size, skip, _count = where
        self._cost.add(address, size, length)
        if inode.flags & NODATASUM:
            physical = self._volume.chunks.find(address + skip, length, "data")[0]
            return Extent(at, length, self._volume.source, physical)
        return Extent(at, length, self._stored, address + skip)

    def inline(self, node: Node, at: int, size: int, length: int) -> Extent:
        """Return the first `length` bytes of what is in the `size` bytes at `at` of a leaf."""
        self._cost.add(node.physical + at, size, length)
        return Extent(0, length, self._volume.source, node.physical + at)

    def packed(self, where: Where, stored: int, size: int, codec: int, *, cost: int) -> Compressed:
        """Return the compressed extent there, of which reading the file here decompresses or copies `cost` bytes.

        Raise CorruptImage if another reference says something else of it.
        """
        self._cost.add(where.address, stored, cost)
        extent = None if where.inline else self._compressed.get(where.address)
        if extent is None:
            require(codec, self._volume.name)
            extent = Compressed(self._decompressor, where, stored, size, codec)
            if not where.inline:
                self._compressed[where.address] = extent
        elif not extent.matches(stored, size, codec):
            raise self._volume.corrupt(f"the compressed extent at {where.address:#x} has two descriptions")
        return extent


class FileExtents:
    """The data of one file, which is made of its items in their order."""

    def __init__(self, extents: Extents, volume: Volume, number: int, inode: Inode) -> None:
        self._extents = extents
        self._volume = volume
        self._number = number
        self._inode = inode
        self._end = 0
        #: The compressed extents that are still decompressed when the file is read from its beginning.
        self._latest: deque[int] = deque(maxlen=KEPT)
        self.found: list[Extent] = []

    def add(self, offset: int, node: Node, at: int, size: int) -> None:
        """Take the item that begins at `offset` of the file; its content is the `size` bytes at `at` of the leaf.

        Errors: `CorruptImage`; `UnsupportedFeature` for a compression or encryption that is not read; `LimitExceeded`.
        """
        if size < EXTENT_HEAD.size:
            raise self._corrupt(offset, f"an extent of {size} bytes")
        _generation, ram, codec, encryption, encoding, kind = EXTENT_HEAD.unpack_from(node.raw, at)
        if encryption or encoding:
            raise self._volume.unsupported(f"encrypted files (inode {self._number})")
        if kind == INLINE:
            self._inline(offset, node, at + EXTENT_HEAD.size, size - EXTENT_HEAD.size, ram, codec)
        elif kind in (REGULAR, PREALLOCATED) and size == EXTENT_HEAD.size + FILE_EXTENT.size:
            where = FILE_EXTENT.unpack_from(node.raw, at + EXTENT_HEAD.size)
            self._regular(offset, where, ram, codec, written=kind == REGULAR)
        else:
            raise self._corrupt(offset, f"an extent of type {kind} with {size} bytes")

    def _inline(self, offset: int, node: Node, at: int, size: int, ram: int, codec: int) -> None:
        sector = self._volume.sector_size
        if offset or ram > sector or (codec == UNCOMPRESSED and size != ram):
            raise self._corrupt(offset, f"an inline extent of {ram} bytes in {size}")
        self._end = sector
        length = min(ram, self._inode.size)
        if not length:
            return
        if codec == UNCOMPRESSED:
            self.found.append(self._extents.inline(node, at, size, length))
        else:
            source = self._extents.packed(Where(node.physical + at, inline=True), size, ram, codec, cost=ram)
            self.found.append(Extent(0, length, source, 0))

    def _regular(self, offset: int, where: tuple[int, int, int, int], ram: int, codec: int, *, written: bool) -> None:
        address, stored, skip, count = where
        sector = self._volume.sector_size
        uneven = offset % sector or address % sector or stored % sector or skip % sector or count % sector
        if uneven or offset < self._end or not count or offset + count >= 1 << 63:
            raise self._corrupt(offset, f"an extent of {count} bytes, at {address:#x} of the disk")
        self._end = offset + count
        length = min(count, self._inode.size - offset)
        if not address or not written or length <= 0:
            # Holes, what was allotted and not written, and what is behind the end of the file.
            return
        if skip + count > (stored if codec == UNCOMPRESSED else ram):
            raise self._corrupt(offset, f"an extent that ends behind what it refers to at {address:#x}")
        if codec == UNCOMPRESSED:
            self.found.append(self._extents.stored(offset, where, length, self._inode))
            return
        if stored > MAX_COMPRESSED or ram > MAX_DECOMPRESSED or not stored:
            raise self._corrupt(offset, f"a compressed extent with {stored} bytes for {ram}")
        cost = ram
        if address in self._latest:
            # It is still decompressed.
            self._latest.remove(address)
            cost = length
        self._latest.append(address)
        source = self._extents.packed(Where(address, inline=False), stored, ram, codec, cost=cost)
        self.found.append(Extent(offset, length, source, skip))

    def _corrupt(self, offset: int, message: str) -> CorruptImage:
        return self._volume.corrupt(f"inode {self._number} has, at {offset} of the file, {message}")


def target(volume: Volume, number: int, inode: Inode, body: bytes) -> bytes:
    """Return the target of a symbolic link from its only item."""
    head = EXTENT_HEAD.size
    if len(body) >= head:
        _generation, ram, codec, encryption, encoding, kind = EXTENT_HEAD.unpack_from(body)
        text, rest = body[head : head + inode.size], body[head + inode.size :]
        plain = not (codec or encryption or encoding) and kind == INLINE and ram == len(body) - head
        # mkfs.btrfs --rootdir puts a NUL at the end (6.2 does).
        if plain and text and len(text) == inode.size and b"\0" not in text and rest in (b"", b"\0"):
            return text
    raise volume.corrupt(f"symbolic link inode {number} has no target of {inode.size} bytes")
