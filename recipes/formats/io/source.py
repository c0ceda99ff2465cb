"""Bytes with a name that can be read at any offset: a file, a range of one, a disk as its guest sees it.

What reads partitions, file systems and archives takes a `Source`, and so does not know what the bytes are stored in.
"""

from __future__ import annotations

import os
from typing import Protocol

from recipes.errors import CorruptImage


class Source(Protocol):
    """Bytes that do not change; several threads may read them at once."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` with the bytes from `offset` on and return how many that were: less than asked at the end only.

        Errors: OSError; those of the format that the bytes are stored in.
        """

    def fileno(self) -> int | None:
        """Return the open file in which byte N is byte N of this source; None if there is no such file."""


class FileSource:
    """The open file `fd`, which stays the caller's; errors call it `name`."""

    __slots__ = ("_fd", "name", "size")

    def __init__(self, fd: int, name: str, size: int | None = None) -> None:
        self._fd = fd
        self.name = name
        self.size = os.fstat(fd).st_size if size is None else size

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; see `Source`."""
        return os.preadv(self._fd, [view], offset)

    def fileno(self) -> int:
        """Return the file."""
        return self._fd


class BytesSource:
    """Bytes in memory."""

    __slots__ = ("_data", "name")

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; see `Source`."""
        piece = self._data[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def fileno(self) -> None:
        """Return None: they are in no file."""


class Window:
    """The `size` bytes from `start` on of another source, called `name`."""

    __slots__ = ("_source", "_start", "name", "size")

    def __init__(self, source: Source, start: int, size: int, name: str | None = None) -> None:
        # A window of a window is one of what is behind both, so that it costs no more to read.
        self._source: Source = source._source if isinstance(source, Window) else source
        self._start: int = source._start + start if isinstance(source, Window) else start
        self.name = source.name if name is None else name
        self.size = size

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` on; see `Source`."""
        left = self.size - offset
        if left < len(view):
            view = view[: max(0, left)]
        return self._source.readinto(view, self._start + offset)

    def fileno(self) -> int | None:
        """Return the file if the window begins where it begins."""
        return None if self._start else self._source.fileno()


def read(source: Source, offset: int, length: int) -> bytes:
    """Return the `length` bytes at `offset`, fewer at the end only."""
    length = max(0, min(length, source.size - offset))
    data = bytearray(length)
    view = memoryview(data)
    done = 0
    while done < length:
        count = source.readinto(view[done:], offset + done)
        if not count:
            break
        done += count
    return bytes(data if done == length else data[:done])


def read_exact(source: Source, offset: int, length: int) -> bytes:
    """Return the `length` bytes at `offset`; CorruptImage if there are fewer."""
    data = read(source, offset, length) if offset + length <= source.size else b""
    if len(data) != length:
        raise CorruptImage(
            f"{source.name}: truncated: expected {length} bytes at {offset}", hint="download or make the image again"
        )
    return data
