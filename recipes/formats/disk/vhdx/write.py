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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.model import BlockHash

_KIB = 1 << 10
_MIB = 1 << 20
#: BlockSize (2.6.2.1): the smallest, as WSL has it.
BLOCK_SIZE = _MIB
#: LogicalSectorSize and PhysicalSectorSize (2.6.2.4, 2.6.2.5).
LOGICAL_SECTOR = 512
PHYSICAL_SECTOR = 4096
#: VirtualDiskSize, at most (2.6.2.2).
MAX_VIRTUAL_SIZE = 64 << 40

_CREATOR = "larder"

# Places in the file (2.2): file type identifier at 0, two headers, two region tables, and then, each at a whole MiB,
# the log, the metadata and the BAT.
_HEADERS = (64 * _KIB, 128 * _KIB)
_REGION_TABLES = (192 * _KIB, 256 * _KIB)
_LOG, _LOG_SIZE = _MIB, _MIB
_METADATA, _METADATA_SIZE = 2 * _MIB, _MIB
_BAT = 3 * _MIB

#: Signature, checksum, sequence number; FileWriteGuid, DataWriteGuid, LogGuid; LogVersion, Version, LogLength,
#: LogOffset (2.2.2). A LogGuid of zeros says that the log is empty.
_HEADER = struct.Struct("<4sIQ16s16s16x2HIQ")
_HEADER_SIZE = 4 * _KIB
#: Signature, checksum, number of entries (2.2.3.1); guid, offset, length, required (2.2.3.2).
_REGION_HEADER = struct.Struct("<4s2I4x")
_REGION = struct.Struct("<16sQ2I")
_REGION_TABLE_SIZE = 64 * _KIB
#: Signature, number of entries (2.6.1.1); guid, offset, length, flags (2.6.1.2).
_METADATA_HEADER = struct.Struct("<8s2xH20x")
_METADATA_ENTRY = struct.Struct("<16s3I4x")
#: The items begin behind the table.
_ITEMS = 64 * _KIB
_IS_VIRTUAL_DISK, _IS_REQUIRED = 2, 4

_BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
_METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_VIRTUAL_DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
_LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_PHYSICAL_SECTOR_SIZE = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")

# States of payload blocks (2.5.1.1). An entry has the block's place in the file too, a whole MiB.
_ZERO = 2
_FULLY_PRESENT = 6
_ENTRY = struct.Struct("<Q")
#: Payload entries before each entry of a sector bitmap, which only differencing disks have (2.5).
_CHUNK_RATIO = (1 << 23) * LOGICAL_SECTOR // BLOCK_SIZE
#: Entries from one sector bitmap's to the next: these repeat.
_PERIOD = _CHUNK_RATIO + 1


class VhdxWriter:
    """A new VHDX at `path`, with a disk of `virtual_size` bytes; FileExistsError when there is something.

    The disk reads as zeros where nothing was written, and no range is written to twice. The GUIDs follow from
    `identity` alone, so equal writes make equal files.

    Leaving the context closes the file and nothing more; `finish` makes it complete, and brings it to the storage
    unless it need not be `durable`. Errors: `LimitExceeded` for more than `MAX_VIRTUAL_SIZE`, `UnsupportedFeature` for
    a size that is not a multiple of the sector, `NoSpace`; other OSErrors pass.
    """

    def __init__(self, path: Path, *, virtual_size: int, identity: bytes, durable: bool = True) -> None:
        if virtual_size > MAX_VIRTUAL_SIZE:
            raise LimitExceeded(f"{path}: a VHDX has at most {MAX_VIRTUAL_SIZE} bytes, and is to have {virtual_size}")
        if virtual_size <= 0 or virtual_size % LOGICAL_SECTOR:
            raise UnsupportedFeature(
                f"{path}: the size of a VHDX is a multiple of {LOGICAL_SECTOR} bytes, which {virtual_size} is not"
            )
        self._virtual_size = virtual_size
        self._identity = identity
        self._blocks = -(-virtual_size // BLOCK_SIZE)
        # No sector bitmap follows the last payload entry of a dynamic disk.
        self._entries = self._blocks + (self._blocks - 1) // _CHUNK_RATIO
        self._bat_size = -(-self._entries * _ENTRY.size // _MIB) * _MIB
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

    def finish(self) -> BlockHash:
        """Write everything that is not payload; return the blkhash of the file, not of the disk in it."""
        self._file.pwrite(b"vhdxfile" + _CREATOR.encode("utf-16-le"), 0)
        for sequence, place in enumerate(_HEADERS, 1):
            header = _HEADER.pack(
                *(b"head", 0, sequence, self._guid("file"), self._guid("data"), 0, 1, _LOG_SIZE, _LOG)
            )
            self._file.pwrite(_checksummed(header, _HEADER_SIZE), place)
        regions = (
            _REGION_HEADER.pack(b"regi", 0, 2)
            + _REGION.pack(_BAT_REGION.bytes_le, _BAT, self._bat_size, True)
            + _REGION.pack(_METADATA_REGION.bytes_le, _METADATA, _METADATA_SIZE, True)
        )
        for place in _REGION_TABLES:
            self._file.pwrite(_checksummed(regions, _REGION_TABLE_SIZE), place)
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
            (_FILE_PARAMETERS, struct.pack("<2I", BLOCK_SIZE, 0), _IS_REQUIRED),
            (_VIRTUAL_DISK_SIZE, struct.pack("<Q", self._virtual_size), _IS_REQUIRED | _IS_VIRTUAL_DISK),
            (_VIRTUAL_DISK_ID, self._guid("disk"), _IS_REQUIRED | _IS_VIRTUAL_DISK),
            (_LOGICAL_SECTOR_SIZE, struct.pack("<I", LOGICAL_SECTOR), _IS_REQUIRED | _IS_VIRTUAL_DISK),
            (_PHYSICAL_SECTOR_SIZE, struct.pack("<I", PHYSICAL_SECTOR), _IS_REQUIRED | _IS_VIRTUAL_DISK),
        )
        table = _METADATA_HEADER.pack(b"metadata", len(items))
        values = b""
        for guid, value, flags in items:
            table += _METADATA_ENTRY.pack(guid.bytes_le, _ITEMS + len(values), len(value), flags)
            values += value
        return table.ljust(_ITEMS, b"\0") + values

    def _bat(self) -> Iterator[bytearray]:
        """Yield the BAT (2.5) in order: one period after the other, and what is left."""
        zero = bytearray(_ENTRY.pack(_ZERO) * _CHUNK_RATIO + bytes(_ENTRY.size))
        present: dict[int, list[int]] = {}
        for block in self._places:
            present.setdefault(block // _CHUNK_RATIO, []).append(block)
        for period in range(-(-self._entries // _PERIOD)):
            piece = zero
            if period in present:
                piece = zero[:]
                for block in present[period]:
                    entry = self._places[block] | _FULLY_PRESENT
                    _ENTRY.pack_into(piece, block % _CHUNK_RATIO * _ENTRY.size, entry)
            yield piece[: (self._entries - period * _PERIOD) * _ENTRY.size]

    def _guid(self, purpose: str) -> bytes:
        return UUID(bytes=sha256(self._identity + purpose.encode()).digest()[:16], version=5).bytes_le


def _checksummed(data: bytes, size: int) -> bytes:
    """Return `data`, which begins with a signature and the place of its checksum, with `size` bytes and the CRC-32C."""
    import google_crc32c

    padded = bytearray(data.ljust(size, b"\0"))
    struct.pack_into("<I", padded, 4, google_crc32c.value(bytes(padded)))
    return bytes(padded)
