"""The disk as the log leaves it: sectors that were changed, held in memory over those of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded

from .layout import SECTOR, SECTOR_LOG
from .volume import Disk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.formats.io.source import Source

    from .volume import BmapIntent

#: Bytes that a log may change. Logs have up to 2 GiB, but one that was left full of changes in so many places is rare.
MAX_REPLAYED = 128 << 20


class Replayed(Disk):
    """The bytes of the file system as they are after the replay; nothing is written to `source`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._sectors: dict[int, bytearray] = {}
        #: What is left to be done to the extents of inodes.
        self.pending: dict[int, list[BmapIntent]] = {}
        #: Inodes that took over another's tree of extents.
        self.adopted: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`; CorruptImage if there are fewer."""
        data = Disk.read(self, offset, length)
        touched = self._touched(offset, length)
        if not touched:
            return data
        changed = bytearray(data)
        for number in touched:
            at = (number << SECTOR_LOG) - offset
            start, stop = max(at, 0), min(at + SECTOR, length)
            changed[start:stop] = self._sectors[number][start - at : stop - at]
        return bytes(changed)

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Have `data` at `offset` from now on. Errors: as `read`, and `LimitExceeded`."""
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, SECTOR)
            count = min(SECTOR - inside, len(data) - at)
            sector = self._sectors.get(number)
            if sector is None:
                sector = self._sectors[number] = bytearray(Disk.read(self, number << SECTOR_LOG, SECTOR))
                if len(self._sectors) << SECTOR_LOG > MAX_REPLAYED:
                    raise LimitExceeded(
                        f"{self.source.name}: the log changes more than {MAX_REPLAYED >> 20} MiB",
                        hint="mount the disk once: Linux replays the log",
                    )
            sector[inside : inside + count] = data[at : at + count]
            at += count

    def is_replayed(self, offset: int, length: int) -> bool:
        """Say whether some of these bytes are from the log."""
        return bool(self._touched(offset, length))

    def is_adopted(self, number: int) -> bool:
        """Say whether the tree of extents of this inode was another's before."""
        return number in self.adopted

    def intents(self, number: int) -> Iterable[BmapIntent]:
        """Return what is still to be done to the extents of this inode."""
        return self.pending.get(number, ())

    def _touched(self, offset: int, length: int) -> list[int]:
        """Return those sectors of a range that were changed."""
        numbers = range(offset >> SECTOR_LOG, -(-(offset + length) >> SECTOR_LOG))
        return [number for number in numbers if number in self._sectors]
