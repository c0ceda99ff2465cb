"""The partition table of a RAW disk: GPT, MBR with its logical partitions, or none around a bare file system.

Specification: UEFI 2.10, chapter 5 (GPT). MBR as Linux reads it (block/partitions/msdos.c): the chain of extended boot
records has no other standard.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

from recipes.errors import CorruptImage
from recipes.formats.io.source import read as read_bytes

from . import table as filesystems

if TYPE_CHECKING:
    from recipes.formats.io.source import Source

_SECTOR = 512
#: Logical sectors that disks have; an MBR does not say which, and is read with the first.
_SECTORS = (_SECTOR, 4096)

_BOOT_SIGNATURE = b"\x55\xaa"
_TABLE_OFFSET = 446
#: What tells an MBR's disk from others.
_SIGNATURE_OFFSET = 440
_SIGNATURE_OF_DISK = struct.Struct("<I")
#: status, first sector as cylinder, head and sector, type, last sector likewise, first sector, number of sectors.
_ENTRY = struct.Struct("<B3xB3xII")
_ENTRIES = 4
_STATUS = frozenset({0x00, 0x80})
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_PROTECTIVE = 0xEE
#: Logical partitions, which are numbered from this on; so many Linux has names for (DISK_MAX_PARTS).
_FIRST_LOGICAL = 5
_MAX_LOGICAL = 256

#: signature, revision, header size, its CRC-32, sectors of this header and of the other one, first and last usable
#: sector, disk GUID, sector of the entries, their number, size of one, CRC-32 of all (UEFI 5.3.2).
_HEADER = struct.Struct("<8sIII4xQQQQ16sQIII")
_SIGNATURE = b"EFI PART"
_HEADER_CRC = slice(16, 20)
#: type GUID, partition GUID, first and last sector, attributes, name in UTF-16 (UEFI 5.3.3).
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_UNUSED = bytes(16)
#: ``GPT_FLAG_NO_AUTO``, the same bit for all types that systemd knows.
_MANUAL = 1 << 63
#: Bytes of all entries, of which every known tool writes 16 KiB.
_MAX_ENTRIES = 1 << 20


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a disk."""

    #: As Linux counts; 0 for the whole disk, where there is no table.
    number: int
    #: First byte, and bytes.
    start: int
    size: int
    #: GUID of its type in lower case (GPT), ``0x83`` and the like (MBR), or nothing.
    type: str
    #: Its name (GPT only).
    label: str
    table: Literal["gpt", "mbr", "none"]
    #: What ``PARTUUID=`` calls it: a GUID (GPT), the disk's signature and the number (MBR), or nothing. It is drawn at
    #: random, so two partitions that are alike else are equal.
    uuid: str = field(default="", compare=False)
    #: Whether it is to be left alone by what mounts partitions by their types (Discoverable Partitions Specification).
    manual: bool = field(default=False, compare=False)


def read(source: Source) -> list[Partition]:
    """Return the partitions of the disk `source`.

    They are in the order of the table. Where there is no table and a file system begins with the disk, it is the only
    one. Raise CorruptImage where there is neither, and for a table that contradicts itself or ends past the disk.
    """
    return _Disk(source).read()


class _BootRecord(NamedTuple):
    status: int
    type: int
    start: int
    sectors: int


class _Header(NamedTuple):
    signature: bytes
    revision: int
    size: int
    crc: int
    sector: int
    other: int
    first_usable: int
    last_usable: int
    disk: bytes
    entries: int
    number: int
    entry_size: int
    entries_crc: int


class _Disk:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = source.size
        self.name = source.name

    def read(self) -> list[Partition]:
        boot = self.boot_records(0)
        # A GPT without its protective MBR is what is left of an older table.
        if any(record.type == _PROTECTIVE for record in boot):
            return self.gpt()
        if boot:
            return self.mbr(boot)
        if filesystems.detect(self.source) is not None:
            return [Partition(0, 0, self.size, "", "", "none")]
        raise CorruptImage(
            f"{self.name}: expected a partition table (GPT or MBR) or a file system, found neither",
            hint="is it a RAW disk image?",
        )

    def boot_records(self, sector: int) -> list[_BootRecord]:
        """Return the four entries of the boot record at `sector`, in use or not; none where there is no boot record.

        The boot sector of a FAT or NTFS ends like one, and has instructions or nothing where the entries should be.
        """
        data = read_bytes(self.source, sector * _SECTOR, _SECTOR)
        if not data.endswith(_BOOT_SIGNATURE) or len(data) != _SECTOR:
            return []
        entries = data[_TABLE_OFFSET : _TABLE_OFFSET + _ENTRIES * _ENTRY.size]
        records = [_BootRecord(*fields) for fields in _ENTRY.iter_unpack(entries)]
        return records if all(record.status in _STATUS for record in records) and any(entries) else []

    def mbr(self, boot: list[_BootRecord]) -> list[Partition]:
        partitions = []
        for number, record in enumerate(boot, 1):
            if record.type in _EXTENDED:
                partitions += self.logical(record.start)
            elif record.type and record.sectors:
                partitions.append(self.partition(number, record.start, record))
        return sorted(partitions, key=lambda partition: partition.number)

    def logical(self, extended: int) -> list[Partition]:
        """Return the partitions in the extended partition at this sector: a chain, each link with one of them."""
        partitions: list[Partition] = []
        seen = set()
        here = extended
        while here not in seen:
            seen.add(here)
            records = self.boot_records(here)
            if not records and here != extended:
                raise self.corrupt(f"expected an extended boot record at sector {here}")
            following = [record for record in records if record.type in _EXTENDED and record.sectors]
            for record in records:
                if record.type and record.type not in _EXTENDED and record.sectors:
                    number = _FIRST_LOGICAL + len(partitions)
                    partitions.append(self.partition(number, here + record.start, record))
            # Links without a partition count too: nothing else bounds how many there are.
            if len(seen) > _MAX_LOGICAL:
                raise self.corrupt(f"more than {_MAX_LOGICAL} logical partitions")
            if not following:
                return partitions
            # Counted from the extended partition, unlike the partition beside it.
            here = extended + following[0].start
        raise self.corrupt(f"the extended boot record at sector {here} comes again: a loop")

    def partition(self, number: int, sector: int, record: _BootRecord) -> Partition:
        start, size = sector * _SECTOR, record.sectors * _SECTOR
        (signature,) = _SIGNATURE_OF_DISK.unpack(read_bytes(self.source, _SIGNATURE_OFFSET, _SIGNATURE_OF_DISK.size))
        uuid = f"{signature:08x}-{number:02x}"
        return self.checked(Partition(number, start, size, f"{record.type:#04x}", "", "mbr", uuid))

    def gpt(self) -> list[Partition]:
        # The backup is in the last sector, unless the disk became larger since.
        for sector_size in _SECTORS:
            for at in (sector_size, self.size // sector_size * sector_size - sector_size):
                header = self.header(at, sector_size)
                entries = self.entries(header, sector_size) if header else None
                if header and entries is not None:
                    return self.gpt_partitions(header, entries, sector_size)
        raise self.corrupt("it has a protective MBR, and neither GPT header is there as its checksum says")

    def header(self, at: int, sector_size: int) -> _Header | None:
        """Return the GPT header at byte `at`, None where there is none that is whole."""
        data = read_bytes(self.source, at, sector_size) if at > 0 else b""
        if len(data) < _HEADER.size:
            return None
        header = _Header(*_HEADER.unpack_from(data))
        if (
            header.signature != _SIGNATURE
            or not _HEADER.size <= header.size <= sector_size
            or header.sector * sector_size != at
        ):
            return None
        clean = data[: _HEADER_CRC.start] + bytes(4) + data[_HEADER_CRC.stop : header.size]
        return header if zlib.crc32(clean) == header.crc else None

    def entries(self, header: _Header, sector_size: int) -> bytes | None:
        """Return the entries that `header` says there are, None where they are not whole."""
        if header.entry_size < _GPT_ENTRY.size or header.entry_size % 8:
            return None
        length = header.number * header.entry_size
        if length > _MAX_ENTRIES or header.entries * sector_size + length > self.size:
            return None
        data = read_bytes(self.source, header.entries * sector_size, length)
        return data if len(data) == length and zlib.crc32(data) == header.entries_crc else None

    def gpt_partitions(self, header: _Header, entries: bytes, sector_size: int) -> list[Partition]:
        partitions = []
        for index in range(header.number):
            kind, unique, first, last, flags, label = _GPT_ENTRY.unpack_from(entries, index * header.entry_size)
            if kind == _UNUSED:
                continue
            partition = Partition(
                index + 1,
                first * sector_size,
                (last + 1 - first) * sector_size,
                str(UUID(bytes_le=kind)),
                label.decode("utf-16-le", "replace").partition("\0")[0],
                "gpt",
                str(UUID(bytes_le=unique)),
                bool(flags & _MANUAL),
            )
            partitions.append(self.checked(partition))
        return partitions

    def checked(self, partition: Partition) -> Partition:
        if not 0 < partition.start < partition.start + partition.size <= self.size:
            raise CorruptImage(
                f"{self.name}: partition {partition.number} has {partition.size} bytes from {partition.start} on, and "
                f"the disk has {self.size}",
                hint="download the image again: it may be cut off",
            )
        return partition

    def corrupt(self, message: str) -> CorruptImage:
        return CorruptImage(f"{self.name}: corrupt partition table: {message}")
