from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.btree import BTree
from recipes.formats.fs.btrfs.layout import CHECKSUM_OBJECT, EXTENT_CSUM
from recipes.formats.fs.btrfs.sums import Sums
from tests.kit.btrfs_volumes import LOGICAL, SIZE, leaf, nodes, pointer

if TYPE_CHECKING:
    from recipes.formats.fs.btrfs.nodes import Key

DATA = b"".join(bytes([number]) * SIZE for number in range(8))


def key(address: int) -> Key:
    return CHECKSUM_OBJECT, EXTENT_CSUM, address


def sums(*items: tuple[Key, bytes]) -> Sums:
    found = nodes(leaf(LOGICAL, items))
    return Sums(found.volume, BTree(found, pointer(), "the checksum tree"))


def of(start: int, count: int) -> bytes:
    """Return the sums of sectors of `DATA`."""
    crc = nodes(leaf(LOGICAL, [])).volume.checksum
    return crc.of_each(DATA[start * SIZE : (start + count) * SIZE], SIZE)


def holds(found: Sums, start: int, count: int, *, wrong: int | None = None) -> bool:
    data = bytearray(DATA[start * SIZE : (start + count) * SIZE])
    if wrong is not None:
        data[(wrong - start) * SIZE + 5] ^= 1
    return found.hold(start * SIZE, bytes(data))


@pytest.mark.parametrize(("start", "count"), [(0, 8), (0, 1), (7, 1), (3, 4)])
def test_every_sector_counts(start: int, count: int) -> None:
    found = sums((key(0), of(0, 3)), (key(3 * SIZE), of(3, 5)))
    assert holds(found, start, count)
    for wrong in range(start, start + count):
        assert not holds(found, start, count, wrong=wrong)


def test_what_has_none_may_be_anything() -> None:
    found = sums((key(2 * SIZE), of(2, 2)), (key(6 * SIZE), of(6, 1)))
    assert holds(found, 0, 8)
    for sector in range(8):
        assert holds(found, 0, 8, wrong=sector) == (sector not in (2, 3, 6))


def test_other_items_are_no_checksums() -> None:
    found = sums(((1, EXTENT_CSUM, 0), b"xxxx"), (key(4 * SIZE), of(4, 1)), (((1 << 64) - 5, 1, 0), b"y"))
    assert holds(found, 0, 8, wrong=0)
    assert not holds(found, 0, 8, wrong=4)


def test_no_tree() -> None:
    assert Sums(nodes(leaf(LOGICAL, [])).volume, None).hold(0, DATA)


@pytest.mark.parametrize(("address", "body"), [(0, b"xxxxx"), (1, b"xxxx")])
def test_what_is_none(address: int, body: bytes) -> None:
    with pytest.raises(CorruptImage, match=f"the checksums at {address:#x} are {len(body)} bytes"):
        sums((key(address), body)).hold(SIZE, DATA[:SIZE])


def test_the_latest_is_remembered() -> None:
    found = sums((key(0), of(0, 8)))
    assert holds(found, 0, 1)
    found._tree = None
    assert holds(found, 7, 1)
    assert not holds(found, 7, 1, wrong=7)
