"""The data of files as sources: what is stored as it is, and what has to be decompressed.

Both verify the checksums of what they read, and take the second copy if the first is damaged.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from recipes.formats.io.source import read_exact

from .codecs import decompress

if TYPE_CHECKING:
    from .sums import Sums
    from .volume import Volume

#: Decompressed extents that are kept: files that were written to again have pieces of several in turn.
KEPT = 8


class Stored:
    """The logical addresses of a file system as a source: byte N is that at address N. Threads may share it."""

    def __init__(self, volume: Volume, sums: Sums) -> None:
        self._volume = volume
        self._sums = sums
        self.name = volume.name
        self.size = 1 << 64

    def fileno(self) -> int | None:
        """Return None: what lies where on the device is for the chunks to say."""
        return None

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from the address `offset` on. Raise CorruptImage if no copy has the checksums that it should."""
        sector = self._volume.sector_size
        start = offset - offset % sector
        stop = -(-(offset + len(view)) // sector) * sector
        view[:] = memoryview(self.read(start, stop - start))[offset - start : offset - start + len(view)]
        return len(view)

    def read(self, logical: int, length: int) -> bytes:
        """Return whole sectors. Errors: as `readinto`."""
        volume = self._volume
        for physical in volume.chunks.find(logical, length, "data"):
            data = read_exact(volume.source, physical, length)
            if self._sums.hold(logical, data):
                return data
        raise volume.corrupt(f"the data at {logical:#x} is not what its checksums say")


class Compressed:
    """A compressed extent as a source of what is in it; `Decompressor.extent` makes them."""

    __slots__ = ("_codec", "_decompressor", "_length", "_where", "size")

    def __init__(self, decompressor: Decompressor, where: Where, length: int, size: int, codec: int) -> None:
        self._decompressor = decompressor
        self._where = where
        self._length = length
        self._codec = codec
        #: Bytes decompressed.
        self.size = size

    @property
    def name(self) -> str:
        """What errors call it."""
        return self._decompressor.name

    def fileno(self) -> int | None:
        """Return None: it is in no file as it is."""
        return None

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; fewer bytes at the end only. Errors: `CorruptImage`."""
        data = self._decompressor.data(self)
        count = max(0, min(self.size - offset, len(view)))
        there = max(0, min(len(data) - offset, count))
        view[:there] = memoryview(data)[offset : offset + there]
        if there < count:
            # What was compressed ended with the file; the rest of the sector is zeros.
            view[there:count] = bytes(count - there)
        return count

    def matches(self, length: int, size: int, codec: int) -> bool:
        """Say whether this is what another reference says of the extent."""
        return (self._length, self.size, self._codec) == (length, size, codec)

    def decompress(self) -> bytes | bytearray:
        """Return what is in it, read anew; zeros at the end may lack."""
        return self._decompressor.decompress(self._where, self._length, self.size, self._codec)


class Where(NamedTuple):
    """Where compressed bytes are."""

    #: A logical address; if `inline`, an address on the device, in a node that was verified.
    address: int
    inline: bool


class Decompressor:
    """Makes and reads the compressed extents of a file system, and keeps the latest. Threads may share it."""

    def __init__(self, volume: Volume, stored: Stored) -> None:
        self._volume = volume
        self._stored = stored
        self.name = volume.name
        self._kept: OrderedDict[Compressed, bytes | bytearray] = OrderedDict()
        self._lock = Lock()

    def data(self, extent: Compressed) -> bytes | bytearray:
        """Return what is in `extent`; zeros at the end may lack."""
        with self._lock:
            data = self._kept.get(extent)
            if data is not None:
                self._kept.move_to_end(extent)
                return data
        data = extent.decompress()
        with self._lock:
            self._kept[extent] = data
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return data

    def decompress(self, where: Where, length: int, size: int, codec: int) -> bytes | bytearray:
        """Return at most `size` bytes that the `length` bytes there stand for."""
        volume = self._volume
        if where.inline:
            packed = read_exact(volume.source, where.address, length)
        else:
            packed = self._stored.read(where.address, length)
        try:
            return decompress(codec, packed, size, volume.sector_size)
        except ValueError as error:
            place = f"{where.address} of the disk" if where.inline else f"{where.address:#x}"
            raise volume.corrupt(f"the compressed data at {place} cannot be decompressed: {error}") from error
