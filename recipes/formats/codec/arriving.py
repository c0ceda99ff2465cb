"""Bytes that arrive once and in order, as a decoder reads a file that it looks back in a little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compressed import CompressedFile

if TYPE_CHECKING:
    from collections.abc import Iterator


def arriving(chunks: Iterator[bytes], name: str, codec: str, size: int, *, look_back: int) -> CompressedFile:
    """Return the `size` bytes in `chunks` as a wrapper called `name`, for one thread at a time.

    What is `look_back` bytes behind the furthest byte that was read is gone: to read it is a bug. Where the chunks end
    early, so does the wrapper. Memory: `look_back` bytes, a chunk, and what is read at once.
    """
    window = bytearray()
    begin = 0

    def pread(offset: int, count: int) -> bytes:
        nonlocal begin
        assert offset >= begin, "what was read before is needed again"
        stop = min(offset + count, size)
        while begin + len(window) < stop and (chunk := next(chunks, b"")):
            window.extend(chunk)
            gone = max(0, min(offset, begin + len(window)) - look_back - begin)
            del window[:gone]
            begin += gone
        return bytes(memoryview(window)[offset - begin : stop - begin])

    return CompressedFile(name, codec, size, pread)
