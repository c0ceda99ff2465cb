"""The resize inode: it has the blocks that more group descriptors may take, so that a mounted file system can grow.

Specification: Linux, Documentation/filesystems/ext4, special_inodes.rst, names it, and fs/ext4/resize.c holds it to its
form (reserve_backup_gdb, verify_reserved_gdb). It is a file with a block map: its double indirect block points to each
reserved block behind the descriptors of group 0, and that, as an indirect block, to its copies in the other groups that
have a superblock.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

from recipes.formats.io.sparse import BLOCK

from .geometry import GROUP_BLOCKS
from .layout import EXTRA_ISIZE, INODE, INODE_EXTRA, SECTOR

if TYPE_CHECKING:
    from .alloc import Disk, FreeBlocks
    from .geometry import Geometry

#: Pointers in a block, and in an inode before the double indirect one.
_POINTERS = BLOCK // 4
_DIRECT_AND_INDIRECT = 13


def resize_inode(disk: Disk, geometry: Geometry, free: FreeBlocks) -> bytes:
    """Write the blocks of pointers; return the inode.

    It has no times: nothing of it comes from the tree.
    """
    ((double, _),) = free.take(1)
    copies = [group * GROUP_BLOCKS for group in geometry.superblocks() if group]
    pointers = bytearray(BLOCK)
    for number in range(geometry.descriptor_blocks, geometry.descriptor_blocks + geometry.reserved_blocks):
        struct.pack_into("<I", pointers, number % _POINTERS * 4, 1 + number)
        indirect = struct.pack(f"<{len(copies)}I", *(start + 1 + number for start in copies))
        disk.pwrite(indirect.ljust(BLOCK, b"\0"), (1 + number) * BLOCK)
    disk.pwrite(pointers, double * BLOCK)
    # As large as a file with a double indirect block can be.
    size = (_POINTERS**2 + _POINTERS + 12) * BLOCK
    sectors = (1 + geometry.reserved_blocks * (1 + len(copies))) * (BLOCK // SECTOR)
    block = struct.pack("<15I", *[0] * _DIRECT_AND_INDIRECT, double, 0)
    return INODE.pack(
        *(stat.S_IFREG | 0o600, 0, size & 0xFFFFFFFF, 0, 0, 0, 0, 0),
        *(1, sectors, 0, 0, block, 0, 0, size >> 32, 0),
        *(0, 0, 0, 0, 0, 0),
    ) + INODE_EXTRA.pack(EXTRA_ISIZE, 0, 0, 0, 0, 0, 0, 0, 0)
