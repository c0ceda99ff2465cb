from __future__ import annotations

import itertools

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.fs.ext4.geometry import FLEX_GROUPS_LOG, GROUP_BLOCKS, Geometry, TooSmall, smallest_size
from recipes.formats.io.sparse import BLOCK

MiB, GiB, TiB = 1 << 20, 1 << 30, 1 << 40
SIZES = [8 * MiB, 64 * MiB, 128 * MiB, 128 * MiB + BLOCK, GiB, 10 * GiB + 12345, TiB]


def ranges(geometry: Geometry) -> list[tuple[int, int]]:
    """Return all that metadata has, each piece by itself."""
    heads = [(group * GROUP_BLOCKS, group * GROUP_BLOCKS + geometry.head(group)) for group in geometry.superblocks()]
    bitmaps = [(at, at + 1) for at in (*geometry.block_bitmaps, *geometry.inode_bitmaps)]
    return [*heads, *bitmaps, *((at, at + geometry.table_blocks) for at in geometry.inode_tables)]


@pytest.mark.parametrize("size", SIZES)
def test_metadata_overlaps_nowhere_and_is_all_there_is_fixed(size: int) -> None:
    geometry = Geometry(size, 100)
    pieces = sorted(ranges(geometry))
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(pieces))
    assert sum(stop - start for start, stop in pieces) == sum(stop - start for start, stop in geometry.fixed)
    assert all(stop < start for (_, stop), (start, _) in zip(geometry.fixed, geometry.fixed[1:], strict=False))
    assert pieces[-1][1] <= geometry.blocks <= size // BLOCK


@pytest.mark.parametrize("size", SIZES)
def test_what_is_free_is_the_rest(size: int) -> None:
    geometry = Geometry(size, 100)
    runs = sorted([*geometry.free_runs(), *geometry.fixed])
    assert runs[0][0] == 0
    assert runs[-1][1] == geometry.blocks
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(runs))
    assert sum(stop - start for start, stop in geometry.free_runs()) == geometry.free_blocks


def test_superblocks_are_in_groups_0_and_1_and_the_powers_of_3_5_and_7() -> None:
    geometry = Geometry(128 * GiB, 100)
    assert geometry.groups == 1024
    assert list(geometry.superblocks()) == [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729]
    assert geometry.head(2) == 0
    assert geometry.head(3) == 1 + geometry.descriptor_blocks


def test_bitmaps_and_tables_stand_with_their_flexible_group() -> None:
    geometry = Geometry(TiB, 100)
    assert geometry.groups > 1 << FLEX_GROUPS_LOG
    for group in range(geometry.groups):
        first = group >> FLEX_GROUPS_LOG << FLEX_GROUPS_LOG
        assert geometry.block_bitmaps[group] >= first * GROUP_BLOCKS
        assert geometry.inode_tables[group] >= first * GROUP_BLOCKS


def test_a_remainder_that_is_too_small_stays_unused() -> None:
    assert Geometry(128 * MiB + BLOCK, 10).blocks == GROUP_BLOCKS
    large = Geometry(192 * MiB, 10)
    assert large.blocks == 192 * MiB // BLOCK
    assert [len(large.group_blocks(group)) for group in range(large.groups)] == [GROUP_BLOCKS, GROUP_BLOCKS // 2]


@pytest.mark.parametrize("inodes", [1, 1000, 30_000, 200_000])
def test_a_tree_has_its_inodes_and_room_to_grow(inodes: int) -> None:
    geometry = Geometry(GiB, inodes)
    assert geometry.inodes_per_group * geometry.groups >= (11 + inodes) * 5 // 4
    assert geometry.inodes_per_group <= GROUP_BLOCKS


def test_limits() -> None:
    with pytest.raises(TooSmall):
        Geometry(MiB, 10)
    with pytest.raises(TooSmall):
        Geometry(64 * MiB, 10_000_000)
    Geometry(16 * TiB - BLOCK, 10)
    with pytest.raises(LimitExceeded, match="64bit"):
        Geometry(16 * TiB, 10)


@pytest.mark.parametrize("blocks", [0, 1, 1000, 40_000, 1_000_000])
@pytest.mark.parametrize("inodes", [1, 50_000])
def test_the_smallest_size_is_enough_and_little_more(blocks: int, inodes: int) -> None:
    size = smallest_size(blocks, inodes)
    assert size % MiB == 0
    geometry = Geometry(size, inodes)
    assert geometry.free_blocks >= blocks + geometry.journal_blocks
    less = size - max(16 * MiB, size // 8)
    if less > 0:
        try:
            smaller = Geometry(less, inodes)
        except TooSmall:
            return
        assert smaller.free_blocks < blocks + smaller.journal_blocks
