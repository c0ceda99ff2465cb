"""What is on an XFS disk: structures, flags and encodings.

Specification: "XFS Algorithms & Data Structures" (3rd edition) and, where that is silent, Linux,
fs/xfs/libxfs/xfs_format.h and xfs_da_format.h. Everything is big-endian, checksums alone little-endian.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import NamedTuple

#: Addresses of blocks in headers, and the sectors of the log, count these.
SECTOR = 512
SECTOR_LOG = 9
MAGIC = b"XFSB"

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")


class Version(IntFlag):
    """Bits of ``sb_versionnum``, the lowest four apart, which are a number."""

    EXTFLG = 0x1000
    DIRV2 = 0x2000
    MOREBITS = 0x8000


VERSION_NUMBER = 0xF


class Features2(IntFlag):
    """``sb_features2`` of version 4, which means something if versionnum has MOREBITS."""

    LAZYSB = 0x2
    ATTR2 = 0x8
    PARENT = 0x10
    PROJID32 = 0x80
    CRC = 0x100
    FTYPE = 0x200


class RoCompat(IntFlag):
    """Features of version 5 that only a writer has to know (those that matter here)."""

    REFLINK = 0x4


class Incompat(IntFlag):
    """Features of version 5 that a reader has to know."""

    FTYPE = 0x1
    SPINODES = 0x2
    META_UUID = 0x4
    BIGTIME = 0x8
    NEEDSREPAIR = 0x10
    NREXT64 = 0x20
    EXCHRANGE = 0x40
    PARENT = 0x80
    METADIR = 0x100
    ZONED = 0x200
    ZONE_GAPS = 0x400


class LogIncompat(IntFlag):
    """Features of version 5 that whoever replays the log has to know."""

    XATTRS = 0x1


_SUPERBLOCK = struct.Struct(">4sIQ16x16sQQ20xII4xIHHHH12xBBBBBxB53xI8xB7xI8xIII24x16s")


class Superblock(NamedTuple):
    """The fields of the superblock that a reader needs, without the ``sb_`` of xfs_format.h."""

    magic: bytes
    blocksize: int
    #: Blocks in all.
    dblocks: int
    uuid: bytes
    #: First block of the log, or 0 if that is on another device.
    logstart: int
    rootino: int
    #: Blocks of an allocation group, the last one apart, which may have fewer.
    agblocks: int
    agcount: int
    logblocks: int
    versionnum: int
    sectsize: int
    inodesize: int
    inopblock: int
    #: Base 2 logarithms of blocksize, sectsize, inodesize, inopblock, and of agblocks rounded up.
    blocklog: int
    sectlog: int
    inodelog: int
    inopblog: int
    agblklog: int
    inprogress: int
    #: Blocks that chunks of inodes are aligned to.
    inoalignmt: int
    #: Base 2 logarithm of the blocks of a directory's block.
    dirblklog: int
    features2: int
    ro_compat: int
    incompat: int
    log_incompat: int
    #: What the blocks say instead of uuid if META_UUID is set.
    meta_uuid: bytes

    @classmethod
    def unpack(cls, raw: bytes) -> Superblock:
        """Decode the first bytes of a sector."""
        return cls._make(_SUPERBLOCK.unpack_from(raw))


SUPERBLOCK_SIZE = _SUPERBLOCK.size
SUPERBLOCK_CRC = 224
SUPERBLOCK_LSN = 240

#: magic, mode, version, format, onlink, uid, gid, nlink, (projid), big_nextents, (atime), mtime, (ctime), size,
#: nblocks, (extsize), nextents, anextents, forkoff, aformat, (…), flags, (gen, next_unlinked).
INODE = struct.Struct(">2sHBBHIII4xQ8xQ8xQQ4xIHBB6xH8x")
INODE_MAGIC = b"IN"
#: Bytes of the core of an inode of version 3, and where its own fields are: CRC, LSN, flags2, number, UUID.
INODE_V3_SIZE = 176
INODE_CRC, INODE_LSN, INODE_FLAGS2, INODE_NUMBER, INODE_UUID = 100, 112, 120, 152, 160

#: di_flags: the data is on the realtime device.
FLAG_REALTIME = 0x1
#: di_flags2: how times are, how many extents there may be, and that it is no user's file.
FLAG2_BIGTIME, FLAG2_NREXT64, FLAG2_METADATA = 0x8, 0x10, 0x20

#: How a fork is: a device's number, in the inode, a list of extents, a tree of them.
DEVICE, LOCAL, EXTENTS, BTREE = range(4)

#: The longest symbolic link (XFS_SYMLINK_MAXLEN) and value of an attribute.
SYMLINK_MAX = 1024
XATTR_SIZE_MAX = 65536


class Header(NamedTuple):
    """Where the head of a block of version 5 has what says that it is the right one."""

    crc: int
    #: Its own address, in sectors.
    block: int
    lsn: int
    uuid: int
    #: The inode that it belongs to.
    owner: int


BTREE_HEADER = Header(crc=64, block=24, lsn=32, uuid=40, owner=56)
DIRECTORY_HEADER = Header(crc=4, block=8, lsn=16, uuid=24, owner=40)
#: Leaves and nodes of attributes and of a directory's index (xfs_da3_blkinfo).
DA_HEADER = Header(crc=12, block=16, lsn=24, uuid=32, owner=48)
#: Values of attributes and targets of symbolic links.
REMOTE_HEADER = Header(crc=12, block=40, lsn=48, uuid=16, owner=32)

#: Data and attributes' extents begin their tree's blocks with this; v4, v5, and the bytes of the head.
BTREE_MAGIC = {False: b"BMAP", True: b"BMA3"}
BTREE_HEAD = {False: 24, True: 72}
#: Of a directory: the block that is all there is, and one of several.
ONE_BLOCK_MAGIC = {False: b"XD2B", True: b"XDB3"}
DATA_BLOCK_MAGIC = {False: b"XD2D", True: b"XDD3"}
DATA_BLOCK_HEAD = {False: 16, True: 64}
#: Blocks of directories and attributes that have their magic at 8 (xfs_da_blkinfo).
DA_MAGIC_AT = 8
ATTR_LEAF_MAGIC = {False: 0xFBEE, True: 0x3BEE}
ATTR_NODE_MAGIC = {False: 0xFEBE, True: 0x3EBE}
DIR_LEAF1_MAGIC, DIR_LEAFN_MAGIC = 0x3DF1, 0x3DFF
SYMLINK_MAGIC, REMOTE_MAGIC = b"XSLM", b"XARM"
#: offset, bytes.
REMOTE_PLACE = struct.Struct(">4xII")
REMOTE_HEAD = 56

_BIGTIME_EPOCH_NS = (1 << 31) * 10**9


def unpack_time(value: int, *, bigtime: bool) -> int:
    """Return a time of an inode, in nanoseconds since the epoch."""
    if bigtime:
        return value - _BIGTIME_EPOCH_NS
    return ((value >> 32) - (value >> 63 << 32)) * 10**9 + (value & 0xFFFFFFFF)


def checksum_holds(data: bytes, at: int) -> bool:
    """Say whether the CRC32C of `data`, taken with zeros at `at`, is the one that is there."""
    from google_crc32c import value

    found: int = value(b"".join((data[:at], b"\0\0\0\0", data[at + 4 :])))
    return found == int.from_bytes(data[at : at + 4], "little")
