"""Where in a VHDX the guest's data is: in the blocks that the BAT says are there.

Specification: [MS-VHDX] v20180912, section 2.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from recipes.formats.disk.tables import Places, TableImage

from . import layout
from .header import read_current, read_parameters, read_regions
from .layout import LOG_SECTOR, MIB, PLACE, STATE
from .log import replayed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.formats.disk.image import Extent

#: States that read as zeros: what was never there, what is zeros, what was trimmed; 5 is the last in drafts.
_NOTHING = (layout.NOT_PRESENT, layout.UNDEFINED, layout.ZERO, layout.UNMAPPED, 5)


class Vhdx(TableImage):
    """A VHDX, open for reading as `fd`, which stays the caller's.

    What its log had still to write is read as written. Errors: as those of `read_current`, `read_regions`,
    `read_parameters` and `replayed`.
    """

    format: ClassVar[str] = "vhdx"
    title: ClassVar[str] = "VHDX"

    def __init__(self, fd: int, path: Path, *, max_virtual_size: int) -> None:
        super().__init__(fd, path)
        self._pages: dict[int, bytes] = {}
        if self.read(0, len(layout.SIGNATURE), "the signature") != layout.SIGNATURE:
            raise self.corrupt(f"expected {layout.SIGNATURE!r} at its beginning")
        current = read_current(self)
        if any(current.log_guid):
            self._pages = replayed(self, current.log_offset, current.log_length, current.log_guid)
        #: The MiB of the file that have such pages.
        self._logged = {page // MIB for page in self._pages}
        regions = read_regions(self, self.read)
        parameters = read_parameters(self, self.read, regions.metadata)
        self.size = parameters.size
        self.require_size(self.size, max_virtual_size)
        self._block = parameters.block_size
        #: Payload entries before each entry of a sector bitmap.
        self._ratio = layout.CHUNK_SECTORS * parameters.sector // self._block
        blocks = -(-self.size // self._block)
        self._entries = blocks + max(0, blocks - 1) // self._ratio
        self._bat, length = regions.bat
        if self._entries * 8 > length:
            raise self.corrupt(f"expected a BAT of {self._entries} entries, found one of {length} bytes")
        self._metadata = (
            (0, MIB),
            regions.bat,
            regions.metadata,
            *([(current.log_offset, current.log_length)] if current.log_length else []),
        )

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Return `size` bytes at `offset`, as the log left them."""
        data = super().read(offset, size, what)
        if not self._pages:
            return data
        patched = bytearray(data)
        for page in range(offset // LOG_SECTOR * LOG_SECTOR, offset + size, LOG_SECTOR):
            if (content := self._pages.get(page)) is not None:
                start, stop = max(page, offset), min(page + LOG_SECTOR, offset + size)
                patched[start - offset : stop - offset] = content[start - page : stop - page]
        return bytes(patched)

    def _pieces(self) -> Iterator[Extent]:
        places = Places(self.file_size, self._block)
        period = self._ratio + 1
        for index, words in self.words(self._bat, self._entries, "<Q"):
            for at, entry in enumerate(words, index):
                chunk, within = divmod(at, period)
                guest = (chunk * self._ratio + within) * self._block
                state = entry & STATE
                # The last of a period is of a sector bitmap, which only a disk with a parent has.
                if not entry or within == self._ratio or state in _NOTHING:
                    continue
                if state != layout.FULLY_PRESENT or entry & ~(PLACE | STATE):
                    raise self.corrupt(f"the block of guest offset {guest} has the entry {entry:#x}")
                place = entry & PLACE
                if place >= self.file_size:
                    raise self.truncated(f"the block of guest offset {guest}", place + self._block)
                if not places.take(place) or self._is_metadata(place):
                    raise self.corrupt(f"the block of guest offset {guest} is at byte {place}, where something else is")
                if not self._logged.isdisjoint(range(place // MIB, (place + self._block) // MIB)):
                    raise self.unsupported("a log that changes data", hint="attach it once where it came from")
                yield self.plain(guest, self._block, place)

    def _is_metadata(self, place: int) -> bool:
        return any(place < start + length and start < place + self._block for start, length in self._metadata)
