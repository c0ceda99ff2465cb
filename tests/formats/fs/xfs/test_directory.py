"""Directories: in the inode, in one block, in several."""

from __future__ import annotations

import os
import struct

import pytest

from tests.kit.xfs_damage import FOLDER, Image, entry, extent
from tests.kit.xfs_images import mended


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (b"name-0000/", "not allowed"),
        (b"name-0000\0", "not allowed"),
        (b"name-00003", "the name 'name-00003', twice"),
        (b"///////////"[:10], "not allowed"),
    ],
)
def test_names_that_no_file_can_have(image: Image, name: bytes, match: str) -> None:
    image.change(entry(image, "block", b"name-00002") + 9, name)
    image.refused(match)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (8, b"\0", "an entry of"),
        (8, b"\xff", "an entry of"),
        (8, b"\x0f", "an entry of"),
        (0, b"\xff\xff\0\0", "0 unused bytes"),
        (0, b"\xff\xff\0\7", "7 unused bytes"),
        (0, b"\xff\xff\xff\xf8", "65528 unused bytes"),
        (22, b"\0\0", "an entry of 24 bytes"),
    ],
)
def test_entries(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(entry(image, "block", b"name-00002") + at, value)
    image.refused(match)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, b"XDXX", "begins with 58445858"),
        (0, b"XDF3", "begins with 58444633"),
        (FOLDER - 8, b"\xff\xff\xff\xff", "bytes of hashes"),
    ],
)
def test_blocks_of_directories(image: Image, at: int, value: bytes, match: str) -> None:
    block = image.block("block")
    with image.path.open("r+b") as file:
        os.pwrite(file.fileno(), value, block + at)
    mended(image.path, {block + 4: bytes(4)})
    image.refused(match)


def test_the_only_block_among_several(image: Image) -> None:
    image.change(image.block("blocks"), b"XDB3")
    image.refused("begins with 58444233")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (56, struct.pack(">Q", 2), "2 bytes in its inode"),
        (56, struct.pack(">Q", 4000), "4000 bytes in its inode"),
        (176, b"\xff", "an entry at byte"),
        (182, b"\xff", "an entry at byte"),
        (182, b"\0", "not allowed"),
    ],
)
def test_directories_in_their_inode(image: Image, at: int, value: bytes, match: str) -> None:
    image.change(image.inode("folder") + at, value)
    image.refused(match)


@pytest.mark.parametrize(
    ("records", "match"),
    [
        (lambda _: extent(1, 20, 4), "a hole before block 1"),
        (lambda _: extent(0, 20, 3), "a hole at its end"),
        (lambda _: extent(0, 20, 4), "begins with"),
        (lambda old: b"\x80" + old[1:], "blocks that were never written"),
    ],
)
def test_extents_of_directories(image: Image, records: object, match: str) -> None:
    assert callable(records)
    at = image.inode("block") + 176
    image.change(at, records(image.path.read_bytes()[at : at + 16]))
    image.refused(match)
