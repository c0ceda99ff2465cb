from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.fs.ext4 import map as ext4_map
from recipes.formats.fs.ext4.inode import Inode
from recipes.formats.fs.ext4.layout import EXTENT, EXTENT_HEADER, EXTENT_INDEX, EXTENT_MAGIC, InodeFlag
from recipes.formats.fs.ext4.map import BlockMaps, Run
from tests.kit.ext4_volumes import BLOCK, BLOCKS, volume

if TYPE_CHECKING:
    from collections.abc import Mapping

Leaf = tuple[int, int, int]
POINTERS = BLOCK // 4


def inode(block: bytes, flags: int = InodeFlag.EXTENTS) -> Inode:
    return Inode(12, 0o100644, 0, 0, 0, 0, 1, flags, block.ljust(60, b"\0"), 0, 0, b"")


def node(*entries: bytes, depth: int = 0, room: int | None = None, magic: int = EXTENT_MAGIC) -> bytes:
    room = len(entries) if room is None else room
    return EXTENT_HEADER.pack(magic, len(entries), room, depth, 0) + b"".join(entries)


def leaf(at: int, count: int, block: int) -> bytes:
    return EXTENT.pack(at, count, block >> 32, block & 0xFFFFFFFF)


def index(at: int, block: int) -> bytes:
    return EXTENT_INDEX.pack(at, block & 0xFFFFFFFF, block >> 32, 0)


def runs(block: bytes, blocks: int = 100, on: Mapping[int, bytes] | None = None, **more: int) -> list[Run]:
    return BlockMaps(volume(on)).runs(inode(block, **more), blocks)


class TestExtents:
    def test_in_the_inode(self) -> None:
        assert runs(node(leaf(0, 2, 20), leaf(5, 1, 40))) == [Run(0, 2, 20), Run(5, 1, 40)]

    def test_neighbours_are_one(self) -> None:
        assert runs(node(leaf(0, 2, 20), leaf(2, 3, 22))) == [Run(0, 5, 20)]
        assert runs(node(leaf(0, 2, 20), leaf(3, 3, 22))) == [Run(0, 2, 20), Run(3, 3, 22)]

    def test_unwritten_ones_are_holes(self) -> None:
        assert runs(node(leaf(0, 32768 + 2, 20), leaf(2, 1, 30))) == [Run(2, 1, 30)]

    def test_the_file_ends_before_them(self) -> None:
        tree = node(leaf(0, 4, 20), leaf(4, 4, 30), leaf(8, 1, 40))
        assert runs(tree, 6) == [Run(0, 4, 20), Run(4, 2, 30)]
        assert runs(tree, 4) == [Run(0, 4, 20)]
        assert runs(tree, 0) == []

    def test_two_levels(self) -> None:
        on = {10: node(leaf(0, 1, 20)), 11: node(leaf(9, 1, 30), leaf(10, 2, 31))}
        assert runs(node(index(0, 10), index(9, 11), depth=1), on=on) == [Run(0, 1, 20), Run(9, 3, 30)]

    def test_an_empty_file(self) -> None:
        assert runs(node(room=4)) == []

    @pytest.mark.parametrize(
        "tree",
        [
            node(leaf(0, 1, 20), magic=0xF30B),
            node(leaf(0, 1, 20), room=0),
            node(leaf(0, 1, 20), room=5),
            node(depth=1),
            node(index(0, 10), depth=6),
            bytes(60),
        ],
        ids=["magic", "no room", "too much room", "an inner node of nothing", "depth", "zeros"],
    )
    def test_nodes_that_are_none(self, tree: bytes) -> None:
        with pytest.raises(CorruptImage, match="inode 12 has an extent tree with a damaged node"):
            runs(tree)

    @pytest.mark.parametrize("depth", [0, 2])
    def test_a_child_of_another_depth(self, depth: int) -> None:
        with pytest.raises(CorruptImage, match="damaged node"):
            runs(node(index(0, 10), depth=2), on={10: node(leaf(0, 1, 20), depth=depth)})

    @pytest.mark.parametrize(
        ("entries", "match"),
        [
            ((leaf(0, 0, 20),), "without blocks"),
            ((leaf(5, 1, 20), leaf(3, 1, 30)), "block 3 of its file twice, or out of order"),
            ((leaf(0, 2, 20), leaf(1, 1, 30)), "block 1 of its file twice"),
            ((leaf(0, 1, BLOCKS),), "outside of the 64 blocks"),
            ((leaf(0, 2, BLOCKS - 1),), "outside of the 64 blocks"),
            ((leaf(0, 1, 1),), "outside of the 64 blocks"),
            ((leaf(0, 1, 1 << 40),), "outside of the 64 blocks"),
        ],
    )
    def test_leaves_that_cannot_be(self, entries: tuple[bytes, ...], match: str) -> None:
        with pytest.raises(CorruptImage, match=match):
            runs(node(*entries))

    def test_a_tree_that_is_in_itself(self) -> None:
        loop = node(index(0, 10), index(5, 10), depth=1)
        with pytest.raises(CorruptImage, match="block 10, of inode 12, is in use twice"):
            runs(loop, on={10: node(leaf(0, 1, 20))})

    def test_a_checksum_behind_the_last_entry_that_could_be_there(self) -> None:
        below = node(leaf(0, 1, 20), room=2).ljust(EXTENT_HEADER.size + 2 * EXTENT.size, b"\0")
        tree = inode(node(index(0, 10), depth=1))
        found = volume(checked=True).checksum(tree.salt, below)
        good = volume({10: below + struct.pack("<I", found)}, checked=True)
        assert BlockMaps(good).runs(tree, 5) == [Run(0, 1, 20)]
        bad = volume({10: below + struct.pack("<I", found ^ 1)}, checked=True)
        with pytest.raises(CorruptImage, match="checksum"):
            BlockMaps(bad).runs(tree, 5)
        full = volume({10: node(leaf(0, 1, 20), room=(BLOCK - EXTENT_HEADER.size) // EXTENT.size)}, checked=True)
        with pytest.raises(CorruptImage, match="checksum"):
            BlockMaps(full).runs(tree, 5)


def pointers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


class TestBlockMaps:
    def test_direct_blocks_and_holes(self) -> None:
        assert runs(pointers(20, 21, 0, 23), flags=0) == [Run(0, 2, 20), Run(3, 1, 23)]

    def test_what_is_behind_the_end_does_not_count(self) -> None:
        assert runs(pointers(20, 21, 22), 2, flags=0) == [Run(0, 2, 20)]

    def test_one_and_two_levels(self) -> None:
        top = pointers(*range(20, 32), 10, 11)
        on = {10: pointers(40, 0, 42), 11: pointers(0, 12), 12: pointers(50)}
        assert runs(top, 10_000, on=on, flags=0) == [
            Run(0, 12, 20),
            Run(12, 1, 40),
            Run(14, 1, 42),
            Run(12 + POINTERS + POINTERS, 1, 50),
        ]

    def test_three_levels(self) -> None:
        top = bytes(14 * 4) + pointers(10)
        on = {10: pointers(0, 11), 11: pointers(12), 12: pointers(0, 50)}
        at = 12 + POINTERS + POINTERS**2 + POINTERS**2 + 1
        assert runs(top, 1 << 30, on=on, flags=0) == [Run(at, 1, 50)]
        # Nobody reads what is behind the end of the file.
        assert runs(top, 12, flags=0) == []

    def test_a_map_that_is_in_itself(self) -> None:
        with pytest.raises(CorruptImage, match="block 10, of inode 12, is in use twice"):
            runs(bytes(13 * 4) + pointers(10), 1 << 20, on={10: pointers(10)}, flags=0)

    def test_a_full_block_of_neighbours(self) -> None:
        on = {10: pointers(*range(1 << 20, (1 << 20) + POINTERS))}
        with pytest.raises(CorruptImage, match="outside of the 64 blocks"):
            runs(bytes(12 * 4) + pointers(10), 1000, on=on, flags=0)


def test_no_two_files_share_a_map() -> None:
    maps = BlockMaps(volume({10: node(leaf(0, 1, 20))}))
    tree = node(index(0, 10), depth=1)
    assert maps.runs(inode(tree), 1) == [Run(0, 1, 20)]
    with pytest.raises(CorruptImage, match="in use twice"):
        maps.runs(inode(tree), 1)


def test_all_files_together_have_no_more_blocks_than_there_are() -> None:
    maps = BlockMaps(volume())
    for _ in range(2):
        maps.runs(inode(node(leaf(0, 30, 20))), 30)
    with pytest.raises(CorruptImage, match="more blocks than there are"):
        maps.runs(inode(node(leaf(0, 30, 20))), 30)


def test_all_files_together_have_so_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ext4_map, "MAX_RUNS", 3)
    maps = BlockMaps(volume())
    maps.runs(inode(node(leaf(0, 1, 20), leaf(2, 1, 30), leaf(4, 1, 40))), 30)
    with pytest.raises(LimitExceeded, match="more than 3 pieces"):
        maps.runs(inode(node(leaf(0, 1, 20))), 30)
