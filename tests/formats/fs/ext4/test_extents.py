from __future__ import annotations

import pytest

from recipes.formats.fs.ext4.alloc import FreeBlocks
from recipes.formats.fs.ext4.extents import Extents
from recipes.formats.fs.ext4.geometry import Geometry
from recipes.formats.fs.ext4.layout import EXTENT, EXTENT_HEADER, EXTENT_INDEX, EXTENT_MAGIC, EXTENT_MAX_BLOCKS
from recipes.formats.io.sparse import BLOCK

SIZE = 32 << 20
Leaf = tuple[int, int, int]


class Image:
    def __init__(self) -> None:
        self.data = bytearray(SIZE)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self.data[offset : offset + len(data)] = data


def unpack(node: bytes, image: Image, depth: int | None = None) -> list[Leaf]:
    """Return what a tree says, having held its form against the specification."""
    magic, entries, room, found, _ = EXTENT_HEADER.unpack_from(node)
    assert magic == EXTENT_MAGIC
    assert 0 <= entries <= room
    assert found == (found if depth is None else depth)
    assert len(node) >= EXTENT_HEADER.size + entries * EXTENT.size
    inside = node[EXTENT_HEADER.size : EXTENT_HEADER.size + entries * EXTENT.size]
    if not found:
        return [(at, count, low | high << 32) for at, count, high, low in EXTENT.iter_unpack(inside)]
    leaves: list[Leaf] = []
    for at, low, high, _ in EXTENT_INDEX.iter_unpack(inside):
        assert high == 0
        below = unpack(bytes(image.data[low * BLOCK : (low + 1) * BLOCK]), image, found - 1)
        assert below[0][0] == at
        leaves += below
    return leaves


def packed(*runs: Leaf) -> tuple[list[Leaf], int, int]:
    """Return the leaves, the depth and the blocks of a file with these runs."""
    image = Image()
    free = FreeBlocks(image, Geometry(SIZE, 10))
    extents = Extents()
    for run in runs:
        extents.add(*(run[0], run[2], run[1]))
    node = extents.pack(free)
    free.flush()
    return unpack(node, image), EXTENT_HEADER.unpack_from(node)[3], extents.blocks


def test_nothing() -> None:
    assert packed() == ([], 0, 0)


def test_neighbours_are_one() -> None:
    assert packed((0, 2, 100), (2, 3, 102)) == ([(0, 5, 100)], 0, 5)


@pytest.mark.parametrize("second", [(3, 1, 102), (2, 1, 103), (2, 1, 99)], ids=["a hole", "elsewhere", "before"])
def test_others_are_not(second: Leaf) -> None:
    assert packed((0, 2, 100), second)[0] == [(0, 2, 100), second]


def test_the_first_block() -> None:
    extents = Extents()
    extents.add(5, 70, 1)
    extents.add(9, 30, 1)
    assert extents.first == 70


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_an_extent_has_a_longest_length(extra: int) -> None:
    """One more would mean blocks that were never written."""
    leaves, _, blocks = packed((0, EXTENT_MAX_BLOCKS + extra, 7))
    assert (
        leaves == [(0, EXTENT_MAX_BLOCKS + extra, 7)]
        if extra <= 0
        else [
            (0, EXTENT_MAX_BLOCKS, 7),
            (EXTENT_MAX_BLOCKS, extra, 7 + EXTENT_MAX_BLOCKS),
        ]
    )
    assert blocks == EXTENT_MAX_BLOCKS + extra


@pytest.mark.parametrize(("count", "depth"), [(4, 0), (5, 1), (340, 1), (341, 1), (4 * 340, 1), (4 * 340 + 1, 2)])
def test_the_tree_is_as_deep_as_it_has_to_be(count: int, depth: int) -> None:
    runs = [(2 * number, 1, 7 * number + 100) for number in range(count)]
    leaves, found, blocks = packed(*runs)
    assert leaves == runs
    assert found == depth
    nodes = 0 if not depth else -(-count // 340) + (1 if depth == 2 else 0)
    assert blocks == count + nodes
