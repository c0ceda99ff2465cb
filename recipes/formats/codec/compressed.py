"""A compressed file as its decoders read it: by offset, from several threads, with errors that say where."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Bytes of compressed data that a decoder is given at a time.
READ = 128 * 1024


def ignore(_: int) -> None:
    """Take the number of bytes that were read, for nobody."""


class CompressedFile:
    """A wrapper of `size` bytes, wherever it is.

    `pread` returns the so many bytes at an offset, fewer at the end; `read` is told the bytes that decoders take, from
    any thread. Of a file that is still arriving `pread` waits for the bytes, and `arrived` says, after waiting for them
    a moment, whether it has come as far as an offset. Errors call it `path`.
    """

    def __init__(
        self,
        path: Path | str,
        codec: str,
        size: int,
        pread: Callable[[int, int], bytes],
        read: Callable[[int], None] = ignore,
        arrived: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.path = path
        self.arrived = arrived
        self.codec = codec
        self.size = size
        self._pread = pread
        self._read = read

    def at(self, offset: int, count: int) -> bytes:
        """Return the `count` bytes at `offset`; `CorruptImage` where the file ends before."""
        data = self._pread(offset, count) if offset < self.size else b""
        if len(data) != count:
            raise self.truncated()
        return data

    def take(self, offset: int, stop: int) -> bytes:
        """Return the next bytes at `offset` for a decoder: at most `READ` of them, none from `stop` on."""
        data = self.at(offset, max(0, min(READ, stop - offset)))
        self.taken(len(data))
        return data

    def taken(self, count: int) -> None:
        """Say that a decoder has taken so many bytes."""
        self._read(count)

    def corrupt(self, offset: int, what: str) -> CorruptImage:
        """Return the error for bytes at `offset`, or a little before it, that cannot be."""
        return CorruptImage(
            f"{self.path}: {self.codec}: near byte {offset} of {self.size}: {what}",
            hint="the file is damaged: fetch it again, and tell upstream if its digest is the published one",
        )

    def truncated(self) -> CorruptImage:
        """Return the error for a file that ends too early."""
        return self.corrupt(self.size, "the file ends in the middle of its data")


@contextmanager
def open_wrapper(path: Path, codec: str, read: Callable[[int], None] = ignore) -> Iterator[CompressedFile]:
    """Open the wrapper in the file `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield CompressedFile(path, codec, os.fstat(fd).st_size, lambda offset, count: os.pread(fd, count, offset), read)
    finally:
        os.close(fd)
