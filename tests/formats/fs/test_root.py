"""Which partition is the root, and what is said where none can be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, StoreError, UnsupportedFeature
from recipes.formats.fs import root as disk_tree
from tests.kit.ext4_images import MiB, make, tool
from tests.kit.layouts import partition
from tests.kit.lvm_images import UUIDS, group, physical, segment, volume
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
EFI = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
X86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
ARM64 = "b921b045-1df0-41c3-af44-4c6f280d3fae"


class Disk:
    """A disk that is put together partition by partition, of 4 MiB unless they say."""

    def __init__(self, folder: Path, label: str = "gpt") -> None:
        self.path = folder / "disk.raw"
        self._folder = folder
        self._script = [f"label: {label}"]
        self._parts: list[tuple[int, Path]] = []
        self._end = 1

    def add(self, kind: str, filesystem: str, *files: str, size: int = 4) -> Disk:
        """Add a partition of this type with such a file system, in which these files hold its number."""
        number = len(self._parts)
        source, image = self._folder / f"source-{number}", self._folder / f"partition-{number}"
        source.mkdir()
        (source / "number").write_text(str(number))
        for name in files:
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(number))
        if filesystem.startswith("ext"):
            make(image, size * MiB, "-t", filesystem, "-d", str(source))
        else:
            with image.open("wb") as file:
                file.truncate(size * MiB)
                if filesystem == "LUKS":
                    os.pwrite(file.fileno(), b"LUKS\xba\xbe", 0)
            if filesystem != "LUKS":
                need(filesystem)
                options = {"mkfs.vfat": [], "mkfs.btrfs": ["-q", "--rootdir", str(source)]}
                tool(filesystem, *options.get(filesystem, ["-q"]), str(image))
        return self.add_image(kind, image)

    def add_image(self, kind: str, image: Path) -> Disk:
        """Add a partition of this type with what is in `image`."""
        size = image.stat().st_size // MiB
        self._script.append(f"start={self._end * 2048}, size={size * 2048}, type={kind}")
        self._parts.append((self._end, image))
        self._end += size
        return self

    def root(self) -> bytes:
        """Write the disk, and return which of the partitions is taken for the root."""
        with self.path.open("wb") as file:
            file.truncate((self._end + 1) * MiB)
        partition(self.path, "\n".join(self._script))
        with self.path.open("r+b") as file:
            for start, image in self._parts:
                os.pwrite(file.fileno(), image.read_bytes(), start * MiB)
        with disk_tree.load(self.path) as tree:
            node = tree.find(b"number")
            assert node is not None
            return b"".join(piece for _at, piece in node.chunks(100))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("kind", [X86_64, ARM64])
def test_the_type_decides(disk: Disk, kind: str) -> None:
    disk.add(EFI, "mkfs.vfat").add(LINUX, "ext4", "etc/os-release", size=8).add(kind, "ext4")
    assert disk.root() == b"2"


def test_the_first_of_several_with_the_type(disk: Disk) -> None:
    assert disk.add(LINUX, "ext4", "etc/os-release").add(X86_64, "ext4").add(X86_64, "ext4").root() == b"1"


@pytest.mark.parametrize("name", ["etc/os-release", "usr/lib/os-release"])
def test_without_the_type_os_release_decides(disk: Disk, name: str) -> None:
    assert disk.add(LINUX, "ext2", size=8).add(LINUX, "ext4", name).add(LINUX, "ext4").root() == b"1"


def test_the_largest_of_several_with_os_release(disk: Disk) -> None:
    disk.add(LINUX, "ext4", "etc/os-release").add(LINUX, "ext3", "etc/os-release", size=8)
    assert disk.add(LINUX, "ext4", "etc/os-release").root() == b"1"


def test_an_mbr_with_a_logical_root(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "dos").add("83", "ext2").add("83", "ext4", "etc/os-release")
    assert disk.root() == b"1"


LVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"


def of_volumes(folder: Path, *kinds: str, os_release: int | None = None, status: str = "striped") -> Path:
    """Write a physical volume with logical ones of 4 MiB each, in which `number` says which one it is."""
    texts = []
    path = folder / "physical"
    for number, kind in enumerate(kinds):
        source = folder / f"volume-{number}"
        (source / "etc").mkdir(parents=True)
        (source / "number").write_text(f"volume {number}")
        if number == os_release:
            (source / "etc/os-release").write_text("NAME=x")
        make(folder / f"volume-{number}.image", 4 * MiB, "-t", kind, "-d", str(source))
        # Of two parts that lie the wrong way round.
        parts = (segment(0, 2, ("pv0", 4 * number + 2), kind=status), segment(2, 2, ("pv0", 4 * number), kind=status))
        texts.append(volume(f"v{number}", *parts))
    physical(path, UUIDS[0], group(*texts), (4 * len(kinds) + 1) * MiB)
    with path.open("r+b") as file:
        for number in range(len(kinds)):
            data = (folder / f"volume-{number}.image").read_bytes()
            os.pwrite(file.fileno(), data[2 * MiB :] + data[: 2 * MiB], (1 + 4 * number) * MiB)
    return path


def test_a_logical_volume_with_os_release(disk: Disk, tmp_path: Path) -> None:
    path = of_volumes(tmp_path, "ext4", "ext4", "ext2", os_release=1)
    assert disk.add(LINUX, "ext4", size=8).add_image(LVM, path).root() == b"volume 1"


@pytest.mark.parametrize("kind", [LVM, X86_64])
def test_the_type_of_a_physical_volume_does_not_matter(disk: Disk, tmp_path: Path, kind: str) -> None:
    disk.add(LINUX, "ext4", "etc/os-release", size=8).add_image(kind, of_volumes(tmp_path, "ext4", os_release=0))
    assert disk.root() == b"0"


def test_the_whole_disk_is_a_physical_volume(tmp_path: Path) -> None:
    with disk_tree.load(of_volumes(tmp_path, "ext4", "ext4", os_release=1)) as tree:
        assert tree.find(b"etc/os-release") is not None


def test_volumes_that_are_not_read(disk: Disk, tmp_path: Path) -> None:
    path = of_volumes(tmp_path, "ext4", os_release=0, status="raid1")
    with pytest.raises(UnsupportedFeature, match=r"LVM2 raid1 is not supported yet .*; volume 'vg/v0' \(LVM2 raid1\)"):
        disk.add_image(LVM, path).root()


def test_volumes_without_a_root(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"found partition 1 \(LVM2, .*; volume 'vg/v0' \(ext4, 4194304 bytes\)"
    ):
        disk.add_image(LVM, of_volumes(tmp_path, "ext4")).root()


def test_a_bare_file_system_is_the_root(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, 4 * MiB, "-t", "ext4")
    with disk_tree.load(image) as tree:
        assert [path for path, _node in tree.walk()] == [b"", b"lost+found"]


def test_another_file_system_is_named(disk: Disk) -> None:
    name, size = "LUKS", 1
    disk.add(EFI, "mkfs.vfat").add(LINUX, "ext4").add(LINUX, name, size=size)
    with pytest.raises(UnsupportedFeature) as caught:
        disk.root()
    text = str(caught.value)
    assert f"{disk.path}: {name} is not supported yet for a root file system" in text
    assert f"partition 3 ({name}, {size * MiB} bytes, type {LINUX})" in text
    assert "partition 1 (vfat" in text
    assert "rootfs" in text


def test_another_file_system_with_the_type_is_not_passed_over(disk: Disk) -> None:
    disk.add(LINUX, "ext4", "etc/os-release").add(X86_64, "LUKS")
    with pytest.raises(UnsupportedFeature, match="LUKS is not supported yet"):
        disk.root()


def test_a_btrfs_is_the_root_like_any_other(disk: Disk) -> None:
    disk.add(LINUX, "ext4", "etc/os-release").add(LINUX, "mkfs.btrfs", "etc/os-release", size=128)
    assert disk.add(LINUX, "mkfs.btrfs", "etc/hosts", size=256).root() == b"1"


def test_a_btrfs_with_the_type(disk: Disk) -> None:
    assert disk.add(LINUX, "ext4", "etc/os-release").add(X86_64, "mkfs.btrfs", size=128).root() == b"1"


def test_no_root_at_all(disk: Disk) -> None:
    disk.add(EFI, "mkfs.vfat").add(LINUX, "ext4")
    with pytest.raises(UnsupportedFeature, match=r"a file system of ext2, .*; found partition 1 \(vfat"):
        disk.root()


def test_no_partitions(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="found no partition"):
        Disk(tmp_path).root()


def test_damage_says_in_which_partition(disk: Disk) -> None:
    disk.add(EFI, "mkfs.vfat").add(X86_64, "ext4")
    disk.root()
    with disk.path.open("r+b") as file:
        # The number of inodes, which the superblock's checksum covers.
        os.pwrite(file.fileno(), b"\xff" * 4, 5 * MiB + 1024)
    with pytest.raises(CorruptImage, match=r"disk\.raw: partition 2: "):
        disk_tree.load(disk.path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        disk_tree.load(tmp_path / "nothing")
