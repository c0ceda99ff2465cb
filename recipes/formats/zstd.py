"""Zstandard files: frames one after another (RFC 8878).

The block headers of a frame tell where it ends without any decoding, and that is looked up first: the streams of the
``zstandard`` package take the end of a file for the end of its data, so a truncated file would pass.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple, cast

from recipes.errors import LimitExceeded, UnsupportedFeature

from .sparse import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .wrapper import Wrapper

#: Bytes of the largest window: what ``zstd --long=31``, its maximum, asks for. The memory is touched only as far as
#: the content reaches. The format itself allows 3.75 TiB, which no encoder writes.
WINDOW_LIMIT = 1 << 31

MAGIC = b"\x28\xb5\x2f\xfd"
#: RFC 8878, section 3.1.1: magic, descriptor, window, dictionary and content size; and a frame with one empty block.
_HEADER_MAX, _FRAME_MIN = 18, 9
#: RFC 8878, section 3.1.1.1.1.2: the window is the content, and no window descriptor follows.
_SINGLE_SEGMENT = 0x20
_CHECKSUM = 4
#: RFC 8878, section 3.1.1.2.2.
_RLE_BLOCK, _RESERVED_BLOCK = 1, 3


class Frame(NamedTuple):
    """A frame with data: from `start` to `stop` in the file; `content` bytes where it says how many."""

    start: int
    stop: int
    content: int | None


def is_skippable(magic: bytes) -> bool:
    """Tell whether `magic`, 4 bytes, begins a skippable frame (RFC 8878, section 3.1.2)."""
    return magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5


def frames(wrapper: Wrapper) -> Iterator[Frame]:
    """Yield the frames of `wrapper` that hold data, each once its end was found.

    Errors: `CorruptImage`; `LimitExceeded` for a window above `WINDOW_LIMIT`; `UnsupportedFeature` for a dictionary.
    """
    start = 0
    while start < wrapper.size:
        magic = wrapper.at(start, 4)
        if is_skippable(magic):
            stop = start + 8 + int.from_bytes(wrapper.at(start + 4, 4), "little")
            if stop > wrapper.size:
                raise wrapper.truncated()
        elif magic == MAGIC:
            frame = _frame(wrapper, start)
            yield frame
            stop = frame.stop
        else:
            raise wrapper.corrupt(start, f"expected the magic of a frame, found {magic.hex()}")
        start = stop


def _frame(wrapper: Wrapper, start: int) -> Frame:
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
    return Frame(start, offset, None if unknown else parameters.content_size)


def _check_window(wrapper: Wrapper, size: int) -> None:
    if size > WINDOW_LIMIT:
        raise LimitExceeded(
            f"{wrapper.path}: zstd: needs a window of {size} bytes, and larder's limit is {WINDOW_LIMIT}, "
            "that of zstd --long=31",
            hint="compress it again with a smaller --long",
        )


def declared_size(wrapper: Wrapper) -> int | None:
    """Return the bytes of content when every frame says how many it holds."""
    total = 0
    for frame in frames(wrapper):
        if frame.content is None:
            return None
        total += frame.content
    return total


class _Source:
    """The compressed bytes of one frame, as the zstandard package reads them."""

    def __init__(self, wrapper: Wrapper, frame: Frame) -> None:
        self._wrapper = wrapper
        self.offset = frame.start
        self._stop = frame.stop

    def read(self, _: int) -> bytes:
        data = self._wrapper.take(self.offset, self._stop)
        self.offset += len(data)
        return data


def decompress(wrapper: Wrapper, _: int) -> Iterator[bytes]:
    """Yield the content of `wrapper` in pieces of `CHUNK` bytes, shorter at the end of a frame."""
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT)
    for frame in frames(wrapper):
        source = _Source(wrapper, frame)
        reader = decoder.stream_reader(cast("IO[bytes]", source), read_across_frames=False)
        try:
            while data := reader.read(CHUNK):
                yield data
        except zstandard.ZstdError as error:
            raise wrapper.corrupt(source.offset, str(error)) from error
