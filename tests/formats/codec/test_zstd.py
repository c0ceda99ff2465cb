"""The structure of zstd; what comes out of it is tested in test_compression.py."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import zstandard

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.codec import zstd
from recipes.formats.codec.compressed import CompressedFile

DATA = b"some text, " * 1000
SKIPPABLE = struct.pack("<II", 0x184D2A53, 5) + b"12345"


def file(data: bytes) -> CompressedFile:
    return CompressedFile("file.zst", "zstd", len(data), lambda offset, count: data[offset : offset + count])


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def test_frames_and_what_is_skipped() -> None:
    one = frame(DATA)
    assert zstd.declared_size(file(one)) == len(DATA)
    assert b"".join(zstd.decompress(file(SKIPPABLE + one + SKIPPABLE + one), 1)) == DATA + DATA
    assert [zstd.is_skippable(SKIPPABLE[:4]), zstd.is_skippable(one[:4])] == [True, False]


def test_a_size_that_is_not_declared() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    data = compressor.compress(DATA) + compressor.flush()
    assert zstd.declared_size(file(data)) is None
    assert b"".join(zstd.decompress(file(data), 1)) == DATA


@pytest.mark.parametrize("cut", [1, 3, 10, 20])
def test_what_is_cut_off(cut: int) -> None:
    with pytest.raises(CorruptImage, match=r"file\.zst"):
        b"".join(zstd.decompress(file(frame(DATA)[:-cut]), 1))


def test_a_checksum_that_does_not_hold() -> None:
    data = bytearray(frame(DATA, write_checksum=True))
    data[-1] ^= 1
    with pytest.raises(CorruptImage):
        b"".join(zstd.decompress(file(bytes(data)), 1))


def test_a_window_larger_than_is_allowed() -> None:
    # Frame_Header_Descriptor 0: a window descriptor follows; exponent 31 is 2 TiB (RFC 8878, 3.1.1.1.2).
    data = b"\x28\xb5\x2f\xfd" + bytes([0, 31 << 3]) + b"\1\0\0"
    with pytest.raises((LimitExceeded, CorruptImage)):
        b"".join(zstd.decompress(file(data), 1))
