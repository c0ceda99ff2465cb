"""Damaged and hostile XFS as a whole: always an error that says where, never a loop or more than is there."""

from __future__ import annotations

import struct

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.fs import walk
from tests.kit.xfs_damage import Image, entry
from tests.kit.xfs_images import facts


def test_it_is_whole_before(image: Image) -> None:
    assert len(facts(image.path)) > 230


@pytest.mark.parametrize("target", ["folder", "."])
def test_directories_that_are_in_themselves_or_twice(image: Image, target: str) -> None:
    number = image.numbers[target]
    image.change(entry(image, "block", b"name-00002"), struct.pack(">Q", number))
    image.refused(f"directory inode {number} has more than one name")


@pytest.mark.parametrize("number", [0, 1, 3, 1 << 40, (1 << 56) - 1])
def test_names_for_inodes_that_are_not_there(image: Image, number: int) -> None:
    image.change(entry(image, "block", b"name-00002"), struct.pack(">Q", number))
    image.refused("inode")


def test_a_path_that_is_too_long(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PATH_MAX", 14)
    image.refused("has a path of more than 14 bytes", LimitExceeded)
    monkeypatch.setattr(walk, "MAX_NAMES", 20)
    image.refused("more than 20 files", LimitExceeded)
