from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.io.source import BytesSource
from recipes.formats.tar import sparse
from recipes.formats.tar.sparse import data_map, extents, format_map, old_map, text_map

Pairs = list[tuple[int, int]]
PAIRS = st.lists(st.tuples(st.integers(0, 1 << 62), st.integers(0, 1 << 62)), max_size=50)


def octal(value: int) -> bytes:
    return b"%011o " % value


def old(pairs: Pairs) -> tuple[bytes, bytes]:
    """Return a header with the first four pairs, and the blocks with the rest of them."""
    head = bytearray(512)
    for index, pair in enumerate(pairs[:4]):
        head[386 + 24 * index : 410 + 24 * index] = octal(pair[0]) + octal(pair[1])
    rest = pairs[4:]
    head[482] = bool(rest)
    blocks = b""
    while rest:
        block = bytearray(512)
        for index, pair in enumerate(rest[:21]):
            block[24 * index : 24 * index + 24] = octal(pair[0]) + octal(pair[1])
        rest = rest[21:]
        block[504] = bool(rest)
        blocks += block
    return bytes(head), blocks


@pytest.mark.parametrize("count", [0, 1, 4, 5, 25, 26, 100])
def test_the_old_map_goes_on_in_blocks(count: int) -> None:
    pairs = [(number * 1000, number + 1) for number in range(count)]
    head, blocks = old(pairs)
    found = old_map(head, lambda at, size: blocks[at : at + size])
    assert found == (pairs, len(blocks))


def test_the_old_map_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "MAX_PIECES", 30)
    block = bytearray((octal(0) + octal(1)) * 21).ljust(512, b"\1")
    head = bytearray(512)
    head[482] = 1
    with pytest.raises(LimitExceeded, match="42 pieces, and 30 are allowed"):
        old_map(bytes(head), lambda at, size: bytes(block))


@given(PAIRS)
def test_a_map_as_text(pairs: Pairs) -> None:
    assert text_map(b",".join(b"%d" % value for pair in pairs for value in pair)) == pairs


@pytest.mark.parametrize(
    ("text", "match"),
    [(b"1", "expected pairs"), (b"1,2,3", "found 3 numbers"), (b"1,x", "map to be a number"), (b",", "number")],
)
def test_a_text_that_is_none(text: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        text_map(text)


@given(PAIRS)
def test_a_map_before_the_data(pairs: Pairs) -> None:
    data = format_map(pairs)
    assert len(data) % 512 == 0
    whole = data + b"the data"
    assert data_map(lambda at, size: whole[at : at + size], len(whole)) == (pairs, len(data))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "number of a sparse file's pieces"),
        (b"x\n", "number of a sparse file's pieces"),
        (b"2\n1\n2\n3\n", "expected 5 lines in a sparse file's map, found 4"),
        (b"1\n1\n-2\n", "map to be a number"),
    ],
)
def test_data_that_is_none(data: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        data_map(lambda at, size: data[at : at + size], len(data))


def test_no_more_is_read_than_lines_can_have() -> None:
    """A file of any size without ends of lines is no map."""
    read: list[int] = []

    def more(at: int, size: int) -> bytes:
        read.append(size)
        return b"1\n" if not at else b"1" * size

    with pytest.raises(CorruptImage, match="expected 3 lines"):
        data_map(more, 1 << 40)
    assert sum(read) < 1 << 20


def test_a_map_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "MAX_PIECES", 3)
    data = format_map([(0, 0)] * 4)
    with pytest.raises(LimitExceeded, match="4 pieces, and 3 are allowed"):
        data_map(lambda at, size: data[at : at + size], len(data))
    with pytest.raises(LimitExceeded):
        text_map(b"0," * 7 + b"0")
    text_map(b"0," * 5 + b"0")


SOURCE = BytesSource(b"", "archive")


def test_where_the_data_is() -> None:
    found = extents([(0, 10), (50, 0), (100, 5)], 200, 15, SOURCE, 1000)
    assert [(each.at, each.length, each.offset) for each in found] == [(0, 10, 1000), (100, 5, 1010)]
    assert extents([], 200, 0, SOURCE, 0) == ()


@pytest.mark.parametrize(
    ("pairs", "size", "stored", "match"),
    [
        ([(0, 10), (5, 5)], 100, 15, "mapped up to 10, has 5 bytes at 5"),
        ([(50, 10), (0, 10)], 100, 20, "mapped up to 60, has 10 bytes at 0"),
        ([(95, 10)], 100, 10, "has 10 bytes at 95"),
        ([(0, -1)], 100, 0, "has -1 bytes at 0"),
        ([(0, 10)], 100, 9, "claims more than the 9 bytes"),
        ([(0, 10)], 100, 11, "has 10 bytes, and the archive 11"),
        ([], 100, 1, "has 0 bytes, and the archive 1"),
    ],
)
def test_maps_that_cannot_be(pairs: Pairs, size: int, stored: int, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        extents(pairs, size, stored, SOURCE, 0)
