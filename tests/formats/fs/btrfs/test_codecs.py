from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from lzallright import LZOCompressor

from recipes.errors import UnsupportedFeature
from recipes.formats.fs.btrfs.codecs import decompress, require
from recipes.formats.fs.btrfs.layout import LZO, UNCOMPRESSED, ZLIB, ZSTD

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 4096
TEXT = b"".join(b"line %d of a text that compresses\n" % number for number in range(4000))[: 128 << 10]


def lzo(data: bytes) -> bytes:
    """Return btrfs's frame: no length lies across the end of a sector."""
    frame = bytearray(4)
    for at in range(0, len(data), SECTOR):
        piece = LZOCompressor().compress(data[at : at + SECTOR])
        if (left := SECTOR - len(frame) % SECTOR) < 4:
            frame += bytes(left)
        frame += len(piece).to_bytes(4, "little") + piece
    frame[:4] = len(frame).to_bytes(4, "little")
    return bytes(frame)


def zstd(data: bytes) -> bytes:
    """Without the size, as Linux writes it."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


PACK: dict[int, Callable[[bytes], bytes]] = {ZLIB: zlib.compress, LZO: lzo, ZSTD: zstd}


@pytest.mark.parametrize("codec", PACK, ids=["zlib", "LZO", "zstd"])
class TestEach:
    @pytest.mark.parametrize("size", [1, 100, SECTOR - 1, SECTOR, SECTOR + 1, len(TEXT)])
    @pytest.mark.parametrize("behind", [b"", b"\0" * 100, b"x" * 100], ids=["nothing", "zeros", "anything"])
    def test_what_was_packed(self, codec: int, size: int, behind: bytes) -> None:
        """Behind the stream there may be anything up to the sector."""
        assert bytes(decompress(codec, PACK[codec](TEXT[:size]) + behind, size, SECTOR)) == TEXT[:size]

    @pytest.mark.parametrize("data", [b"", b"\0", b"x" * 100, bytes(SECTOR)], ids=["0", "1", "100", "a sector"])
    def test_what_is_none(self, codec: int, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"zlib|LZO|zstd"):
            decompress(codec, data, SECTOR, SECTOR)

    def test_what_is_cut_off(self, codec: int) -> None:
        with pytest.raises(ValueError, match=r"zlib|LZO|zstd"):
            decompress(codec, PACK[codec](TEXT)[:500], len(TEXT), SECTOR)

    def test_never_more_than_what_was_said(self, codec: int) -> None:
        if codec == LZO:
            assert decompress(codec, PACK[codec](TEXT), SECTOR, SECTOR) == TEXT[:SECTOR]
        else:
            with pytest.raises(ValueError, match=r"zlib|zstd"):
                decompress(codec, PACK[codec](TEXT), SECTOR, SECTOR)


def test_a_frame_that_says_that_it_is_larger() -> None:
    with pytest.raises(ValueError, match="zstd: expected at most 4096 bytes, found 131072"):
        decompress(ZSTD, zstandard.ZstdCompressor().compress(TEXT), 4096, SECTOR)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        ((200).to_bytes(4, "little"), "expected at most 4 bytes, found 200"),
        ((3).to_bytes(4, "little"), "expected at most 4 bytes, found 3"),
        ((8).to_bytes(4, "little") + (100).to_bytes(4, "little"), "a piece of 100 bytes at 8 of 8"),
        ((12).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"\xff" * 4, "LZO"),
    ],
)
def test_frames_of_lzo_that_are_none(frame: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        decompress(LZO, frame, SECTOR, SECTOR)


def test_a_piece_of_lzo_with_more_than_a_sector() -> None:
    piece = LZOCompressor().compress(bytes(2 * SECTOR))
    frame = (8 + len(piece)).to_bytes(4, "little") + len(piece).to_bytes(4, "little") + piece
    with pytest.raises(ValueError, match="LZO"):
        decompress(LZO, frame, 2 * SECTOR, SECTOR)


class TestWhatIsThere:
    @pytest.mark.parametrize("codec", [ZLIB, LZO, ZSTD])
    def test_what_is_read(self, codec: int) -> None:
        require(codec, "disk")

    @pytest.mark.parametrize("codec", [UNCOMPRESSED, 4, 255])
    def test_what_is_not(self, codec: int) -> None:
        with pytest.raises(UnsupportedFeature, match=f"disk: btrfs with compression of type {codec}"):
            require(codec, "disk")

    def test_a_wheel_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "lzallright", None)
        require(ZSTD, "disk")
        with pytest.raises(UnsupportedFeature, match="LZO") as caught:
            require(LZO, "disk")
        assert "pip install lzallright" in (caught.value.hint or "")
