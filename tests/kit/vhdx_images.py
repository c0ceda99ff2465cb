"""VHDX files made by hand: any block size and sector, any BAT, a log."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from recipes.formats.disk.vhdx import layout

MiB = 1 << 20
LOG, META, BAT = MiB, 2 * MiB, 3 * MiB
GUID = UUID(int=7).bytes_le


def header(sequence: int = 1, guid: bytes = bytes(16), **fields: int) -> bytes:
    values = {"log_version": 0, "version": 1, "length": MiB, "offset": LOG} | fields
    data = layout.HEADER.pack(b"head", 0, sequence, bytes(16), bytes(16), guid, *values.values())
    return layout.checksummed(data, layout.HEADER_SIZE)


def regions(*more: tuple[UUID, int, int, int], bat: tuple[int, int] = (BAT, MiB)) -> bytes:
    rows = ((layout.BAT_REGION, *bat, 0), (layout.METADATA_REGION, META, MiB, 1), *more)
    data = layout.REGION_HEADER.pack(b"regi", 0, len(rows))
    data += b"".join(layout.REGION.pack(guid.bytes_le, *rest) for guid, *rest in rows)
    return layout.checksummed(data, layout.REGION_TABLE_SIZE)


def metadata(
    size: int, block: int = MiB, sector: int = 512, *, flags: int = 0, more: dict[UUID, bytes] | None = None
) -> bytes:
    items: dict[UUID, bytes] = {
        layout.FILE_PARAMETERS: struct.pack("<2I", block, flags),
        layout.VIRTUAL_DISK_SIZE: struct.pack("<Q", size),
        layout.VIRTUAL_DISK_ID: bytes(16),
        layout.LOGICAL_SECTOR_SIZE: struct.pack("<I", sector),
        layout.PHYSICAL_SECTOR_SIZE: struct.pack("<I", 4096),
        **(more or {}),
    }
    table = layout.METADATA_HEADER.pack(b"metadata", len(items))
    values = b""
    for guid, value in items.items():
        table += layout.METADATA_ENTRY.pack(guid.bytes_le, layout.ITEMS + len(values), len(value), layout.IS_REQUIRED)
        values += value
    return (table.ljust(layout.ITEMS, b"\0") + values).ljust(MiB, b"\0")


def image(entries: list[int], data: bytes, size: int, **parts: Any) -> bytes:
    """Return a VHDX with this BAT, at 3 MiB, and `data` from 4 MiB on; `parts` take the place of others."""
    front = layout.SIGNATURE.ljust(64 << 10, b"\0")
    head = parts.get("header", header())
    front += parts.get("first", head).ljust(64 << 10, b"\0") + parts.get("second", head).ljust(64 << 10, b"\0")
    table = parts.get("regions", regions())
    front += parts.get("region", table) + table
    log = parts.get("log", b"").ljust(MiB, b"\0")
    meta = parts.get("metadata") or metadata(size, parts.get("block", MiB), parts.get("sector", 512))
    bat = struct.pack(f"<{len(entries)}Q", *entries).ljust(MiB, b"\0")
    whole: bytes = front.ljust(MiB, b"\0") + log + meta + bat + data
    return whole


def log_entry(
    sequence: int, pages: dict[int, bytes], *, tail: int = 0, zeros: dict[int, int] | None = None, **fields: Any
) -> bytes:
    """Return an entry of the log that writes `pages`, by their place in the file, and `zeros`, bytes by place."""
    descriptors, sectors = b"", b""
    for place, page in pages.items():
        descriptors += layout.LOG_DESCRIPTOR.pack(b"desc", page[-4:], page[:8], place, fields.get("number", sequence))
        sectors += layout.LOG_DATA.pack(b"data", sequence >> 32, page[8:-4], sequence & 0xFFFFFFFF)
    for place, length in (zeros or {}).items():
        descriptors += layout.LOG_DESCRIPTOR.pack(b"zero", bytes(4), length.to_bytes(8, "little"), place, sequence)
    count = len(pages) + len(zeros or {})
    head = -(-(layout.LOG_ENTRY.size + len(descriptors)) // 4096) * 4096
    length = head + len(sectors)
    values = (b"loge", 0, length, tail, sequence, count, fields.get("guid", GUID), fields.get("flushed", 0), 0)
    data = (layout.LOG_ENTRY.pack(*values) + descriptors).ljust(head, b"\0") + sectors
    return layout.checksummed(data, length)
