"""What boot loaders on a disk would boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.fs.boots import Boots
from recipes.formats.fs.devices import Device, Trees, devices
from recipes.formats.fs.naming import Names
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Node, Tree
from tests.kit.layouts import HOME, OTHER, TYPED, disk, entry, filesystem, root

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.fs.filesystem import FileSystem


class Found:
    """The boot loaders on a disk, and what was opened to find them."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.tree = Tree()
        self.opened: list[str] = []
        self.devices = devices(FileSource(self.file.fileno(), "disk"))
        self.boots = Boots(self.devices, Names(self.devices), self._open, Trees(self.tree))

    def __enter__(self) -> Found:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _open(self, device: Device) -> FileSystem:
        self.opened.append(str(device))
        return device.open()


def test_boot_on_a_partition_and_in_the_root(tmp_path: Path) -> None:
    boot = filesystem(tmp_path, "boot", {"loader/entries/a-1.conf": entry(f"root=UUID={HOME}")}, OTHER)
    one = root(tmp_path, "", **{"boot/loader/entries/b-1.conf": entry("root=LABEL=nowhere")})
    with Found(disk(tmp_path, (boot, TYPED), (one, TYPED))) as found:
        assert not found.opened
        before: Node = found.tree.root
        assert [[each.name for each in boot.entries] for boot in found.boots.all()] == [["a-1"], ["b-1"]]
        assert [boot.folder for boot in found.boots.all()] == [b"", b"boot"]
        assert all(boot.filesystem.exists(boot.folder + b"/loader/entries") for boot in found.boots.all())
        assert found.tree.root is before
        assert found.boots.all() is found.boots.all()


def test_the_preferred_entry_names_the_root(tmp_path: Path) -> None:
    entries = {
        "loader/entries/a-1.conf": entry(f"root=UUID={OTHER}", "1"),
        "loader/entries/a-2.conf": entry(f"root=UUID={HOME}", "2"),
        "loader/entries/a-0-rescue.conf": entry("root=/dev/sda1", "9"),
    }
    boot = filesystem(tmp_path, "boot", entries, OTHER)
    two = filesystem(tmp_path, "two", {"x": ""}, HOME)
    with Found(disk(tmp_path, (boot, TYPED), (two, TYPED))) as found:
        ((device, named),) = found.boots.roots()
        assert (device is found.devices[1], named.name) == (True, "a-2")
        assert [each.name for each in found.boots.of(found.devices[0])] == ["a-1"]


def test_an_entry_without_a_root_is_for_any(tmp_path: Path) -> None:
    boot = filesystem(tmp_path, "boot", {"loader/entries/ostree-1.conf": entry("ostree=/ostree/boot.1/x")}, OTHER)
    with Found(disk(tmp_path, (boot, TYPED))) as found:
        assert found.boots.roots() == []
        assert [each.name for each in found.boots.of(found.devices[0])] == ["ostree-1"]


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    bad = filesystem(tmp_path, "bad", {"loader/entries/a.conf": "x" * 70_000}, HOME)
    boot = filesystem(tmp_path, "boot", {"loader/entries/b.conf": entry("quiet")}, OTHER)
    broken = tmp_path / "broken"
    broken.write_bytes(b"XFSB".ljust(1 << 20, b"\0"))
    with Found(disk(tmp_path, (bad, TYPED), (broken, TYPED), (boot, TYPED))) as found:
        assert [[each.name for each in boot.entries] for boot in found.boots.all()] == [["b"]]
