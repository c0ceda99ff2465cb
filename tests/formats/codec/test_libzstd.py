"""libzstd by either module; the one of the standard library is its backport where Python has none yet."""

from __future__ import annotations

import importlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from recipes.formats.codec import libzstd
from recipes.formats.codec.libzstd import Backend, Header, Package, Standard, ZstdError, header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MiB = 1 << 20
#: What compresses by half.
TEXT = random.Random(1).randbytes(MiB // 2).hex().encode()


@pytest.fixture(autouse=True)
def standard(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info < (3, 14):
        module = pytest.importorskip("backports.zstd", reason="needs backports.zstd")
        monkeypatch.setitem(sys.modules, "compression", importlib.import_module("backports"))
        monkeypatch.setitem(sys.modules, "compression.zstd", module)


@pytest.fixture(params=["zstandard", "compression.zstd"])
def backend(request: pytest.FixtureRequest, standard: None) -> Backend:
    if request.param == "zstandard":
        pytest.importorskip("zstandard", reason="has no wheels for this Python")
        return Package()
    return Standard()


def both() -> tuple[Backend, Backend]:
    pytest.importorskip("zstandard", reason="has no wheels for this Python")
    return Package(), Standard()


def feed(data: bytes) -> Callable[[int], bytes]:
    at = 0

    def read(count: int) -> bytes:
        nonlocal at
        piece = data[at : at + min(count, 70_001)]
        at += len(piece)
        return piece

    return read


class TestOneFrame:
    @pytest.mark.parametrize("content", [b"", b"x", bytes(5 * MiB), TEXT], ids=["nothing", "byte", "zeros", "text"])
    def test_comes_back(self, backend: Backend, content: bytes) -> None:
        frame = backend.compress(content, 3)
        assert header(frame)[2:] == (len(content), 0, True)
        assert backend.decompress(frame, len(content)) == content
        assert backend.decompress(memoryview(frame + b"behind it"), len(content) + 1) == content
        assert b"".join(backend.pieces(feed(frame), MiB)) == content

    def test_has_pieces_of_a_size(self, backend: Backend) -> None:
        frame = backend.compress(TEXT + b"end", 3)
        assert [len(piece) for piece in backend.pieces(feed(frame), MiB // 4)] == [MiB // 4] * 4 + [3]

    @pytest.mark.parametrize("sized", [True, False])
    def test_with_more_than_the_limit(self, backend: Backend, sized: bool) -> None:
        frame = backend.compress(TEXT, 3)
        if not sized:
            stream = backend.stream(3, threads=0, job=0)
            frame = stream.compress(TEXT) + stream.flush()
            assert header(frame).content is None
        assert backend.decompress(frame, len(TEXT)) == TEXT
        with pytest.raises(ZstdError):
            backend.decompress(frame, len(TEXT) - 1)

    def test_that_is_cut(self, backend: Backend) -> None:
        frame = backend.compress(TEXT, 3)
        for length in (0, 3, 5, 9, 200, len(frame) - 1):
            with pytest.raises(ZstdError):
                backend.decompress(frame[:length], len(TEXT))

    def test_that_is_damaged(self, backend: Backend) -> None:
        frame = bytearray(backend.compress(TEXT, 3))
        frame[-1] ^= 1
        with pytest.raises(ZstdError):
            backend.decompress(frame, len(TEXT))
        with pytest.raises(ZstdError):
            list(backend.pieces(feed(bytes(frame)), MiB))
        assert backend.decompress(backend.compress(b"after it", 3), 8) == b"after it"

    def test_that_claims_to_be_empty(self, backend: Backend) -> None:
        for content in (b"xx", TEXT):
            frame = bytearray(backend.compress(content, 3))
            head = header(frame)
            del frame[5 : head.size]
            frame[4:5] = bytes([frame[4] & 0x04 | 0x20, 0])
            assert header(frame).content == 0
            with pytest.raises(ZstdError):
                backend.decompress(frame, MiB)

    def test_whose_window_is_beyond_the_limit(self, backend: Backend) -> None:
        # A descriptor without size and checksum, a window of 256 MiB, and an empty block.
        frame = libzstd.MAGIC + bytes([0, 18 << 3]) + (1).to_bytes(3, "little")
        assert header(frame).window == 256 * MiB
        with pytest.raises(ZstdError):
            list(backend.pieces(feed(frame), MiB))
        with pytest.raises(ZstdError):
            backend.decompress(frame, MiB)


class TestBoth:
    @pytest.mark.parametrize("level", [1, 3, pytest.param(19, marks=pytest.mark.long)])
    def test_write_the_same_frame(self, level: int) -> None:
        one, other = both()
        assert one.compress(TEXT, level) == other.compress(TEXT, level)

    @pytest.mark.parametrize("threads", [1, 4])
    def test_write_the_same_stream(self, threads: int) -> None:
        def written(backend: Backend) -> bytes:
            stream = backend.stream(3, threads=threads, job=MiB)
            return b"".join([*(stream.compress(TEXT) for _ in range(8)), stream.flush()])

        one, other = map(written, both())
        assert one == other

    def test_read_headers_as_larder_does(self) -> None:
        zstandard = pytest.importorskip("zstandard", reason="has no wheels for this Python")
        seen = set()
        for frame in frames():
            seen.add(frame[4])
            found = zstandard.get_frame_parameters(frame)
            content = None if found.content_size == zstandard.CONTENTSIZE_UNKNOWN else found.content_size
            expected = Header(
                zstandard.frame_header_size(frame), found.window_size, content, found.dict_id, found.has_checksum
            )
            assert header(frame) == expected, frame[:18].hex()
        assert len(seen) > 100


def frames() -> Iterator[bytes]:
    """Yield headers of every descriptor that is none of the reserved ones, with whatever behind it."""
    noise = random.Random(2)
    for descriptor in range(256):
        if not descriptor & 0x08:
            # Windows of up to 1 GiB, and sizes of as much as a file has.
            rest = bytes([noise.randrange(20) << 3 | noise.randrange(8)]) + noise.randbytes(12)
            yield libzstd.MAGIC + bytes([descriptor]) + rest


@pytest.mark.parametrize(
    "data", [b"", b"zstd", libzstd.MAGIC, libzstd.MAGIC + b"\xc0\x00\x00", libzstd.MAGIC + b"\x08\0\0"]
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ZstdError):
        header(data)


def test_the_package_goes_first_and_the_standard_library_serves_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zstandard", reason="has no wheels for this Python")
    libzstd.backend.cache_clear()
    try:
        assert isinstance(libzstd.backend(), Package)
        libzstd.backend.cache_clear()
        monkeypatch.setitem(sys.modules, "zstandard", None)
        assert isinstance(libzstd.backend(), Standard)
    finally:
        libzstd.backend.cache_clear()


def test_a_frame_does_not_depend_on_those_before_it(backend: Backend) -> None:
    """Encoders of small frames are used again; equal disks have to give equal files, for any number of threads."""
    rng = random.Random(5)
    words = [rng.randbytes(rng.randrange(1, 40)) for _ in range(200)]
    pieces = [b"".join(rng.choices(words, k=rng.randrange(1, 4000)))[: 1 << 16] for _ in range(60)]
    pieces += [rng.randbytes(1 << 16), bytes(1 << 16), b"a"]
    fresh = []
    for piece in pieces:
        with ThreadPoolExecutor(1) as pool:
            fresh.append(pool.submit(backend.compress, piece, 3, checksum=False).result())
    rng.shuffle(order := list(range(len(pieces))))
    for at in order:
        assert backend.compress(pieces[at], 3, checksum=False) == fresh[at]
        assert len(backend.compress(pieces[at], 3)) == len(fresh[at]) + 4, "a checksum is asked for each time"
