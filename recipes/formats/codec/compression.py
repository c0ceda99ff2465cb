"""The outer compression of a download: recognised by its magic, undone as a stream, checked to its end.

A file is a sequence of members, streams or frames of one codec and nothing else. Data that is cut, that fails its own
checksum or that is followed by something else is an error, for every codec: what gzip(1) and bzip2(1) ignore with a
warning is most often a download gone wrong. Zeros after a gzip member are padding, as for gzip(1).
"""

from __future__ import annotations

import bz2
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from recipes.errors import LimitExceeded
from recipes.formats.io import probe
from recipes.formats.io.memory import keep_freed
from recipes.formats.io.sparse import CHUNK

from . import xz, xz_arriving, zstd
from .compressed import READ, ignore, open_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .compressed import CompressedFile

#: Members of gzip and streams of bzip2 that hold nothing: each takes as long as some KiB of content. BGZF has one.
EMPTY_MEMBERS = 1 << 20
#: Bytes of a window that every decoder of zstd should take (RFC 8878, section 3.1.1.1.2).
_MODEST = 8 << 20
#: Bytes that are worth to be handed on.
_SMALL = 16 << 10


def detect(head: bytes) -> str | None:
    """Name the codec of a file that begins with `head`, as much of it as is at hand; None where it is none of ours."""
    name = probe.detect(head)
    return name if name in CODECS else None


def probe_codec(path: Path) -> str | None:
    """Name the codec of the file at `path`, as `detect` does."""
    with path.open("rb") as file:
        return detect(file.read(probe.HEAD))


def declared_size(path: Path, codec: str) -> int | None:
    """Return the bytes of content that `path` declares, without decoding any; None where it does not say.

    Errors: as `decompress`.
    """
    with open_wrapper(path, codec) as wrapper:
        return CODECS[codec].declared_size(wrapper)


def decompress(path: Path, codec: str, *, jobs: int, read: Callable[[int], None] = ignore) -> Generator[bytes]:
    """Yield the content of `path` in order, in pieces of at most `CHUNK` bytes.

    `jobs` is the number of threads for what can be decoded in parallel: the blocks of xz. `read` is told the bytes of
    the wrapper as they are consumed, from any thread. Close the iterator to stop early. What was yielded before an
    error is not to be trusted: checksums come last. Memory is bounded by a few `CHUNK` and `xz.MEMORY_LIMIT`,
    the larger one.

    Errors: `CorruptImage` with the place in the file; `LimitExceeded` for windows too large (`xz.MEMORY_LIMIT`,
    `zstd.WINDOW_LIMIT`), and for more members, blocks and frames without content than any encoder makes;
    `UnsupportedFeature`.
    """
    with open_wrapper(path, codec, read) as wrapper:
        yield from content(wrapper, jobs=jobs)


def content(wrapper: CompressedFile, *, jobs: int) -> Generator[bytes]:
    """Yield the content of `wrapper`, which need not be a whole file, as `decompress` does."""
    keep_freed()
    yield from _gathered(CODECS[wrapper.codec].decompress(wrapper, jobs))


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, small pieces joined to larger ones, of at most `CHUNK` bytes still.

    To hand a piece to another thread takes ten times as long as to decode a member of one byte.
    """
    held = bytearray()
    try:
        for chunk in chunks:
            if held and len(held) + len(chunk) > CHUNK:
                yield bytes(held)
                held.clear()
            if not held and len(chunk) >= _SMALL:
                yield chunk
                continue
            held += chunk
            if len(held) >= _SMALL:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)
    finally:
        # The threads of a decoder end with it.
        if isinstance(chunks, Generator):
            chunks.close()


def arriving(wrapper: CompressedFile, *, jobs: int) -> Generator[bytes]:
    """Yield the content of `wrapper`, as `decompress` does, while it is still on its way: it is read forwards only."""
    keep_freed()
    yield from _gathered(CODECS[wrapper.codec].arriving(wrapper, jobs))


def is_greedy(wrapper: CompressedFile) -> bool:
    """Say whether decoding `wrapper` may take so much memory that nothing else should be decoded meanwhile."""
    if wrapper.codec == "zstd":
        return any(frame.window > _MODEST for frame in zstd.frames(wrapper))
    return wrapper.codec == "xz"


#: Of a gzip member's flags: what they stand for may change all that follows (RFC 1952, 2.3.1.2). igzip ignores them.
_GZIP_RESERVED = 0xE0


class _Decoder(Protocol):
    """What the standard library's decoders and igzip have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _gunzip(wrapper: CompressedFile, _: int) -> Iterator[bytes]:
    from isal import igzip_lib

    def new() -> _Decoder:
        decoder: _Decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return decoder

    # isal's stub takes the class for an instance.
    failure = cast("type[Exception]", igzip_lib.IsalError)
    return _members(wrapper, b"\x1f\x8b", new, failure, padding=b"\0", reserved=_GZIP_RESERVED)


def _bunzip2(wrapper: CompressedFile, _: int) -> Iterator[bytes]:
    return _members(wrapper, b"BZh", bz2.BZ2Decompressor, OSError)


def _undeclared(_: CompressedFile) -> None:
    """bzip2 does not say, and gzip's trailer holds the last member's size modulo 4 GiB."""


def _members(
    wrapper: CompressedFile,
    magic: bytes,
    new: Callable[[], _Decoder],
    failure: type[Exception],
    *,
    padding: bytes | None = None,
    reserved: int = 0,
) -> Iterator[bytes]:
    """Decode one member after another; `failure` is what a decoder raises, `padding` may stand between members.

    The bits `reserved` of a member's fourth byte must be zero.
    """
    offset = members = 0
    data = b""
    while True:
        # A member begins with a full buffer: igzip misreads gzip headers that arrive in pieces.
        more = wrapper.take(offset, min(wrapper.size, offset + READ - len(data)))
        offset += len(more)
        data += more
        if padding and offset > len(data):
            data = data.lstrip(padding)
        if not data:
            if offset == wrapper.size:
                return
            continue
        if not data.startswith(magic):
            raise wrapper.corrupt(offset - len(data), f"expected the end of the file, found {data[:4].hex()}")
        if data[3:4] and data[3] & reserved:
            raise wrapper.corrupt(offset - len(data), f"expected the reserved flags to be 0, found {data[3]:#x}")
        decoder = new()
        found = 0
        while not decoder.eof:
            try:
                content = decoder.decompress(data, CHUNK)
            except failure as error:
                raise wrapper.corrupt(offset, str(error)) from error
            if content:
                found += len(content)
                yield content
            data = b""
            if decoder.needs_input and not decoder.eof:
                if offset == wrapper.size:
                    raise wrapper.truncated()
                data = wrapper.take(offset, wrapper.size)
                offset += len(data)
        data = decoder.unused_data
        members += not found
        if members > EMPTY_MEMBERS:
            raise LimitExceeded(f"{wrapper.path}: {wrapper.codec}: more than {EMPTY_MEMBERS} members without content")


class Codec(NamedTuple):
    """How to read one codec; all functions raise what the public ones say."""

    #: Bytes of content that the wrapper declares; None where it does not say.
    declared_size: Callable[[CompressedFile], int | None]
    #: The content of the wrapper, with so many threads.
    decompress: Callable[[CompressedFile, int], Iterator[bytes]]
    #: The same, while the wrapper arrives.
    arriving: Callable[[CompressedFile, int], Iterator[bytes]]


#: By the names that `probe.detect` gives.
CODECS = {
    "gzip": Codec(_undeclared, _gunzip, _gunzip),
    "xz": Codec(xz.declared_size, xz.decompress, xz_arriving.decompress),
    "bzip2": Codec(_undeclared, _bunzip2, _bunzip2),
    "zstd": Codec(zstd.declared_size, zstd.decompress, zstd.decompress),
}
