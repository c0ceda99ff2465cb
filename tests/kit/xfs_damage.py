"""A small XFS with one of each structure in it, and where those are: to be damaged."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.errors import CorruptImage, ImageError

from .ext4_images import ACL
from .xfs_images import SMALL, facts, make, mended, mounted

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1024
#: Of a directory: what mkfs.xfs takes with smaller blocks.
FOLDER = 4096


class Image(NamedTuple):
    """A file system, and where in it things are."""

    path: Path
    #: Name -> inode.
    numbers: dict[str, int]

    def inode(self, name: str) -> int:
        """Return the first byte of an inode."""
        number = self.numbers[name]
        data = self.path.read_bytes()
        group = number >> data[124] + data[123]
        inside = number & (1 << data[124] + data[123]) - 1
        return (group * int.from_bytes(data[84:88], "big") * BLOCK) + inside * 512

    def block(self, name: str, fork: str = "data") -> int:
        """Return the first byte of what the first extent of a file, or of its attributes, begins with."""
        data = self.path.read_bytes()
        at = self.inode(name)
        at += 176 + (data[at + 82] * 8 if fork == "attributes" else 0)
        high, low = struct.unpack_from(">QQ", data, at)
        return self.byte((high & 511) << 43 | low >> 21)

    def byte(self, block: int) -> int:
        """Return the first byte of a block."""
        data = self.path.read_bytes()
        group = int.from_bytes(data[84:88], "big")
        return ((block >> data[124]) * group + (block & (1 << data[124]) - 1)) * BLOCK

    def change(self, at: int, data: bytes) -> None:
        """Write `data`, and mend the checksum of what it is in."""
        mended(self.path, {at: data})

    def refused(self, match: str, kind: type[ImageError] = CorruptImage) -> None:
        with pytest.raises(kind, match=match) as caught:
            facts(self.path)
        assert str(self.path) in str(caught.value)


def damageable(path: Path) -> Image:
    """Make the file system at `path`."""
    make(path, SMALL, "-b", "size=1024")
    with mounted(path) as folder:
        (folder / "folder/inner").mkdir(parents=True)
        (folder / "folder/file").write_bytes(b"data" * 1000)
        (folder / "block").mkdir()
        for number in range(20):
            (folder / f"block/name-{number:05}").touch()
        (folder / "blocks").mkdir()
        for number in range(200):
            (folder / f"blocks/name-{number:05}").touch()
        (folder / "short").symlink_to("target")
        (folder / "long").symlink_to("t" * 900)
        os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
        with (folder / "pieces").open("wb") as file:
            for number in range(300):
                os.pwrite(file.fileno(), b"%d" % number, number * 2048)
        for name, count, size in (("inline", 2, 10), ("leaf", 9, 40), ("node", 60, 40), ("remote", 1, 5000)):
            (folder / name).touch()
            for number in range(count):
                os.setxattr(folder / name, f"user.{number:03}", b"v" * size)
        (folder / "acl").touch()
        os.setxattr(folder / "acl", "system.posix_acl_access", ACL)
        numbers = {str(each.relative_to(folder)): each.lstat().st_ino for each in folder.rglob("*")}
        numbers["."] = folder.stat().st_ino
    return Image(path, numbers)


def tree_block(image: Image) -> int:
    """Return the first byte of the first leaf of the tree that `pieces` has."""
    data = image.path.read_bytes()
    at = image.inode("pieces") + 176
    fork = data[at - 176 + 82] * 8 or 512 - 176
    (block,) = struct.unpack_from(">Q", data, at + 4 + 8 * ((fork - 4) // 16))
    return image.byte(block)


def remote_block(image: Image) -> int:
    return image.path.read_bytes().index(b"XARM")


def extent(at: int, block: int, length: int, unwritten: bool = False) -> bytes:
    return struct.pack(">QQ", unwritten << 63 | at << 9 | block >> 43, (block << 21 | length) % (1 << 64))


def entry(image: Image, folder: str, name: bytes) -> int:
    """Return where the entry for a name is, in the first block of a directory."""
    at = image.block(folder)
    return at + image.path.read_bytes()[at : at + BLOCK].index(name) - 9


def fork(image: Image, name: str) -> int:
    """Return where the attribute fork of an inode is."""
    at = image.inode(name)
    return at + 176 + 8 * image.path.read_bytes()[at + 82]
