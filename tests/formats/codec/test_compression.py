from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import subprocess
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.codec import xz
from recipes.formats.codec.compression import CODECS, declared_size, decompress, detect, probe_codec
from recipes.formats.io.sparse import CHUNK
from tests.kit.oracles import need

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _content(size: int, seed: int = 1) -> bytes:
    """Text, noise and zeros, a third of each."""
    third = size // 3
    noise = random.Random(seed).randbytes(third)
    text = b"".join(b"line %d of %d\n" % (n, seed) for n in range(third // 16 + 1))[:third]
    return (text + noise).ljust(size, b"\0")


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": _zstd,
}
CONTENT = _content(1_500_000)

each_codec = pytest.mark.parametrize("codec", CODECS)


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., bytes]:
    def unpack(packed: bytes, codec: str, jobs: int = 2) -> bytes:
        path = tmp_path / "wrapper"
        path.write_bytes(packed)
        return b"".join(decompress(path, codec, jobs=jobs))

    return unpack


@each_codec
@pytest.mark.parametrize("content", [CONTENT, b"x", b""], ids=["much", "one", "none"])
def test_round_trip(codec: str, content: bytes, unpack: Callable[..., bytes]) -> None:
    packed = COMPRESS[codec](content)
    assert detect(packed) == codec
    assert unpack(packed, codec) == content


TOOLS = [
    "gzip -1",
    "gzip -9",
    "pigz -9 -p 2 -b 128",
    "pigz -i -p 2",
    "xz -0",
    "xz -9e",
    "xz -T2 --block-size=200KiB",
    "xz -T1 --block-size=200KiB",
    "xz -T1 --block-size=200KiB --check=none",
    "xz -T2 --block-size=200KiB --check=sha256",
    "xz --check=crc32 --x86 --lzma2=preset=3,dict=4KiB",
    "xz -T1 --delta=dist=4 --lzma2=dict=192MiB",
    "bzip2 -1",
    "bzip2 -9",
    "zstd -1",
    "zstd -19 --check",
    "zstd --no-check --no-content-size",
    "zstd --long=27",
    "zstd -T2 --ultra -22",
    "pzstd -p 2",
]


@pytest.mark.parametrize("command", TOOLS)
def test_what_the_tools_write(command: str, unpack: Callable[..., bytes]) -> None:
    tool, *options = command.split()
    need(tool)
    packed = subprocess.run([tool, *options, "-c"], input=CONTENT, stdout=subprocess.PIPE, check=True).stdout
    codec = detect(packed)
    assert codec == {"pigz": "gzip", "pzstd": "zstd"}.get(tool, tool)
    assert unpack(packed, codec) == CONTENT
    if codec == "xz":
        assert unpack(packed, codec, jobs=1) == CONTENT


@each_codec
def test_members_follow_one_another(codec: str, unpack: Callable[..., bytes]) -> None:
    parts = [CONTENT[:100_000], b"", b"middle", CONTENT[500_000:], b""]
    assert unpack(b"".join(map(COMPRESS[codec], parts)), codec) == b"".join(parts)


def test_a_thousand_small_gzip_members(unpack: Callable[..., bytes]) -> None:
    parts = [_content(3000, seed) for seed in range(300)]
    assert unpack(b"".join(map(gzip.compress, parts)), "gzip") == b"".join(parts)


@pytest.mark.parametrize("flags", range(32))
def test_gzip_headers_with_every_optional_field(flags: int, unpack: Callable[..., bytes]) -> None:
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    header += struct.pack("<H", 9000) + bytes(9000) if flags & 4 else b""
    header += b"n" * 70_000 + b"\0" if flags & 8 else b""
    header += b"c" * 30_000 + b"\0" if flags & 16 else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    member = header + gzip.compress(CONTENT)[10:]
    assert unpack(gzip.compress(CONTENT) + member, "gzip") == CONTENT * 2


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
@pytest.mark.parametrize("member", [0, 1])
def test_gzip_flags_that_are_reserved(flag: int, member: int, unpack: Callable[..., bytes]) -> None:
    """What they stand for may change all that follows: gzip(1) refuses them, igzip does not."""
    packed = [bytearray(gzip.compress(CONTENT, mtime=0)) for _ in range(2)]
    packed[member][3] |= flag
    at = member * len(packed[0])
    with pytest.raises(CorruptImage, match=rf"near byte {at} .*: expected the reserved flags to be 0, found {flag:#x}"):
        unpack(b"".join(packed), "gzip")


@pytest.mark.parametrize(
    ("codec", "padding"), [("gzip", 1), ("gzip", 5), ("gzip", 700_000), ("xz", 4), ("xz", 8), ("xz", 700_000)]
)
def test_zeros_between_and_after(codec: str, padding: int, unpack: Callable[..., bytes]) -> None:
    packed = COMPRESS[codec](CONTENT) + bytes(padding)
    assert unpack(packed, codec) == CONTENT
    assert unpack(packed + packed, codec) == CONTENT * 2


def test_skippable_zstd_frames(unpack: Callable[..., bytes]) -> None:
    skip = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 1000) + bytes(1000)
    packed = skip + _zstd(CONTENT) + skip + skip + _zstd(b"end") + skip
    assert detect(packed) == "zstd"
    assert unpack(packed, "zstd") == CONTENT + b"end"


@pytest.mark.parametrize(
    "head", [b"", b"\x1f", b"QFI\xfb\0\0\0\3", bytes(4096), b"\x04\x22\x4d\x18", b"\x5d\0\0\x80\0", b"PK\3\4"]
)
def test_what_is_no_codec_of_ours(head: bytes, tmp_path: Path) -> None:
    assert detect(head) is None
    (tmp_path / "misleading.xz").write_bytes(head)
    assert probe_codec(tmp_path / "misleading.xz") is None


def test_declared_sizes(tmp_path: Path) -> None:
    def declared(packed: bytes, codec: str) -> int | None:
        path = tmp_path / "wrapper"
        path.write_bytes(packed)
        return declared_size(path, codec)

    streamed = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(streamed, closefd=False) as writer:
        writer.write(CONTENT)
    twice = 2 * len(CONTENT)
    assert declared(lzma.compress(CONTENT) * 2, "xz") == twice
    assert declared(lzma.compress(b""), "xz") == 0
    assert declared(_zstd(CONTENT) * 2, "zstd") == twice
    assert declared(_zstd(CONTENT) + streamed.getvalue(), "zstd") is None
    assert declared(gzip.compress(CONTENT), "gzip") is None
    assert declared(bz2.compress(CONTENT), "bzip2") is None


@each_codec
def test_every_truncation_is_an_error(codec: str, unpack: Callable[..., bytes]) -> None:
    packed = COMPRESS[codec](_content(1500))
    for cut in range(4, len(packed)):
        with pytest.raises(CorruptImage, match=f"wrapper: {codec}: near byte"):
            unpack(packed[:cut], codec)


@each_codec
def test_truncations_of_a_large_file(codec: str, unpack: Callable[..., bytes]) -> None:
    packed = COMPRESS[codec](CONTENT)
    for cut in random.Random(2).sample(range(len(packed)), 20):
        with pytest.raises(CorruptImage):
            unpack(packed[:cut], codec)


def _blocks(content: bytes, size: int) -> bytes:
    """Make an XZ file of one stream with blocks of `size` bytes, whose headers do not say how long they are."""
    header = lzma.compress(b"")[:12]
    body = records = b""
    for at in range(0, len(content), size):
        piece = lzma.compress(content[at : at + size])
        index_at = len(piece) - 12 - (int.from_bytes(piece[-8:-4], "little") + 1) * 4
        body += piece[12:index_at]
        records += piece[index_at + 2 : -12 - 4].rstrip(b"\0")
    return header + body + _index(-(-len(content) // size), records)


def _index(count: int, records: bytes) -> bytes:
    """Return an index and a footer for the flags that lzma.compress uses."""
    assert count < 0x80
    index = b"\0" + bytes([count]) + records
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + b"\0\x04"
    return index + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"


@each_codec
def test_no_flipped_bit_changes_the_content(codec: str, unpack: Callable[..., bytes]) -> None:
    content = _content(300)
    packed = _blocks(content, 150) if codec == "xz" else COMPRESS[codec](content)
    refused = 0
    for bit in range(len(packed) * 8):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = unpack(bytes(flipped), codec)
        except ImageError:
            refused += 1
        else:
            # Some bits have no meaning: a gzip header's time, for one.
            assert found == content
    assert refused > len(packed) * 7


@each_codec
def test_something_else_after_the_data_is_an_error(codec: str, unpack: Callable[..., bytes]) -> None:
    packed = COMPRESS[codec](CONTENT)
    for rest in (b"\n", b"garbage!", b"<html></html>\n\n\n", bytes(3) + b"x", b"x" * 300_000):
        with pytest.raises(CorruptImage):
            unpack(packed + rest, codec)


@each_codec
def test_the_right_codec_of_the_wrong_bytes(codec: str, unpack: Callable[..., bytes]) -> None:
    magic = COMPRESS[codec](b"")[:6]
    for size in (0, 1, 100, 10_000, 300_000):
        with pytest.raises(ImageError):
            unpack(magic + random.Random(size).randbytes(size), codec)


def test_blocks_of_xz_come_in_order_until_the_damaged_one(tmp_path: Path) -> None:
    packed = bytearray(_blocks(CONTENT, 100_000))
    # In the noise, which is a third of the content and almost all of the file.
    packed[len(packed) * 3 // 4] ^= 0xFF
    path = tmp_path / "wrapper"
    path.write_bytes(packed)
    chunks: list[bytes] = []
    with pytest.raises(CorruptImage):
        chunks.extend(decompress(path, "xz", jobs=3))
    found = b"".join(chunks)
    assert found[:800_000] == CONTENT[:800_000]
    assert len(found) < 1_000_000


def test_blocks_longer_than_the_room_for_waiting(monkeypatch: pytest.MonkeyPatch, unpack: Callable[..., bytes]) -> None:
    monkeypatch.setattr(xz, "ROOM", 1)
    content = _content(12_000_000)
    assert unpack(_blocks(content, 3_000_000), "xz", jobs=3) == content


def test_an_xz_index_that_lies(unpack: Callable[..., bytes]) -> None:
    packed = lzma.compress(b"a" * 100)
    index_at = len(packed) - 12 - (int.from_bytes(packed[-8:-4], "little") + 1) * 4
    stored, content = packed[index_at + 2], packed[index_at + 3]
    assert content == 100
    assert unpack(packed[:index_at] + _index(1, bytes([stored, 100])), "xz") == b"a" * 100
    for lie in (bytes([stored, 99]), bytes([stored, 101]), bytes([stored - 1, 100]), b"\xff" * 9 + b"\x01\x64"):
        with pytest.raises(CorruptImage):
            unpack(packed[:index_at] + _index(1, lie), "xz")


def test_more_xz_blocks_than_the_limit(monkeypatch: pytest.MonkeyPatch, unpack: Callable[..., bytes]) -> None:
    monkeypatch.setattr(xz, "BLOCK_LIMIT", 8)
    with pytest.raises(LimitExceeded, match="more than 8 blocks"):
        unpack(_blocks(CONTENT, 150_000), "xz")
    with pytest.raises(LimitExceeded, match="more than 8 blocks"):
        unpack(lzma.compress(b"") * 9, "xz")


def test_an_xz_dictionary_beyond_the_limit(unpack: Callable[..., bytes]) -> None:
    packed = bytearray(lzma.compress(CONTENT))
    header = packed[12:24]
    assert header[2:4] == b"\x21\x01"
    header[4] = 40
    packed[12:24] = header[:-4] + struct.pack("<I", zlib.crc32(header[:-4]))
    with pytest.raises(LimitExceeded, match="dictionary"):
        unpack(bytes(packed), "xz")


def test_a_zstd_window_beyond_the_limit(unpack: Callable[..., bytes]) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(32 - 10) << 3]) + b"\x01\0\0"
    with pytest.raises(LimitExceeded, match="window"):
        unpack(frame, "zstd")


def test_a_zstd_dictionary_is_not_supported(unpack: Callable[..., bytes]) -> None:
    trained = zstandard.train_dictionary(2000, [CONTENT[at : at + 300] for at in range(0, 200_000, 300)])
    with pytest.raises(UnsupportedFeature, match=f"dictionary {trained.dict_id()}"):
        unpack(zstandard.ZstdCompressor(dict_data=trained).compress(CONTENT), "zstd")


@each_codec
def test_it_tells_what_it_has_read(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "wrapper"
    path.write_bytes(COMPRESS[codec](CONTENT))
    told: list[int] = []
    for _ in decompress(path, codec, jobs=1, read=told.append):
        pass
    # XZ's index and the ends of its streams are read beforehand.
    assert sum(told) == path.stat().st_size or (codec == "xz" and sum(told) > path.stat().st_size - 64)


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "xz"])
def test_small_pieces_are_handed_on_together(codec: str, tmp_path: Path) -> None:
    """A member of one byte must not cost what a thread takes to hand on a piece."""
    path = tmp_path / "wrapper"
    parts = [CONTENT[at : at + 1 + at % 5] for at in range(2000)] + [CONTENT[:300_000]]
    path.write_bytes(b"".join(map(COMPRESS[codec], parts)))
    pieces = list(decompress(path, codec, jobs=2))
    assert b"".join(pieces) == b"".join(parts)
    assert len(pieces) < 40
    assert max(map(len, pieces)) <= CHUNK


def test_closing_early_leaves_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "wrapper"
    path.write_bytes(_blocks(CONTENT, 100_000))
    before = threading.active_count()
    chunks = decompress(path, "xz", jobs=4)
    assert CONTENT.startswith(next(chunks))
    assert threading.active_count() > before
    chunks.close()
    assert threading.active_count() == before
