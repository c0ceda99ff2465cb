from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

import pytest
import zstandard

from recipes.errors import CorruptImage
from recipes.formats.disk.qcow2.inflate import inflater

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.disk.qcow2.image import Qcow2

SIZE = 1 << 16
DATA = b"".join(b"line %d\n" % number for number in range(9000))[:SIZE]
Codec = Literal["zlib", "zstd"]


def inflate(codec: Codec) -> Callable[[memoryview, int], bytes | bytearray]:
    image = SimpleNamespace(
        header=SimpleNamespace(cluster_size=SIZE, compression=codec),
        corrupt=lambda message: CorruptImage(f"disk: {message}"),
    )
    return inflater(cast("Qcow2", image))


def pack(codec: Codec, data: bytes, *, sized: bool = False) -> bytes:
    if codec == "zlib":
        packer = zlib.compressobj(9, zlib.DEFLATED, -12)
        return packer.compress(data) + packer.flush()
    return zstandard.ZstdCompressor(write_content_size=sized).compress(data)


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
class TestEither:
    @pytest.mark.parametrize("behind", [b"", b"\0" * 511, b"next cluster"])
    def test_a_cluster(self, codec: Codec, behind: bytes) -> None:
        assert bytes(inflate(codec)(memoryview(pack(codec, DATA) + behind), 0)) == DATA

    def test_again_and_again(self, codec: Codec) -> None:
        function = inflate(codec)
        for data in (DATA, bytes(SIZE), DATA[::-1]):
            assert bytes(function(memoryview(pack(codec, data)), 0)) == data

    @pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1, 4 * SIZE])
    def test_another_size(self, codec: Codec, size: int) -> None:
        data = (DATA * 4)[:size]
        with pytest.raises(CorruptImage, match="disk: the compressed cluster at guest offset 65536 "):
            inflate(codec)(memoryview(pack(codec, data)), 65536)

    @pytest.mark.parametrize("stored", [b"", b"\0", b"\xff" * 100])
    def test_what_is_none(self, codec: Codec, stored: bytes) -> None:
        with pytest.raises(CorruptImage, match="at guest offset 7 "):
            inflate(codec)(memoryview(stored), 7)

    def test_what_is_cut_off(self, codec: Codec) -> None:
        packed = pack(codec, DATA)
        with pytest.raises(CorruptImage, match="at guest offset 0 "):
            inflate(codec)(memoryview(packed[: len(packed) // 2]), 0)


def test_a_frame_that_claims_its_size() -> None:
    assert bytes(inflate("zstd")(memoryview(pack("zstd", DATA, sized=True)), 0)) == DATA
    with pytest.raises(CorruptImage, match="claims 131072 bytes instead of 65536"):
        inflate("zstd")(memoryview(pack("zstd", DATA * 2, sized=True)), 0)
