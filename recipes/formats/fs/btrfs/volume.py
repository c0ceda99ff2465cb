"""A btrfs file system for reading: its superblock, its features, where its logical addresses are.

Specification: btrfs.readthedocs.io, "On-disk format", and where that is silent fs/btrfs/disk-io.c. What is accepted is
what Linux mounts read-only without another device and without replaying a log.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.io.source import read_exact

from .checksum import checksum
from .chunks import ONE_DEVICE, ChunkMap, chunk
from .layout import (
    CHECKSUM_SIZE,
    KEY,
    MAGIC,
    MAX_LEVEL,
    MAX_SYSTEM_CHUNKS,
    SIZES,
    SUPERBLOCK_OFFSET,
    SUPERBLOCK_SIZE,
    SYSTEM_CHUNKS,
    Incompat,
    Superblock,
    SuperFlag,
)

if TYPE_CHECKING:
    from enum import IntFlag

    from recipes.formats.io.source import Source

    from .chunks import Chunk

#: What this reads. RAID56 and RAID1C34 stay set after the last such chunk is gone: the chunks say what there is.
_KNOWN = (
    Incompat.MIXED_BACKREF
    | Incompat.DEFAULT_SUBVOL
    | Incompat.MIXED_GROUPS
    | Incompat.COMPRESS_LZO
    | Incompat.COMPRESS_ZSTD
    | Incompat.BIG_METADATA
    | Incompat.EXTENDED_IREF
    | Incompat.RAID56
    | Incompat.SKINNY_METADATA
    | Incompat.NO_HOLES
    | Incompat.METADATA_UUID
    | Incompat.RAID1C34
    | Incompat.SIMPLE_QUOTA
)


class Volume:
    """The file system in `source`. Errors: `CorruptImage`; `UnsupportedFeature`, which names the feature."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        raw = read_exact(source, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE)
        self.superblock = superblock = Superblock.unpack(raw)
        if superblock.magic != MAGIC:
            raise self.corrupt(f"expected the magic {MAGIC!r} in the superblock, found {superblock.magic!r}")
        self.checksum = checksum(superblock.checksum_type, self.name)
        self._verify(raw)
        self._refuse()
        self.node_size, self.sector_size = superblock.node_size, superblock.sector_size
        self._check_geometry()
        #: What nodes have as their fsid.
        self.node_fsid = superblock.fsid
        if superblock.incompat & Incompat.METADATA_UUID:
            self.node_fsid = superblock.metadata_uuid
        system = list(self._system_chunks(raw))
        #: Where the chunk tree can be found, and then everything.
        self.chunks = ChunkMap(self, system)

    def corrupt(self, message: str) -> CorruptImage:
        """Return the error that says that the file system contradicts its format."""
        return CorruptImage(f"{self.name}: corrupt btrfs file system: {message}", hint="btrfs check tells more")

    def unsupported(self, feature: str, *, hint: str | None = None) -> UnsupportedFeature:
        """Return the error that names what larder does not read."""
        return UnsupportedFeature(f"{self.name}: btrfs with {feature} is not supported", hint=hint)

    def learn(self, chunks: list[Chunk]) -> None:
        """Take these chunks, those of the chunk tree, for all there are."""
        self.chunks = ChunkMap(self, chunks)

    def _verify(self, raw: bytes) -> None:
        expected = raw[: self.checksum.size]
        if (found := self.checksum.of(raw[CHECKSUM_SIZE:])) != expected:
            raise self.corrupt(f"expected the checksum {expected.hex()} of the superblock, found {found.hex()}")

    def _refuse(self) -> None:
        superblock = self.superblock
        # As numbers: what an IntFlag does with bits that have no name differs between versions of Python.
        if unknown := superblock.incompat & ~int(_KNOWN):
            raise self.unsupported(f"the feature {_names(unknown, Incompat)}")
        if wrong := superblock.flags & sum(SuperFlag):
            raise self.unsupported(f"the state {_names(wrong, SuperFlag)}, in which it cannot be mounted either,")
        if superblock.num_devices != 1:
            raise self.unsupported(
                f"several devices ({superblock.num_devices}, seed devices included, of which this is number "
                f"{superblock.device})",
                hint=ONE_DEVICE,
            )
        if superblock.log_root:
            raise self.unsupported(
                "a log that was not replayed",
                hint="mount and unmount it once, or start the machine and shut it down: that replays the log",
            )

    def _check_geometry(self) -> None:
        superblock = self.superblock
        if superblock.bytenr != SUPERBLOCK_OFFSET:
            raise self.corrupt(f"the superblock at {SUPERBLOCK_OFFSET} says that it is at {superblock.bytenr}")
        if self.node_size not in SIZES or self.sector_size not in SIZES or self.node_size < self.sector_size:
            raise self.corrupt(
                f"expected nodes and sectors of 4 to 64 KiB, found {self.node_size} and {self.sector_size} bytes"
            )
        if superblock.root_level >= MAX_LEVEL or superblock.chunk_root_level >= MAX_LEVEL:
            raise self.corrupt(
                f"expected trees of fewer than {MAX_LEVEL} levels, found {superblock.root_level} and "
                f"{superblock.chunk_root_level}"
            )
        if superblock.device_size > self.source.size:
            raise CorruptImage(
                f"{self.name}: truncated: the file system has {superblock.device_size} bytes, and what it is on has "
                f"{self.source.size}",
                hint="download or make the image again",
            )

    def _system_chunks(self, raw: bytes) -> list[Chunk]:
        """Return the chunks that the superblock has itself: those of the chunk tree."""
        size = self.superblock.system_chunks_size
        if not KEY.size < size <= MAX_SYSTEM_CHUNKS:
            raise self.corrupt(f"expected 1 to {MAX_SYSTEM_CHUNKS} bytes of chunks in the superblock, found {size}")
        found = []
        area = raw[SYSTEM_CHUNKS : SYSTEM_CHUNKS + size]
        while area:
            if len(area) < KEY.size:
                raise self.corrupt("the superblock's chunks end in the middle of one")
            _object, kind, logical = KEY.unpack_from(area)
            each, taken = chunk(self, kind, logical, area[KEY.size :])
            found.append(each)
            area = area[KEY.size + taken :]
        return found


def _names(bits: int, flags: type[IntFlag]) -> str:
    names = {int(flag): flag.name for flag in flags}
    found = (1 << bit for bit in range(64) if bits >> bit & 1)
    return " and ".join(str(names.get(bit, hex(bit))).lower() for bit in islice(found, 8))
