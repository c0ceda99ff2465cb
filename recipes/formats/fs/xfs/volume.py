"""An XFS file system for reading: its superblock, its geometry, the addresses of its blocks.

What is accepted is what Linux mounts read-only, and more where only its configuration says no (version 4). Features
that only a writer has to know change nothing. What is read is verified: checksum, address, owner and UUID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.io.source import read_exact

from .layout import (
    MAGIC,
    SECTOR,
    SECTOR_LOG,
    SUPERBLOCK_CRC,
    U64,
    VERSION_NUMBER,
    Features2,
    Incompat,
    RoCompat,
    Superblock,
    Version,
    checksum_holds,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.formats.io.source import Source

    from .layout import Header

#: What this reads. EXCHRANGE and PARENT are known by the log and by attributes; METADIR is about quota and realtime.
_KNOWN = (
    Incompat.FTYPE
    | Incompat.SPINODES
    | Incompat.META_UUID
    | Incompat.BIGTIME
    | Incompat.NREXT64
    | Incompat.EXCHRANGE
    | Incompat.PARENT
    | Incompat.METADIR
)
_KNOWN_FEATURES2 = Features2.LAZYSB | Features2.ATTR2 | Features2.PROJID32 | Features2.CRC | Features2.FTYPE
#: Base 2 logarithms of bytes: of a block, a sector, an inode; of a block of a directory at most.
_BLOCK_LOGS, _SECTOR_LOGS, _INODE_LOGS, _MAX_DIR_LOG = range(9, 17), range(9, 16), range(8, 12), 16
#: Version 5 has no smaller blocks and inodes.
_V5_BLOCK_LOG, _V5_INODE_LOG = 10, 9


@dataclass(frozen=True, slots=True)
class BmapIntent:
    """What the log says that was still to be done to a file's extents (xfs_map_extent)."""

    #: Of the attributes, not of the data.
    attributes: bool
    unmap: bool
    #: First block of the file, blocks, first block on the disk.
    at: int
    length: int
    block: int
    unwritten: bool


class Disk:
    """The bytes of the file system as they are in `source`, nothing of the log replayed."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`; CorruptImage if there are fewer."""
        return read_exact(self.source, offset, length)

    def is_replayed(self, offset: int, length: int) -> bool:
        """Say whether some of these bytes are from the log: their checksums are those of its records then."""
        del offset, length
        return False

    def is_adopted(self, number: int) -> bool:
        """Say whether the tree of extents of this inode was another's before (XFS_ILOG_DOWNER)."""
        del number
        return False

    def intents(self, number: int) -> Iterable[BmapIntent]:
        """Return what is still to be done to the extents of this inode."""
        del number
        return ()


class Volume:
    """The file system on `disk`. Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.name = disk.source.name
        raw = disk.read(0, SECTOR)
        self.superblock = superblock = Superblock.unpack(raw)
        if superblock.magic != MAGIC:
            raise self.corrupt(f"expected the magic {MAGIC!r} in the superblock, found {superblock.magic!r}")
        number = superblock.versionnum & VERSION_NUMBER
        if number not in (4, 5):
            raise self.unsupported(f"a superblock of version {number}")
        #: Whether there are checksums.
        self.v5 = number == 5
        if superblock.inprogress:
            raise self.corrupt("mkfs.xfs or xfs_growfs did not finish it")
        self._check_sizes()
        self.incompat = Incompat(superblock.incompat if self.v5 else 0)
        if self.v5:
            self._check_v5()
        else:
            self._check_v4()
        self._check_geometry()
        self.block_log = superblock.blocklog
        self.block_size = superblock.blocksize
        self.inode_size = superblock.inodesize
        self.blocks = superblock.dblocks
        #: Bits of an inode's number that say where it is in its allocation group.
        self.inode_bits = superblock.agblklog + superblock.inopblog
        #: Blocks of a directory's block.
        self.dir_blocks = 1 << superblock.dirblklog
        #: Whether entries of directories say the type of a file.
        self.ftype = Incompat.FTYPE in self.incompat if self.v5 else self._v4_ftype()
        #: Whether several files may have the same blocks.
        self.shared = self.v5 and bool(superblock.ro_compat & RoCompat.REFLINK.value)
        #: What every block's head says.
        self.uuid = superblock.meta_uuid if Incompat.META_UUID in self.incompat else superblock.uuid

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the file system contradicts its format."""
        return CorruptImage(
            f"{self.name}: corrupt XFS file system: {message}", hint="xfs_repair repairs what can be repaired"
        )

    def unsupported(self, feature: str, *, hint: str | None = None) -> UnsupportedFeature:
        """Return the error that names what larder does not read."""
        return UnsupportedFeature(f"{self.name}: XFS with {feature} is not supported", hint=hint)

    def offset(self, block: int, count: int, what: str) -> int:
        """Return where `count` blocks from `block` on are, in bytes.

        The higher bits of a block's number are its allocation group, so the numbers have gaps. Raise CorruptImage,
        which says `what` it is, unless the blocks are in one group.
        """
        superblock = self.superblock
        group, inside = block >> superblock.agblklog, block & (1 << superblock.agblklog) - 1
        first = group * superblock.agblocks + inside
        if inside + count > superblock.agblocks or first + count > self.blocks:
            raise self.corrupt(f"{what} is at block {block:#x}, outside of the file system or across groups")
        return first << self.block_log

    def read(self, block: int, count: int, what: str) -> bytes:
        """Return `count` blocks of metadata, called `what` in errors, from `block` on."""
        return self.disk.read(self.offset(block, count, what), count << self.block_log)

    def verify(self, data: bytes, header: Header, pieces: list[tuple[int, int]], owner: int, what: str) -> None:
        """Raise CorruptImage unless `data`, a block of version 5, is what its head says.

        `pieces` are the offset and length of where it is on the disk, `owner` is the inode that it belongs to.
        """
        if data[header.uuid : header.uuid + 16] != self.uuid:
            raise self.corrupt(f"{what}, at byte {pieces[0][0]}, is another file system's")
        (address,), (found,) = U64.unpack_from(data, header.block), U64.unpack_from(data, header.owner)
        if address != pieces[0][0] >> SECTOR_LOG:
            raise self.corrupt(f"{what} is at sector {pieces[0][0] >> SECTOR_LOG}, and says {address}")
        if found != owner and not self.disk.is_adopted(owner):
            raise self.corrupt(f"{what}, at byte {pieces[0][0]}, is inode {found}'s")
        if not checksum_holds(data, header.crc) and not any(self.disk.is_replayed(*piece) for piece in pieces):
            raise self.corrupt(f"{what}, at byte {pieces[0][0]}, is not as its checksum says")

    def _check_sizes(self) -> None:
        superblock = self.superblock
        for what, size, log, logs in (
            ("blocks", superblock.blocksize, superblock.blocklog, _BLOCK_LOGS),
            ("sectors", superblock.sectsize, superblock.sectlog, _SECTOR_LOGS),
            ("inodes", superblock.inodesize, superblock.inodelog, _INODE_LOGS),
        ):
            if log not in logs or size != 1 << log:
                raise self.corrupt(
                    f"expected {what} of {1 << logs[0]} to {1 << logs[-1]} bytes, found {size} and 2 ** {log}"
                )

    def _check_v5(self) -> None:
        superblock = self.superblock
        size = superblock.sectsize
        raw = self.disk.read(0, size)
        if not checksum_holds(raw, SUPERBLOCK_CRC) and not self.disk.is_replayed(0, size):
            raise self.corrupt("the superblock is not as its checksum says")
        if Incompat.NEEDSREPAIR in self.incompat:
            raise UnsupportedFeature(
                f"{self.name}: the XFS file system says of itself that it needs repair", hint="run xfs_repair on it"
            )
        # As numbers: what an IntFlag does with bits that have no name differs between versions of Python.
        unknown = superblock.incompat & ~int(_KNOWN)
        if unknown:
            names = {int(feature): str(feature.name).lower() for feature in Incompat}
            bits = (1 << bit for bit in range(32) if unknown >> bit & 1)
            raise self.unsupported(f"the feature {' and '.join(names.get(bit, hex(bit)) for bit in bits)}")
        if superblock.blocklog < _V5_BLOCK_LOG or superblock.inodelog < _V5_INODE_LOG:
            raise self.corrupt(f"version 5 with blocks of {superblock.blocksize}, inodes of {superblock.inodesize}")

    def _check_v4(self) -> None:
        versionnum, features2 = self.superblock.versionnum, self.superblock.features2
        if not versionnum & Version.DIRV2 or not versionnum & Version.EXTFLG:
            # Linux mounts neither: both are from IRIX, before 2001.
            raise self.unsupported("directories of version 1, or extents without a flag for unwritten ones")
        unknown = features2 & ~int(_KNOWN_FEATURES2) if versionnum & Version.MOREBITS else 0
        if unknown:
            raise self.unsupported(f"the features {unknown:#x} of version 4")

    def _check_geometry(self) -> None:
        superblock = self.superblock
        if superblock.inopblog != superblock.blocklog - superblock.inodelog or superblock.inopblock != (
            superblock.blocksize >> superblock.inodelog
        ):
            raise self.corrupt(f"expected whole inodes in a block, found {superblock.inopblock}")
        if superblock.blocklog + superblock.dirblklog > _MAX_DIR_LOG:
            raise self.corrupt(f"expected directory blocks of at most 64 KiB, found 2 ** {superblock.dirblklog} blocks")
        blocks, groups = superblock.agblocks, superblock.agcount
        if not blocks or superblock.agblklog != (blocks - 1).bit_length():
            raise self.corrupt(f"{blocks} blocks in a group, and 2 ** {superblock.agblklog}")
        if not (groups - 1) * blocks < superblock.dblocks <= groups * blocks:
            raise self.corrupt(f"{superblock.dblocks} blocks are not {groups} groups of {blocks}")
        if superblock.dblocks << superblock.blocklog > self.disk.source.size:
            raise CorruptImage(
                f"{self.name}: truncated: the file system has {superblock.dblocks} blocks of {superblock.blocksize} "
                f"bytes, and what it is on has {self.disk.source.size} bytes",
                hint="download or make the image again",
            )

    def _v4_ftype(self) -> bool:
        superblock = self.superblock
        return bool(superblock.versionnum & Version.MOREBITS and superblock.features2 & Features2.FTYPE)
