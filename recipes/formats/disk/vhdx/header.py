"""What a VHDX says of itself: its headers, its regions, its metadata.

Specification: [MS-VHDX] v20180912, named by section. QEMU (block/vhdx.c) reads the first region table only, and refuses
sectors of 4096 bytes, which Hyper-V makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from . import layout
from .layout import HEADER, KIB, METADATA_ENTRY, METADATA_HEADER, MIB, REGION, REGION_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipes.formats.disk.file import ImageFile

_BLOCK_SIZES = range(MIB, 256 * MIB + 1)
_SECTORS = (512, 4096)
_KNOWN = {
    layout.FILE_PARAMETERS: 8,
    layout.VIRTUAL_DISK_SIZE: 8,
    layout.VIRTUAL_DISK_ID: 16,
    layout.LOGICAL_SECTOR_SIZE: 4,
    layout.PHYSICAL_SECTOR_SIZE: 4,
}


class Current(NamedTuple):
    """The header that counts (2.2.2)."""

    log_guid: bytes
    log_offset: int
    log_length: int


class Parameters(NamedTuple):
    """What reading the disk needs (2.6.2)."""

    size: int
    block_size: int
    sector: int


def read_current(file: ImageFile) -> Current:
    """Return the valid header with the greater sequence number. Errors: `CorruptImage`, `UnsupportedFeature`."""
    found: dict[int, Current] = {}
    for place in layout.HEADERS:
        data = file.read(place, layout.HEADER_SIZE, "a header")
        signature, _, sequence, _, _, guid, log_version, version, length, offset = HEADER.unpack_from(data)
        if signature != b"head" or not layout.is_checksummed(data):
            continue
        if version != 1 or (log_version and any(guid)):
            raise file.unsupported(f"version {version}, and version {log_version} of the log")
        current = Current(guid, offset, length)
        if found.get(sequence, current) != current:
            raise file.corrupt(f"its headers contradict each other, both with the number {sequence}")
        found[sequence] = current
    if not found:
        raise file.corrupt("neither of its headers has the checksum that its bytes give")
    return found[max(found)]


class Regions(NamedTuple):
    """Places and bytes in the file."""

    bat: tuple[int, int]
    metadata: tuple[int, int]


def read_regions(file: ImageFile, read: Callable[[int, int, str], bytes]) -> Regions:
    """Return where the regions are (2.2.3), by either table. Errors: `CorruptImage`, `UnsupportedFeature`."""
    for place in layout.REGION_TABLES:
        data = read(place, layout.REGION_TABLE_SIZE, "a region table")
        if data.startswith(b"regi") and layout.is_checksummed(data):
            return _regions(file, data)
    raise file.corrupt("neither of its region tables has the checksum that its bytes give")


def _regions(file: ImageFile, data: bytes) -> Regions:
    _, _, count = REGION_HEADER.unpack_from(data)
    if count > layout.REGIONS_MOST:
        raise file.corrupt(f"expected {layout.REGIONS_MOST} regions at the most, found {count}")
    found: dict[UUID, tuple[int, int]] = {}
    for index in range(count):
        guid, offset, length, required = REGION.unpack_from(data, REGION_HEADER.size + index * REGION.size)
        name = UUID(bytes_le=guid)
        if name not in (layout.BAT_REGION, layout.METADATA_REGION):
            if required & 1:
                raise file.unsupported(f"the region {name}")
            continue
        if name in found or offset < MIB or offset % MIB or length % MIB or not length:
            raise file.corrupt(f"the region {name} of {length} bytes at byte {offset} cannot be")
        found[name] = offset, length
    try:
        bat, metadata = found[layout.BAT_REGION], found[layout.METADATA_REGION]
    except KeyError as error:
        raise file.corrupt(f"it has no region {error.args[0]}") from None
    if bat[0] < sum(metadata) and metadata[0] < sum(bat):
        raise file.corrupt("its regions overlap")
    return Regions(bat, metadata)


def read_parameters(file: ImageFile, read: Callable[[int, int, str], bytes], region: tuple[int, int]) -> Parameters:
    """Return what the metadata `region` says (2.6). Errors: `CorruptImage`, `UnsupportedFeature`."""
    start, length = region
    items: dict[UUID, bytes] = {}
    for name, offset, size, is_required in _items(file, read(start, layout.ITEMS, "the metadata table")):
        if name == layout.PARENT_LOCATOR:
            raise _parent(file)
        if name not in _KNOWN:
            if is_required:
                raise file.unsupported(f"the metadata {name}")
            continue
        if size != _KNOWN[name] or not layout.ITEMS <= offset <= length - size or name in items:
            raise file.corrupt(f"the metadata {name} of {size} bytes at byte {offset} of its region cannot be")
        items[name] = read(start + offset, size, "the metadata")
    if missing := _KNOWN.keys() - items.keys():
        raise file.corrupt(f"it has no metadata {min(missing)}")
    block_size, flags = layout.FILE_PARAMETERS_ITEM.unpack(items[layout.FILE_PARAMETERS])
    if flags & layout.HAS_PARENT:
        raise _parent(file)
    if block_size not in _BLOCK_SIZES or block_size & block_size - 1:
        raise file.corrupt(f"expected blocks of 1 to 256 MiB, a power of two, found {block_size} bytes")
    size, sector = (
        int.from_bytes(items[name], "little") for name in (layout.VIRTUAL_DISK_SIZE, layout.LOGICAL_SECTOR_SIZE)
    )
    if sector not in _SECTORS:
        raise file.corrupt(f"expected sectors of 512 or 4096 bytes, found {sector}")
    if size % sector:
        raise file.corrupt(f"expected a disk of whole sectors of {sector} bytes, found {size} bytes")
    return Parameters(size, block_size, sector)


def _parent(file: ImageFile) -> Exception:
    return file.unsupported(
        "a parent (a differencing disk)", hint="merge it into its parent first: Hyper-V's Merge-VHD does it"
    )


def _items(file: ImageFile, table: bytes) -> Iterator[tuple[UUID, int, int, bool]]:
    """Yield the entries of a metadata table: what it is, offset in the region, bytes, whether it must be known."""
    signature, count = METADATA_HEADER.unpack_from(table)
    if signature != b"metadata" or count > layout.METADATA_MOST:
        raise file.corrupt(f"expected a metadata table, found {signature!r} with {count} entries")
    for index in range(count):
        guid, offset, size, flags = METADATA_ENTRY.unpack_from(
            table, METADATA_HEADER.size + index * METADATA_ENTRY.size
        )
        yield UUID(bytes_le=guid), offset, size, bool(flags & layout.IS_REQUIRED)


def claimed_size(read: Callable[[int, int], bytes], _: int | None) -> int | None:
    """Return the bytes of the guest's disk that a file claims; None if as much of it is not at hand, or unsound.

    The log may say otherwise: a claim is not held against it.
    """
    for place in layout.REGION_TABLES:
        data = read(place, layout.REGION_TABLE_SIZE)
        if len(data) < layout.REGION_TABLE_SIZE or not data.startswith(b"regi"):
            continue
        count = min(REGION_HEADER.unpack_from(data)[2], layout.REGIONS_MOST)
        for index in range(count):
            guid, offset, _length, _required = REGION.unpack_from(data, REGION_HEADER.size + index * REGION.size)
            if UUID(bytes_le=guid) == layout.METADATA_REGION:
                return _claimed(read, offset)
    return None


def _claimed(read: Callable[[int, int], bytes], start: int) -> int | None:
    table = read(start, 64 * KIB)
    if len(table) < layout.ITEMS or not table.startswith(b"metadata"):
        return None
    count = min(METADATA_HEADER.unpack_from(table)[1], layout.METADATA_MOST)
    for index in range(count):
        guid, offset, _, _ = METADATA_ENTRY.unpack_from(table, METADATA_HEADER.size + index * METADATA_ENTRY.size)
        if UUID(bytes_le=guid) == layout.VIRTUAL_DISK_SIZE:
            data = read(start + offset, 8)
            return int.from_bytes(data, "little") if len(data) == 8 else None
    return None
