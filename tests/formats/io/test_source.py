from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.io.source import BytesSource, FileSource, Window, read, read_exact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = bytes(range(200))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileSource]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield FileSource(opened.fileno(), "file")


def test_a_file_and_bytes_are_read_alike(file: FileSource) -> None:
    for source in (file, BytesSource(DATA, "bytes")):
        assert source.size == len(DATA)
        for offset, length in ((0, 200), (7, 20), (190, 20), (200, 1), (300, 1), (5, 0)):
            assert read(source, offset, length) == DATA[offset : offset + length]


def test_a_window_ends_where_it_says(file: FileSource) -> None:
    window = Window(file, 50, 100, "part")
    assert (window.name, window.size) == ("part", 100)
    assert read(window, 0, 1000) == DATA[50:150]
    view = memoryview(bytearray(20))
    assert window.readinto(view, 90) == 10
    assert view.tobytes() == DATA[140:150] + bytes(10)
    assert window.readinto(view, 100) == 0


def test_a_window_of_a_window_is_one_of_what_is_behind_both(file: FileSource) -> None:
    inner = Window(Window(file, 50, 100), 25, 10)
    assert inner.name == "file"
    assert read(inner, 0, 10) == DATA[75:85]


def test_only_what_begins_where_the_file_begins_lies_in_it(file: FileSource) -> None:
    assert file.fileno() is not None
    assert Window(file, 0, 10).fileno() == file.fileno()
    assert Window(file, 1, 10).fileno() is None


def test_what_is_cut_off_is_refused_by_name(file: FileSource) -> None:
    assert read_exact(file, 190, 10) == DATA[190:]
    for source in (file, Window(file, 100, 100, "file")):
        with pytest.raises(CorruptImage, match="file: truncated: expected 11 bytes at 190"):
            read_exact(source, 190, 11)


def test_a_file_that_is_shorter_than_was_said(file: FileSource) -> None:
    said = FileSource(file.fileno(), "file", 1000)
    assert read(said, 150, 500) == DATA[150:]
    with pytest.raises(CorruptImage, match="expected 500 bytes at 150"):
        read_exact(said, 150, 500)
