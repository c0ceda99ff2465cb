"""Where in a VMDK the guest's data is: the grain directory names grain tables, and those name grains.

A compressed grain has its place on the disk and its size in front of it. What order the grains have in the file means
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from recipes.formats.disk.image import Extent
from recipes.formats.disk.tables import Places, TableImage
from recipes.formats.io.sparse import SECTOR

from .header import read_header
from .layout import GRAIN_MARKER, TABLE_ENTRIES, ZERO_GRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TABLE = 4 * TABLE_ENTRIES


class Vmdk(TableImage):
    """A VMDK, open for reading as `fd`, which stays the caller's; errors as those of `read_header`."""

    format: ClassVar[str] = "vmdk"
    title: ClassVar[str] = "VMDK"

    def __init__(self, fd: int, path: Path, *, max_virtual_size: int) -> None:
        super().__init__(fd, path)
        self._header = header = read_header(self)
        self.size = header.size
        self.require_size(self.size, max_virtual_size)
        if header.compressed:
            self.unit = header.grain

    def decoder(self) -> Callable[[memoryview, int], bytes | bytearray]:
        """Return one thread's function from the stored bytes of a grain and its guest offset to the grain."""
        from deflate import DeflateError, zlib_decompress

        grain, end = self._header.grain, self.size

        def inflate(stored: memoryview, guest: int) -> bytes | bytearray:
            try:
                data: bytearray = zlib_decompress(stored, grain)
            except DeflateError:
                raise self.corrupt(
                    f"the grain of guest offset {guest} is not a zlib stream of at most {grain} bytes"
                ) from None
            if len(data) < min(grain, end - guest):
                raise self.corrupt(f"the grain of guest offset {guest} has {len(data)} bytes instead of {grain}")
            # The last one may end with the disk.
            return data if len(data) == grain else data + bytes(grain - len(data))

        return inflate

    def _pieces(self) -> Iterator[Extent]:
        header = self._header
        covered = TABLE_ENTRIES * header.grain
        tables = Places(self.file_size, _TABLE)
        grains = Places(self.file_size, header.grain)
        for index, words in self.words(header.directory, -(-self.size // covered), "<I"):
            for at, sector in enumerate(words, index):
                if not sector:
                    continue
                place, guest = sector * SECTOR, at * covered
                if place + _TABLE > self.file_size:
                    raise self.truncated(f"the grain table of guest offset {guest}", place + _TABLE)
                if not tables.take(place):
                    raise self.corrupt(f"the grain table of guest offset {guest} is at byte {place}, as another one is")
                yield from self._table(place, guest, grains)

    def _table(self, place: int, start: int, grains: Places) -> Iterator[Extent]:
        header = self._header
        count = min(TABLE_ENTRIES, -(-(self.size - start) // header.grain))
        for index, words in self.words(place, count, "<I"):
            for at, sector in enumerate(words, index):
                if not sector or (sector == ZERO_GRAIN and header.zeroed):
                    continue
                guest, host = start + at * header.grain, sector * SECTOR
                if header.compressed:
                    yield self._compressed(guest, host)
                    continue
                if host >= self.file_size:
                    raise self.truncated(f"the grain of guest offset {guest}", host + header.grain)
                if not grains.take(host):
                    raise self.corrupt(f"the grain of guest offset {guest} is at byte {host}, where another one is")
                yield self.plain(guest, header.grain, host)

    def _compressed(self, guest: int, host: int) -> Extent:
        """Return the extent of the compressed grain whose marker is at `host`."""
        grain = self._header.grain
        place, stored = GRAIN_MARKER.unpack(self.read(host, GRAIN_MARKER.size, f"the grain of guest offset {guest}"))
        # So no two entries have one grain, and what a small file inflates to is bounded by its markers.
        if place * SECTOR != guest:
            raise self.corrupt(
                f"the grain of guest offset {guest} is at byte {host}, which says that it is that of {place * SECTOR}"
            )
        if not 0 < stored <= 2 * grain:
            raise self.corrupt(f"the grain of guest offset {guest} has {stored} bytes, more than {grain} ever take")
        begin = host + GRAIN_MARKER.size
        if begin + stored > self.file_size:
            raise self.truncated(f"the grain of guest offset {guest}", begin + stored)
        return Extent(guest, min(grain, self.size - guest), begin, stored)
