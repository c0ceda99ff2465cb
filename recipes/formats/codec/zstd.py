"""Zstandard files: frames one after another (RFC 8878).

The block headers of a frame tell where it ends without any decoding, and they are followed as it is read: the streams
of libzstd take the end of a file for the end of its data, so a truncated file would pass.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.sparse import CHUNK

from . import libzstd
from .compressed import READ
from .libzstd import HEADER_MAX, MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .compressed import CompressedFile

#: Bytes of the largest window.
WINDOW_LIMIT = 1 << libzstd.WINDOW_LOG
#: Frames of a few bytes that one file may have: each takes as long as a MiB of content, and bombs consist of them.
SMALL_FRAMES = 1 << 17
_SMALL = 4096

#: Bytes of content in each frame that larder writes.
UNIT = 4 << 20

#: RFC 8878, section 3.1.1: a frame with one empty block.
_FRAME_MIN = 9
#: RFC 8878, section 3.1.1.1.1.2: the window is the content, and no window descriptor follows.
_SINGLE_SEGMENT, _HAS_CHECKSUM = 0x20, 0x04
_CHECKSUM = 4
#: RFC 8878, section 3.1.1.2.2.
_RLE_BLOCK, _COMPRESSED_BLOCK, _RESERVED_BLOCK = 1, 2, 3
#: RFC 8878, section 3.1.1.2.4: Block_Maximum_Size, for blocks of every type.
_BLOCK_MAX = 128 * 1024
#: The low 4 bytes of XXH64 of `UNIT` zeros.
_ZERO_CHECKSUM = b"\x28\x9d\xbc\x7c"


def _zero_frame() -> bytes:
    """Return a frame of `UNIT` zeros, with content size and checksum.

    Its blocks are RLE blocks, except the first: zstd(1) up to 1.4.3 refuses a frame that begins with one
    (https://github.com/facebook/zstd/pull/1773). That is a compressed block of RLE literals, with a size of 20 bits,
    and no sequences (RFC 8878, section 3.1.1.3).
    """

    def header(kind: int, size: int, *, last: bool = False) -> bytes:
        return (last | kind << 1 | size << 3).to_bytes(3, "little")

    literals = (1 | 3 << 2 | _BLOCK_MAX << 4).to_bytes(3, "little") + b"\0"
    first = literals + b"\0"
    rle = header(_RLE_BLOCK, _BLOCK_MAX) + b"\0"
    return b"".join(
        (
            MAGIC,
            bytes([2 << 6 | _SINGLE_SEGMENT | _HAS_CHECKSUM]),
            UNIT.to_bytes(4, "little"),
            header(_COMPRESSED_BLOCK, len(first)) + first,
            rle * (UNIT // _BLOCK_MAX - 2),
            header(_RLE_BLOCK, _BLOCK_MAX, last=True) + b"\0",
            _ZERO_CHECKSUM,
        )
    )


class Frame(NamedTuple):
    """A frame with data: from `start` to `stop` in the file; `content` bytes where it says how many."""

    start: int
    stop: int
    content: int | None
    #: Whether it is a `ZERO_FRAME`.
    zeros: bool = False
    #: Bytes that its decoder keeps of what it has made.
    window: int = 0


#: What holes cost in the files that larder writes: 35 bytes a MiB, where the format's least is 32. It is always these
#: bytes, so a reader that knows them need not decode them.
ZERO_FRAME = _zero_frame()
_ZEROS = bytes(CHUNK)


def is_skippable(magic: bytes) -> bool:
    """Tell whether `magic`, 4 bytes, begins a skippable frame (RFC 8878, section 3.1.2)."""
    return magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5


def frames(wrapper: CompressedFile) -> Iterator[Frame]:
    """Yield the frames of `wrapper` that hold data, each once its end was found.

    Errors: `CorruptImage`; `LimitExceeded` for a window above `WINDOW_LIMIT` and for more than `SMALL_FRAMES`;
    `UnsupportedFeature` for a dictionary.
    """
    bound = _Bound(wrapper)
    start = 0
    while start < wrapper.size:
        walk = _walk(wrapper, start)
        stop = walk if isinstance(walk, int) else walk.end()
        if not isinstance(walk, int):
            yield Frame(start, stop, walk.content, walk.zeros, walk.window)
        bound.passed(stop - start, 0 if isinstance(walk, int) else walk.content or 0)
        start = stop


class _Bound:
    """Counts the frames of next to nothing."""

    def __init__(self, wrapper: CompressedFile) -> None:
        self._path = wrapper.path
        self._small = 0

    def passed(self, stored: int, content: int) -> None:
        """Count a frame; LimitExceeded for one too many."""
        self._small += max(stored, content) < _SMALL
        if self._small > SMALL_FRAMES:
            raise LimitExceeded(
                f"{self._path}: zstd: more than {SMALL_FRAMES} frames of less than {_SMALL} bytes",
                hint="compress it again, as one frame",
            )


def _walk(wrapper: CompressedFile, start: int) -> _Walk | int:
    """Read what is at `start`: a frame with data, or one to be skipped, then return the place after it."""
    magic = wrapper.at(start, 4)
    if is_skippable(magic):
        stop = start + 8 + int.from_bytes(wrapper.at(start + 4, 4), "little")
        if stop > wrapper.size:
            raise wrapper.truncated()
        return stop
    if magic != MAGIC:
        raise wrapper.corrupt(start, f"expected the magic of a frame, found {magic.hex()}")
    return _Walk(wrapper, start)


class _Walk:
    """The way through one frame, from block to block, while its bytes are read or without reading them."""

    def __init__(self, wrapper: CompressedFile, start: int) -> None:
        self._wrapper = wrapper
        #: Whether it is a `ZERO_FRAME`.
        self.zeros = False
        self.content: int | None
        stop = start + len(ZERO_FRAME)
        head = wrapper.at(start, max(_FRAME_MIN, min(HEADER_MAX, wrapper.size - start)))
        if ZERO_FRAME.startswith(head) and stop <= wrapper.size and wrapper.at(start, len(ZERO_FRAME)) == ZERO_FRAME:
            self.zeros, self.content, self.window = True, UNIT, 0
            self._last, self._next = True, stop
            return
        try:
            header = libzstd.header(head)
        except libzstd.ZstdError as error:
            raise wrapper.corrupt(start, f"frame header: {error}") from error
        if header.dictionary:
            raise UnsupportedFeature(
                f"{wrapper.path}: zstd: needs the dictionary {header.dictionary}, which is not in it"
            )
        _check_window(wrapper, header.window)
        self.window, self.content = header.window, header.content
        self._checksum = _CHECKSUM if header.is_checked else 0
        self._last = False
        #: Where the next block begins, or what follows the last one.
        self._next = start + header.size

    def end(self) -> int:
        """Return where the frame ends; `CorruptImage` where the file ends before."""
        while not self._last:
            self._step(int.from_bytes(self._wrapper.at(self._next, 3), "little"))
        if self._next > self._wrapper.size:
            raise self._wrapper.truncated()
        return self._next

    def end_known(self, offset: int) -> bool:
        """Say whether the frame ends at `offset`, by the blocks so far."""
        return self._last and self._next == offset

    def within(self, data: bytes, offset: int) -> int:
        """Return how many bytes of `data`, which is at `offset` of the file, are of the frame."""
        stop = offset + len(data)
        while not self._last and self._next < stop:
            at = self._next - offset
            header = data[at : at + 3] if self._next + 3 <= stop else self._wrapper.at(self._next, 3)
            self._step(int.from_bytes(header, "little"))
        return min(stop, self._next) - offset if self._last else len(data)

    def _step(self, header: int) -> None:
        """Go on by one block (RFC 8878, section 3.1.1.2)."""
        kind, size = header >> 1 & 3, header >> 3
        if kind == _RESERVED_BLOCK:
            raise self._wrapper.corrupt(self._next, "a block of the reserved type")
        self._next += 3 + (1 if kind == _RLE_BLOCK else size)
        if header & 1:
            self._last = True
            self._next += self._checksum


def _check_window(wrapper: CompressedFile, size: int) -> None:
    if size > WINDOW_LIMIT:
        raise LimitExceeded(
            f"{wrapper.path}: zstd: needs a window of {size} bytes, and larder's limit is {WINDOW_LIMIT}",
            hint="compress it again, with --long=27 at most",
        )


def declared_size(wrapper: CompressedFile) -> int | None:
    """Return the bytes of content when every frame says how many it holds."""
    total = 0
    for frame in frames(wrapper):
        if frame.content is None:
            return None
        total += frame.content
    return total


class _Source:
    """The compressed bytes of one frame, as a decoder reads them: to its end, or `CorruptImage`."""

    def __init__(self, wrapper: CompressedFile, start: int, walk: _Walk) -> None:
        self._wrapper = wrapper
        self._walk = walk
        self._ended = False
        self.offset = start

    def read(self, _: int) -> bytes:
        if self._ended:
            return b""
        data = self._wrapper.at(self.offset, min(READ, self._wrapper.size - self.offset))
        count = self._walk.within(data, self.offset)
        if not data:
            # To a decoder, the end of the file is the end of its data.
            raise self._wrapper.truncated()
        self._ended = count < len(data) or self._walk.end_known(self.offset + count)
        self._wrapper.taken(count)
        self.offset += count
        return data[:count]


def decompress(wrapper: CompressedFile, _: int) -> Iterator[bytes]:
    """Yield the content of `wrapper` in pieces of `CHUNK` bytes, shorter at the end of a frame.

    It is read forwards, once.
    """
    bound = _Bound(wrapper)
    start = 0
    while start < wrapper.size:
        walk = _walk(wrapper, start)
        if isinstance(walk, int):
            bound.passed(walk - start, 0)
            start = walk
            continue
        if walk.zeros:
            wrapper.taken(len(ZERO_FRAME))
            yield from repeat(_ZEROS, UNIT // CHUNK)
            start += len(ZERO_FRAME)
            continue
        source = _Source(wrapper, start, walk)
        try:
            yield from libzstd.backend().pieces(source.read, CHUNK)
        except libzstd.ZstdError as error:
            raise wrapper.corrupt(source.offset, str(error)) from error
        stop = walk.end()
        bound.passed(stop - start, walk.content or 0)
        start = stop
