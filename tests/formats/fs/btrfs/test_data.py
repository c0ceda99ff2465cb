from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs import data as btrfs_data
from recipes.formats.fs.btrfs.data import Compressed, Decompressor, Stored, Where
from recipes.formats.fs.btrfs.layout import ZLIB
from recipes.formats.fs.btrfs.sums import Sums
from recipes.formats.io.source import read
from tests.kit.btrfs_volumes import FIRST, LENGTH, LOGICAL, SIZE, volume

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs.volume import Volume

DATA = b"".join(bytes([number]) * SIZE for number in range(1, 5))
TEXT = b"".join(b"line %d\n" % number for number in range(1000))
BAD = b"damaged"
PACKED = zlib.compress(TEXT).ljust(SIZE, b"\0")


class Judge(Sums):
    """Checksums that hold for what has no `BAD` in it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def hold(self, logical: int, data: bytes) -> bool:
        self.asked.append((logical, len(data)))
        return BAD not in data


def stored(made: Volume) -> tuple[Stored, Judge]:
    judge = Judge()
    return Stored(made, judge), judge


class TestStored:
    @pytest.mark.parametrize(("at", "length"), [(0, 1), (0, SIZE), (SIZE - 1, 2), (5, 3 * SIZE), (4 * SIZE - 1, 1)])
    def test_any_bytes_and_the_sums_of_whole_sectors(self, at: int, length: int) -> None:
        source, judge = stored(volume({LOGICAL: DATA}))
        assert read(source, LOGICAL + at, length) == DATA[at : at + length]
        first = at // SIZE * SIZE
        assert judge.asked == [(LOGICAL + first, -(-(at + length) // SIZE) * SIZE - first)]

    def test_the_second_copy(self) -> None:
        source, _ = stored(volume({LOGICAL: BAD + DATA[len(BAD) :]}, second={LOGICAL: DATA}))
        assert read(source, LOGICAL, 10) == DATA[:10]

    def test_no_copy(self) -> None:
        source, judge = stored(volume({LOGICAL: BAD + DATA[len(BAD) :]}))
        with pytest.raises(CorruptImage, match=f"the data at {LOGICAL:#x} is not what its checksums say"):
            read(source, LOGICAL, 10)
        assert len(judge.asked) == 2

    @pytest.mark.parametrize("at", [0, LOGICAL - SIZE, LOGICAL + LENGTH, LOGICAL + LENGTH - 1])
    def test_where_no_chunk_is(self, at: int) -> None:
        source, _ = stored(volume())
        with pytest.raises(CorruptImage, match="no chunk"):
            read(source, at, SIZE + 1)

    def test_it_is_in_no_file(self) -> None:
        assert stored(volume())[0].fileno() is None


def packed(data: bytes = PACKED, size: int = len(TEXT)) -> Compressed:
    made = volume({LOGICAL: data})
    return Compressed(Decompressor(made, stored(made)[0]), Where(LOGICAL, inline=False), SIZE, size, ZLIB)


class TestCompressed:
    @pytest.mark.parametrize(("at", "length"), [(0, 1), (0, len(TEXT)), (100, 50), (len(TEXT) - 1, 1)])
    def test_any_bytes(self, at: int, length: int) -> None:
        assert read(packed(), at, length) == TEXT[at : at + length]

    def test_nothing_is_behind_its_end(self) -> None:
        view = bytearray(b"x" * 10)
        extent = packed()
        assert extent.readinto(memoryview(view), len(TEXT) - 4) == 4
        assert view == TEXT[-4:] + b"x" * 6
        assert extent.readinto(memoryview(view), len(TEXT)) == 0

    def test_what_was_not_written_are_zeros(self) -> None:
        """What was compressed ended with the file, the extent does with its sector."""
        extent = packed(size=3 * SIZE)
        assert read(extent, 0, 3 * SIZE) == TEXT.ljust(3 * SIZE, b"\0")
        assert read(extent, len(TEXT) + 100, 10) == bytes(10)

    def test_what_another_reference_says(self) -> None:
        extent = packed()
        assert extent.matches(SIZE, len(TEXT), ZLIB)
        assert not extent.matches(SIZE, len(TEXT) + 1, ZLIB)
        assert not extent.matches(SIZE - 1, len(TEXT), ZLIB)
        assert not extent.matches(SIZE, len(TEXT), ZLIB + 1)

    def test_what_cannot_be_decompressed(self) -> None:
        with pytest.raises(CorruptImage, match=f"compressed data at {LOGICAL:#x} cannot be decompressed: zlib"):
            read(packed(b"x" * SIZE), 0, 1)


def test_what_is_in_a_node_is_read_from_the_device() -> None:
    made = volume({LOGICAL + 100: zlib.compress(b"inline")})
    found = Decompressor(made, stored(made)[0])
    size = len(zlib.compress(b"inline"))
    assert bytes(found.decompress(Where(FIRST + 100, inline=True), size, 6, ZLIB)) == b"inline"
    with pytest.raises(CorruptImage, match="compressed data at 0 of the disk"):
        found.decompress(Where(0, inline=True), size, 6, ZLIB)


def test_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btrfs_data, "KEPT", 2)
    made = volume({LOGICAL: PACKED})
    source, judge = stored(made)
    decompressor = Decompressor(made, source)
    one, two, three = (Compressed(decompressor, Where(LOGICAL, inline=False), SIZE, len(TEXT), ZLIB) for _ in range(3))
    for extent, times in ((one, 1), (two, 2), (one, 2), (three, 3), (one, 3), (two, 4), (three, 5)):
        read(extent, 0, 10)
        assert len(judge.asked) == times
