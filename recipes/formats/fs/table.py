"""The file systems: what is on a disk or a partition, by its magic, and what reads it where larder does.

A new file system is a package of this one, a row of `READERS` and its tests.

The places are those of libblkid (util-linux, libblkid/src/superblocks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.io.probe import Magic
from recipes.formats.io.source import read

from .ext4.layout import MAGIC, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Compat, Incompat, RoCompat, Superblock

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipes.formats.io.source import Source

    from .filesystem import FileSystem


def _open_ext4(source: Source) -> FileSystem:
    from .ext4.read import Ext4

    return Ext4(source)


def _open_btrfs(source: Source) -> FileSystem:
    from . import btrfs

    return btrfs.open(source)


def _open_xfs(source: Source) -> FileSystem:
    from . import xfs

    return xfs.open(source)


#: What opens a file system, by the name that `detect` gives it. Each imports its package where it is needed.
READERS: dict[str, Callable[[Source], FileSystem]] = {
    "ext2": _open_ext4,
    "ext3": _open_ext4,
    "ext4": _open_ext4,
    "btrfs": _open_btrfs,
    "xfs": _open_xfs,
}

#: In the order in which they are tried. mke2fs overwrites what was in the first blocks and leaves what was further
#: behind, so ext comes after the former and before the latter.
MAGICS = (
    Magic("LUKS", 0, b"LUKS\xba\xbe"),
    *(Magic("LVM2", sector * 512 + 24, b"LVM2 001") for sector in range(4)),
    Magic("Linux RAID", 4096, b"\xfc\x4e\x2b\xa9"),
    Magic("Linux RAID", 0, b"\xfc\x4e\x2b\xa9"),
    Magic("dm-verity", 0, b"verity\0\0"),
    Magic("BitLocker", 3, b"-FVE-FS-"),
    Magic("xfs", 0, b"XFSB"),
    Magic("squashfs", 0, b"hsqs"),
    Magic("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    Magic("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    Magic("bcachefs", 4096 + 24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")),
    Magic("ntfs", 3, b"NTFS    "),
    Magic("exfat", 3, b"EXFAT   "),
    Magic("vfat", 82, b"FAT32   "),
    Magic("vfat", 54, b"FAT16   "),
    Magic("vfat", 54, b"FAT12   "),
    # The end of the first page, of 4, 16 or 64 KiB.
    *(Magic("swap", page - 10, b"SWAPSPACE2") for page in (4096, 16384, 65536)),
    Magic("ext4", SUPERBLOCK_OFFSET + 56, MAGIC.to_bytes(2, "little")),
    Magic("btrfs", 65536 + 64, b"_BHRfS_M"),
    Magic("ufs", 65536 + 1372, b"\x19\x01\x54\x19"),
    Magic("iso9660", 0x8001, b"CD001"),
)

_HEAD = max(magic.offset + len(magic.value) for magic in MAGICS)

#: Features that ext2 and ext3 may have; any other makes it ext4 (libblkid/src/superblocks/ext.c).
_EXT3_INCOMPAT = Incompat.FILETYPE | Incompat.RECOVER | Incompat.META_BG
_EXT3_RO_COMPAT = RoCompat.SPARSE_SUPER | RoCompat.LARGE_FILE | RoCompat.BTREE_DIR


def detect(source: Source) -> str | None:
    """Name what is in `source`, a disk or a partition; None for what has no magic that is known."""
    head = read(source, 0, _HEAD)
    for name, offset, value in MAGICS:
        if head.startswith(value, offset):
            return _ext(head) if name == "ext4" else name
    return None


def _ext(head: bytes) -> str | None:
    if len(head) < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE:
        return None
    superblock = Superblock.unpack(head[SUPERBLOCK_OFFSET:])
    incompat = superblock.feature_incompat & ~int(_EXT3_INCOMPAT)
    if superblock.rev_level and (incompat or superblock.feature_ro_compat & ~int(_EXT3_RO_COMPAT)):
        return "ext4"
    return "ext3" if superblock.rev_level and superblock.feature_compat & Compat.HAS_JOURNAL else "ext2"
