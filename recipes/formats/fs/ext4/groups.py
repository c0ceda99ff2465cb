"""What describes the groups of a new file system: inode tables, bitmaps, descriptors, superblocks.

Specification: Linux, Documentation/filesystems/ext4: group_descr.rst, bitmaps.rst, super.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from recipes.formats.io.sparse import BLOCK

from .dir_write import HALF_MD4
from .geometry import FLEX_GROUPS_LOG, GROUP_BLOCKS, INODE_SIZE
from .layout import (
    EXTRA_ISIZE,
    FIRST_INODE,
    INODE,
    JOURNAL_INODE,
    SUPERBLOCK_OFFSET,
    Compat,
    Group,
    GroupFlag,
    Incompat,
    RoCompat,
    Superblock,
    crc16,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .alloc import Disk
from .geometry import Geometry

#: One block in so many is root's alone: mke2fs's default.
_RESERVED = 20
#: s_flags: names in an index are hashed as bytes without sign.
_UNSIGNED_HASH = 2
#: s_default_mount_opts: user attributes and ACLs.
_XATTR_USER_AND_ACL = 0x4 | 0x8


class InodeTables:
    """The inode tables of all groups, written from front to back."""

    def __init__(self, disk: Disk, geometry: Geometry) -> None:
        self._disk = disk
        self._geometry = geometry
        self._table = bytearray()
        self._group = 0
        self._last = FIRST_INODE - 1
        #: Directories in each group that has been begun.
        self._dirs = [0]

    def put(self, number: int, inode: bytes, *, is_dir: bool) -> None:
        """Put in an inode whose number is above those of all before it."""
        group, index = divmod(number - 1, self._geometry.inodes_per_group)
        while group > self._group:
            self.flush()
            self._group += 1
            self._dirs.append(0)
        self._table += bytes(index * INODE_SIZE - len(self._table))
        self._table += inode.ljust(INODE_SIZE, b"\0")
        self._dirs[group] += is_dir
        self._last = max(self._last, number)

    def flush(self) -> None:
        """Write what the current group has; nothing may be put into it after that."""
        self._disk.pwrite(self._table, self._geometry.inode_tables[self._group] * BLOCK)
        self._table.clear()

    def used(self, group: int) -> int:
        """Return how many inodes of a group are in use, the first ones."""
        size = self._geometry.inodes_per_group
        return min(max(self._last - group * size, 0), size)

    def dirs(self, group: int) -> int:
        """Return how many of them are directories."""
        return self._dirs[group] if group < len(self._dirs) else 0


class About(NamedTuple):
    """What the superblock says besides what is in use."""

    #: 32 bytes that the identifiers are taken from.
    identity: bytes
    label: str
    #: Seconds since the epoch.
    time: int
    #: The journal's inode; None without one.
    journal: bytes | None


def write_groups(
    disk: Disk,
    geometry: Geometry,
    tables: InodeTables,
    filled: int,
    about: About,
) -> None:
    """Write everything that says what is in use: the blocks before `filled` and those of `geometry`'s metadata."""
    uuid = uuid_of(about.identity)
    seed = crc16(0xFFFF, uuid)
    descriptors = bytearray()
    free_blocks = 0
    groups = zip(range(geometry.groups), _used(geometry, filled), strict=True)
    for group, (used, bits) in groups:
        descriptor = _group(disk, geometry, tables, group, used, bits)
        free_blocks += descriptor.free_blocks_count
        packed = descriptor.pack()[:-2]
        descriptors += packed
        descriptors += crc16(crc16(seed, group.to_bytes(4, "little")), packed).to_bytes(2, "little")

    compat = Compat.EXT_ATTR | Compat.DIR_INDEX
    if geometry.shape.grows:
        compat |= Compat.RESIZE_INODE
    superblock = Superblock(
        inodes_count=geometry.inodes_per_group * geometry.groups,
        blocks_count_lo=geometry.blocks,
        r_blocks_count_lo=geometry.blocks // _RESERVED,
        free_blocks_count_lo=free_blocks,
        free_inodes_count=sum(geometry.inodes_per_group - tables.used(group) for group in range(geometry.groups)),
        blocks_per_group=GROUP_BLOCKS,
        clusters_per_group=GROUP_BLOCKS,
        inodes_per_group=geometry.inodes_per_group,
        wtime=about.time,
        lastcheck=about.time,
        inode_size=INODE_SIZE,
        feature_compat=compat,
        feature_incompat=Incompat.FILETYPE | Incompat.EXTENTS | Incompat.FLEX_BG,
        feature_ro_compat=RoCompat.SPARSE_SUPER
        | RoCompat.LARGE_FILE
        | RoCompat.HUGE_FILE
        | RoCompat.GDT_CSUM
        | RoCompat.DIR_NLINK
        | RoCompat.EXTRA_ISIZE,
        uuid=uuid,
        volume_name=about.label.encode()[:16].decode(errors="ignore").encode(),
        reserved_gdt_blocks=geometry.reserved_blocks,
        hash_seed=hash_seed_of(about.identity),
        def_hash_version=HALF_MD4,
        default_mount_opts=_XATTR_USER_AND_ACL,
        mkfs_time=about.time,
        min_extra_isize=EXTRA_ISIZE,
        want_extra_isize=EXTRA_ISIZE,
        flags=_UNSIGNED_HASH,
        log_groups_per_flex=FLEX_GROUPS_LOG,
    )
    if about.journal is not None:
        fields = INODE.unpack_from(about.journal)
        size, block, size_high = fields[2], fields[12], fields[15]
        superblock = superblock._replace(
            feature_compat=compat | Compat.HAS_JOURNAL,
            journal_inum=JOURNAL_INODE,
            # A copy of the journal's i_block and size, which e2fsck takes when the inode is lost.
            jnl_backup_type=1,
            jnl_blocks=block + size_high.to_bytes(4, "little") + size.to_bytes(4, "little"),
        )
    for group in geometry.superblocks():
        at = group * GROUP_BLOCKS * BLOCK
        # The first one leaves room for a boot loader; the copies begin their groups.
        # The field has 16 bits, also where there are more groups than that.
        disk.pwrite(superblock._replace(block_group_nr=group & 0xFFFF).pack(), at or SUPERBLOCK_OFFSET)
        disk.pwrite(descriptors, at + BLOCK)


def _group(disk: Disk, geometry: Geometry, tables: InodeTables, group: int, used: int, bits: int) -> Group:
    """Write the bitmaps of a group, unless it is as good as untouched; return its descriptor without the checksum."""
    size = len(geometry.group_blocks(group))
    inodes = tables.used(group)
    # The unused inodes are zeros, since nothing was ever written there: the kernel need not make them so.
    flags = GroupFlag.INODE_ZEROED
    if used == geometry.head(group) and size == GROUP_BLOCKS and group < geometry.groups - 1:
        flags |= GroupFlag.BLOCK_UNINIT
    else:
        disk.pwrite(_bitmap(bits, size), geometry.block_bitmaps[group] * BLOCK)
    if inodes or group == 0:
        disk.pwrite(_bitmap((1 << inodes) - 1, geometry.inodes_per_group), geometry.inode_bitmaps[group] * BLOCK)
    else:
        flags |= GroupFlag.INODE_UNINIT
    return Group(
        geometry.block_bitmaps[group],
        geometry.inode_bitmaps[group],
        geometry.inode_tables[group],
        free_blocks_count=size - used,
        free_inodes_count=geometry.inodes_per_group - inodes,
        used_dirs_count=tables.dirs(group),
        flags=flags,
        itable_unused=geometry.inodes_per_group - inodes,
    )


def _used(geometry: Geometry, filled: int) -> Iterator[tuple[int, int]]:
    """Yield for each group the number of its blocks that are in use, and those blocks as bits."""
    ranges = [(0, filled)] + [(max(start, filled), stop) for start, stop in geometry.fixed if stop > filled]
    index = 0
    for group in range(geometry.groups):
        blocks = geometry.group_blocks(group)
        count = bits = 0
        while index < len(ranges) and ranges[index][0] < blocks.stop:
            start, stop = max(ranges[index][0], blocks.start), min(ranges[index][1], blocks.stop)
            count += stop - start
            bits |= (1 << (stop - start)) - 1 << (start - blocks.start)
            if ranges[index][1] > blocks.stop:
                break
            index += 1
        yield count, bits


def _bitmap(bits: int, size: int) -> bytes:
    """Return a block of bitmap, of which `size` bits mean something; all others are ones."""
    return (bits | (1 << 8 * BLOCK) - (1 << size)).to_bytes(BLOCK, "little")


def uuid_of(identity: bytes) -> bytes:
    """Return the UUID of the file system."""
    return UUID(bytes=identity[:16], version=5).bytes


def hash_seed_of(identity: bytes) -> bytes:
    """Return what the hashes of names begin with."""
    return identity[16:]
