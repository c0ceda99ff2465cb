"""Inodes that cannot be."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.xfs_damage import Image

ROWS = [
    ("short", 0, b"XX", "expected inode"),
    ("short", 4, b"\2", "expected inode"),
    ("short", 2, b"\0\0", "has a name and is no file"),
    ("short", 2, b"\xf1\xff", "has a name and is no file"),
    ("short", 16, bytes(4), "has a name and is no file"),
    ("short", 127, b"\x20", "has a name and is no file"),
    ("short", 152, struct.pack(">Q", 9), "is not inode"),
    ("short", 5, b"\5", "forks of the formats 5"),
    ("null", 5, b"\2", "device inode .* has no numbers"),
    ("inline", 82, b"\xff", "and attributes at byte"),
    ("inline", 83, b"\7", "forks of the formats 2 and 7"),
    ("folder/file", 76, struct.pack(">I", 9), "extents of 4 blocks"),
    (".", 2, b"\x81\xff", "the root is not a directory"),
    ("short", 56, struct.pack(">Q", 1 << 63), "has 9223372036854775808 bytes"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), ROWS)
def test_inodes_that_cannot_be(image: Image, name: str, at: int, value: bytes, match: str) -> None:
    image.change(image.inode(name) + at, value)
    image.refused(match)
