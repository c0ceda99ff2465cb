from __future__ import annotations

import struct

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.btree import BTree
from recipes.formats.fs.btrfs.extents import Extents
from recipes.formats.fs.btrfs.inodes import Inodes
from recipes.formats.fs.btrfs.layout import DIR_INDEX, EXTENT_DATA, INODE_ITEM, INODE_REF, XATTR
from recipes.formats.fs.btrfs.nodes import Key
from recipes.formats.fs.btrfs.sums import Sums
from tests.kit.btrfs_volumes import LOGICAL, SIZE, entry_body, inline_body, inode_body, leaf, nodes, pointer
from tests.kit.ext4_images import ACL

Item = tuple[Key, bytes]
FILE, FOLDER, LINK, DEVICE, FIFO = 0o100644, 0o040755, 0o120777, 0o020666, 0o010644


def inodes(*items: Item, weights: list[int] | None = None) -> Inodes:
    found = nodes(leaf(LOGICAL, items))
    extents = Extents(found.volume, Sums(found.volume, None), lambda weight: None)
    told = [] if weights is None else weights
    return Inodes(found.volume, extents, BTree(found, pointer(), "the tree"), told.append)


def item(number: int, mode: int = FILE, size: int = 0, **more: int) -> Item:
    return (number, INODE_ITEM, 0), inode_body(mode, size, **more)


def test_everything_of_a_file() -> None:
    found = inodes(
        item(256, FOLDER, ns=5),
        ((256, INODE_REF, 256), b"anything"),
        ((256, DIR_INDEX, 2), entry_body(b"a", 257)),
        ((256, DIR_INDEX, 3), entry_body(b"b", 258, 2)),
        item(257, FILE, 5),
        ((257, XATTR, 99), entry_body(b"user.a", 0, data=b"v") + entry_body(b"security.b", 0, data=b"w")),
        ((257, EXTENT_DATA, 0), inline_body(b"hello")),
        item(258, FOLDER),
    )
    assert sorted(found.nodes) == [256, 257, 258]
    assert [entry.name for entry in found.names[256]] == [b"a", b"b"]
    file = found.nodes[257]
    assert (file.size, file.uid, file.gid, file.stored) == (5, 7, 8, 5)
    assert file.xattrs == {b"user.a": b"v", b"security.b": b"w"}
    assert found.nodes[256].mtime_ns == 5
    assert not found.orphans


def test_the_last_file_has_its_data_too() -> None:
    assert inodes(item(257, FILE, 5), ((257, EXTENT_DATA, 0), inline_body(b"hello"))).nodes[257].stored == 5


def test_links_and_devices() -> None:
    found = inodes(
        item(257, LINK, 6),
        ((257, EXTENT_DATA, 0), inline_body(b"target")),
        item(258, DEVICE, device=5 << 20 | 70_000),
        item(259, FIFO),
    )
    assert found.nodes[257].target == b"target"
    assert found.nodes[258].device == (5, 70_000)
    assert found.nodes[259].device == (0, 0)


def test_what_was_deleted_while_it_was_open() -> None:
    found = inodes(item(257, FILE, links=0), item(258, FILE))
    assert found.orphans == {257}


def test_what_is_the_file_systems_own_is_passed_over() -> None:
    found = inodes(((1, INODE_ITEM, 0), b"short"), item(257), (((1 << 64) - 11, INODE_ITEM, 0), b"short"))
    assert list(found.nodes) == [257]


@pytest.mark.parametrize("kind", [XATTR, DIR_INDEX, EXTENT_DATA])
def test_items_without_their_inode(kind: int) -> None:
    match = f"an item of type {kind} for inode 258, and no such inode"
    with pytest.raises(CorruptImage, match=match):
        inodes(item(257), ((258, kind, 0), b"x"))
    with pytest.raises(CorruptImage, match=match):
        inodes(((258, kind, 0), b"x"))


@pytest.mark.parametrize(
    ("mode", "offset"), [(FOLDER, 0), (DEVICE, 0), (FIFO, 0), (LINK, SIZE)], ids=["folder", "device", "fifo", "link"]
)
def test_data_of_what_has_none(mode: int, offset: int) -> None:
    with pytest.raises(CorruptImage, match=f"inode 257 of mode {mode:#o} has data at {offset}"):
        inodes(item(257, mode), ((257, EXTENT_DATA, offset), inline_body(b"hello")))


class TestAttributes:
    def of(self, *bodies: bytes) -> dict[bytes, bytes]:
        items = [((257, XATTR, number), body) for number, body in enumerate(bodies)]
        return inodes(item(257), *items).nodes[257].xattrs

    def test_what_means_something_elsewhere(self) -> None:
        found = self.of(
            entry_body(b"trusted.t", 0, data=b"1"),
            entry_body(b"btrfs.compression", 0, data=b"zstd"),
            entry_body(b"system.posix_acl_access", 0, data=ACL),
            entry_body(b"system.other", 0, data=b"x"),
        )
        assert found == {b"trusted.t": b"1", b"system.posix_acl_access": ACL}

    def test_twice(self) -> None:
        with pytest.raises(CorruptImage, match=r"inode 257 has the extended attribute b'user.a' twice"):
            self.of(entry_body(b"user.a", 0, data=b"1"), entry_body(b"user.a", 0, data=b"2"))

    def test_an_access_control_list_that_is_none(self) -> None:
        with pytest.raises(CorruptImage, match=r"disk.*inode 257: "):
            self.of(entry_body(b"system.posix_acl_access", 0, data=struct.pack("<I", 3)))


def test_what_is_read_weighs() -> None:
    weights: list[int] = []
    inodes(
        item(256, FOLDER),
        ((256, XATTR, 1), entry_body(b"user.a", 0, data=b"v")),
        ((256, DIR_INDEX, 2), entry_body(b"a", 257)),
        weights=weights,
    )
    assert len(weights) == 3
    assert weights[0] == SIZE
    assert all(weight > 0 for weight in weights)
