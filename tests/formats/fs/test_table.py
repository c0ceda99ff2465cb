from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from recipes.formats.fs import table as filesystems
from recipes.formats.io.source import FileSource, Window
from tests.kit.ext4_images import MiB, tool
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path


def detect(image: Path) -> str | None:
    with image.open("rb") as file:
        # As of a partition: not at the file's beginning.
        return filesystems.detect(Window(FileSource(file.fileno(), str(image)), MiB, image.stat().st_size - MiB))


def made(tmp_path: Path, command: str, size: int = 16) -> Path:
    """Return a disk with what `command` makes, behind a MiB of something else."""
    need(command.split()[0])
    image = tmp_path / "partition"
    with image.open("wb") as file:
        file.truncate(size * MiB)
    tool(*command.split(), str(image))
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * MiB + image.read_bytes())
    return disk


@pytest.mark.parametrize(
    ("command", "size", "name"),
    [
        ("mke2fs -q -t ext2", 4, "ext2"),
        ("mke2fs -q -t ext2 -r 0", 4, "ext2"),
        ("mke2fs -q -t ext3", 4, "ext3"),
        ("mke2fs -q -t ext4", 4, "ext4"),
        ("mke2fs -q -t ext4 -O ^has_journal", 4, "ext4"),
        pytest.param("mkfs.xfs -q", 320, "xfs", marks=pytest.mark.long),
        ("mkfs.btrfs -q", 128, "btrfs"),
        ("mkswap -q", 4, "swap"),
        ("mkfs.vfat", 4, "vfat"),
        ("mkfs.vfat -F 32", 64, "vfat"),
    ],
)
def test_what_the_tools_make(tmp_path: Path, command: str, size: int, name: str) -> None:
    assert detect(made(tmp_path, command, size)) == name


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (0, b"LUKS\xba\xbe\0\x02", "LUKS"),
        (512, b"LABELONE" + bytes(16) + b"LVM2 001", "LVM2"),
        (0, b"hsqs", "squashfs"),
        (3, b"NTFS    ", "ntfs"),
        (4096, b"\xfc\x4e\x2b\xa9", "Linux RAID"),
    ],
)
def test_what_is_known_by_its_magic(tmp_path: Path, offset: int, magic: bytes, name: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MiB + offset) + magic + bytes(MiB))
    assert detect(disk) == name


@pytest.mark.parametrize("data", [b"", b"x", bytes(MiB), b"\xc3\x14\x9e", bytes(1080) + b"\x53\xef" + bytes(300)])
def test_nothing_that_is_known(tmp_path: Path, data: bytes) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MiB) + data)
    assert detect(disk) is None


def test_what_mke2fs_leaves_of_a_btrfs_is_not_seen(tmp_path: Path) -> None:
    disk = made(tmp_path, "mke2fs -q -t ext4")
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"_BHRfS_M", MiB + 65536 + 64)
    assert detect(disk) == "ext4"
