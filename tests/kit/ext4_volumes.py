"""ext4 by hand: a volume with these bytes in these blocks, for what reads one structure of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from recipes.formats.fs.ext4.layout import (
    GROUP_CHECKSUM_OFFSET,
    INODE,
    INODE_EXTRA,
    SUPERBLOCK_OFFSET,
    Group,
    Incompat,
    RoCompat,
    Superblock,
)
from recipes.formats.fs.ext4.volume import Disk, Volume, crc32c
from recipes.formats.io.source import BytesSource

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes of a block, blocks, inodes, the first block of their table, and bytes of an inode.
BLOCK = 1024
BLOCKS = 64
INODES = 32
TABLE = 5
INODE_SIZE = 256
UUID = bytes(range(16))


def volume(blocks: Mapping[int, bytes] | None = None, *, checked: bool = False, **fields: Any) -> Volume:
    """Return a volume whose `blocks`, by their numbers, hold these bytes; with checksums of metadata if `checked`.

    `fields` are those of its superblock.
    """
    return Volume(Disk(BytesSource(image(blocks, checked=checked, **fields), "disk")))


def image(blocks: Mapping[int, bytes] | None = None, *, checked: bool = False, **fields: Any) -> bytes:
    """Return the bytes of such a volume."""
    plain = Superblock(
        inodes_count=INODES,
        blocks_count_lo=BLOCKS,
        first_data_block=1,
        log_block_size=0,
        log_cluster_size=0,
        blocks_per_group=8 * BLOCK,
        clusters_per_group=8 * BLOCK,
        inodes_per_group=INODES,
        inode_size=INODE_SIZE,
        feature_incompat=Incompat.FILETYPE | Incompat.EXTENTS,
        feature_ro_compat=RoCompat.METADATA_CSUM if checked else 0,
        checksum_type=1,
        uuid=UUID,
    )
    superblock = bytearray(plain._replace(**fields).pack())
    struct.pack_into("<I", superblock, 0x3FC, crc32c(0, bytes(superblock[:0x3FC])))
    descriptor = bytearray(Group(3, 4, TABLE, 0, 0, 0, 0).pack())
    if checked:
        found = crc32c(crc32c(0, UUID) ^ 0xFFFFFFFF, struct.pack("<I", 0), bytes(descriptor))
        struct.pack_into("<H", descriptor, GROUP_CHECKSUM_OFFSET, found & 0xFFFF)
    whole = bytearray(BLOCKS * BLOCK)
    whole[SUPERBLOCK_OFFSET : 2 * BLOCK] = superblock
    whole[2 * BLOCK : 2 * BLOCK + len(descriptor)] = descriptor
    for number, data in (blocks or {}).items():
        whole[number * BLOCK : number * BLOCK + len(data)] = data
    return bytes(whole)


def raw_inode(
    *,
    mode: int = 0o100644,
    size: int = 0,
    flags: int = 0,
    block: bytes = b"",
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    links: int = 1,
    generation: int = 0,
    acl: int = 0,
    extra: int = INODE_EXTRA.size,
    mtime_extra: int = 0,
    body: bytes = b"",
) -> bytes:
    """Return an inode of `INODE_SIZE` bytes, its checksum left out."""
    raw = INODE.pack(
        *(mode, uid & 0xFFFF, size & 0xFFFFFFFF, 0, 0, mtime, 0, gid & 0xFFFF, links, 0, flags, 0, block),
        *(generation, acl & 0xFFFFFFFF, size >> 32, 0, 0, acl >> 32, uid >> 16, gid >> 16, 0, 0),
    )
    raw += INODE_EXTRA.pack(extra, 0, 0, mtime_extra, 0, 0, 0, 0, 0)[: max(extra, 2)]
    return (raw + body).ljust(INODE_SIZE, b"\0")
