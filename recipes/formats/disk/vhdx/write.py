"""Dynamic VHDX files, written in one pass: what Hyper-V and WSL attach as a disk.

Specification: [MS-VHDX] v20180912, named by section here.

The file begins with its headers, the metadata and the BAT; the 1 MiB blocks of the disk follow in the order in which
they were first written to. A block of zeros is not in the file. It has the state PAYLOAD_BLOCK_ZERO, as QEMU
writes it, and not PAYLOAD_BLOCK_NOT_PRESENT, for which a reader may return anything (2.5.1.1): ext4 relies on the
zeros of inode tables that were never written.

Windows refuses to attach a VHDX with NTFS's sparse attribute. Nothing here sets it. On POSIX, zeros inside a block of
the file are a hole, which takes no space here and reads as zeros, so a copy to NTFS is a file like any other.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Self
from uuid import UUID

from recipes.errors import LimitExceeded, UnsupportedFeature
from recipes.formats.io.hashed import HashedFile
from recipes.formats.io.sparse import data_runs

from .layout import (
    BAT_REGION,
    CHUNK_SECTORS,
    FILE_PARAMETERS,
    FILE_PARAMETERS_ITEM,
    FULLY_PRESENT,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    IS_REQUIRED,
    IS_VIRTUAL_DISK,
    ITEMS,
    LOGICAL_SECTOR_SIZE,
    METADATA_ENTRY,
    METADATA_HEADER,
    METADATA_REGION,
    MIB,
    PHYSICAL_SECTOR_SIZE,
    REGION,
    REGION_HEADER,
    REGION_TABLE_SIZE,
    REGION_TABLES,
    SIGNATURE,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    ZERO,
    checksummed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.model import BlockHash

#: BlockSize (2.6.2.1): the smallest, as WSL has it.
BLOCK_SIZE = MIB
#: LogicalSectorSize and PhysicalSectorSize (2.6.2.4, 2.6.2.5).
LOGICAL_SECTOR = 512
PHYSICAL_SECTOR = 4096
#: VirtualDiskSize, at most (2.6.2.2).
MAX_VIRTUAL_SIZE = 64 << 40

_CREATOR = "larder"

# Places in the file (2.2): behind headers and region tables, each at a whole MiB, the log, the metadata and the BAT.
_LOG, _LOG_SIZE = MIB, MIB
_METADATA, _METADATA_SIZE = 2 * MIB, MIB
_BAT = 3 * MIB
_ENTRY = struct.Struct("<Q")
#: Payload entries before each entry of a sector bitmap, which only differencing disks have (2.5).
_CHUNK_RATIO = CHUNK_SECTORS * LOGICAL_SECTOR // BLOCK_SIZE
#: Entries from one sector bitmap's to the next: these repeat.
_PERIOD = _CHUNK_RATIO + 1


class VhdxWriter:
    """A new VHDX at `path`, with a disk of `virtual_size` bytes; FileExistsError when there is something.

    The disk reads as zeros where nothing was written, and no range is written to twice.

    Leaving the context closes the file and nothing more; `finish` makes it complete, and brings it to the storage
    unless it need not be `durable`. Errors: `LimitExceeded` for more than `MAX_VIRTUAL_SIZE`, `UnsupportedFeature` for
    a size that is not a multiple of the sector, `NoSpace`; other OSErrors pass.
    """

    def __init__(self, path: Path, *, virtual_size: int, durable: bool = True) -> None:
        if virtual_size > MAX_VIRTUAL_SIZE:
            raise LimitExceeded(f"{path}: a VHDX has at most {MAX_VIRTUAL_SIZE} bytes, and is to have {virtual_size}")
        if virtual_size <= 0 or virtual_size % LOGICAL_SECTOR:
            raise UnsupportedFeature(
                f"{path}: the size of a VHDX is a multiple of {LOGICAL_SECTOR} bytes, which {virtual_size} is not"
            )
        self._virtual_size = virtual_size
        self._identity = b""
        self._blocks = -(-virtual_size // BLOCK_SIZE)
        # No sector bitmap follows the last payload entry of a dynamic disk.
        self._entries = self._blocks + (self._blocks - 1) // _CHUNK_RATIO
        self._bat_size = -(-self._entries * _ENTRY.size // MIB) * MIB
        self._end = _BAT + self._bat_size
        #: Number of a block -> its place in the file.
        self._places: dict[int, int] = {}
        self._file = HashedFile(path, durable=durable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` at `offset` of the disk; not from several threads at once."""
        view = memoryview(data)
        while view:
            block, at = divmod(offset, BLOCK_SIZE)
            part = view[: BLOCK_SIZE - at]
            place = self._places.get(block)
            if place is None and data_runs(part):
                place = self._places[block] = self._end
                self._end += BLOCK_SIZE
            if place is not None:
                self._file.pwrite(part, place + at)
            view = view[len(part) :]
            offset += len(part)

    def finish(self, identity: bytes) -> BlockHash:
        """Write everything that is not payload; return the blkhash of the file, not of the disk in it.

        The GUIDs follow from `identity` alone, so equal writes make equal files.
        """
        self._identity = identity
        self._file.pwrite(SIGNATURE + _CREATOR.encode("utf-16-le"), 0)
        for sequence, place in enumerate(HEADERS, 1):
            header = HEADER.pack(
                *(b"head", 0, sequence, self._guid("file"), self._guid("data"), bytes(16), 0, 1, _LOG_SIZE, _LOG)
            )
            self._file.pwrite(checksummed(header, HEADER_SIZE), place)
        regions = (
            REGION_HEADER.pack(b"regi", 0, 2)
            + REGION.pack(BAT_REGION.bytes_le, _BAT, self._bat_size, True)
            + REGION.pack(METADATA_REGION.bytes_le, _METADATA, _METADATA_SIZE, True)
        )
        for place in REGION_TABLES:
            self._file.pwrite(checksummed(regions, REGION_TABLE_SIZE), place)
        self._file.pwrite(self._metadata(), _METADATA)
        at = _BAT
        for piece in self._bat():
            self._file.pwrite(piece, at)
            at += len(piece)
        self._file.finish(self._end)
        assert self._file.blkhash is not None, "a finished file knows it"
        return self._file.blkhash

    def _metadata(self) -> bytes:
        """Return the metadata region: table and items (2.6)."""
        items = (
            (FILE_PARAMETERS, FILE_PARAMETERS_ITEM.pack(BLOCK_SIZE, 0), IS_REQUIRED),
            (VIRTUAL_DISK_SIZE, struct.pack("<Q", self._virtual_size), IS_REQUIRED | IS_VIRTUAL_DISK),
            (VIRTUAL_DISK_ID, self._guid("disk"), IS_REQUIRED | IS_VIRTUAL_DISK),
            (LOGICAL_SECTOR_SIZE, struct.pack("<I", LOGICAL_SECTOR), IS_REQUIRED | IS_VIRTUAL_DISK),
            (PHYSICAL_SECTOR_SIZE, struct.pack("<I", PHYSICAL_SECTOR), IS_REQUIRED | IS_VIRTUAL_DISK),
        )
        table = METADATA_HEADER.pack(b"metadata", len(items))
        values = b""
        for guid, value, flags in items:
            table += METADATA_ENTRY.pack(guid.bytes_le, ITEMS + len(values), len(value), flags)
            values += value
        return table.ljust(ITEMS, b"\0") + values

    def _bat(self) -> Iterator[bytearray]:
        """Yield the BAT (2.5) in order: one period after the other, and what is left."""
        zero = bytearray(_ENTRY.pack(ZERO) * _CHUNK_RATIO + bytes(_ENTRY.size))
        present: dict[int, list[int]] = {}
        for block in self._places:
            present.setdefault(block // _CHUNK_RATIO, []).append(block)
        for period in range(-(-self._entries // _PERIOD)):
            piece = zero
            if period in present:
                piece = zero[:]
                for block in present[period]:
                    entry = self._places[block] | FULLY_PRESENT
                    _ENTRY.pack_into(piece, block % _CHUNK_RATIO * _ENTRY.size, entry)
            yield piece[: (self._entries - period * _PERIOD) * _ENTRY.size]

    def _guid(self, purpose: str) -> bytes:
        return UUID(bytes=sha256(self._identity + purpose.encode()).digest()[:16], version=5).bytes_le
