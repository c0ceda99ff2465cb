"""What a wrapper says of its content, from a few of its bytes: its sizes before it is downloaded or decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipes.formats.archive import read as archive
from recipes.formats.archive.choose import choose
from recipes.formats.codec import compression, libzstd, xz, zstd
from recipes.formats.codec.compressed import READ, CompressedFile
from recipes.formats.disk.table import reader, virtual_size
from recipes.formats.io import probe

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes at the beginning of a wrapper that are enough for most: a decoder's first bite, and headers before it.
HEAD = READ + 4096
#: Of an archive on a server: requests, and bytes of each, that a look at it may cost; bytes of the disk's beginning.
_MOST_READS, _MOST_AT_ONCE, _HEAD_OF_DISK = 40, 1 << 17, 4096
#: What is read of a member to see what it begins with.
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Claims:
    """What a wrapper claims; sizes are bytes, and nothing is verified. None is not known."""

    #: The outer compression, None for none.
    codec: str | None
    #: Of the content, as `probe.detect` names it.
    format: str | None
    content_size: int | None
    #: Of the disk, where the content is a disk image.
    virtual_size: int | None


def read(name: str, size: int, pread: Callable[[int, int], bytes], *, member: str | None = None) -> Claims:
    """Return the claims of a wrapper of `size` bytes, called `name` in errors.

    Of an archive the content is the disk in it that `member` names, see `choose`; the archive itself if `member` is
    None. What a compressed one holds is not known before it is decoded.

    `pread` returns the so many bytes at an offset, fewer at the end. Few are asked for: the beginning, of RAW the end,
    of xz the index, of bzip2 its first block. gzip and bzip2 do not say how much they hold, nor does what pzstd writes.

    Errors: those of `compression.decompress` and `choose`, and whatever `pread` raises.
    """
    head = pread(0, HEAD)
    codec = compression.detect(head)
    if codec is None:
        kind = probe.detect(head)
        if member is not None and kind in archive.FORMATS:
            return _in_archive(_Remote(name, size, pread), kind, member)
        if kind in probe.RAW_FORMATS:
            # VHD and DMG are told by their ends.
            tail_at = max(0, size - probe.TAIL)
            tail = pread(tail_at, probe.TAIL)
            kind = probe.detect(head, tail)
        else:
            tail_at, tail = size, b""
        return Claims(None, kind, size, virtual_size(kind, _sparing(pread, {0: head, tail_at: tail}), size))
    wrapper = CompressedFile(name, codec, size, pread)
    if codec == "zstd":
        content_size, begin = _zstd(wrapper)
    elif codec == "xz":
        content_size, begin = _xz(wrapper)
    else:
        content_size, begin = None, next(compression.CODECS[codec].decompress(wrapper, 1), b"")
    if not begin:
        return Claims(codec, None, content_size, None)
    kind = probe.detect(begin)
    if member is not None and kind in archive.FORMATS:
        return Claims(codec, kind, None, None)
    return Claims(codec, kind, content_size, virtual_size(kind, reader(begin), content_size))


class _EnoughError(Exception):
    """More would have to be read than a look is worth."""


class _Remote:
    """A wrapper that is somewhere else, as a `Source`."""

    def __init__(self, name: str, size: int, pread: Callable[[int, int], bytes]) -> None:
        self.name, self.size = name, size
        self._pread = pread
        self._reads = 0

    def readinto(self, view: memoryview, offset: int) -> int:
        """Fill `view`, see `Source`; each call asks the server."""
        self._reads += 1
        if self._reads > _MOST_READS:
            raise _EnoughError
        data = self._pread(offset, min(len(view), _MOST_AT_ONCE))
        view[: len(data)] = data
        return len(data)

    def fileno(self) -> None:
        """Return None: it is in no file."""


def _in_archive(source: _Remote, form: str, member: str) -> Claims:
    """Return what an archive says of the disk in it: nothing if it has many members, or is none."""
    try:
        found = choose(archive.members(source, form, stored=source.size, piece=_PIECE), source.name, member).member
        head = found.head(_HEAD_OF_DISK)
    except _EnoughError:
        return Claims(None, form, None, None)
    kind = probe.detect(head)
    return Claims(None, kind, found.size, virtual_size(kind, reader(head), found.size))


def _sparing(pread: Callable[[int, int], bytes], known: dict[int, bytes]) -> Callable[[int, int], bytes]:
    """Return a `pread` that asks for nothing that is in `known`, pieces by their offsets."""

    def read(offset: int, count: int) -> bytes:
        for at, piece in known.items():
            if at <= offset and offset + count <= at + len(piece):
                return piece[offset - at : offset - at + count]
        return pread(offset, count)

    return read


def _xz(wrapper: CompressedFile) -> tuple[int, bytes]:
    """Return the content's size and its beginning; `xz.decompress` would look at each block first."""
    blocks = xz.blocks(wrapper)
    first = next((block for block in blocks if block.content), None)
    return sum(block.content for block in blocks), next(xz.decode(wrapper, first)) if first else b""


def _zstd(wrapper: CompressedFile) -> tuple[int | None, bytes]:
    """Return the content's size and its beginning.

    The size is the first frame's, and only a walk along all its blocks would tell whether another frame follows. One
    that is much too small for the wrapper is no answer (pzstd and the seekable format cut the content into frames).
    """
    start = 0
    magic = wrapper.at(0, 8)
    if zstd.is_skippable(magic[:4]):
        start = 8 + int.from_bytes(magic[4:], "little")
    head = wrapper.at(start, max(1, min(READ, wrapper.size - start)))
    given = iter((head,))
    try:
        size = libzstd.header(head).content
        begin = next(libzstd.backend().pieces(lambda _: next(given, b""), probe.HEAD), b"")
    except libzstd.ZstdError as error:
        raise wrapper.corrupt(start, str(error)) from error
    if size is None or wrapper.size > _compress_bound(size):
        return None, begin
    return size, begin


def _compress_bound(size: int) -> int:
    """Return the most bytes that a frame with `size` bytes of content has: zstd.h, ZSTD_COMPRESSBOUND."""
    return size + (size >> 8) + (max(0, (128 << 10) - size) >> 11) + 64
