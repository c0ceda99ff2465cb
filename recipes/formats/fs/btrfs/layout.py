"""What btrfs has on the disk: its structures, its numbers, its flags. All integers are little-endian.

Specification: Linux, include/uapi/linux/btrfs_tree.h and btrfs.h; btrfs.readthedocs.io, "On-disk format".
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import NamedTuple, Self

#: The first superblock; the copies at 64 MiB and 256 GiB are for repair, the kernel mounts by this one.
SUPERBLOCK_OFFSET = 65536
SUPERBLOCK_SIZE = 4096
MAGIC = b"_BHRfS_M"
CHECKSUM_SIZE = 32

#: Of nodes and of sectors (fs/btrfs/disk-io.c, btrfs_validate_super).
SIZES = frozenset({4096, 8192, 16384, 32768, 65536})
MAX_LEVEL = 8

#: Trees, and the tree that a subvolume without one of its own is in: the top level.
CHECKSUM_TREE = 7
TOP_LEVEL = 5
#: Numbers of subvolumes and of inodes are in this range; others are the file system's own.
FIRST_FREE, LAST_FREE = 256, (1 << 64) - 256
#: The root directory of every subvolume.
ROOT_INODE = FIRST_FREE
#: What the checksums of data are filed under.
CHECKSUM_OBJECT = (1 << 64) - 10
LAST_OFFSET = (1 << 64) - 1

#: Bytes that a compressed extent may have, on the disk and decompressed.
MAX_COMPRESSED = MAX_DECOMPRESSED = 128 << 10


class Incompat(IntFlag):
    """Features that a reader has to know."""

    MIXED_BACKREF = 1 << 0
    DEFAULT_SUBVOL = 1 << 1
    MIXED_GROUPS = 1 << 2
    COMPRESS_LZO = 1 << 3
    COMPRESS_ZSTD = 1 << 4
    BIG_METADATA = 1 << 5
    EXTENDED_IREF = 1 << 6
    RAID56 = 1 << 7
    SKINNY_METADATA = 1 << 8
    NO_HOLES = 1 << 9
    METADATA_UUID = 1 << 10
    RAID1C34 = 1 << 11
    ZONED = 1 << 12
    EXTENT_TREE_V2 = 1 << 13
    RAID_STRIPE_TREE = 1 << 14
    ENCRYPT = 1 << 15
    SIMPLE_QUOTA = 1 << 16
    REMAP_TREE = 1 << 17


class SuperFlag(IntFlag):
    """States of the whole file system in which it is none that could be read."""

    METADUMP = 1 << 33
    METADUMP_V2 = 1 << 34
    CHANGING_FSID = 1 << 35
    CHANGING_FSID_V2 = 1 << 36
    CHANGING_BG_TREE = 1 << 38
    CHANGING_DATA_CSUM = 1 << 39
    CHANGING_META_CSUM = 1 << 40


class Profile(IntFlag):
    """How a chunk is spread over devices."""

    RAID0 = 1 << 3
    RAID1 = 1 << 4
    DUP = 1 << 5
    RAID10 = 1 << 6
    RAID5 = 1 << 7
    RAID6 = 1 << 8
    RAID1C3 = 1 << 9
    RAID1C4 = 1 << 10


#: Types of items, the second field of a key; those that are read. Plain numbers: they are compared for every item.
INODE_ITEM = 1
INODE_REF = 12
XATTR = 24
DIR_ITEM = 84
DIR_INDEX = 96
EXTENT_DATA = 108
EXTENT_CSUM = 128
ROOT_ITEM = 132
ROOT_REF = 156
CHUNK = 228

#: Flags of an inode.
NODATASUM = 1

#: What directories say of the type of an inode, and the ``S_IFMT`` >> 12 of it.
FILE_TYPES = {1: 0o10, 2: 0o04, 3: 0o02, 4: 0o06, 5: 0o01, 6: 0o14, 7: 0o12}
DIRECTORY, SOCKET, SYMLINK = 2, 6, 7

INLINE, REGULAR, PREALLOCATED = range(3)
UNCOMPRESSED, ZLIB, LZO, ZSTD = range(4)

#: objectid, type, offset.
KEY = struct.Struct("<QBQ")
#: checksum, fsid, bytenr, flags, chunk tree's uuid, generation, owner, nritems, level.
NODE = struct.Struct("<32s16sQQ16sQQIB")
#: In a leaf: a key, and where behind the header its data is. In an inner node: a key, a child, its generation.
ITEM = struct.Struct("<QBQII")
POINTER = struct.Struct("<QBQQQ")
#: length, owner, stripe length, type, I/O alignment and width, sector size, stripes, sub-stripes; then the stripes.
CHUNK_BODY = struct.Struct("<QQQQIIIHH")
#: device, offset on it, its uuid.
STRIPE = struct.Struct("<QQ16s")
#: size, links, uid, gid, mode, device, flags, mtime.
INODE_BODY = struct.Struct("<16xQ16xIIIIQQ64xqI12x")
#: location, transaction, bytes of data and name, type; then the name and the data.
DIR_ENTRY = struct.Struct("<QBQQHHB")
#: index, bytes of the name; then the name.
INODE_REF_BODY = struct.Struct("<QH")
#: directory, sequence, bytes of the name; then the name.
ROOT_REF_BODY = struct.Struct("<QQH")
#: generation, bytes decompressed, compression, encryption, other encoding, type; then the data, or `FILE_EXTENT`.
EXTENT_HEAD = struct.Struct("<QQBBHB")
#: logical address and bytes on the disk, first byte of what was stored and bytes of it.
FILE_EXTENT = struct.Struct("<QQQQ")
#: generation at 160, bytenr at 176, flags at 208, references at 216, level at 238.
ROOT_ITEM_BODY = struct.Struct("<160xQ8xQ24xQI18xB")
ROOT_READ_ONLY = 1

_SUPERBLOCK = struct.Struct("<32s16sQQ8sQQQQQQQQQIIIIIQQQQHBBBQQ82x256s16x16s")


class Superblock(NamedTuple):
    """The superblock, in the order of its fields."""

    checksum: bytes
    fsid: bytes
    bytenr: int
    flags: int
    magic: bytes
    generation: int
    root: int
    chunk_root: int
    log_root: int
    log_root_transid: int
    total_bytes: int
    bytes_used: int
    root_dir: int
    num_devices: int
    sector_size: int
    node_size: int
    leaf_size: int
    stripe_size: int
    system_chunks_size: int
    chunk_root_generation: int
    compat: int
    compat_ro: int
    incompat: int
    checksum_type: int
    root_level: int
    chunk_root_level: int
    log_root_level: int
    device: int
    #: Bytes of the device.
    device_size: int
    label: bytes
    metadata_uuid: bytes

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Decode the first bytes of `raw`."""
        return cls(*_SUPERBLOCK.unpack_from(raw))


#: Where the chunks are that the chunk tree is in, and how many bytes they may have.
SYSTEM_CHUNKS = 811
MAX_SYSTEM_CHUNKS = 2048
