"""Decompression of extents: zlib, LZO, zstd.

Specification: btrfs.readthedocs.io, "Compression", and fs/btrfs/zlib.c, lzo.c and zstd.c.
"""

from __future__ import annotations

from recipes.errors import UnsupportedFeature
from recipes.formats.codec import libzstd

from .layout import LZO, ZLIB, ZSTD

_LENGTH = 4


def require(codec: int, name: str) -> None:
    """Raise UnsupportedFeature unless extents of this codec, of the file system `name`, can be decompressed here."""
    if codec not in (ZLIB, LZO, ZSTD):
        raise UnsupportedFeature(f"{name}: btrfs with compression of type {codec} is not supported")
    if codec == LZO:
        try:
            import lzallright  # noqa: F401
        except ImportError:
            raise UnsupportedFeature(
                f"{name}: btrfs with LZO compression takes a package that is not installed",
                hint="pip install 'larder-images[btrfs]', or pip install lzallright",
            ) from None


def decompress(codec: int, data: bytes, size: int, sector: int) -> bytes | bytearray:
    """Return what `data` stands for, at most `size` bytes; behind the stream there may be anything up to the sector.

    Raise ValueError with the reason for what is no such stream, or has more bytes.
    """
    if codec == ZLIB:
        return _zlib(data, size)
    return _zstd(data, size) if codec == ZSTD else _lzo(data, size, sector)


def _zlib(data: bytes, size: int) -> bytearray:
    from deflate import DeflateError, zlib_decompress

    try:
        unpacked: bytearray = zlib_decompress(data, size)
    except DeflateError as error:
        raise ValueError(f"zlib: {error}") from error
    return unpacked


def _zstd(data: bytes, size: int) -> bytes:
    try:
        return libzstd.backend().decompress(data, size)
    except libzstd.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error


def _lzo(data: bytes, size: int, sector: int) -> bytes:
    """Decompress btrfs's own frame: its length, then streams of a sector each, with their lengths in front.

    A length never lies across the end of a sector of `data`: what is left there is skipped (lzo.c, lzo_decompress).
    """
    from lzallright import LZOCompressor, LZOError

    total = int.from_bytes(data[:_LENGTH], "little")
    if not _LENGTH <= total <= len(data):
        raise ValueError(f"LZO: expected at most {len(data)} bytes, found {total}")
    pieces = []
    at = _LENGTH
    for _ in range(-(-size // sector)):
        if (left := sector - at % sector) < _LENGTH:
            at += left
        if at >= total:
            break
        length = int.from_bytes(data[at : at + _LENGTH], "little")
        at += _LENGTH
        if at + length > total:
            raise ValueError(f"LZO: a piece of {length} bytes at {at} of {total}")
        try:
            piece = LZOCompressor.decompress(data[at : at + length], sector)
        except LZOError as error:
            raise ValueError(f"LZO: {error.__class__.__name__}") from error
        if len(piece) > sector:
            raise ValueError(f"LZO: expected {sector} bytes, found {len(piece)}")
        pieces.append(bytes(piece))
        at += length
    return b"".join(pieces)[:size]
