"""libzstd, by the module that this Python has: the ``zstandard`` package, or the standard library's from 3.14 on.

The package goes first: it decodes clusters and extents in half the time. It has no wheels for the newest Python and
none for the free-threaded ones; there `compression.zstd` gives the same bytes, at the same limits.
"""

from __future__ import annotations

import functools
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Buffer = bytes | bytearray | memoryview

MAGIC = b"\x28\xb5\x2f\xfd"
#: Log2 of the bytes of the largest window: what zstd(1) too takes unless it is told to take more, and what its levels
#: and --long without a number stay within. The format allows 3.75 TiB.
WINDOW_LOG = 27
#: Bytes of a header at the most, its magic among them (RFC 8878, section 3.1.1).
HEADER_MAX = 18
#: RFC 8878, section 3.1.1.1.1, the descriptor: the window is the content, and no window descriptor follows; reserved.
_SINGLE_SEGMENT, _RESERVED, _HAS_CHECKSUM = 0x20, 0x08, 0x04
#: Bytes of the dictionary's number and of the content's size, by their flags (sections 3.1.1.1.3 and 3.1.1.1.4).
_DICTIONARY, _CONTENT = (0, 1, 2, 4), (0, 2, 4, 8)
#: Bytes that take less time to compress than an encoder takes to make: with one for each, clusters of 64 KiB took 1.07
#: times as long, and more where memory is new each time. A frame does not depend on those before it.
_SMALL = 1 << 17
#: What a decoder is fed at once.
_PIECE = 1 << 17


class ZstdError(Exception):
    """What libzstd, or a frame's header, has against the data."""


class Header(NamedTuple):
    """The header of a frame (RFC 8878, section 3.1.1.1)."""

    #: Bytes of the header.
    size: int
    #: Bytes that a decoder keeps of what it has made.
    window: int
    #: Bytes of content, None where the frame does not say.
    content: int | None
    #: The number of its dictionary; 0 for none.
    dictionary: int
    #: Whether a checksum of the content follows the last block.
    is_checked: bool


class Stream(Protocol):
    """A frame that is being written."""

    def compress(self, data: bytes) -> bytes:
        """Take `data`; return what of the frame is ready."""

    def flush(self) -> bytes:
        """Return the rest of the frame."""


class Backend(Protocol):
    """What larder needs of libzstd."""

    def decompress(self, data: Buffer, limit: int) -> bytes:
        """Return the content of the frame that `data` begins with, at most `limit` bytes; what follows is not read.

        Raise ZstdError for a frame that is damaged, cut, or has more.
        """

    def pieces(self, read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
        """Yield the content of one frame in pieces of `size` bytes, the last one shorter.

        `read` is asked for more of the frame until it returns nothing. Raise ZstdError for a frame that is damaged.
        """

    def compress(self, data: Buffer, level: int, *, checksum: bool = True) -> bytes:
        """Return `data` as a frame with its size, and a checksum unless something else vouches for it."""

    def stream(self, level: int, *, threads: int, job: int) -> Stream:
        """Begin a frame without size and checksum, which `threads` compress in jobs of `job` bytes of content each."""


def header(head: Buffer) -> Header:
    """Read the header of the frame that `head` begins with: `HEADER_MAX` bytes of it, or fewer where there are no more.

    Raise ZstdError for what is none.
    """
    data = bytes(memoryview(head)[:HEADER_MAX])
    if data[:4] != MAGIC or len(data) < 6:
        raise ZstdError(f"expected the magic of a frame, found {data[:4].hex()}")
    descriptor = data[4]
    if descriptor & _RESERVED:
        raise ZstdError("a reserved bit of the frame header is set")
    at, window = 5, 0
    if not descriptor & _SINGLE_SEGMENT:
        window = (8 + (data[5] & 7)) << 7 + (data[5] >> 3)
        at = 6
    dictionary = _DICTIONARY[descriptor & 3]
    flag = descriptor >> 6
    content = _CONTENT[flag] or int(bool(descriptor & _SINGLE_SEGMENT))
    size = at + dictionary + content
    if len(data) < size:
        raise ZstdError("the data ends in a frame header")
    number = int.from_bytes(data[at : at + dictionary], "little")
    held = None
    if content:
        # Two bytes begin where one ends.
        held = int.from_bytes(data[size - content : size], "little") + (256 if flag == 1 else 0)
    return Header(
        size, held or 0 if descriptor & _SINGLE_SEGMENT else window, held, number, bool(descriptor & _HAS_CHECKSUM)
    )


@functools.cache
def backend() -> Backend:
    """Return the faster one of the modules that this Python has."""
    try:
        return Package()
    except ImportError:
        return Standard()


class _Thread(local):
    """What each thread has one of: making one takes longer than a small extent."""

    decoder: Any = None
    encoders: Any = None


class Package:
    """libzstd by the ``zstandard`` package; ImportError where it is not installed."""

    def __init__(self) -> None:
        import zstandard

        self._zstd = zstandard
        self._thread = _Thread()

    def decompress(self, data: Buffer, limit: int) -> bytes:
        """See `Backend`."""
        decoder = self._thread.decoder
        if decoder is None:
            decoder = self._thread.decoder = self._zstd.ZstdDecompressor()
        # Room for what the frame says is made before anything is decoded, whatever the limit.
        head = header(data)
        if head.content is not None and head.content > limit:
            raise ZstdError(f"expected at most {limit} bytes, found {head.content}")
        try:
            if head.content == 0:
                # decompress() does not look into a frame that claims to be empty.
                found: bytes = decoder.stream_reader(_empty(data, head)).read(1)
            else:
                found = decoder.decompress(data, max_output_size=max(1, limit), allow_extra_data=True)
        except self._zstd.ZstdError as error:
            raise ZstdError(str(error)) from error
        if len(found) > limit:
            raise ZstdError(f"expected at most {limit} bytes")
        return found

    def pieces(self, read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
        """See `Backend`."""
        decoder = self._zstd.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
        reader = decoder.stream_reader(_Readable(read), read_across_frames=False)  # type: ignore[arg-type]
        try:
            while data := reader.read(size):
                yield data
        except self._zstd.ZstdError as error:
            raise ZstdError(str(error)) from error

    def compress(self, data: Buffer, level: int, *, checksum: bool = True) -> bytes:
        """See `Backend`."""
        if len(data) > _SMALL:
            # A new one for each frame takes no longer, and has no past.
            return self._zstd.ZstdCompressor(level, write_checksum=checksum).compress(data)
        encoders = self._thread.encoders
        if encoders is None:
            encoders = self._thread.encoders = {}
        encoder = encoders.get((level, checksum))
        if encoder is None:
            encoder = encoders[level, checksum] = self._zstd.ZstdCompressor(level, write_checksum=checksum)
        found: bytes = encoder.compress(data)
        return found

    def stream(self, level: int, *, threads: int, job: int) -> Stream:
        """See `Backend`."""
        parameters = self._zstd.ZstdCompressionParameters.from_level(level, threads=threads, job_size=job)
        return self._zstd.ZstdCompressor(compression_params=parameters).compressobj()


def _empty(data: Buffer, head: Header) -> bytes:
    """Return the frame without content that `data` begins with: its header, one block, perhaps a checksum.

    Raise ZstdError where it goes on after its first block (RFC 8878, section 3.1.1.2), or is cut.
    """
    block = int.from_bytes(bytes(memoryview(data)[head.size : head.size + 3]), "little")
    size = 1 if block >> 1 & 3 == 1 else block >> 3
    end = head.size + 3 + size + (4 if head.is_checked else 0)
    if not block & 1 or len(data) < end:
        raise ZstdError("expected a frame without content")
    return bytes(memoryview(data)[:end])


class _Readable(NamedTuple):
    """What the package takes for a file."""

    read: Callable[[int], bytes]


class Standard:
    """libzstd by the standard library (PEP 784); ImportError before Python 3.14."""

    def __init__(self) -> None:
        import importlib

        self._zstd: Any = importlib.import_module("compression.zstd")

    def _decoder(self) -> Any:
        return self._zstd.ZstdDecompressor(options={self._zstd.DecompressionParameter.window_log_max: WINDOW_LOG})

    def decompress(self, data: Buffer, limit: int) -> bytes:
        """See `Backend`."""
        said = header(data).content
        if said is not None and said > limit:
            raise ZstdError(f"expected at most {limit} bytes, found {said}")
        decoder = self._decoder()
        try:
            found: bytes = decoder.decompress(data, limit)
            # The end of a frame has no content, and may still be to be read.
            if not decoder.eof and decoder.decompress(b"", 1):
                raise ZstdError(f"expected at most {limit} bytes")
        except self._zstd.ZstdError as error:
            raise ZstdError(str(error)) from error
        if not decoder.eof:
            raise ZstdError("the data ends in the middle of a frame")
        return found

    def pieces(self, read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
        """See `Backend`."""
        decoder = self._decoder()
        piece = bytearray()
        try:
            while not decoder.eof:
                data = b""
                if decoder.needs_input and not (data := read(_PIECE)):
                    break
                piece += decoder.decompress(data, size - len(piece))
                if len(piece) == size:
                    yield bytes(piece)
                    piece.clear()
        except self._zstd.ZstdError as error:
            raise ZstdError(str(error)) from error
        if piece:
            yield bytes(piece)

    def compress(self, data: Buffer, level: int, *, checksum: bool = True) -> bytes:
        """See `Backend`."""
        parameter = self._zstd.CompressionParameter
        options = {parameter.compression_level: level, parameter.checksum_flag: int(checksum)}
        return bytes(self._zstd.compress(data, options=options))

    def stream(self, level: int, *, threads: int, job: int) -> Stream:
        """See `Backend`."""
        parameter = self._zstd.CompressionParameter
        options = {parameter.compression_level: level, parameter.nb_workers: threads, parameter.job_size: job}
        compressor: Stream = self._zstd.ZstdCompressor(options=options)
        return compressor
