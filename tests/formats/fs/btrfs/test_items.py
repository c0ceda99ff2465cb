from __future__ import annotations

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.items import attributes, entries, inode
from recipes.formats.fs.btrfs.layout import EXTENT_DATA, INODE_BODY, ROOT_ITEM
from tests.kit.btrfs_volumes import entry_body, inode_body, volume

VOLUME = volume()


def test_an_inode() -> None:
    found = inode(VOLUME, 257, inode_body(0o100644, 5, links=2, flags=1, ns=-1))
    assert (found.size, found.links, found.uid, found.gid, found.mode, found.flags) == (5, 2, 7, 8, 0o100644, 1)
    assert found.mtime_ns == -1


@pytest.mark.parametrize("mode", [0, 0o644, 0o160644, 0o110644, 0o100644 | 1 << 16])
def test_what_is_no_file(mode: int) -> None:
    with pytest.raises(CorruptImage, match="inode 257 is no file"):
        inode(VOLUME, 257, inode_body(mode))


def test_sizes_and_times_that_no_file_has() -> None:
    assert inode(VOLUME, 257, inode_body(0o100644, (1 << 63) - 1)).size == (1 << 63) - 1
    with pytest.raises(CorruptImage, match="inode 257 is no file"):
        inode(VOLUME, 257, inode_body(0o100644, 1 << 63))
    late = INODE_BODY.pack(0, 1, 0, 0, 0o100644, 0, 0, 0, 10**9)
    with pytest.raises(CorruptImage, match="1000000000 nanoseconds"):
        inode(VOLUME, 257, late)


@pytest.mark.parametrize("size", [0, 159])
def test_an_inode_that_is_cut_off(size: int) -> None:
    with pytest.raises(CorruptImage, match=f"inode 257 has {size} bytes"):
        inode(VOLUME, 257, inode_body(0o100644)[:size])


def test_names_with_one_hash() -> None:
    found = entries(VOLUME, 256, entry_body(b"a", 300) + entry_body(b"b" * 255, 5, 2, item=ROOT_ITEM))
    assert [(each.name, each.location[0], each.type, each.is_subvolume) for each in found] == [
        (b"a", 300, 1, False),
        (b"b" * 255, 5, 2, True),
    ]
    assert entries(VOLUME, 256, b"") == []


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (entry_body(b"", 300), "has the name"),
        (entry_body(b".", 300), "has the name '.' of type 1"),
        (entry_body(b"..", 300), "of type 1"),
        (entry_body(b"a/b", 300), "of type 1"),
        (entry_body(b"a\0b", 300), "has the name"),
        (entry_body(b"a", 300, 0), "of type 0"),
        (entry_body(b"a", 300, 8), "of type 8"),
        (entry_body(b"n" * 256, 300), "of 256 bytes"),
        (entry_body(b"a", 300, item=EXTENT_DATA), "'a' is no inode"),
        (entry_body(b"abc", 300)[:-1], "of 3 bytes with 0 more"),
        (entry_body(b"a", 300) + b"x", "end in the middle of one"),
        (entry_body(b"a", 300)[:29], "end in the middle of one"),
    ],
)
def test_names_that_cannot_be(body: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        entries(VOLUME, 256, body)


def test_attributes_have_values() -> None:
    body = entry_body(b"user.a", 0, data=b"value") + entry_body(b"user.b", 0)
    assert attributes(VOLUME, 257, body) == [(b"user.a", b"value"), (b"user.b", b"")]


def test_a_value_that_is_cut_off() -> None:
    with pytest.raises(CorruptImage, match="of 6 bytes with 5 more"):
        attributes(VOLUME, 257, entry_body(b"user.a", 0, data=b"value")[:-1])
