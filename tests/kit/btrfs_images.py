"""btrfs file systems, as mkfs.btrfs and Linux make them."""

from __future__ import annotations

import fcntl
import os
import random
import stat
import struct
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import google_crc32c

from recipes.formats.fs import btrfs
from recipes.formats.fs.btrfs.layout import SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE
from recipes.formats.io.source import FileSource
from recipes.formats.tree.tree import Tree
from tests.kit.ext4_images import mounted as mount
from tests.kit.ext4_images import tool
from tests.kit.oracles import need
from tests.kit.trees import Facts, differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KiB = 1 << 10
MiB = 1 << 20

#: The inode of what Linux shows where a snapshot has but the name of a subvolume.
_STUB = 2

_FICLONERANGE = 0x4020940D
_FS_IOC_SETFLAGS = 0x40086602
_NOCOW = 0x00800000


def make(image: Path, *options: str, size: int = 256 * MiB) -> None:
    """Make the file system that mkfs.btrfs with these options makes in `size` bytes."""
    need("mkfs.btrfs")
    with image.open("wb") as file:
        file.truncate(size)
    tool("mkfs.btrfs", "-q", "-f", *options, str(image))


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Have the kernel show what is in `image`: all of it, unless the options name a subvolume."""
    which = () if any(option.startswith("subvol") for option in options) else ("subvolid=5",)
    with mount(image, *which, *options) as folder:
        yield folder


def facts(image: Path, which: int | bytes | None = 5) -> dict[bytes, Facts]:
    """Return what we read of a subvolume; None for the one that is taken for the root."""
    with image.open("rb") as file, Tree() as tree:
        system = btrfs.open(FileSource(file.fileno(), str(image)))
        subvolume = system.root if which is None else system.subvolume(which)
        assert subvolume is not None
        subvolume.fill(tree)
        return of_tree(tree)


def kernel_facts(image: Path, *options: str) -> dict[bytes, Facts]:
    """Return what Linux shows of the image.

    Sockets, which no archive holds, and properties, which only btrfs knows, are left out. Empty directories that stand
    for the subvolumes that a snapshot does not have get the time of the directory that is the snapshot, as we do it.
    """
    with mounted(image, "ro", *options) as folder:
        shown = of_folder(folder, skip=frozenset())
        for path, found in shown.items():
            status = os.lstat(folder / os.fsdecode(path))
            if status.st_ino == _STUB:
                here = folder / os.fsdecode(path)
                while os.lstat(here).st_ino != 256:
                    here = here.parent
                shown[path] = found._replace(mtime_ns=os.lstat(here).st_mtime_ns)
    return {
        path: found._replace(xattrs=tuple(each for each in found.xattrs if not each[0].startswith(b"btrfs.")))
        for path, found in shown.items()
        if not stat.S_ISSOCK(found.mode)
    }


def agrees_with_the_kernel(image: Path, *options: str, which: int | bytes | None = 5) -> dict[bytes, Facts]:
    """Assert that we read what Linux shows, and return it."""
    expected = kernel_facts(image, *options)
    assert len(expected) > 1
    assert differences(facts(image, which), expected) == []
    return expected


def text(size: int) -> bytes:
    """Return bytes that compress, and differ from page to page."""
    return b"".join(
        b"%d bottles of beer on the wall, and none like number %d\n" % (n, n * n) for n in range(size // 32)
    )[:size]


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes that do not compress, the same each time."""
    return random.Random(seed).randbytes(size)


def reflink(source: Path, target: Path, *, at: int = 0, length: int = 0, to: int = 0) -> None:
    """Have `target` share `length` bytes of `source` from `at` on (0: all), from `to` on."""
    with source.open("rb") as one, target.open("r+b" if target.exists() else "w+b") as other:
        fcntl.ioctl(other.fileno(), _FICLONERANGE, struct.pack("<qQQQ", one.fileno(), at, length, to))


def no_cow(path: Path) -> None:
    """Make an empty file whose data has no checksums."""
    with path.open("wb") as file:
        fcntl.ioctl(file.fileno(), _FS_IOC_SETFLAGS, struct.pack("<i", _NOCOW))


def populate_extents(folder: Path, *, clone: bool = True) -> None:
    """Add what only btrfs has to what is in `folder`: partial references, compression or not, preallocation."""
    (folder / "text").write_bytes(text(900_000))
    (folder / "noise").write_bytes(noise(300_000))
    (folder / "inline text").write_bytes(text(1900))
    (folder / "inline noise").write_bytes(noise(1900))
    sync(folder)
    # Written again in places: several references into one extent, and to others in between.
    with (folder / "text").open("r+b") as file:
        for at in range(10_000, 800_000, 52_345):
            os.pwrite(file.fileno(), noise(5000, at), at)
    os.truncate(folder / "noise", 200_001)
    if clone:
        reflink(folder / "text", folder / "clone of a part", at=64 * KiB, length=192 * KiB, to=16 * 64 * KiB)
        reflink(folder / "noise", folder / "clone")
    no_cow(folder / "no checksums")
    with (folder / "no checksums").open("r+b") as file:
        os.pwrite(file.fileno(), text(300_000), 65536)
    with (folder / "allotted").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, MiB)
        os.pwrite(file.fileno(), text(70_000), 300_000)
        # And behind the end of the file.
        _allot_behind(file.fileno(), 2 * MiB)
    for number, seconds in enumerate((-5_000_000_000, 7_000_000_000, 1 << 33)):
        (folder / f"time of {number}").touch()
        os.utime(folder / f"time of {number}", ns=(seconds * 10**9 + 5, seconds * 10**9 + 999_999_999))


def _allot_behind(fd: int, size: int) -> None:
    subprocess.run(["fallocate", "-n", "-o", str(size), "-l", str(size), f"/proc/{os.getpid()}/fd/{fd}"], check=True)


def sync(folder: Path) -> None:
    """Have everything on the file system of `folder` written, and nothing left in a log."""
    tool("sync", "-f", str(folder))


def patch_superblock(image: Path, at: int, data: bytes) -> None:
    """Change the first superblock, and mend its checksum."""
    with image.open("r+b") as file:
        raw = bytearray(os.pread(file.fileno(), SUPERBLOCK_SIZE, SUPERBLOCK_OFFSET))
        raw[at : at + len(data)] = data
        raw[:4] = google_crc32c.value(bytes(raw[32:])).to_bytes(4, "little")
        os.pwrite(file.fileno(), raw, SUPERBLOCK_OFFSET)
