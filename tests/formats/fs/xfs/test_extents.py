"""Extents, in lists and in trees."""

from __future__ import annotations

import struct

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.fs.xfs import extents
from recipes.formats.fs.xfs.extents import Run, block_at
from tests.kit.xfs_damage import Image, extent, tree_block
from tests.kit.xfs_images import facts

ROWS = [
    ("folder/file", 5, b"\1", "a fork of format 1"),
    ("folder/file", 5, b"\3", "a tree of"),
    ("pieces", 76, struct.pack(">I", 299), "expected 299 extents"),
    ("pieces", 176, b"\xff\xff", "a tree of 65535 levels"),
    ("pieces", 178, b"\xff\xff", "entries"),
    ("pieces", 178, b"\0\0", "0 of"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), ROWS)
def test_forks_that_cannot_be(image: Image, name: str, at: int, value: bytes, match: str) -> None:
    image.change(image.inode(name) + at, value)
    image.refused(match)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        (extent(0, 1 << 51, 4), "outside of the file system"),
        (extent(0, 20, 0), "twice, or out of order"),
        (extent(0, 20, (1 << 21) - 1), "outside of the file system or across groups"),
        (extent((1 << 54) - 1, 20, 4), None),
    ],
)
def test_extents(image: Image, record: bytes, match: str | None) -> None:
    image.change(image.inode("folder/file") + 176, record)
    if match:
        image.refused(match)
    else:
        # Behind the end of the file, which is legal: it was allocated ahead.
        facts(image.path)


def test_extents_that_overlap(image: Image) -> None:
    at = image.inode("folder/file")
    data = image.path.read_bytes()
    image.change(at + 176, data[at + 176 : at + 192] * 2)
    image.change(at + 76, struct.pack(">I", 2))
    image.refused("a fork twice, or out of order")


def test_a_tree_that_leads_to_itself(image: Image) -> None:
    at = image.inode("pieces") + 176
    data = image.path.read_bytes()
    fork = data[at - 176 + 82] * 8 or 512 - 176
    pointer = at + 4 + 8 * ((fork - 4) // 16)
    assert data[at + 3] > 1
    image.change(pointer + 8, data[pointer : pointer + 8])
    image.refused("is in use twice")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"BMAX", "found 424d4158"),
        (4, b"\0\5", "expected level 0"),
        (6, b"\0\0", "and 0$"),
        (6, b"\xff\xff", "65535"),
    ],
)
def test_blocks_of_a_tree(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(tree_block(image) + at, value)
    with pytest.raises(CorruptImage, match=match.replace("$", "")):
        facts(image.path)


def test_more_blocks_than_there_are(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "MAX_RUNS", 20)
    image.refused("in more than 20 pieces", LimitExceeded)


RUNS = [Run(0, 3, 100, unwritten=False), Run(3, 2, 200, unwritten=True), Run(10, 1, 300, unwritten=False)]


@pytest.mark.parametrize(
    ("at", "block"),
    [(0, 100), (2, 102), (3, None), (4, None), (5, None), (9, None), (10, 300), (11, None), (1 << 60, None)],
)
def test_which_block_holds_a_block_of_a_file(at: int, block: int | None) -> None:
    assert block_at(RUNS, at) == block
    assert block_at([], at) is None
