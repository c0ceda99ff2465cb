"""What is in a VHDX: structures, places and numbers, shared by whoever writes and reads it.

Specification: [MS-VHDX] v20180912, named by section. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from uuid import UUID

KIB = 1 << 10
MIB = 1 << 20
SIGNATURE = b"vhdxfile"

#: Places in the file (2.2): two headers and two region tables; the rest is where the region tables say.
HEADERS = (64 * KIB, 128 * KIB)
REGION_TABLES = (192 * KIB, 256 * KIB)

#: Signature, checksum, sequence number; FileWriteGuid, DataWriteGuid, LogGuid; LogVersion, Version, LogLength,
#: LogOffset (2.2.2). A LogGuid of zeros says that the log is empty.
HEADER = struct.Struct("<4sIQ16s16s16s2HIQ")
HEADER_SIZE = 4 * KIB
#: Signature, checksum, number of entries (2.2.3.1); guid, offset, length, required (2.2.3.2).
REGION_HEADER = struct.Struct("<4s2I4x")
REGION = struct.Struct("<16sQ2I")
REGION_TABLE_SIZE = 64 * KIB
REGIONS_MOST = 2047
#: Signature, number of entries (2.6.1.1); guid, offset, length, flags (2.6.1.2).
METADATA_HEADER = struct.Struct("<8s2xH20x")
METADATA_ENTRY = struct.Struct("<16s3I4x")
METADATA_MOST = 2047
#: The items begin behind the table.
ITEMS = 64 * KIB
IS_VIRTUAL_DISK, IS_REQUIRED = 2, 4
#: BlockSize and flags (2.6.2.1).
FILE_PARAMETERS_ITEM = struct.Struct("<2I")
HAS_PARENT = 2

BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
VIRTUAL_DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR_SIZE = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")

#: States of payload blocks (2.5.1.1). An entry has the block's place in the file too, a whole MiB.
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 6, 7
STATE = 7
PLACE = (1 << 64) - MIB
#: Sectors of the disk that one sector bitmap is for (2.5).
CHUNK_SECTORS = 1 << 23

#: Signature, checksum, length, tail; sequence number, descriptors; LogGuid, flushed and last file offset (2.3.1.1).
LOG_ENTRY = struct.Struct("<4s3IQI4x16s2Q")
#: Signature, and of a data sector the trailing bytes and the leading ones, of zeros nothing and their length; file
#: offset, sequence number (2.3.1.2, 2.3.1.3).
LOG_DESCRIPTOR = struct.Struct("<4s4s8s2Q")
LOG_SECTOR = 4 * KIB
#: Signature, sequence high; data; sequence low (2.3.1.4).
LOG_DATA = struct.Struct("<4sI4084sI")


def checksummed(data: bytes, size: int) -> bytes:
    """Return `data`, which begins with a signature and the place of its checksum, with `size` bytes and the CRC-32C."""
    import google_crc32c

    padded = bytearray(data.ljust(size, b"\0"))
    struct.pack_into("<I", padded, 4, google_crc32c.value(bytes(padded)))
    return bytes(padded)


def is_checksummed(data: bytes) -> bool:
    """Say whether `data` has the checksum that its bytes give, which counts as zeros itself."""
    import google_crc32c

    gives: int = google_crc32c.value(data[:4] + bytes(4) + data[8:])
    return int.from_bytes(data[4:8], "little") == gives
