"""A disk as it is after the replay; images with a journal are in test_read.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.fs.ext4.journal import Replayed
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Extent

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Unwalked(dict[int, int]):
    """A dictionary that is not gone through."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("all replayed blocks, for one extent")


def test_an_extent_costs_the_replayed_blocks_in_it() -> None:
    """Thousands of long extents and thousands of replayed blocks would be millions of steps."""
    source = FileSource(-1, "disk", 1 << 41)
    moved = _Unwalked({10: 7 << 10, 11: 8 << 10, 1 << 29: 9 << 10})
    disk = Replayed(source, 1024, moved, [10, 11, 1 << 29], frozenset(), 0)
    assert list(disk.extents(0, 1024, 1 << 40)) == [
        Extent(0, 9 << 10, source, 1024),
        Extent(9 << 10, 1 << 10, source, 7 << 10),
        Extent(10 << 10, 1 << 10, source, 8 << 10),
        Extent(11 << 10, (1 << 39) - (12 << 10), source, 12 << 10),
        Extent((1 << 39) - 1024, 1 << 10, source, 9 << 10),
        Extent(1 << 39, (1 << 40) - (1 << 39), source, (1 << 39) + 1024),
    ]
