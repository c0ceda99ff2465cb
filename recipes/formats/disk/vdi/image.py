"""Where in a VDI the guest's data is: in the blocks that the map names, one entry for each MiB of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from recipes.formats.disk.tables import Places, TableImage

from .header import BLOCK_SIZE, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.formats.disk.image import Extent

#: What the map has of a block that was never written, and of one that was discarded.
_NOWHERE, _DISCARDED = 0xFFFF_FFFF, 0xFFFF_FFFE


class Vdi(TableImage):
    """A VDI, open for reading as `fd`, which stays the caller's; errors as those of `read_header`."""

    format: ClassVar[str] = "vdi"
    title: ClassVar[str] = "VDI"

    def __init__(self, fd: int, path: Path, *, max_virtual_size: int) -> None:
        super().__init__(fd, path)
        self._header = read_header(self)
        self.size = self._header.size
        self.require_size(self.size, max_virtual_size)

    def _pieces(self) -> Iterator[Extent]:
        header = self._header
        places = Places(self.file_size, BLOCK_SIZE)
        for index, words in self.words(header.map_offset, header.blocks, "<I", blank=0xFF):
            for at, number in enumerate(words, index):
                if number in (_NOWHERE, _DISCARDED):
                    continue
                place = header.data_offset + number * BLOCK_SIZE
                guest = at * BLOCK_SIZE
                if place >= self.file_size:
                    raise self.truncated(f"the block of guest offset {guest}", place + BLOCK_SIZE)
                if not places.take(place):
                    raise self.corrupt(f"the block of guest offset {guest} is at byte {place}, where another one is")
                yield self.plain(guest, BLOCK_SIZE, place)
