"""Where in a QCOW2 image the guest's data is: its L1 and L2 tables.

As strict as QEMU (block/qcow2-cluster.c, qcow2_get_host_offset), except that clusters and tables past the file's end
are refused: see `recipes.formats.disk.qcow2.header`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from recipes.formats.disk.image import Extent
from recipes.formats.disk.tables import TableImage
from recipes.formats.io.sparse import SECTOR

from .header import read_header
from .inflate import inflater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipes.errors import CorruptImage

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_NOT_COPIED = (1 << 63) - 1
_COMPRESSED = 1 << 62
_ZERO = 1
_ALL_SUBCLUSTERS = 0xFFFF_FFFF


class Qcow2(TableImage):
    """A QCOW2 image, open for reading as `fd`, which stays the caller's; errors as those of `read_header`."""

    format: ClassVar[str] = "qcow2"
    title: ClassVar[str] = "QCOW2"

    def __init__(self, fd: int, path: Path, *, max_virtual_size: int) -> None:
        super().__init__(fd, path)
        self.header = read_header(self, max_virtual_size=max_virtual_size)
        self.size = self.header.virtual_size
        self.unit = self.header.cluster_size

    def decoder(self) -> Callable[[memoryview, int], bytes | bytearray]:
        """Return one thread's function from the stored bytes of a cluster and its guest offset to the cluster."""
        return inflater(self)

    def _pieces(self) -> Iterator[Extent]:
        """Yield the guest's data as it is in the L2 tables, cluster by cluster or by subclusters."""
        header = self.header
        covered = header.l2_entries << header.cluster_bits
        read_l2 = self._extended_l2 if header.extended_l2 else self._standard_l2
        tables = 0
        for index, words in self.words(header.l1_offset, -(-header.virtual_size // covered), ">Q"):
            for at, word in enumerate(words, index):
                offset = word & _OFFSET
                if not offset:
                    continue
                tables += 1
                self._check_l2_table(offset, at, tables)
                guest = at * covered
                wanted = min(header.l2_entries, -(-(header.virtual_size - guest) >> header.cluster_bits))
                yield from read_l2(offset, wanted, guest)

    def _check_l2_table(self, offset: int, index: int, tables: int) -> None:
        cluster_size = self.header.cluster_size
        if offset % cluster_size:
            raise self.corrupt(f"the L2 table of L1 entry {index} is not at a cluster's start but at byte {offset}")
        # Every table has a cluster of its own. Entries that share tables would make a small file cost any time.
        if tables * cluster_size > self.file_size:
            raise self.corrupt("the L1 table names more L2 tables than the file has room for")

    def _standard_l2(self, offset: int, count: int, guest_start: int) -> Iterator[Extent]:
        bits = self.header.cluster_bits
        size = self.header.cluster_size
        version = self.header.version
        compressed = self._compressed()
        for index, words in self.words(offset, count, ">Q"):
            guest = guest_start + (index << bits)
            # Where the plain clusters that are gathered begin; `following` is the entry that goes on with them.
            first = first_host = following = 0
            for entry in words:
                if following and entry & _NOT_COPIED == following:
                    following += size
                    guest += size
                    continue
                if following:
                    yield self._plain(first, guest - first, first_host)
                    following = 0
                if entry & _COMPRESSED:
                    yield compressed(entry, guest)
                elif host := entry & _OFFSET:
                    if host % size:
                        raise self._unaligned(guest, host)
                    if not entry & _ZERO:
                        first, first_host, following = guest, host, host + size
                    elif version < 3:
                        raise self._zero_in_v2(guest)
                elif entry & _ZERO and version < 3:
                    raise self._zero_in_v2(guest)
                guest += size
            if following:
                yield self._plain(first, guest - first, first_host)

    def _extended_l2(self, offset: int, count: int, guest_start: int) -> Iterator[Extent]:
        bits = self.header.cluster_bits
        size = self.header.cluster_size
        compressed = self._compressed()
        for index, words in self.words(offset, 2 * count, ">Q"):
            guest = guest_start + (index // 2 << bits)
            for at in range(0, len(words), 2):
                entry, bitmap = words[at], words[at + 1]
                if entry & _COMPRESSED:
                    yield compressed(entry, guest)
                elif entry or bitmap:
                    host = entry & _OFFSET
                    present = bitmap & _ALL_SUBCLUSTERS
                    if host % size:
                        raise self._unaligned(guest, host)
                    if bitmap >> 32 & present or (present and not host):
                        raise self.corrupt(f"the subclusters at guest offset {guest} contradict each other")
                    yield from self._subclusters(present, guest, host)
                guest += size

    def _subclusters(self, present: int, guest: int, host: int) -> Iterator[Extent]:
        """Yield the runs of ones in `present`, whose lowest bit is the first of 32 subclusters."""
        size = self.header.cluster_size // 32
        first = 0
        while present >> first:
            while not present >> first & 1:
                first += 1
            last = first
            while present >> last & 1:
                last += 1
            if guest + first * size >= self.header.virtual_size:
                return
            yield self._plain(guest + first * size, (last - first) * size, host + first * size)
            first = last

    def _plain(self, guest: int, length: int, host: int) -> Extent:
        length = min(length, self.header.virtual_size - guest)
        if host + length > self.file_size:
            size = self.header.cluster_size
            whole = max(0, self.file_size - host) // size * size
            raise self.truncated(f"the cluster at guest offset {guest + whole}", host + min(whole + size, length))
        return Extent(guest, length, host, 0)

    def _compressed(self) -> Callable[[int, int], Extent]:
        """Return the function from an L2 entry and its guest offset to a compressed cluster.

        A closure over what is the same for all: of a table of them, this is where the time goes.
        """
        size = self.header.cluster_size
        last = self.header.virtual_size - size
        end = self.file_size
        shift = 70 - self.header.cluster_bits
        hosts = (1 << shift) - 1
        more_sectors = (_COMPRESSED >> shift) - 1

        def extent(entry: int, guest: int) -> Extent:
            host = entry & hosts
            stored = ((entry >> shift & more_sectors) + 1) * SECTOR - host % SECTOR
            if host + stored > end:
                if host >= end:
                    raise self.truncated(f"the compressed cluster at guest offset {guest}", host)
                # Not every writer pads the file to whole sectors. Data that is cut off does not inflate to a cluster.
                stored = end - host
            return Extent(guest, size if guest <= last else last + size - guest, host, stored)

        return extent

    def _unaligned(self, guest: int, host: int) -> CorruptImage:
        return self.corrupt(f"the data of guest offset {guest} is not at a cluster's start but at byte {host}")

    def _zero_in_v2(self, guest: int) -> CorruptImage:
        return self.corrupt(f"version 2 has no zero clusters, and guest offset {guest} is one")
