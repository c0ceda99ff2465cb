"""Disk images whose data is where tables say: what is the same for all of them, once the tables are read.

Units are what an entry of a table is for: clusters, grains, blocks. Neighbours become one extent, the file's own holes
are left out, and no image has more data than its bytes account for.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from array import array
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal

from recipes.errors import LimitExceeded
from recipes.formats.io.bounds import content_limit
from recipes.formats.io.sparse import BLOCK, CHUNK, SECTOR, data_extents, data_runs

from .file import ImageFile
from .image import Extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A table's words, as `array` and `struct` call them.
Word = Literal[">I", "<I", ">Q", "<Q"]

#: Extents that are remembered, of some 200 bytes each.
_REMEMBERED = 1 << 16

#: Below this many bytes, asking a file for its holes costs more than reading zeros.
_WORTH_ASKING = 1 << 20

_ONES = b"\xff" * BLOCK


class TableImage(ImageFile):
    """A disk image that is read by its tables; a format says what is in them."""

    #: Bytes of the guest's disk.
    size: int
    #: See `DiskImage.unit`: of what is not compressed, nothing has to stay together.
    unit: int = SECTOR
    _known: list[Extent] | None = None

    @abstractmethod
    def _pieces(self) -> Iterator[Extent]:
        """Yield the guest's data in the guest's order, unit by unit or joined, as the tables name it."""

    def extents(self) -> Iterator[Extent]:
        """Yield the guest's data in the guest's order; each compressed unit is an extent of its own.

        Tables are read and checked on the way, a window at a time, so memory does not grow with them; where `data_size`
        was asked for, a modest number of extents is remembered. Errors: `CorruptImage`; `LimitExceeded` for compressed
        units with more data than `content_limit` allows.
        """
        return self._walk() if self._known is None else iter(self._known)

    @cached_property
    def data_size(self) -> int:
        """Bytes of the guest's disk that have data; reads and checks every table. Errors: `CorruptImage`."""
        walk = self._walk()
        known = list(islice(walk, _REMEMBERED))
        size = sum(extent.length for extent in known)
        rest = sum(extent.length for extent in walk)
        if not rest:
            self._known = known
        return size + rest

    def decoder(self) -> Callable[[memoryview, int], bytes | bytearray]:
        """Return the function that decompresses a unit. A format without compression yields no extent that needs it."""
        raise NotImplementedError

    def words(self, offset: int, count: int, word: Word, *, blank: int = 0) -> Iterator[tuple[int, array[int]]]:
        """Yield the parts of a table of `count` words that are not all `blank`, as (index of the first, words).

        `blank` is the byte, 0 or 255, of entries whose units are nowhere.
        """
        width = 4 if word[1] == "I" else 8
        size = count * width
        if offset + size > self.file_size:
            raise self.truncated("a table", offset + size)
        for at in range(0, size, CHUNK):
            window = self.read(offset + at, min(CHUNK, size - at), "a table")
            # Most entries of most disks are of units that were never written, and found by the block.
            for start, stop in _unlike_ones(window) if blank else data_runs(memoryview(window)):
                words = array(word[1], window[start:stop])
                if (sys.byteorder == "little") != (word[0] == "<"):
                    words.byteswap()
                yield (at + start) // width, words

    def plain(self, guest: int, length: int, host: int) -> Extent:
        """Return the extent of `length` bytes at `host`, cut at the disk's end; the file must have the rest."""
        length = min(length, self.size - guest)
        if host + length > self.file_size:
            raise self.truncated(f"the data of guest offset {guest}", host + length)
        return Extent(guest, length, host, 0)

    def _walk(self) -> Iterator[Extent]:
        pending: Extent | None = None
        # Units of the active state have one entry each: of QCOW2, only snapshots share clusters, with it and among
        # each other. Entries that share one would make any amount of data of a small file.
        plain = self.file_size
        inflated = most = content_limit(self.file_size)
        for extent in self._pieces():
            if extent.stored:
                inflated -= extent.length
                if inflated < 0:
                    raise LimitExceeded(f"{self.path}: {self.title}: its compressed units hold more than {most} bytes")
                if pending is not None:
                    yield from self._without_holes(pending)
                    pending = None
                yield extent
                continue
            plain -= extent.length
            if plain < 0:
                raise self.corrupt("its tables name more data than the file has room for")
            if pending is None:
                pending = extent
            elif pending.guest + pending.length == extent.guest and pending.host + pending.length == extent.host:
                pending = pending._replace(length=pending.length + extent.length)
            else:
                yield from self._without_holes(pending)
                pending = extent
        if pending is not None:
            yield from self._without_holes(pending)

    def _without_holes(self, extent: Extent) -> Iterator[Extent]:
        """Leave the file's own holes out of `extent`: images with preallocated metadata consist of them."""
        if extent.length < _WORTH_ASKING:
            yield extent
            return
        guest, length, host, _ = extent
        for start, stop in data_extents(self.fd, host + length, host):
            yield Extent(guest + start - host, stop - start, start, 0)


def _unlike_ones(window: bytes) -> list[tuple[int, int]]:
    """Return the runs of blocks in which not all bits are set."""
    blocks = range(0, len(window), BLOCK)
    return [(at, min(at + BLOCK, len(window))) for at in blocks if not _ONES.startswith(window[at : at + BLOCK])]


class Places:
    """Where units of `unit` bytes are in a file of `size` bytes: each at a place of its own."""

    def __init__(self, size: int, unit: int) -> None:
        self._unit = unit
        # A range of as many bytes holds the beginning of one unit at the most.
        self._taken = array("Q", bytes(8 * (size // unit + 3)))

    def take(self, place: int) -> bool:
        """Take the unit at byte `place`, which must be in the file; False if it overlaps one that was taken before."""
        slot = place // self._unit + 1
        before, here, after = self._taken[slot - 1 : slot + 2]
        self._taken[slot] = place + 1
        return not (here or (before and before - 1 + self._unit > place) or (after and place + self._unit > after - 1))
