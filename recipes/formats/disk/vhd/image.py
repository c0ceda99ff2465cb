"""Where in a VHD the guest's data is: before the footer, or where the block allocation table says.

A block has a bitmap of its sectors in front of it. Of a disk without a parent a cleared bit means a sector that nobody
wrote, and all writers leave zeros there, so it is not looked at; QEMU does not either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from recipes.formats.disk.image import Extent
from recipes.formats.disk.tables import Places, TableImage
from recipes.formats.io.sparse import SECTOR

from .footer import FIXED, FOOTER_SIZE, HEADER_SIZE, read_footer, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOWHERE = 0xFFFF_FFFF


class Vhd(TableImage):
    """A VHD, open for reading as `fd`, which stays the caller's; errors as those of `read_footer`, `read_header`."""

    format: ClassVar[str] = "vhd"
    title: ClassVar[str] = "VHD"

    def __init__(self, fd: int, path: Path, *, max_virtual_size: int) -> None:
        super().__init__(fd, path)
        footer, self._end = read_footer(self)
        self.size = footer.size
        self.require_size(self.size, max_virtual_size)
        if footer.kind == FIXED:
            if self._end < self.size:
                raise self.truncated("the disk before the footer", self.size)
            if self._end > self.size:
                raise self.corrupt(f"expected a fixed disk of {self._end} bytes before the footer, found {self.size}")
            self._header = None
        else:
            self._header = read_header(self, footer)
            self._metadata = (
                (0, FOOTER_SIZE),
                (footer.data_offset, HEADER_SIZE),
                (self._header.table_offset, 4 * self._header.entries),
            )

    def _pieces(self) -> Iterator[Extent]:
        if self._header is None:
            if self.size:
                yield Extent(0, self.size, 0, 0)
            return
        size = self._header.block_size
        bitmap = -(-size // (8 * SECTOR * SECTOR)) * SECTOR
        places = Places(self._end, bitmap + size)
        for index, words in self.words(self._header.table_offset, -(-self.size // size), ">I", blank=0xFF):
            for at, sector in enumerate(words, index):
                if sector == _NOWHERE:
                    continue
                place = sector * SECTOR
                if place + bitmap + size > self._end:
                    raise self.truncated(f"the block of guest offset {at * size}", place + bitmap + size)
                if not places.take(place) or self._is_metadata(place, bitmap + size):
                    raise self.corrupt(
                        f"the block of guest offset {at * size} is at byte {place}, where something else is"
                    )
                yield self.plain(at * size, size, place + bitmap)

    def _is_metadata(self, place: int, size: int) -> bool:
        return any(place < start + length and start < place + size for start, length in self._metadata)
