from __future__ import annotations

import lzma
import random
import subprocess
import threading
from functools import cache
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.codec import compression, xz
from recipes.formats.codec.compressed import CompressedFile
from tests.kit.oracles import need

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1 << 20
_CONTENT = random.Random(3).randbytes(300_000) + bytes(2 * _MIB) + b"some text\n" * 90_000 + bytes(3)


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class _Late:
    """A file of which only so much is there until somebody has waited for more."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = data
        self._step = step
        self._there = step
        self.furthest = 0

    def pread(self, offset: int, count: int) -> bytes:
        self._there = max(self._there, min(offset + count, len(self._data)))
        return self._data[offset : offset + count]

    def arrived(self, stop: int) -> bool:
        if stop <= self._there:
            return True
        self._there = min(len(self._data), self._there + self._step)
        return False


def _decode(data: bytes, jobs: int = 2, step: int = 10_000) -> bytes:
    late = _Late(data, step)
    wrapper = CompressedFile("late", "xz", len(data), late.pread, arrived=late.arrived)
    return b"".join(compression.arriving(wrapper, jobs=jobs))


@cache
def _xz(content: bytes, *options: str) -> bytes:
    need("xz")
    return subprocess.run(["xz", "-c", *options], input=content, capture_output=True, check=True).stdout


each_encoder = pytest.mark.parametrize(
    "options",
    [
        ("-0",),
        ("-1", "-T1", "--block-size=1MiB"),
        ("-1", "-T2", "--block-size=1MiB"),
        ("-1", "--check=none"),
        ("-1", "--check=sha256", "--block-size=700KiB"),
        ("--x86", "--lzma2=preset=1", "--block-size=1MiB"),
        ("--delta=dist=4", "--lzma2=preset=1"),
    ],
    ids=" ".join,
)


@each_encoder
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("content", [_CONTENT, b"a", b""], ids=len)
def test_what_xz_writes(options: tuple[str, ...], jobs: int, content: bytes) -> None:
    packed = _xz(content, *options)
    if len(content) < 10:
        assert _decode(packed, jobs) == content
    # Streams one after another, with padding between them.
    assert _decode(packed + bytes(8) + packed + bytes(4), jobs) == content * 2


@each_encoder
def test_a_cut_file_is_refused_wherever_it_is_cut(options: tuple[str, ...]) -> None:
    packed = _xz(_CONTENT[:400_000], *options)
    for stop in (1, 11, 12, 13, 24, 40, len(packed) // 2, len(packed) - 13, len(packed) - 12, len(packed) - 1):
        with pytest.raises(CorruptImage):
            _decode(packed[:stop])


@pytest.mark.long
@each_encoder
def test_no_changed_byte_passes_for_other_content(options: tuple[str, ...]) -> None:
    content = _CONTENT[:60_000] + b"some text\n" * 2000
    packed = _xz(content, *options)
    source = random.Random(5)
    for _ in range(150):
        at = source.randrange(len(packed))
        changed = bytearray(packed)
        changed[at] ^= 1 << source.randrange(8)
        try:
            found = _decode(bytes(changed), jobs=1)
        except (CorruptImage, LimitExceeded):
            continue
        # Without a check, data is data.
        assert "--check=none" in options or found == content, at


def test_it_is_read_forwards() -> None:
    """What has not arrived is never asked for before what stands in front of it was taken."""
    packed = _xz(_CONTENT, "-1", "-T1", "--block-size=1MiB")
    furthest = 0

    def pread(offset: int, count: int) -> bytes:
        nonlocal furthest
        assert offset <= furthest + 128 * 1024
        furthest = max(furthest, offset + count)
        return packed[offset : offset + count]

    wrapper = CompressedFile("late", "xz", len(packed), pread)
    assert b"".join(compression.arriving(wrapper, jobs=1)) == _CONTENT


def test_an_index_that_lists_other_blocks() -> None:
    one, two = _xz(b"a" * 1000), _xz(b"b" * 2000)
    # The blocks of one with the index and footer of the other.
    block = one[xz.EDGE : len(one) - len(xz.stream_end([(1, 1)], b"\0\4")) - 4]
    index = two.rfind(b"\0\1", xz.EDGE)
    with pytest.raises(CorruptImage):
        _decode(one[: xz.EDGE] + block + two[index:])


def test_a_later_block_with_a_larger_dictionary_waits_for_the_whole_file() -> None:
    small, large = _xz(b"a" * 1000, "-0"), _xz(b"b" * 1000, "-9")
    with pytest.raises(CorruptImage, match="larger dictionary"):
        _decode(small + large)
    assert lzma.decompress(small + large) == b"a" * 1000 + b"b" * 1000
