from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Literal

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.fs import devices as fs_devices
from recipes.formats.fs.devices import ROOT_TYPES, Device, Trees, devices, filled
from recipes.formats.fs.partitions import Partition
from recipes.formats.io.source import BytesSource, FileSource, read
from recipes.formats.tree.tree import Node, Tree
from tests.kit.ext4_volumes import image
from tests.kit.lvm_images import UUIDS, group, physical, segment, volume

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
EXT = image()
ROOT = min(ROOT_TYPES)


def mbr(*partitions: tuple[int, int]) -> bytes:
    """Return a disk with these (first sector, sectors) of Linux, the first of them with an ext4."""
    disk = bytearray(max(first + count for first, count in partitions) * SECTOR)
    for index, (first, count) in enumerate(partitions):
        struct.pack_into("<4xB3xII", disk, 446 + 16 * index, 0x83, first, count)
    disk[510:512] = b"\x55\xaa"
    first = partitions[0][0] * SECTOR
    disk[first : first + len(EXT)] = EXT
    return bytes(disk)


def test_a_disk_without_partitions_is_one_device() -> None:
    (found,) = devices(BytesSource(EXT, "disk"))
    assert (found.filesystem, found.size, found.readable, found.sure) == ("ext4", len(EXT), True, True)
    assert found.source is not None
    assert found.source.name == "disk"
    assert str(found) == f"the whole disk (ext4, {len(EXT)} bytes)"
    assert found.open().exists(b"x") is False


class Filling:
    """A file system that becomes the tree, and may fail then."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def exists(self, path: bytes) -> bool:
        return not path

    def fill(self, tree: Tree) -> None:
        tree.root = Node(stat.S_IFDIR | 0o700)
        if self.fails:
            raise LimitExceeded("too much")


def test_what_is_filled_is_not_the_tree_s_own() -> None:
    tree = Tree()
    before = tree.root
    assert filled(tree, Filling(fails=False)).mode == stat.S_IFDIR | 0o700
    with pytest.raises(LimitExceeded):
        filled(tree, Filling(fails=True))
    assert tree.root is before


def test_each_is_read_once() -> None:
    tree = Tree()
    trees = Trees(tree)
    device, other = Device("ext4", None, None, "a/b"), Device("ext4", None, None, "a/c")
    one = trees.of(device, Filling(fails=False))
    assert trees.of(device, Filling(fails=True)) is one
    assert trees.of(other, Filling(fails=False)) is not one
    before = tree.root
    with trees.shown(one):
        assert tree.root is one
    assert tree.root is before
    trees.forget()
    with pytest.raises(LimitExceeded):
        trees.of(device, Filling(fails=True))


def test_partitions_are_windows_with_a_name_of_their_own() -> None:
    one, other = devices(BytesSource(mbr((8, 256), (300, 8)), "disk"))
    assert (one.filesystem, one.readable) == ("ext4", True)
    assert one.source is not None
    assert (one.source.name, read(one.source, 0, len(EXT))) == ("disk: partition 1", EXT)
    assert (other.filesystem, other.readable, other.sure) == (None, False, False)
    assert str(other).startswith("partition 2 (nothing that is known, 4096 bytes")


@pytest.mark.parametrize(
    ("table", "kind", "filesystem", "sure"),
    [
        ("gpt", ROOT, "ext4", True),
        ("gpt", ROOT, None, True),
        ("gpt", ROOT, "LVM2", False),
        ("gpt", "0fc63daf-8483-4772-8e79-3d69d8477de4", "ext4", False),
        ("none", "", "ext4", True),
        ("none", "", "LVM2", False),
    ],
)
def test_what_the_table_is_sure_of(
    table: Literal["gpt", "none"], kind: str, filesystem: str | None, sure: bool
) -> None:
    partition = Partition(1, 0, SECTOR, kind, "", table)
    assert Device(filesystem, BytesSource(b"", "x"), partition).sure is sure
    assert not Device(filesystem, BytesSource(b"", "x"), None, "vg/lv").sure


def test_labels_are_shown_as_what_they_are() -> None:
    partition = Partition(3, 0, SECTOR, ROOT, "a\x1b[31m b", "gpt")
    shown = str(Device("xfs", BytesSource(b"12", "x"), partition))
    assert shown == f"partition 3 (xfs, 2 bytes, type {ROOT}, called 'a\\x1b[31m b')"


def test_a_volume_that_is_not_read() -> None:
    unread = Device("LVM2 thin", None, None, "vg/thin")
    assert (unread.size, unread.readable, unread.sure) == (0, False, False)
    assert str(unread) == "volume 'vg/thin' (LVM2 thin)"
    with pytest.raises(AssertionError):
        unread.open()


def test_physical_volumes_are_asked_for_theirs(tmp_path: Path) -> None:
    text = group(volume("a", segment(0, 2, ("pv0", 0))), uuids=UUIDS[:1])
    path = physical(tmp_path / "pv", UUIDS[0], text)
    with path.open("rb") as file:
        found = devices(FileSource(file.fileno(), "disk"))
    assert [each.filesystem for each in found] == [fs_devices.PHYSICAL_VOLUME, None]
    assert found[1].volume == "vg/a"
    assert found[1].source is not None
