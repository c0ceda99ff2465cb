"""Targets of symbolic links that cannot be."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.xfs_damage import Image

ROWS = [
    ("short", 56, struct.pack(">Q", 5000), "symbolic link inode .* has 5000 bytes"),
    ("short", 56, struct.pack(">Q", 1000), "expected a target of 1000 bytes"),
    ("short", 56, bytes(8), "symbolic link inode .* has 0 bytes"),
    ("short", 178, b"\0", "without NUL"),
    ("long", 56, struct.pack(">Q", 1024), "expected a target of 1024 bytes"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), ROWS)
def test_targets_that_cannot_be(image: Image, name: str, at: int, value: bytes, match: str) -> None:
    image.change(image.inode(name) + at, value)
    image.refused(match)
