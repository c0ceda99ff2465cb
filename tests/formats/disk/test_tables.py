from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.disk.image import Extent
from recipes.formats.disk.tables import Places, TableImage
from recipes.formats.io import bounds
from recipes.formats.io.sparse import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipes.formats.disk.tables import Word

    Make = Callable[..., "Thing"]

UNIT = 1 << 16
MiB = 1 << 20


class Thing(TableImage):
    """A format whose tables say this."""

    title = "THING"
    format = "thing"
    size = 1 << 40

    def __init__(self, fd: int, path: Path, pieces: list[Extent]) -> None:
        super().__init__(fd, path)
        self.pieces = pieces
        self.walks = 0

    def _pieces(self) -> Iterator[Extent]:
        self.walks += 1
        yield from self.pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.thing"
    path.write_bytes(bytes([1]) * (8 * UNIT))
    return path


@pytest.fixture
def image(path: Path) -> Iterator[Make]:
    """Return what opens the file at `path` with these pieces."""
    with ExitStack() as stack:

        def make(*pieces: Extent) -> Thing:
            return Thing(stack.enter_context(path.open("rb")).fileno(), path, list(pieces))

        yield make


def piece(guest: int, host: int, length: int = UNIT, stored: int = 0) -> Extent:
    return Extent(guest, length, host, stored)


class TestExtents:
    def test_neighbours_in_both_are_one(self, image: Make) -> None:
        found = image(piece(0, UNIT), piece(UNIT, 2 * UNIT), piece(2 * UNIT, 5 * UNIT), piece(4 * UNIT, 6 * UNIT))
        assert list(found.extents()) == [
            piece(0, UNIT, 2 * UNIT),
            piece(2 * UNIT, 5 * UNIT),
            piece(4 * UNIT, 6 * UNIT),
        ]

    def test_what_is_compressed_stays_a_unit(self, image: Make) -> None:
        pieces = [
            piece(0, 0),
            piece(UNIT, UNIT, stored=100),
            piece(2 * UNIT, UNIT + 100, stored=50),
            piece(3 * UNIT, UNIT),
        ]
        assert list(image(*pieces).extents()) == pieces

    def test_holes_of_the_file_are_left_out(self, path: Path, image: Make) -> None:
        with path.open("r+b") as file:
            file.truncate(32 * MiB)
            file.seek(20 * MiB)
            file.write(b"data")
        found = list(image(piece(0, 0, 32 * MiB)).extents())
        assert sum(extent.length for extent in found) < 4 * MiB
        assert any(extent.guest <= 20 * MiB < extent.guest + extent.length for extent in found)
        assert all(extent.guest == extent.host for extent in found)

    def test_no_more_data_than_the_file_has(self, image: Make) -> None:
        shared = [piece(number * UNIT, 0) for number in range(9)]
        assert len(list(image(*shared[:8]).extents())) == 8
        with pytest.raises(CorruptImage, match="name more data than the file has room for"):
            list(image(*shared).extents())

    def test_no_more_compressed_data_than_is_paid_for(self, image: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "FREE_CONTENT", 10 * UNIT)
        monkeypatch.setattr(bounds, "EXPANSION", 0)
        bomb = [piece(number * UNIT, 0, stored=10) for number in range(11)]
        assert len(list(image(*bomb[:10]).extents())) == 10
        with pytest.raises(LimitExceeded, match=f"hold more than {10 * UNIT} bytes"):
            list(image(*bomb).extents())

    def test_the_size_of_the_data_is_asked_for_once(self, image: Make) -> None:
        found = image(piece(0, UNIT), piece(2 * UNIT, 3 * UNIT, stored=9))
        assert found.data_size == 2 * UNIT
        assert found.data_size == 2 * UNIT
        assert len(list(found.extents())) == 2
        assert found.walks == 1

    def test_nothing(self, image: Make) -> None:
        found = image()
        assert list(found.extents()) == []
        assert found.data_size == 0


class TestWords:
    @pytest.mark.parametrize("word", [">I", "<I", ">Q", "<Q"])
    def test_in_either_order(self, path: Path, image: Make, word: Word) -> None:
        numbers = [1, 0, 70_000, 4_000_000_000]
        path.write_bytes(b"head" + struct.pack(f"{word[0]}4{word[1]}", *numbers))
        ((first, words),) = image().words(4, 4, word)
        assert (first, list(words)) == (0, numbers)

    @pytest.mark.parametrize("blank", [0, 255])
    def test_what_is_blank_is_passed_over(self, path: Path, image: Make, blank: int) -> None:
        count = 3 * CHUNK // 4
        table = bytearray([blank]) * (4 * count)
        for index in (5, CHUNK // 4 - 1, CHUNK // 4, count - 1):
            struct.pack_into("<I", table, 4 * index, 7)
        path.write_bytes(table)
        parts = image().words(0, count, "<I", blank=blank)
        found = {first + at: word for first, words in parts for at, word in enumerate(words)}
        assert [index for index, word in found.items() if word == 7] == [5, CHUNK // 4 - 1, CHUNK // 4, count - 1]
        assert len(found) < count // 10
        assert set(found.values()) == {7, 0xFFFFFFFF if blank else 0}

    @pytest.mark.parametrize(("offset", "count"), [(0, 8 * UNIT // 4 + 1), (8 * UNIT, 1), (1 << 60, 1), (0, 1 << 60)])
    def test_a_table_that_is_not_there(self, image: Make, offset: int, count: int) -> None:
        with pytest.raises(CorruptImage, match="truncated THING image: a table"):
            next(image().words(offset, count, "<I"))


class TestPlain:
    def test_it_is_cut_at_the_end_of_the_disk(self, image: Make) -> None:
        found = image()
        found.size = 3 * UNIT // 2
        assert found.plain(UNIT, UNIT, 0) == piece(UNIT, 0, UNIT // 2)
        # What is cut off the file need not have.
        assert found.plain(UNIT, UNIT, 15 * UNIT // 2).length == UNIT // 2
        with pytest.raises(CorruptImage, match=f"the data of guest offset {UNIT} ends at"):
            found.plain(UNIT, UNIT, 15 * UNIT // 2 + 1)

    def test_nothing_is_compressed_unless_a_format_says_so(self, image: Make) -> None:
        with pytest.raises(NotImplementedError):
            image().decoder()


class TestPlaces:
    @pytest.mark.parametrize("second", [0, 1, UNIT - 1, -1, -(UNIT - 1)])
    def test_that_overlap(self, second: int) -> None:
        places = Places(8 * UNIT, UNIT)
        assert places.take(2 * UNIT + 100)
        assert not places.take(2 * UNIT + 100 + second)

    def test_that_do_not(self) -> None:
        places = Places(8 * UNIT, UNIT)
        assert places.take(3 * UNIT + 100)
        assert places.take(4 * UNIT + 100)
        assert places.take(2 * UNIT + 100)
        assert places.take(0)
        assert places.take(8 * UNIT)
