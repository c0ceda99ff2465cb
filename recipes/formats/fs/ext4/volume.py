"""An ext2, ext3 or ext4 file system for reading: its superblock, its geometry, its group descriptors.

Specification: Linux, Documentation/filesystems/ext4 (super.rst, group_descr.rst, bigalloc.rst, checksums.rst) and,
where that is silent, fs/ext4/super.c. What is accepted is what Linux mounts read-only: features that only a writer has
to know change nothing. Unlike Linux this verifies the checksums of what it reads whenever there are any, and refuses
what is damaged even where ``errors=continue`` would go on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.io.source import read_exact
from recipes.formats.tree.tree import Extent

from .layout import (
    FIRST_INODE,
    GOOD_OLD_INODE_SIZE,
    GROUP_CHECKSUM_OFFSET,
    GROUP_SIZE,
    MAGIC,
    SUPERBLOCK_OFFSET,
    SUPERBLOCK_SIZE,
    Compat,
    Group,
    Incompat,
    RoCompat,
    Superblock,
    crc16,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recipes.formats.io.source import Source

#: What this reads. ENCRYPT, CASEFOLD and VERITY are properties of single files, MMP guards against a second writer.
_KNOWN = (
    Incompat.FILETYPE
    | Incompat.RECOVER
    | Incompat.META_BG
    | Incompat.EXTENTS
    | Incompat.BIT64
    | Incompat.MMP
    | Incompat.FLEX_BG
    | Incompat.EA_INODE
    | Incompat.CSUM_SEED
    | Incompat.LARGEDIR
    | Incompat.INLINE_DATA
    | Incompat.ENCRYPT
    | Incompat.CASEFOLD
)
#: s_log_block_size: 1 to 64 KiB.
_LOG_BLOCK_SIZES = range(7)
_MAX_GROUP_SIZE = 1024
#: Of the superblock, behind what `Superblock` holds (super.rst).
_BACKUP_GROUPS = struct.Struct("<2I"), 0x24C
_CHECKSUM_SEED = struct.Struct("<I"), 0x270
_CHECKSUM = struct.Struct("<I"), 0x3FC
#: Of a group descriptor, where it has 64 bytes: bg_inode_table_hi.
_INODE_TABLE_HI = struct.Struct("<I"), 0x28
_CRC32C = 1
#: Inode tables are read in pieces of this many bytes, those of the longest block.
_TABLE_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Disk:
    """The bytes of one file system."""

    source: Source

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.source.name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset` of the file system; CorruptImage where there are fewer."""
        return read_exact(self.source, offset, length)

    def extents(self, at: int, offset: int, length: int) -> Iterator[Extent]:
        """Yield where in the source the `length` bytes at `offset` are, as extents of a file from `at` on."""
        yield Extent(at, length, self.source, offset)


class Volume:
    """The file system on `disk`. Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        raw = disk.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
        self.superblock = superblock = Superblock.unpack(raw)
        if superblock.magic != MAGIC:
            raise self.corrupt(f"expected the magic {MAGIC:#x} in the superblock, found {superblock.magic:#x}")
        # Revision 0 has no feature words, and what is there may be anything.
        dynamic = superblock.rev_level > 0
        self.compat = Compat(superblock.feature_compat if dynamic else 0)
        self.incompat = Incompat(superblock.feature_incompat if dynamic else 0)
        self.ro_compat = RoCompat(superblock.feature_ro_compat if dynamic else 0)
        self._refuse_unknown()
        #: State of a CRC32C (as google_crc32c has it) that all checksums of metadata go on from; None without them.
        self.seed = self._checksums(raw) if RoCompat.METADATA_CSUM in self.ro_compat else None
        if superblock.log_block_size not in _LOG_BLOCK_SIZES:
            raise self.corrupt(f"expected blocks of 1 to 64 KiB, found 2 ** {10 + superblock.log_block_size} bytes")
        self.block_size = 1024 << superblock.log_block_size
        wide = Incompat.BIT64 in self.incompat
        self.blocks = superblock.blocks_count_lo | (superblock.blocks_count_hi << 32 if wide else 0)
        self.inode_size = superblock.inode_size if dynamic else GOOD_OLD_INODE_SIZE
        #: The first inode that a name may mean, the root's apart.
        self.first_inode = superblock.first_ino if dynamic else FIRST_INODE
        self._group_size = superblock.desc_size if wide else GROUP_SIZE
        self._backup_groups = _BACKUP_GROUPS[0].unpack_from(raw, _BACKUP_GROUPS[1])
        self._check_geometry()
        self._inode_tables: dict[int, int] = {}

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the file system contradicts its format."""
        return CorruptImage(
            f"{self.disk.name}: corrupt ext4 file system: {message}", hint="e2fsck repairs what can be repaired"
        )

    def unsupported(self, feature: str, *, hint: str | None = None) -> UnsupportedFeature:
        """Return the error that names what larder does not read."""
        return UnsupportedFeature(f"{self.disk.name}: ext4 with {feature} is not supported", hint=hint)

    def read(self, block: int, count: int, what: str) -> bytes:
        """Return `count` blocks of metadata, called `what` in errors, from `block` on."""
        self.check_range(block, count, what)
        return self.disk.read(block * self.block_size, count * self.block_size)

    def check_range(self, block: int, count: int, what: str) -> None:
        """Raise CorruptImage unless these blocks are the file system's, and not its first."""
        if block <= self.superblock.first_data_block or block + count > self.blocks:
            raise self.corrupt(f"{what} is at block {block}, outside of the {self.blocks} blocks of the file system")

    def checksum(self, *pieces: bytes) -> int:
        """Return the CRC32C of `pieces`, one behind the other, from the file system's seed on (checksums.rst)."""
        if self.seed is None:
            raise ValueError("a file system without checksums")
        return crc32c(self.seed, *pieces)

    def inode_chunk(self, number: int) -> tuple[int, int, bytes]:
        """Return a piece of the inode table that has inode `number`: its first inode, the one behind its last, bytes.

        Raise CorruptImage where there is no such inode.
        """
        superblock = self.superblock
        if not 0 < number <= superblock.inodes_count:
            raise self.corrupt(f"expected an inode from 1 to {superblock.inodes_count}, found {number}")
        group, index = divmod(number - 1, superblock.inodes_per_group)
        step = _TABLE_CHUNK // self.inode_size
        index -= index % step
        count = min(step, superblock.inodes_per_group - index)
        block = self._inode_table(group) + index * self.inode_size // self.block_size
        blocks = -(-count * self.inode_size // self.block_size)
        data = self.read(block, blocks, f"the inode table of group {group}")
        first = group * superblock.inodes_per_group + index + 1
        return first, first + count, data

    def _refuse_unknown(self) -> None:
        # A journal's device has no other feature to speak of, and is not a file system at all.
        if Incompat.JOURNAL_DEV in self.incompat:
            raise UnsupportedFeature(f"{self.disk.name}: there is nothing but another file system's journal on it")
        # As numbers: what an IntFlag does with bits that have no name differs between versions of Python.
        unknown = self.superblock.feature_incompat & ~int(_KNOWN) if self.incompat else 0
        if unknown:
            names = {int(feature): feature.name for feature in Incompat}
            bits = (1 << bit for bit in range(32) if unknown >> bit & 1)
            raise self.unsupported(f"the feature {' and '.join(str(names.get(bit, hex(bit))).lower() for bit in bits)}")

    def _checksums(self, raw: bytes) -> int:
        """Verify the superblock's checksum and return the seed of all others."""
        if self.superblock.checksum_type != _CRC32C:
            raise self.unsupported(f"checksums of type {self.superblock.checksum_type}")
        form, at = _CHECKSUM
        (expected,) = form.unpack_from(raw, at)
        if (found := crc32c(_EMPTY, raw[:at])) != expected:
            raise self.corrupt(f"expected the checksum {expected:#010x} of the superblock, found {found:#010x}")
        if Incompat.CSUM_SEED in self.incompat:
            form, at = _CHECKSUM_SEED
            seed: int = form.unpack_from(raw, at)[0]
            return seed ^ _INVERT
        return crc32c(_EMPTY, self.superblock.uuid) ^ _INVERT

    def _check_geometry(self) -> None:
        superblock, size = self.superblock, self.block_size
        bits = 8 * size
        clusters = superblock.blocks_per_group
        if RoCompat.BIGALLOC in self.ro_compat:
            # The bitmap counts clusters; everything that is read here counts blocks.
            clusters = superblock.clusters_per_group
        if not (0 < clusters <= bits and superblock.blocks_per_group > 0):
            raise self.corrupt(f"expected 1 to {bits} blocks in a group, found {superblock.blocks_per_group}")
        if not GOOD_OLD_INODE_SIZE <= self.inode_size <= size or self.inode_size & (self.inode_size - 1):
            raise self.corrupt(f"expected inodes of 128 to {size} bytes, found {self.inode_size}")
        if not 0 < superblock.inodes_per_group <= bits:
            raise self.corrupt(f"expected 1 to {bits} inodes in a group, found {superblock.inodes_per_group}")
        if not GROUP_SIZE <= self._group_size <= _MAX_GROUP_SIZE or self._group_size & (self._group_size - 1):
            raise self.corrupt(f"expected group descriptors of 32 to 1024 bytes, found {self._group_size}")
        if superblock.first_data_block > 1 or superblock.first_data_block >= self.blocks:
            raise self.corrupt(f"expected block 0 or 1 to be the first, found {superblock.first_data_block}")
        if self.blocks * size > self.disk.source.size:
            raise CorruptImage(
                f"{self.disk.name}: truncated: the file system has {self.blocks} blocks of {size} bytes, and what it "
                f"is on has {self.disk.source.size} bytes",
                hint="download or make the image again",
            )
        groups = -(-(self.blocks - superblock.first_data_block) // superblock.blocks_per_group)
        if superblock.inodes_count > groups * superblock.inodes_per_group:
            raise self.corrupt(f"expected at most {groups * superblock.inodes_per_group} inodes in {groups} groups")

    def _inode_table(self, group: int) -> int:
        """Return the first block of the inode table of `group`."""
        if group not in self._inode_tables:
            self._inode_tables[group] = self._read_inode_table(group)
        return self._inode_tables[group]

    def _read_inode_table(self, group: int) -> int:
        block, index = divmod(group, self.block_size // self._group_size)
        what = f"the descriptor of group {group}"
        at = self._descriptor_block(block)
        self.check_range(at, 1, what)
        raw = self.disk.read(at * self.block_size + index * self._group_size, self._group_size)
        descriptor = Group.unpack(raw)
        self._verify(group, raw, descriptor.checksum)
        if self._group_size >= 2 * GROUP_SIZE:
            form, offset = _INODE_TABLE_HI
            high: int = form.unpack_from(raw, offset)[0]
            return descriptor.inode_table | high << 32
        return descriptor.inode_table

    def _descriptor_block(self, number: int) -> int:
        """Return where block `number` of the group descriptors is (fs/ext4/super.c, descriptor_loc)."""
        superblock = self.superblock
        if Incompat.META_BG not in self.incompat or number < superblock.first_meta_bg:
            return SUPERBLOCK_OFFSET // self.block_size + 1 + number
        group = number * (self.block_size // self._group_size)
        # Blocks of 1 KiB that are counted from 0: the boot block comes before group 0's superblock.
        boot = self.block_size == SUPERBLOCK_OFFSET and not number and not superblock.first_data_block
        return superblock.first_data_block + group * superblock.blocks_per_group + self._has_superblock(group) + boot

    def _has_superblock(self, group: int) -> bool:
        if group == 0:
            return True
        if Compat.SPARSE_SUPER2 in self.compat:
            return group in self._backup_groups
        if group == 1 or RoCompat.SPARSE_SUPER not in self.ro_compat:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def _verify(self, group: int, raw: bytes, expected: int) -> None:
        before, after = raw[:GROUP_CHECKSUM_OFFSET], raw[GROUP_CHECKSUM_OFFSET + 2 :]
        number = struct.pack("<I", group)
        if self.seed is not None:
            found = self.checksum(number, before, b"\0\0", after) & 0xFFFF
        elif RoCompat.GDT_CSUM in self.ro_compat:
            # The old way leaves the field out.
            found = crc16(0xFFFF, self.superblock.uuid + number + before + after)
        else:
            return
        if found != expected:
            raise self.corrupt(
                f"expected the checksum {expected:#06x} of the descriptor of group {group}, found {found:#06x}"
            )


#: google_crc32c inverts its state before and after, ext4 and JBD2 never do (lib/crc32c.c, crc32c_le). Their seed ~0 is
#: its beginning, and their result its result inverted.
_EMPTY = 0
_INVERT = 0xFFFFFFFF


def crc32c(state: int, *pieces: bytes) -> int:
    """Return the CRC32C of `pieces` as ext4 and JBD2 store it, from a `state` on as google_crc32c has it."""
    from google_crc32c import extend

    for piece in pieces:
        state = extend(state, piece)
    return state ^ _INVERT


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
