"""What is on a disk or a partition, by its magic: what larder reads, and the names of what it does not.

The places are those of libblkid (util-linux, libblkid/src/superblocks).
"""

from __future__ import annotations

import os

from recipes.formats.io.probe import Magic

from .ext4.layout import MAGIC, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Compat, Incompat, RoCompat, Superblock

#: ext2, ext3 and ext4: `recipes.formats.fs.ext4.read` reads them.
EXT = frozenset({"ext2", "ext3", "ext4"})

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


def detect(fd: int, start: int, size: int) -> str | None:
    """Name what is in the `size` bytes from `start` on of the file `fd`; None for what has no magic that is known."""
    head = os.pread(fd, min(size, _HEAD), start)
    for name, offset, value in MAGICS:
        if head.startswith(value, offset):
            return _ext(head) if name in EXT else name
    return None


def _ext(head: bytes) -> str | None:
    if len(head) < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE:
        return None
    superblock = Superblock.unpack(head[SUPERBLOCK_OFFSET:])
    incompat = superblock.feature_incompat & ~int(_EXT3_INCOMPAT)
    if superblock.rev_level and (incompat or superblock.feature_ro_compat & ~int(_EXT3_RO_COMPAT)):
        return "ext4"
    return "ext3" if superblock.rev_level and superblock.feature_compat & Compat.HAS_JOURNAL else "ext2"
