"""A disk with btrfs through each of the commands that take a root file system."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from recipes.__main__ import main
from recipes.formats import rootfs
from recipes.formats.io.context import Context
from recipes.formats.tar import read as tar_read
from tests.kit.btrfs_images import MiB, kernel_facts, make, mounted, populate_extents
from tests.kit.ext4_images import kernel_facts as ext4_facts
from tests.kit.ext4_images import populate, tool
from tests.kit.layouts import partition
from tests.kit.oracles import need
from tests.kit.trees import Facts, differences, of_tree

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, Facts]]:
    """Return a disk as Fedora makes them, and what Linux shows of its root."""
    folder = tmp_path_factory.mktemp("disk")
    image, disk = folder / "image", folder / "disk.raw"
    make(image)
    with mounted(image, "compress=zstd:1") as top:
        for name in ("root", "home"):
            tool("btrfs", "subvolume", "create", str(top / name))
        populate(top / "root", names=20)
        populate_extents(top / "root")
        (top / "root/etc").mkdir()
        (top / "root/etc/os-release").write_text("ID=fedora\n")
        (top / "root/usr/bin").mkdir(parents=True)
        (top / "root/usr/bin/sh").write_bytes(b"\x7fELF")
        tool("btrfs", "subvolume", "create", str(top / "root/nested"))
        (top / "root/nested/file").write_text("nested")
        # No archive holds more than the 8 GiB that it has octal digits for without more ado, nor what ext4 does not.
        for number in range(3):
            (top / f"root/time of {number}").unlink()
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size + 2 * MiB)
        partition(disk, f"label: gpt\nstart=2048, size=524288, type={ROOT}\n")
    with disk.open("r+b") as file, image.open("rb") as source:
        for at in range(0, image.stat().st_size, MiB):
            piece = source.read(MiB)
            if any(piece):
                os.pwrite(file.fileno(), piece, MiB + at)
    return disk, kernel_facts(image, "subvol=root")


def test_rootfs(system: tuple[Path, dict[bytes, Facts]], tmp_path: Path) -> None:
    disk, expected = system
    assert main(["rootfs", str(disk), str(tmp_path / "rootfs.tar")]) == 0
    with tar_read.load(tmp_path / "rootfs.tar") as tree:
        assert differences(of_tree(tree), expected) == []


def test_vhdx(system: tuple[Path, dict[bytes, Facts]], tmp_path: Path) -> None:
    need("qemu-img", "e2fsck")
    disk, expected = system
    assert main(["vhdx", "--size=1GiB", str(disk), str(tmp_path / "disk.vhdx")]) == 0
    tool("qemu-img", "convert", "-f", "vhdx", "-O", "raw", str(tmp_path / "disk.vhdx"), str(tmp_path / "disk.raw"))
    tool("e2fsck", "-fn", str(tmp_path / "disk.raw"))
    found = ext4_facts(tmp_path / "disk.raw")
    found.pop(b"lost+found", None)
    assert differences(found, expected) == []


def test_oci(system: tuple[Path, dict[bytes, Facts]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, expected = system
    assert main(["oci", "--json", "--compression=none", str(disk), str(tmp_path / "image.tar")]) == 0
    assert json.loads(capsys.readouterr().out)
    with rootfs.open_tree(
        tmp_path / "image.tar",
        Context(limit=1 << 40, scratch=lambda: tmp_path / "scratch"),
        rootfs.Wanted("oci", "x86_64"),
    ) as tree:
        found = of_tree(tree)
    assert found.keys() == expected.keys()
    assert {path: each.digest for path, each in found.items()} == {path: each.digest for path, each in expected.items()}
    assert not [each for each in found.values() if stat.S_ISSOCK(each.mode)]
