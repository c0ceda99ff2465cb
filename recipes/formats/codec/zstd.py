"""Zstandard files: frames one after another (RFC 8878).

The block headers of a frame tell where it ends without any decoding, and that is looked up first: the streams of the
``zstandard`` package take the end of a file for the end of its data, so a truncated file would pass.
"""

from __future__ import annotations

from itertools import repeat
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.sparse import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .compressed import CompressedFile

#: Bytes of the largest window: what zstd(1) too takes unless it is told to take more, and what its levels and --long
#: without a number stay within. The format allows 3.75 TiB.
WINDOW_LIMIT = 128 << 20
#: Frames of a few bytes that one file may have: each takes as long as a MiB of content, and bombs consist of them.
SMALL_FRAMES = 1 << 17
_SMALL = 4096

#: Bytes of content in each frame that larder writes.
UNIT = 4 << 20

MAGIC = b"\x28\xb5\x2f\xfd"
#: RFC 8878, section 3.1.1: magic, descriptor, window, dictionary and content size; and a frame with one empty block.
_HEADER_MAX, _FRAME_MIN = 18, 9
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
    start = small = 0
    while start < wrapper.size:
        magic = wrapper.at(start, 4)
        claimed = 0
        if is_skippable(magic):
            stop = start + 8 + int.from_bytes(wrapper.at(start + 4, 4), "little")
            if stop > wrapper.size:
                raise wrapper.truncated()
        elif magic == MAGIC:
            stop = start + len(ZERO_FRAME)
            if stop <= wrapper.size and wrapper.at(start, len(ZERO_FRAME)) == ZERO_FRAME:
                frame = Frame(start, stop, UNIT, zeros=True)
            else:
                frame = _frame(wrapper, start)
            yield frame
            stop = frame.stop
            claimed = frame.content or 0
        else:
            raise wrapper.corrupt(start, f"expected the magic of a frame, found {magic.hex()}")
        small += max(stop - start, claimed) < _SMALL
        if small > SMALL_FRAMES:
            raise LimitExceeded(
                f"{wrapper.path}: zstd: more than {SMALL_FRAMES} frames of less than {_SMALL} bytes",
                hint="compress it again, as one frame",
            )
        start = stop


def _frame(wrapper: CompressedFile, start: int) -> Frame:
    import zstandard

    head = wrapper.at(start, max(_FRAME_MIN, min(_HEADER_MAX, wrapper.size - start)))
    # Before libzstd sees it: to that, a window beyond its own limit is a damaged header.
    if not head[4] & _SINGLE_SEGMENT:
        _check_window(wrapper, (8 + (head[5] & 7)) << 7 + (head[5] >> 3))
    try:
        offset = start + zstandard.frame_header_size(head)
        parameters = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise wrapper.corrupt(start, f"frame header: {error}") from error
    if parameters.dict_id:
        raise UnsupportedFeature(f"{wrapper.path}: zstd: needs the dictionary {parameters.dict_id}, which is not in it")
    _check_window(wrapper, parameters.window_size)
    last = False
    while not last:
        header = int.from_bytes(wrapper.at(offset, 3), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED_BLOCK:
            raise wrapper.corrupt(offset, "a block of the reserved type")
        offset += 3 + (1 if kind == _RLE_BLOCK else size)
    if parameters.has_checksum:
        offset += _CHECKSUM
    if offset > wrapper.size:
        raise wrapper.truncated()
    unknown = parameters.content_size == zstandard.CONTENTSIZE_UNKNOWN
    content = None if unknown else parameters.content_size
    return Frame(start, offset, content, window=parameters.window_size)


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
    """The compressed bytes of one frame, as the zstandard package reads them."""

    def __init__(self, wrapper: CompressedFile, frame: Frame) -> None:
        self._wrapper = wrapper
        self.offset = frame.start
        self._stop = frame.stop

    def read(self, _: int) -> bytes:
        data = self._wrapper.take(self.offset, self._stop)
        self.offset += len(data)
        return data


def decompress(wrapper: CompressedFile, _: int) -> Iterator[bytes]:
    """Yield the content of `wrapper` in pieces of `CHUNK` bytes, shorter at the end of a frame."""
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT)
    for frame in frames(wrapper):
        if frame.zeros:
            wrapper.take(frame.start, frame.stop)
            yield from repeat(_ZEROS, UNIT // CHUNK)
            continue
        source = _Source(wrapper, frame)
        reader = decoder.stream_reader(cast("IO[bytes]", source), read_across_frames=False)
        try:
            while data := reader.read(CHUNK):
                yield data
        except zstandard.ZstdError as error:
            raise wrapper.corrupt(source.offset, str(error)) from error
