"""Writing to the free blocks of a new file system, in the order in which they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from recipes.formats.io.sparse import BLOCK, CHUNK

from .geometry import TooSmall

if TYPE_CHECKING:
    from .geometry import Geometry

_ZEROS = bytes(BLOCK)
#: Bytes that are gathered before they are written; what is larger than the room in it goes out by itself.
_ROOM = 2 * CHUNK


class Disk(Protocol):
    """What a file system is written to. It reads as zeros where nothing has been written."""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` at `offset`."""


class FreeBlocks:
    """The blocks of a disk that metadata of a fixed place has not, handed out in ascending order.

    What is appended is gathered, so that small files do not cost a write each: `flush` in the end. `TooSmall` is
    raised when no block is left.
    """

    def __init__(self, disk: Disk, geometry: Geometry) -> None:
        self._disk = disk
        self._runs = geometry.free_runs()
        self._buffer = memoryview(bytearray(_ROOM))
        self._filled = 0
        self._at, self._stop = next(self._runs, (0, 0))

    @property
    def position(self) -> int:
        """Return the block before which every block is in use."""
        return self._at

    def append(self, data: bytes | bytearray | memoryview) -> list[tuple[int, int]]:
        """Write `data`, and zeros up to a whole block, to the next blocks: ``(first block, blocks)`` of each run."""
        size = len(data)
        count = -(-size // BLOCK)
        if count <= self._stop - self._at and self._filled + count * BLOCK <= _ROOM:
            end = self._filled + size
            self._buffer[self._filled : end] = data
            self._filled += count * BLOCK
            self._buffer[end : self._filled] = _ZEROS[: self._filled - end]
            self._at += count
            return [(self._at - count, count)]
        self.flush()
        if count <= self._stop - self._at and count * BLOCK <= _ROOM:
            return self.append(data)
        view = memoryview(data)
        runs = self.take(count)
        for first, length in runs:
            self._disk.pwrite(view[: length * BLOCK], first * BLOCK)
            view = view[length * BLOCK :]
        return runs

    def take(self, count: int) -> list[tuple[int, int]]:
        """Take the next `count` blocks, which stay zeros: ``(first block, blocks)`` of each run."""
        self.flush()
        runs = []
        while count:
            if self._at == self._stop:
                self._at, self._stop = next(self._runs, (self._stop, self._stop))
                if self._at == self._stop:
                    raise TooSmall
            length = min(count, self._stop - self._at)
            runs.append((self._at, length))
            self._at += length
            count -= length
        return runs

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._filled:
            self._disk.pwrite(self._buffer[: self._filled], self._at * BLOCK - self._filled)
            self._filled = 0
