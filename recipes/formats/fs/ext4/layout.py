"""What is on an ext4 disk: structures, flags and encodings, shared by whoever writes and reads it.

Specification: Linux, Documentation/filesystems/ext4 (named by file here), and fs/ext4/ext4.h where that is silent.
Everything is little-endian, the journal alone big-endian.
"""

from __future__ import annotations

import stat
import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

#: Where the superblock is, and its bytes (super.rst).
SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
MAGIC = 0xEF53

#: Inodes with a meaning (special_inodes.rst).
ROOT_INODE = 2
RESIZE_INODE = 7
JOURNAL_INODE = 8
FIRST_INODE = 11

#: Bytes of an inode of ext2, which every inode begins with, and of what `Inode` holds.
GOOD_OLD_INODE_SIZE = 128
#: ``i_blocks`` counts these.
SECTOR = 512
#: Names that a file may have; a directory with more links has a link count of 1 (feature dir_nlink).
LINK_MAX = 65000


class Compat(IntFlag):
    """Features that nobody has to know (super.rst, s_feature_compat)."""

    DIR_PREALLOC = 0x1
    IMAGIC_INODES = 0x2
    HAS_JOURNAL = 0x4
    EXT_ATTR = 0x8
    RESIZE_INODE = 0x10
    DIR_INDEX = 0x20
    SPARSE_SUPER2 = 0x200
    FAST_COMMIT = 0x400
    STABLE_INODES = 0x800
    ORPHAN_FILE = 0x1000


class Incompat(IntFlag):
    """Features that a reader has to know (super.rst, s_feature_incompat)."""

    COMPRESSION = 0x1
    FILETYPE = 0x2
    RECOVER = 0x4
    JOURNAL_DEV = 0x8
    META_BG = 0x10
    EXTENTS = 0x40
    BIT64 = 0x80
    MMP = 0x100
    FLEX_BG = 0x200
    EA_INODE = 0x400
    DIRDATA = 0x1000
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


class RoCompat(IntFlag):
    """Features that a writer has to know (super.rst, s_feature_ro_compat)."""

    SPARSE_SUPER = 0x1
    LARGE_FILE = 0x2
    BTREE_DIR = 0x4
    HUGE_FILE = 0x8
    GDT_CSUM = 0x10
    DIR_NLINK = 0x20
    EXTRA_ISIZE = 0x40
    QUOTA = 0x100
    BIGALLOC = 0x200
    METADATA_CSUM = 0x400
    READONLY = 0x1000
    PROJECT = 0x2000
    VERITY = 0x8000
    ORPHAN_PRESENT = 0x10000


_SUPERBLOCK = struct.Struct("<13I6H4I2HI2H3I16s16s64sI2BH16s3I16s2BH3I68s3I2HI2HQI2BHQ")


class Superblock(NamedTuple):
    """The first fields of the superblock, without the ``s_`` of super.rst; the rest of it is zeros in what we write."""

    inodes_count: int
    blocks_count_lo: int
    r_blocks_count_lo: int = 0
    free_blocks_count_lo: int = 0
    free_inodes_count: int = 0
    first_data_block: int = 0
    #: 2 ** (10 + this) bytes.
    log_block_size: int = 2
    log_cluster_size: int = 2
    blocks_per_group: int = 0
    clusters_per_group: int = 0
    inodes_per_group: int = 0
    mtime: int = 0
    wtime: int = 0
    mnt_count: int = 0
    max_mnt_count: int = 0xFFFF
    magic: int = MAGIC
    state: int = 1
    errors: int = 1
    minor_rev_level: int = 0
    lastcheck: int = 0
    checkinterval: int = 0
    creator_os: int = 0
    rev_level: int = 1
    def_resuid: int = 0
    def_resgid: int = 0
    first_ino: int = FIRST_INODE
    inode_size: int = 256
    block_group_nr: int = 0
    feature_compat: int = 0
    feature_incompat: int = 0
    feature_ro_compat: int = 0
    uuid: bytes = b""
    volume_name: bytes = b""
    last_mounted: bytes = b""
    algorithm_usage_bitmap: int = 0
    prealloc_blocks: int = 0
    prealloc_dir_blocks: int = 0
    reserved_gdt_blocks: int = 0
    journal_uuid: bytes = b""
    journal_inum: int = 0
    journal_dev: int = 0
    last_orphan: int = 0
    hash_seed: bytes = b""
    def_hash_version: int = 0
    jnl_backup_type: int = 0
    desc_size: int = 0
    default_mount_opts: int = 0
    first_meta_bg: int = 0
    mkfs_time: int = 0
    jnl_blocks: bytes = b""
    blocks_count_hi: int = 0
    r_blocks_count_hi: int = 0
    free_blocks_count_hi: int = 0
    min_extra_isize: int = 0
    want_extra_isize: int = 0
    flags: int = 0
    raid_stride: int = 0
    mmp_interval: int = 0
    mmp_block: int = 0
    raid_stripe_width: int = 0
    log_groups_per_flex: int = 0
    checksum_type: int = 0
    reserved_pad: int = 0
    kbytes_written: int = 0

    def pack(self) -> bytes:
        """Return the superblock's 1024 bytes."""
        return _SUPERBLOCK.pack(*self).ljust(SUPERBLOCK_SIZE, b"\0")

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Superblock:
        """Return the superblock that `data` begins with."""
        return cls._make(_SUPERBLOCK.unpack_from(data))


class GroupFlag(IntFlag):
    """What a group descriptor says of its group (group_descr.rst, bg_flags)."""

    #: The inode table and its bitmap are not initialised.
    INODE_UNINIT = 0x1
    BLOCK_UNINIT = 0x2
    #: Nothing but zeros is in the unused part of the inode table.
    INODE_ZEROED = 0x4


_GROUP = struct.Struct("<3I4HI4H")
#: Where ``bg_checksum`` is in a descriptor.
GROUP_CHECKSUM_OFFSET = 0x1E
#: Bytes of a descriptor without the feature 64bit, which has larger ones.
GROUP_SIZE = _GROUP.size


class Group(NamedTuple):
    """A group descriptor's first 32 bytes, without the ``bg_`` and ``_lo`` of group_descr.rst."""

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_blocks_count: int
    free_inodes_count: int
    used_dirs_count: int
    flags: int
    exclude_bitmap: int = 0
    block_bitmap_csum: int = 0
    inode_bitmap_csum: int = 0
    itable_unused: int = 0
    checksum: int = 0

    def pack(self) -> bytes:
        """Return the descriptor's 32 bytes."""
        return _GROUP.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | memoryview, offset: int = 0) -> Group:
        """Return the descriptor at `offset` of `data`."""
        return cls._make(_GROUP.unpack_from(data, offset))


#: mode, uid, size_lo, atime, ctime, mtime, dtime, gid, links_count, blocks_lo, flags, version, block (60 bytes),
#: generation, file_acl_lo, size_high, obso_faddr, blocks_high, file_acl_high, uid_high, gid_high, checksum_lo,
#: reserved (inodes.rst): the 128 bytes of ext2.
INODE = struct.Struct("<2H5I2H3I60s4I6H")
#: extra_isize, checksum_hi, ctime_extra, mtime_extra, atime_extra, crtime, crtime_extra, version_hi, projid: what
#: follows them in a larger inode.
INODE_EXTRA = struct.Struct("<2H7I")
#: ``i_extra_isize`` of inodes that have all of `INODE_EXTRA`.
EXTRA_ISIZE = INODE_EXTRA.size


class InodeFlag(IntFlag):
    """Of the flags in ``i_flags``, those that say how to read the file (inodes.rst)."""

    COMPRBLK = 0x200
    ENCRYPT = 0x800
    INDEX = 0x1000
    HUGE_FILE = 0x40000
    EXTENTS = 0x80000
    VERITY = 0x100000
    EA_INODE = 0x200000
    INLINE_DATA = 0x10000000
    CASEFOLD = 0x40000000


# Extent trees (ifork.rst, "Extent Tree").
EXTENT_MAGIC = 0xF30A
#: magic, entries, max, depth, generation.
EXTENT_HEADER = struct.Struct("<4HI")
#: Of an inner node: first block of the file, block of the child (low), (high), unused.
EXTENT_INDEX = struct.Struct("<2I2H")
#: Of a leaf: first block of the file, number of blocks, first block on the disk (high), (low).
EXTENT = struct.Struct("<I2HI")
#: Blocks of the longest extent; a number above it means so many less, allocated and not written: zeros.
EXTENT_MAX_BLOCKS = 32768
#: Entries that fit into an inode's 60 bytes.
EXTENTS_IN_INODE = 4
#: Levels below the inode, at most (fs/ext4/ext4_extents.h: EXT4_MAX_EXTENT_DEPTH).
EXTENT_MAX_DEPTH = 5

# Directories (directory.rst).
#: inode, rec_len, name_len, file_type; the name follows, and the next entry is aligned to 4 bytes.
DIR_ENTRY = struct.Struct("<IH2B")


class FileType(IntEnum):
    """The type of a file, as a directory entry has it."""

    UNKNOWN = 0
    REGULAR = 1
    DIRECTORY = 2
    CHARACTER = 3
    BLOCK = 4
    FIFO = 5
    SOCKET = 6
    SYMLINK = 7


#: ``S_IF*`` -> the type that a directory entry has.
FILE_TYPES: dict[int, int] = {
    stat.S_IFREG: FileType.REGULAR,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFCHR: FileType.CHARACTER,
    stat.S_IFBLK: FileType.BLOCK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
    stat.S_IFLNK: FileType.SYMLINK,
}

#: Symbolic links that are shorter than this are in the inode itself (inodes.rst, "Symbolic Links").
FAST_SYMLINK = 60

# Extended attributes (attributes.rst).
XATTR_MAGIC = 0xEA020000
#: magic, refcount, blocks, hash, checksum and reserved (zeros): the head of a block of attributes.
XATTR_BLOCK_HEADER = struct.Struct("<4I16x")
#: magic: the head of the attributes in an inode. Values are counted from behind it, those in a block from its start.
XATTR_INODE_HEADER = struct.Struct("<I")
#: name_len, name_index, value_offs, value_inum, value_size, hash; the name follows, aligned to 4 bytes.
XATTR_ENTRY = struct.Struct("<2BH3I")
#: What a name begins with -> ``name_index``. Where one holds another it comes first.
XATTR_PREFIXES: dict[bytes, int] = {
    b"system.posix_acl_access": 2,
    b"system.posix_acl_default": 3,
    b"system.richacl": 8,
    b"user.": 1,
    b"trusted.": 4,
    b"security.": 6,
    b"system.": 7,
}
#: The indexes of ACLs, whose values are not the ones of getxattr(2).
XATTR_ACLS = frozenset({2, 3})

# The journal (journal.rst), big-endian.
JOURNAL_MAGIC = 0xC03B3998
#: magic, block type, sequence: the head of every block that is not data.
JOURNAL_HEADER = struct.Struct(">3I")
#: Behind the head of the superblock: block size, blocks, first block of the log, first sequence, first block of what
#: is to be replayed (0: nothing is), errno, features compat, incompat and ro_compat, uuid, number of users.
JOURNAL_SUPERBLOCK = struct.Struct(">9I16sI")
JOURNAL_SUPERBLOCK_V2 = 4

# Seconds are signed 32 bits, and 2 more bits of ``*_extra`` count how often those went round (inodes.rst,
# "Inode Timestamps").
TIME_MIN = -(1 << 31)
TIME_MAX = (1 << 34) - (1 << 31) - 1


def pack_time(ns: int) -> tuple[int, int]:
    """Return `ns`, nanoseconds since the epoch, as ``i_*time`` and ``i_*time_extra``.

    What is out of range becomes the nearest second that is in it, as in the kernel (timestamp_truncate).
    """
    seconds, fraction = divmod(ns, 1_000_000_000)
    if not TIME_MIN <= seconds <= TIME_MAX:
        seconds, fraction = (TIME_MIN if seconds < TIME_MIN else TIME_MAX), 0
    return seconds & 0xFFFFFFFF, (seconds - TIME_MIN) >> 32 | fraction << 2


def unpack_time(seconds: int, extra: int) -> int:
    """Return the nanoseconds since the epoch of ``i_*time``, read without sign, and ``i_*time_extra``."""
    seconds = (seconds ^ 0x80000000) - 0x80000000 + ((extra & 3) << 32)
    return seconds * 1_000_000_000 + (extra >> 2)


def pack_device(major: int, minor: int) -> bytes:
    """Return what ``i_block`` of a device begins with (fs/ext4/inode.c, ext4_do_update_inode).

    Major numbers have 12 bits and minor numbers 20, as in the kernel (linux/kdev_t.h).
    """
    if major < 256 and minor < 256:
        return struct.pack("<2I", major << 8 | minor, 0)
    return struct.pack("<3I", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12, 0)


def unpack_device(block: bytes) -> tuple[int, int]:
    """Return major and minor number from the ``i_block`` of a device."""
    old, new = struct.unpack_from("<2I", block)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


def _crc16_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(crc: int, data: bytes) -> int:
    """Return Linux's ``crc16()``: polynomial 0x8005, reflected; `crc` is that of what is before `data`."""
    for byte in data:
        crc = crc >> 8 ^ _CRC16[(crc ^ byte) & 0xFF]
    return crc
